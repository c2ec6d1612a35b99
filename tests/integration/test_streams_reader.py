"""Reading stretches of a topic on real Kafka: all of them, or a fault."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka import Producer

from processors.faults import LaneStopped, StopCode
from processors.streams.connection import KafkaAddress
from processors.streams.reader import read_range
from tests.kafka_log import DEADLINE_S, KafkaLog

TOPIC = "log"


@pytest.fixture
def log(address: KafkaAddress) -> KafkaLog:
    made = KafkaLog(address)
    made.make(TOPIC)
    return made


def offsets(address: KafkaAddress, first: int, end: int) -> list[int]:
    return [record.offset for records in read_range(address, TOPIC, 0, first, end) for record in records]


@pytest.mark.parametrize(
    ("first", "end", "expected"),
    [
        pytest.param(0, 10_000, range(10_000), id="all"),
        pytest.param(17, 9_000, range(17, 9_000), id="a stretch"),
        pytest.param(9_999, 10_000, [9_999], id="the last"),
        pytest.param(5, 5, [], id="nothing"),
        pytest.param(9_990, 10_050, range(9_990, 10_000), id="beyond the end"),
    ],
)
def test_a_stretch_is_read_whole_and_no_further(
    address: KafkaAddress, log: KafkaLog, first: int, end: int, expected: range | list[int]
) -> None:
    log.write(TOPIC, [b"value"] * 10_000)

    assert offsets(address, first, end) == list(expected)


@pytest.mark.rule("L3")
@pytest.mark.parametrize("first", [0, 9, 31])
def test_a_log_that_does_not_have_the_first_offset_is_a_fault(address: KafkaAddress, log: KafkaLog, first: int) -> None:
    log.write(TOPIC, [b"value"] * 30)
    log.truncate(TOPIC, 10)

    with pytest.raises(LaneStopped) as raised:
        offsets(address, first, 40)

    assert raised.value.code is StopCode.LOG_TRUNCATED
    assert offsets(address, 10, 40) == list(range(10, 30))


def test_the_marks_of_transactions_and_what_was_aborted_are_stepped_over(address: KafkaAddress, log: KafkaLog) -> None:
    log.write_in_transaction(TOPIC, [b"a", b"b"], commit=True)
    log.write_in_transaction(TOPIC, [b"never"], commit=False)
    log.write_in_transaction(TOPIC, [b"c"], commit=True)

    assert offsets(address, 0, 7) == [0, 1, 5]
    assert offsets(address, 2, 5) == []


def test_a_transaction_that_is_not_finished_is_waited_for(address: KafkaAddress, log: KafkaLog) -> None:
    log.write(TOPIC, [b"before"])
    producer = Producer(address.options() | {"transactional.id": log.full("writer")})
    producer.init_transactions(DEADLINE_S)
    producer.begin_transaction()
    producer.produce(log.full(TOPIC), b"within", b"acme", 0)
    assert producer.flush(DEADLINE_S) == 0
    ending = threading.Timer(1.5, lambda: producer.commit_transaction(DEADLINE_S))
    ending.start()

    assert offsets(address, 0, 2) == [0, 1]
    ending.join()


def test_what_compaction_took_is_stepped_over(address: KafkaAddress, log: KafkaLog) -> None:
    log.make("compacted", settings={"cleanup.policy": "compact"})
    log.write("compacted", [b"1", b"2"], key=b"a")
    log.write("compacted", [b"3"], key=b"b")

    read = [record for records in read_range(address, "compacted", 0, 0, 3) for record in records]

    assert {record.key: record.value for record in read} == {b"a": b"2", b"b": b"3"}
