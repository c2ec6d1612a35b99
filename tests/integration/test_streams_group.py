"""A plain group member on real Kafka: where it goes on, and that it never goes on elsewhere without a word."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from processors.faults import Fenced, Misconfigured, Retryable
from processors.metrics import REGISTRY
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.group import GroupConsumer
from processors.wire.records import Record
from tests.kafka_log import KafkaLog
from tests.waiting import eventually

TOPIC = "results"
Join = Callable[..., GroupConsumer]
GROUP = GroupOptions(group="readers", instance="a")


@pytest.fixture
def log(address: KafkaAddress) -> KafkaLog:
    made = KafkaLog(address)
    made.make(TOPIC)
    made.write(TOPIC, [b"value %d" % number for number in range(10)])
    return made


@pytest.fixture
def join(address: KafkaAddress) -> Iterator[Join]:
    """Return a maker of members, which are closed at the end: one that is left behind would hold the interpreter."""
    with ExitStack() as members:

        def make(**hooks: Any) -> GroupConsumer:
            member = GroupConsumer(address, TOPIC, GROUP, **hooks)
            members.callback(member.close)
            return member

        yield make


def owner_of_two(join: Join, log: KafkaLog) -> tuple[GroupConsumer, set[int]]:
    """Return a member that has both partitions of a topic made again, and what it has, as its hooks are told."""
    log.drop(TOPIC)
    log.make(TOPIC, 2)
    mine: set[int] = set()
    member = join(on_assigned=mine.update, on_revoked=mine.difference_update)
    eventually(lambda: (member.poll(1, 0.1), len(mine) == 2)[1], "both partitions are here")
    return member, mine


def read(consumer: GroupConsumer, count: int) -> list[int]:
    """Return the offsets of the next records, at least that many."""
    records: list[Record] = []

    def enough() -> bool:
        records.extend(consumer.poll(1_000, 0.1))
        return len(records) >= count

    eventually(enough, f"{count} records")
    return [record.offset for record in records]


def test_what_is_not_wanted_by_its_headers_is_passed_over_and_the_positions_are_behind_it(
    log: KafkaLog, join: Join
) -> None:
    log.write(TOPIC, [b"wanted"], headers=[("trace", b"t"), ("type", b"REFUND")])
    log.write(TOPIC, [b"not"] * 3, headers=[("type", b"PAY")])
    consumer = join(wanted=lambda headers: ("type", b"REFUND") in headers)
    found: list[Record] = []

    def all_are_met() -> bool:
        found.extend(consumer.poll(100, 0.1))
        return consumer.positions() == {0: 14}

    eventually(all_are_met, "all were met")

    assert [(record.offset, record.value) for record in found] == [(10, b"wanted")]
    assert found[0].headers == [("trace", b"t"), ("type", b"REFUND")]
    consumer.commit(consumer.positions())
    assert consumer.committed([0]) == {0: (14, "")}


def test_a_group_that_never_committed_begins_at_the_beginning_of_what_is_there(join: Join, log: KafkaLog) -> None:
    log.truncate(TOPIC, 4)
    consumer = join()

    assert read(consumer, 6) == list(range(4, 10))
    assert consumer.committed([0]) == {}


def test_a_member_that_comes_back_goes_on_where_it_committed(join: Join, log: KafkaLog) -> None:
    first = join()
    read(first, 10)
    first.commit({0: 6}, {0: "noted"})
    first.close()

    second = join()
    assert read(second, 4) == [6, 7, 8, 9]
    assert second.committed([0]) == {0: (6, "noted")}
    assert log.committed(GROUP.group, TOPIC).leader_epoch == 0


def test_a_member_shows_how_far_behind_it_is(join: Join, log: KafkaLog, address: KafkaAddress) -> None:
    log.write(TOPIC, [b"more"] * 1_000)
    labels = {"topic": address.topic_prefix + TOPIC, "partition": "0"}
    member = join()

    def lag() -> float:
        return REGISTRY.get_sample_value("balance_lag_records", labels) or 0.0

    eventually(lambda: (member.poll(1, 0.1), lag() > 900)[1], "it took few of a thousand")
    eventually(lambda: (member.poll(1_000, 0.1), lag() == 0)[1], "it took all of them")


def test_a_log_whose_committed_offset_is_gone_is_a_fault_and_not_a_new_beginning(join: Join, log: KafkaLog) -> None:
    first = join()
    read(first, 10)
    first.commit({0: 3})
    first.close()
    log.truncate(TOPIC, 5)

    second = join()
    with pytest.raises(Misconfigured, match="may be lost"):
        read(second, 1)


@pytest.mark.usefixtures("log")
def test_a_log_that_went_back_is_a_fault_and_not_a_new_beginning(join: Join) -> None:
    first = join()
    read(first, 10)
    first.commit({0: 20})
    first.close()

    second = join()
    with pytest.raises(Misconfigured, match="may be lost"):
        read(second, 1)


def test_a_member_that_keeps_its_own_positions_is_read_from_there(join: Join, log: KafkaLog) -> None:
    consumer = join(start_at=lambda partitions: dict.fromkeys(partitions, 7))

    assert read(consumer, 3) == [7, 8, 9]
    assert log.committed(GROUP.group, TOPIC).offset < 0


def test_a_paused_member_gets_nothing_and_goes_on_after_its_last_record(join: Join, log: KafkaLog) -> None:
    consumer = join()
    read(consumer, 10)
    consumer.pause()
    log.write(TOPIC, [b"later"])

    assert [consumer.poll(10, 0.1) for _ in range(5)] == [[]] * 5
    consumer.resume()
    assert read(consumer, 1) == [10]


def test_a_partition_may_be_silent_for_longer_than_its_retention(join: Join, log: KafkaLog) -> None:
    log.write_in_transaction(TOPIC, [b"last"], commit=True)
    first = join()
    assert read(first, 11) == list(range(11))
    first.commit({0: 11}, {0: "noted"})
    eventually(lambda: (first.poll(1, 0.1), log.committed(GROUP.group, TOPIC).offset == 12)[1], "the mark is passed")
    first.close()
    log.truncate(TOPIC, 12)

    second = join()
    assert second.committed([0]) == {0: (12, "noted")}
    log.write(TOPIC, [b"later"])
    assert read(second, 1) == [12]


def test_what_is_not_committed_is_not_moved_over(join: Join, log: KafkaLog) -> None:
    log.write_in_transaction(TOPIC, [b"last"], commit=True)
    first = join()
    read(first, 11)
    first.commit({0: 10})
    eventually(lambda: (first.poll(1, 0.1), first.ends() == {0: 12})[1], "the end is met")
    first.poll(1, 0.1)

    assert first.committed([0]) == {0: (10, "")}


class HeldUp:
    """The driver's consumer, in a process that stands still between its two calls."""

    def __init__(self, consumer: Any, pause_s: float) -> None:
        self._consumer, self._pause_s = consumer, pause_s

    def consume(self, count: int, timeout_s: float) -> Any:
        time.sleep(self._pause_s)
        return self._consumer.consume(count, timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


@pytest.mark.rule("P4")
def test_records_of_a_partition_that_was_given_away_while_they_were_read_are_not_returned(
    join: Join, address: KafkaAddress, log: KafkaLog
) -> None:
    first, mine = owner_of_two(join, log)
    first._consumer = HeldUp(first._consumer, 0.4)  # type: ignore[assignment]
    second = GroupConsumer(address, TOPIC, replace(GROUP, instance="b"))

    def given_away() -> bool:
        second.poll(1, 0)
        for partition in (0, 1):
            log.write(TOPIC, [b"value"], partition=partition)
        assert {record.partition for record in first.poll(500, 0.5)} <= mine
        return len(mine) == 1

    eventually(given_away, "one is given away")
    eventually(lambda: (first.poll(1, 0), second.poll(1, 0.1))[1] != [], "the other reads it")
    second.close()


def test_a_partition_that_was_given_away_while_paused_is_not_paused_when_it_comes_back(
    join: Join, address: KafkaAddress, log: KafkaLog
) -> None:
    first, mine = owner_of_two(join, log)
    first.pause()
    second = GroupConsumer(address, TOPIC, replace(GROUP, instance="b"))
    eventually(lambda: (first.poll(1, 0.1), second.poll(1, 0.1), len(mine) == 1)[2], "one is given away")
    first.resume()

    second.close()  # and does not come back
    eventually(lambda: (first.poll(1, 0.1), len(mine) == 2)[1], "both partitions are here again")
    for partition in (0, 1):
        log.write(TOPIC, [b"value"], partition=partition)
    assert read(first, 2) == [0, 0]


@pytest.mark.rule("P4")
def test_a_second_process_with_the_same_instance_ends_the_first(join: Join, log: KafkaLog) -> None:
    first = join()
    read(first, 10)
    second = join()
    read(second, 10)

    with pytest.raises(Fenced):
        eventually(lambda: len(first.poll(10, 0.1)) > 10, "it is told")
    with pytest.raises(Fenced):
        first.commit({0: 5})
    assert log.committed(GROUP.group, TOPIC).offset < 0


@pytest.mark.usefixtures("log")
def test_a_clients_own_exception_within_a_poll_leaves_it_as_a_fault(join: Join) -> None:
    def lose_place(_partitions: object) -> None:
        raise KafkaException(KafkaError(KafkaError._STATE, "the member lost its place"))

    member = join(on_assigned=lose_place)

    with pytest.raises(Retryable, match="the member lost its place"):
        eventually(lambda: len(member.poll(10, 0.1)) > 10, "the member's place is lost")


@pytest.mark.usefixtures("log")
def test_the_hook_of_an_assignment_is_called_before_its_first_record(join: Join) -> None:
    told: list[tuple[str, list[int]]] = []
    consumer = join(
        on_assigned=lambda partitions: told.append(("assigned", list(partitions))),
        on_revoked=lambda partitions: told.append(("revoked", list(partitions))),
    )
    eventually(lambda: consumer.poll(1, 0.1) != [], "a record")
    assert told == [("assigned", [0])]
    consumer.close()
    assert told == [("assigned", [0]), ("revoked", [0])]
