"""A lane's transactional producer on real Kafka: together or not at all, and never by a zombie."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, TopicPartition

from processors.faults import Fault, Fenced, UnknownOutcome
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.publisher import TransactionalPublisher
from processors.wire.positions import GroupPosition, LanePoint, decode_metadata
from processors.wire.records import OutRecord
from tests.kafka_log import DEADLINE_S, KafkaLog, Member
from tests.waiting import eventually

SOURCE, RESULTS, LETTERS = "shard", "results", "dead-letters"
GROUP = "workers"
LANE = "s1.0"


@pytest.fixture
def log(address: KafkaAddress) -> KafkaLog:
    made = KafkaLog(address)
    made.make(SOURCE)
    made.make(RESULTS, 2)
    made.make(LETTERS)
    return made


@pytest.fixture
def member(address: KafkaAddress, log: KafkaLog) -> Iterator[Member]:
    del log  # makes the topics
    with Member(address, SOURCE, GroupOptions(group=GROUP, instance="a")) as joined:
        joined.await_assigned(0)
        yield joined


def publisher(address: KafkaAddress, member: Member, deadline_s: float = 20.0) -> TransactionalPublisher:
    return TransactionalPublisher(
        address,
        LANE,
        address.topic_prefix + SOURCE,
        member.consumer.group_metadata,
        publish_deadline_s=deadline_s,
    )


@pytest.fixture
def opened(address: KafkaAddress, member: Member) -> Iterator[TransactionalPublisher]:
    made = publisher(address, member)
    made.open()
    yield made
    made.close()


def position(next_offset: int) -> GroupPosition:
    return GroupPosition(
        topic_id=b"t" * 16,
        lane=0,
        at=LanePoint(
            next_offset=next_offset,
            lane_time_ms=1_700_000_000_000 + next_offset,
            digest=next_offset.to_bytes(32, "big"),
            leader_epoch=0,
        ),
    )


def result(log: KafkaLog, value: bytes, partition: int = 0) -> OutRecord:
    return OutRecord(log.full(RESULTS), partition, b"acme", value, [("type", b"PAY")])


def values(log: KafkaLog, topic: str, partition: int = 0, *, isolation: str = "read_committed") -> list[bytes | None]:
    return [record.value for record in log.read(topic, partition=partition, isolation=isolation)]


def committed_position(member: Member) -> GroupPosition | None:
    found = member.consumer.committed(0)
    return None if found is None else decode_metadata(*found)


@pytest.mark.rule("L4")
def test_the_group_commit_carries_the_lanes_position_and_reads_back_whole(
    member: Member, opened: TransactionalPublisher, log: KafkaLog
) -> None:
    assert member.consumer.committed(0) is None

    opened.publish([result(log, b"r0")], position(1))
    assert committed_position(member) == position(1)
    opened.publish([], position(2))

    assert committed_position(member) == position(2)
    assert log.committed(GROUP, SOURCE).offset == 2


@pytest.mark.rule("P1")
def test_results_letters_and_position_become_visible_together(
    member: Member, opened: TransactionalPublisher, log: KafkaLog
) -> None:
    letter = OutRecord(log.full(LETTERS), 0, None, b"letter", [])
    opened.publish([result(log, b"r0"), result(log, b"r1", 1), letter, result(log, b"r2")], position(4))

    assert (values(log, RESULTS, 0), values(log, RESULTS, 1)) == ([b"r0", b"r2"], [b"r1"])
    assert values(log, LETTERS) == [b"letter"]
    (record, _) = log.read(RESULTS)
    assert (record.key, record.headers) == (b"acme", [("type", b"PAY")])
    assert committed_position(member) == position(4)


@pytest.mark.rule("P1")
def test_a_publication_that_cannot_be_whole_is_not_visible_at_all(
    address: KafkaAddress, member: Member, opened: TransactionalPublisher, log: KafkaLog
) -> None:
    opened.publish([result(log, b"before")], position(1))
    log.make("small", settings={"max.message.bytes": "1024"})
    large = OutRecord(log.full("small"), 0, None, os.urandom(10_000), [])

    with pytest.raises(Fault):
        opened.publish([result(log, b"never"), large, result(log, b"never")], position(4))
    opened.close()
    following = publisher(address, member)
    following.open()
    following.publish([result(log, b"after")], position(2))
    following.close()

    assert values(log, RESULTS) == [b"before", b"after"]
    assert committed_position(member) == position(2)


@pytest.mark.rule("L5")
def test_a_zombie_publishes_nothing_and_rewinds_no_position(
    address: KafkaAddress, member: Member, opened: TransactionalPublisher, log: KafkaLog
) -> None:
    opened.publish([result(log, b"r0")], position(1))
    owner = publisher(address, member)
    owner.open()
    owner.publish([result(log, b"r1")], position(2))

    with pytest.raises(Fenced):
        opened.publish([result(log, b"zombie")], position(1))
    owner.publish([result(log, b"r2")], position(3))
    owner.close()

    assert values(log, RESULTS) == [b"r0", b"r1", b"r2"]
    assert committed_position(member) == position(3)


@pytest.mark.rule("L5")
def test_a_zombie_in_the_middle_of_a_transaction_is_fenced_by_the_next_owners_open(
    address: KafkaAddress, member: Member, log: KafkaLog
) -> None:
    killed = begun_transaction(address, log, member)
    assert values(log, RESULTS, isolation="read_uncommitted") == [b"begun"]

    owner = publisher(address, member)
    owner.open()

    assert committed_position(member) is None
    assert values(log, RESULTS) == []
    owner.publish([result(log, b"r0")], position(1))
    owner.close()
    assert values(log, RESULTS) == [b"r0"]
    del killed


def begun_transaction(address: KafkaAddress, log: KafkaLog, member: Member) -> Producer:
    """Leave a transaction of the lane as a worker that is killed before its commit does."""
    killed = Producer(address.options() | {"transactional.id": address.topic_prefix + LANE})
    killed.init_transactions(DEADLINE_S)
    killed.begin_transaction()
    killed.produce(log.full(RESULTS), b"begun", b"acme", 0)
    assert killed.flush(DEADLINE_S) == 0
    place = TopicPartition(log.full(SOURCE), 0, 9, "begun")
    killed.send_offsets_to_transaction([place], member.consumer.group_metadata(), DEADLINE_S)
    return killed


@pytest.mark.rule("L5")
def test_a_position_is_not_read_while_a_transaction_holds_it(
    address: KafkaAddress, member: Member, opened: TransactionalPublisher, log: KafkaLog
) -> None:
    opened.publish([], position(1))
    opened.close()
    killed = begun_transaction(address, log, member)
    found: list[GroupPosition | None] = []
    asking = threading.Thread(target=lambda: found.append(committed_position(member)))
    asking.start()
    asking.join(1.0)
    for _ in range(3):
        member.do(lambda: None)
    assert (found, asking.is_alive()) == ([], True)  # the poll thread went round while the question waited

    owner = publisher(address, member)
    owner.open()
    asking.join(DEADLINE_S)
    owner.close()

    assert found == [position(1)]
    del killed


@pytest.mark.rule("P4")
def test_a_lane_that_stays_goes_on_publishing_while_the_group_rebalances(
    address: KafkaAddress, opened: TransactionalPublisher, log: KafkaLog
) -> None:
    ending = threading.Event()
    faults: list[Fault] = []

    def publish() -> None:
        number = 0
        try:
            while not ending.is_set():
                number += 1
                opened.publish([result(log, b"%d" % number)], position(number))
        except Fault as fault:
            faults.append(fault)

    publishing = threading.Thread(target=publish)
    publishing.start()
    for instance in ("b", "c", "d"):
        with Member(address, SOURCE, GroupOptions(group=GROUP, instance=instance)) as other:
            eventually(lambda other=other: bool(other.events) or bool(faults), "another member joined")  # type: ignore[misc]
    ending.set()
    publishing.join(DEADLINE_S)

    assert faults == []
    met = [int(value or b"") for value in values(log, RESULTS)]
    assert met == list(range(1, len(met) + 1))


@pytest.mark.rule("L5")
def test_a_commit_that_is_not_answered_in_time_is_unknown_and_the_position_tells(
    address: KafkaAddress, member: Member, log: KafkaLog
) -> None:
    hasty = publisher(address, member, deadline_s=8.0)
    hasty.open()
    hasty.publish([result(log, b"r0")], position(1))
    began_s = time.monotonic()

    with pytest.raises(UnknownOutcome):
        # A topic that is not there is waited for, longer than this commit may take.
        hasty.publish([result(log, b"never"), OutRecord(log.full("nowhere"), 0, None, b"never", [])], position(3))
    hasty.close()
    assert time.monotonic() - began_s < 19  # before the deadline that others have
    owner = publisher(address, member)
    owner.open()
    assert committed_position(member) == position(1)
    owner.publish([result(log, b"r1")], position(2))
    owner.close()

    assert values(log, RESULTS) == [b"r0", b"r1"]
