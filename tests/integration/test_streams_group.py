"""A plain group member on real Kafka: where it goes on, and that it never goes on elsewhere without a word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processors.faults import Fenced, Misconfigured
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.group import GroupConsumer
from processors.wire.records import Record
from tests.kafka_log import KafkaLog, eventually
from tests.servers import Servers

TOPIC = "results"
GROUP = GroupOptions(group="readers", instance="a")


@pytest.fixture
def address(servers: Servers, topic_prefix: Callable[[], str]) -> KafkaAddress:
    return KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())


@pytest.fixture
def log(address: KafkaAddress) -> KafkaLog:
    made = KafkaLog(address)
    made.make(TOPIC)
    made.write(TOPIC, [b"value %d" % number for number in range(10)])
    return made


def read(consumer: GroupConsumer, count: int) -> list[int]:
    """Return the offsets of the next records, at least that many."""
    records: list[Record] = []

    def enough() -> bool:
        records.extend(consumer.poll(1_000, 0.1))
        return len(records) >= count

    eventually(enough, f"{count} records")
    return [record.offset for record in records]


def test_a_group_that_never_committed_begins_at_the_beginning_of_what_is_there(
    address: KafkaAddress, log: KafkaLog
) -> None:
    log.truncate(TOPIC, 4)
    consumer = GroupConsumer(address, TOPIC, GROUP)

    assert read(consumer, 6) == list(range(4, 10))
    assert consumer.committed([0]) == {}
    consumer.close()


@pytest.mark.rule("P4")
def test_a_member_that_comes_back_goes_on_where_it_committed(address: KafkaAddress, log: KafkaLog) -> None:
    first = GroupConsumer(address, TOPIC, GROUP)
    read(first, 10)
    first.commit({0: 6}, "noted")
    first.close()

    second = GroupConsumer(address, TOPIC, GROUP)
    assert read(second, 4) == [6, 7, 8, 9]
    assert second.committed([0]) == {0: (6, "noted")}
    assert log.committed(GROUP.group, TOPIC).leader_epoch == 0
    second.close()


def test_a_log_whose_committed_offset_is_gone_is_a_fault_and_not_a_new_beginning(
    address: KafkaAddress, log: KafkaLog
) -> None:
    first = GroupConsumer(address, TOPIC, GROUP)
    read(first, 10)
    first.commit({0: 3})
    first.close()
    log.truncate(TOPIC, 5)

    second = GroupConsumer(address, TOPIC, GROUP)
    with pytest.raises(Misconfigured, match="may be lost"):
        read(second, 1)
    second.close()


@pytest.mark.usefixtures("log")
def test_a_log_that_went_back_is_a_fault_and_not_a_new_beginning(address: KafkaAddress) -> None:
    first = GroupConsumer(address, TOPIC, GROUP)
    read(first, 10)
    first.commit({0: 20})
    first.close()

    second = GroupConsumer(address, TOPIC, GROUP)
    with pytest.raises(Misconfigured, match="may be lost"):
        read(second, 1)
    second.close()


def test_a_member_that_keeps_its_own_positions_is_read_from_there(address: KafkaAddress, log: KafkaLog) -> None:
    consumer = GroupConsumer(address, TOPIC, GROUP, start_at=lambda partitions: dict.fromkeys(partitions, 7))

    assert read(consumer, 3) == [7, 8, 9]
    assert log.committed(GROUP.group, TOPIC).offset < 0
    consumer.close()


def test_a_paused_member_gets_nothing_and_goes_on_after_its_last_record(address: KafkaAddress, log: KafkaLog) -> None:
    consumer = GroupConsumer(address, TOPIC, GROUP)
    read(consumer, 10)
    consumer.pause()
    log.write(TOPIC, [b"later"])

    assert [consumer.poll(10, 0.1) for _ in range(5)] == [[]] * 5
    consumer.resume()
    assert read(consumer, 1) == [10]
    consumer.close()


@pytest.mark.rule("P4")
def test_a_second_process_with_the_same_instance_ends_the_first(address: KafkaAddress, log: KafkaLog) -> None:
    first = GroupConsumer(address, TOPIC, GROUP)
    read(first, 10)
    second = GroupConsumer(address, TOPIC, GROUP)
    read(second, 10)

    with pytest.raises(Fenced):
        eventually(lambda: len(first.poll(10, 0.1)) > 10, "it is told")
    with pytest.raises(Fenced):
        first.commit({0: 5})
    first.close()
    second.close()
    assert log.committed(GROUP.group, TOPIC).offset < 0


@pytest.mark.usefixtures("log")
def test_the_hook_of_an_assignment_is_called_before_its_first_record(address: KafkaAddress) -> None:
    told: list[tuple[str, list[int]]] = []
    consumer = GroupConsumer(
        address,
        TOPIC,
        GROUP,
        on_assigned=lambda partitions: told.append(("assigned", list(partitions))),
        on_revoked=lambda partitions: told.append(("revoked", list(partitions))),
    )
    eventually(lambda: consumer.poll(1, 0.1) != [], "a record")
    assert told == [("assigned", [0])]
    consumer.close()
    assert told == [("assigned", [0]), ("revoked", [0])]
