"""The shard worker's consumer on real Kafka: who owns which lane, and where each one begins."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from processors.faults import Fenced, LaneStopped, Retryable, StopCode, Unavailable
from processors.streams.connection import CLIENT_LOG, KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.topics import TopicAdmin
from tests.kafka_log import KafkaLog, Member
from tests.waiting import eventually

TOPIC = "shard"
A, B = (GroupOptions(group="workers", instance=name) for name in ("a", "b"))


def numbered(first: int, end: int) -> list[bytes]:
    return [b"value %d" % number for number in range(first, end)]


@pytest.mark.rule("L12")
def test_an_assignment_brings_no_record_before_the_lane_says_where_to_start(
    address: KafkaAddress, log: KafkaLog
) -> None:
    log.make(TOPIC)
    log.write(TOPIC, numbered(0, 20))

    with Member(address, TOPIC, A) as member:
        member.await_assigned(0)
        time.sleep(0.5)
        assert member.records == {}

        member.consumer.start(0, 5, 0)
        member.await_offsets(range(5, 20))

    assert member.events == [("assigned", (0,)), ("started", (0,)), ("revoked", (0,))]


@pytest.mark.rule("L12")
def test_a_lane_that_starts_again_gets_nothing_that_was_read_before(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC)
    log.write(TOPIC, numbered(0, 5_000))

    with Member(address, TOPIC, A) as member:
        member.await_assigned(0)
        for offset in (4_000, 17, 4_990, 0):
            member.consumer.start(0, offset, 0)
            member.await_offsets(range(offset, 5_000))


@pytest.mark.rule("L3")
@pytest.mark.parametrize("wait_s", [0.0, 1.5])
def test_a_log_that_no_longer_begins_at_zero_is_started_in_its_middle(
    address: KafkaAddress, log: KafkaLog, wait_s: float
) -> None:
    log.make(TOPIC)
    log.write(TOPIC, numbered(0, 30))
    log.truncate(TOPIC, 10)

    with Member(address, TOPIC, A) as member:
        member.await_assigned(0)
        time.sleep(wait_s)
        member.consumer.start(0, 12, 0)
        member.await_offsets(range(12, 30))

    assert not member.stopped


@pytest.mark.rule("L3")
@pytest.mark.parametrize(
    ("offset", "leader_epoch"),
    [(9, -1), (9, 0), (31, -1), (31, 0)],
    ids=["gone", "gone, epoch", "ahead", "ahead, epoch"],
)
def test_a_log_without_the_wanted_offset_stops_the_lane_and_moves_nowhere(
    address: KafkaAddress, log: KafkaLog, offset: int, leader_epoch: int
) -> None:
    log.make(TOPIC)
    log.write(TOPIC, numbered(0, 30))
    log.truncate(TOPIC, 10)

    with Member(address, TOPIC, A) as member:
        member.await_assigned(0)
        try:
            member.consumer.start(0, offset, leader_epoch)
            eventually(lambda: 0 in member.stopped, "the lane is stopped")
            stop = member.stopped[0]
        except LaneStopped as fault:
            stop = fault
        log.write(TOPIC, numbered(30, 40))
        time.sleep(0.5)

        assert stop.code is StopCode.LOG_TRUNCATED
        assert member.offsets() == []
        member.consumer.start(0, 20, 0)  # what an operator has looked at can go on
        member.await_offsets(range(20, 40))


@pytest.mark.rule("L3")
def test_a_log_that_never_reached_the_leader_epoch_of_the_position_stops_the_lane(
    address: KafkaAddress, log: KafkaLog
) -> None:
    log.make(TOPIC)
    log.write(TOPIC, numbered(0, 30))  # as a topic that was made again, or whose leader lost its end

    with Member(address, TOPIC, A) as member:
        member.await_assigned(0)
        try:
            member.consumer.start(0, 20, 7)
            eventually(lambda: 0 in member.stopped, "the lane is stopped")
            stop = member.stopped[0]
        except LaneStopped as fault:
            stop = fault

        assert (stop.code, member.offsets()) == (StopCode.LOG_TRUNCATED, [])


@pytest.mark.rule("L3")
def test_a_lane_whose_log_is_truncated_stops_and_its_neighbour_goes_on(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC, partitions=2)
    for partition in (0, 1):
        log.write(TOPIC, numbered(0, 10), partition=partition)

    with Member(address, TOPIC, A) as member:
        member.await_assigned(0, 1)
        member.consumer.start(1, 0, -1)
        try:
            member.consumer.start(0, 11, 0)
        except LaneStopped:
            member.stopped[0] = LaneStopped(StopCode.LOG_TRUNCATED, "at once")
        eventually(lambda: 0 in member.stopped, "lane 0 is stopped")
        log.write(TOPIC, numbered(10, 20), partition=1)
        member.await_offsets(range(20), partition=1)

        assert set(member.stopped) == {0}


@pytest.mark.rule("L3")
def test_a_topic_made_again_under_the_same_name_has_another_id(address: KafkaAddress, log: KafkaLog) -> None:
    topics = TopicAdmin(address)
    log.make(TOPIC)
    before = topics.topic_id(TOPIC)
    assert before == topics.topic_id(TOPIC)

    log.drop(TOPIC)
    log.make(TOPIC)

    assert len(before) == 16
    assert topics.topic_id(TOPIC) != before


@pytest.mark.rule("P4")
def test_a_restarted_member_has_its_lanes_back_at_once_and_nobody_else_notices(
    address: KafkaAddress, log: KafkaLog
) -> None:
    log.make(TOPIC, partitions=4)
    patient = replace(B, session_timeout_ms=30_000)
    with Member(address, TOPIC, A) as a:
        b = Member(address, TOPIC, patient)
        eventually(lambda: len(a.assigned) == len(b.assigned) == 2, "two lanes each")
        owned_by_a, owned_by_b, noticed_by_a = set(a.assigned), set(b.assigned), list(a.events)

        b.close()
        began_s = time.monotonic()
        with Member(address, TOPIC, patient) as again:
            again.await_assigned(*owned_by_b)
            assert time.monotonic() - began_s < 25  # before the session of the one that was closed is over
            assert (a.assigned, a.events) == (owned_by_a, noticed_by_a)


@pytest.mark.rule("P4")
def test_the_lanes_of_a_member_that_stays_away_move_after_its_session(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC, partitions=4)
    with Member(address, TOPIC, A) as a:
        b = Member(address, TOPIC, B)
        eventually(lambda: len(a.assigned) == len(b.assigned) == 2, "two lanes each")
        began_s = time.monotonic()
        b.close()
        a.await_assigned(0, 1, 2, 3)
        assert 2 < time.monotonic() - began_s < 30  # a client's own default, were no session said, is 45


@pytest.mark.rule("P4")
def test_a_lane_that_moves_leaves_the_other_lanes_running(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC, partitions=2)
    for partition in (0, 1):
        log.write(TOPIC, numbered(0, 10), partition=partition)

    with Member(address, TOPIC, A) as a:
        a.await_assigned(0, 1)
        for partition in (0, 1):
            a.consumer.start(partition, 0, -1)
            a.await_offsets(range(10), partition)
        with Member(address, TOPIC, B) as b:
            eventually(lambda: len(a.assigned) == len(b.assigned) == 1, "one lane each")
            (kept,), (moved,) = a.assigned, b.assigned
            b.consumer.start(moved, 10, 0)
            for partition in (0, 1):
                log.write(TOPIC, numbered(10, 20), partition=partition)
            a.await_offsets(range(20), kept)
            b.await_offsets(range(10, 20), moved)

            assert a.offsets(moved) == list(range(10))
            assert ("revoked", (kept,)) not in a.events
            with pytest.raises(Fenced):
                a.consumer.start(moved, 10, 0)


@pytest.mark.rule("L12")
def test_a_second_process_with_the_same_instance_ends_the_first_which_says_so_in_its_log(
    address: KafkaAddress, log: KafkaLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.make(TOPIC)
    with Member(address, TOPIC, A) as first:
        first.await_assigned(0)
        with Member(address, TOPIC, A) as second:
            second.await_assigned(0)
            eventually(lambda: first.fault is not None, "the first one is fenced")

    assert isinstance(first.fault, Fenced)
    assert second.fault is None
    assert any(line.name == CLIENT_LOG.name and "fenced" in line.getMessage() for line in caplog.records)


def test_a_paused_lane_holds_its_records_back_and_loses_none(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC, partitions=2)
    with Member(address, TOPIC, A) as member:
        member.await_assigned(0, 1)
        for partition in (0, 1):
            member.consumer.start(partition, 0, -1)
        member.do(lambda: member.consumer.pause(0))
        for partition in (0, 1):
            log.write(TOPIC, numbered(0, 3_000), partition=partition)
        member.await_offsets(range(3_000), partition=1)
        assert member.offsets(0) == []

        member.do(lambda: member.consumer.resume(0))
        member.await_offsets(range(3_000), partition=0)


def test_a_lane_that_starts_again_while_paused_is_resumed(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC)
    log.write(TOPIC, numbered(0, 100))
    with Member(address, TOPIC, A) as member:
        member.await_assigned(0)
        member.consumer.start(0, 0, -1)
        member.do(lambda: member.consumer.pause(0))
        member.consumer.start(0, 50, 0)
        member.await_offsets(range(50, 100))


def test_a_start_that_nobody_takes_up_ends_at_its_deadline(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC)
    with Member(address, TOPIC, A) as member:
        member.await_assigned(0)
        member.hold()
        with pytest.raises(Unavailable):
            member.consumer.start(0, 0, -1, deadline_s=0.3)
        member.held.clear()
        time.sleep(0.5)

        assert ("started", (0,)) not in member.events


def test_a_closed_consumer_answers_a_late_lane_with_a_fault(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC)
    member = Member(address, TOPIC, A)
    member.await_assigned(0)
    member.close()

    with pytest.raises(Retryable):
        member.consumer.committed(0)


def test_questions_of_other_threads_do_not_wait_for_the_poll_thread(address: KafkaAddress, log: KafkaLog) -> None:
    log.make(TOPIC)
    with Member(address, TOPIC, A) as member:
        member.await_assigned(0)
        member.hold()  # who waited for its thread would get no answer
        for _ in range(100):
            assert member.consumer.committed(0) is None
            assert member.consumer.group_metadata() is not None
        member.held.clear()


@pytest.mark.rule("I2")
def test_records_tell_whose_time_they_carry(log: KafkaLog) -> None:
    log.make(TOPIC)
    log.write(TOPIC, numbered(0, 1))
    log.make("other", settings={"message.timestamp.type": "CreateTime"})
    log.write("other", numbered(0, 1))

    assert [record.append_time for record in log.read(TOPIC) + log.read("other")] == [True, False]
