"""The idempotent producers on real Kafka: whole and in order, or ended; and Kafka's own partitioner."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from processors.faults import Fault, Misconfigured, Unavailable, UnknownOutcome
from processors.routing.buckets import partition_of
from processors.streams.connection import KafkaAddress
from processors.streams.producer import QUEUE_RECORDS, IdempotentProducer
from processors.wire.records import Content, OutRecord
from tests.kafka_log import DEADLINE_S, KafkaLog
from tests.waiting import eventually

TOPIC = "lanes"


@pytest.fixture
def log(address: KafkaAddress) -> KafkaLog:
    made = KafkaLog(address)
    made.make(TOPIC, 2)
    return made


@pytest.fixture
def producer(address: KafkaAddress) -> Iterator[IdempotentProducer]:
    made = IdempotentProducer(address)
    yield made
    made.close()


def record(log: KafkaLog, value: bytes, partition: int = 0, *, topic: str = TOPIC) -> OutRecord:
    return OutRecord(log.full(topic), partition, b"acme", value, [("balance-route", b"\x00\xff")])


@pytest.mark.rule("R7")
def test_records_arrive_whole_and_in_order_and_each_is_told_once(log: KafkaLog, producer: IdempotentProducer) -> None:
    told: list[int] = []
    for number in range(20_000):
        producer.send(record(log, b"%d" % number, number & 1), lambda number=number: told.append(number))  # type: ignore[misc]
    assert producer.undelivered > 0
    producer.flush(DEADLINE_S)

    assert producer.undelivered == 0
    for partition in (0, 1):
        read = log.read(TOPIC, partition=partition)
        assert [int(each.value or b"") for each in read] == list(range(partition, 20_000, 2))
        assert [number for number in told if number & 1 == partition] == list(range(partition, 20_000, 2))
        assert (read[0].key, read[0].headers) == (b"acme", [("balance-route", b"\x00\xff")])


def test_a_hurried_record_does_not_wait_for_the_linger(address: KafkaAddress, log: KafkaLog) -> None:
    producer = IdempotentProducer(address, linger_ms=60_000)
    producer.send(record(log, b"hurried"))

    def is_written() -> bool:
        producer.hurry()  # again each time: its 2 ms may be over before a busy machine's client has connected
        producer.poll(0.1)
        return producer.undelivered == 0

    eventually(is_written, "it is written before the linger is over", 40)
    producer.close()


@pytest.mark.rule("R7")
def test_after_a_failed_delivery_nothing_more_is_written_and_every_call_says_so(
    address: KafkaAddress, log: KafkaLog
) -> None:
    log.make("small", settings={"max.message.bytes": "131072"})  # of a batch, compressed
    producer = IdempotentProducer(address, linger_ms=0)  # batch after batch is on its way when the first is refused
    producer.send(record(log, b"before", topic="small"))
    producer.flush(DEADLINE_S)

    def send_on() -> None:
        producer.send(record(log, os.urandom(200_000), topic="small"))
        for number in range(1_000_000):
            producer.send(record(log, b"after %d" % number, topic="small"))

    with pytest.raises(Fault) as first:
        send_on()
    time.sleep(3.0)  # what was on its way by then is not written, either
    with pytest.raises(type(first.value)):
        producer.send(record(log, b"later"))
    with pytest.raises(type(first.value)):
        producer.poll(0)
    with pytest.raises(type(first.value)):
        producer.flush(DEADLINE_S)
    producer.close()

    assert [each.value for each in log.read("small")] == [b"before"]
    assert log.read(TOPIC) == []


@pytest.mark.rule("R7")
@pytest.mark.parametrize("lost", [0, 500, 999], ids=["first", "middle", "last"])
def test_one_of_records_sent_together_that_is_lost_ends_the_producer_and_nothing_behind_it_is_written(
    address: KafkaAddress, log: KafkaLog, lost: int
) -> None:
    log.make("small", settings={"max.message.bytes": "131072"})  # of a batch, compressed
    producer = IdempotentProducer(address)
    contents: list[Content] = [(b"acme", b"%010000d" % number, []) for number in range(1_000)]  # ten requests
    contents[lost] = (b"acme", os.urandom(200_000), [])
    told: list[str] = []

    def send() -> None:
        producer.send_together(log.full("small"), 0, contents, lambda: told.append("small"))
        producer.flush(DEADLINE_S)

    with pytest.raises(Fault, match="Message size too large"):
        send()
    with pytest.raises(Fault, match="Message size too large"):
        producer.send_together(log.full(TOPIC), 1, contents[:1], lambda: told.append("later"))
    producer.close()

    assert "small" not in told
    assert "later" not in told
    written = [each.value for each in log.read("small")]
    assert written == [value for _, value, _ in contents[: len(written)]]
    assert len(written) <= lost
    assert log.read(TOPIC, partition=1) == []


def test_records_sent_together_wait_for_room_or_say_that_there_is_none(address: KafkaAddress, log: KafkaLog) -> None:
    client = IdempotentProducer(address, room_deadline_s=0.2)
    contents: list[Content] = [(b"acme", b"value", [])] * (QUEUE_RECORDS + 1)

    with pytest.raises(Unavailable, match=r"no room for a record to .*nowhere within 0\.2 s"):
        client.send_together(log.full("nowhere"), 0, contents, lambda: None)
    client.close()

    told: list[int] = []
    patient = IdempotentProducer(address)
    patient.send_together(log.full(TOPIC), 0, contents, lambda: told.append(patient.undelivered))
    patient.flush(DEADLINE_S)
    patient.close()
    assert told == [0]
    assert len(log.read(TOPIC)) == len(contents)


def test_a_flush_that_takes_too_long_is_a_fault(log: KafkaLog, producer: IdempotentProducer) -> None:
    producer.send(record(log, b"value", topic="nowhere"))

    with pytest.raises(Unavailable):
        producer.flush(0.3)


def test_a_record_above_what_a_client_takes_is_refused_at_once(log: KafkaLog, producer: IdempotentProducer) -> None:
    with pytest.raises(Misconfigured):
        producer.send(record(log, bytes(5_000_000)))


def test_a_program_with_a_deadline_learns_that_its_record_may_be_written_or_not(
    address: KafkaAddress, log: KafkaLog
) -> None:
    client = IdempotentProducer(address, delivery_deadline_ms=200, linger_ms=1)
    client.send(record(log, b"value", topic="nowhere"))

    with pytest.raises(UnknownOutcome):
        client.flush(DEADLINE_S)
    client.close()


def test_whoever_sends_at_once_is_told_that_there_is_no_room(address: KafkaAddress, log: KafkaLog) -> None:
    client = IdempotentProducer(address, room_deadline_s=0.2)
    nowhere = record(log, b"value", topic="nowhere")
    for _ in range(QUEUE_RECORDS):
        assert client.send_at_once(nowhere)
    took_s: list[float] = []
    for _ in range(10):  # who waited for room would do so each time
        began_s = time.monotonic()
        assert not client.send_at_once(nowhere)
        took_s.append(time.monotonic() - began_s)
    assert min(took_s) < 0.1
    with pytest.raises(Unavailable, match=r"no room for a record to .*nowhere within 0\.2 s"):
        client.send(nowhere)
    assert client.undelivered == QUEUE_RECORDS
    client.close()


def test_what_is_sent_at_once_is_told_at_a_later_poll(log: KafkaLog, producer: IdempotentProducer) -> None:
    told: list[int] = []
    for number in range(100):
        assert producer.send_at_once(record(log, b"%d" % number), lambda number=number: told.append(number))  # type: ignore[misc]
    assert told == []
    producer.flush(DEADLINE_S)

    assert told == list(range(100))
    assert [int(each.value or b"") for each in log.read(TOPIC)] == told


def test_what_is_written_is_acknowledged_when_the_call_returns(log: KafkaLog, producer: IdempotentProducer) -> None:
    told: list[int] = []
    for number in range(3):
        producer.send(record(log, b"%d" % number), lambda number=number: told.append(number))  # type: ignore[misc]
    producer.write(record(log, b"3"), DEADLINE_S)

    assert told == [0, 1, 2]  # of one partition: in order
    assert [each.value for each in log.read(TOPIC)] == [b"0", b"1", b"2", b"3"]


def test_a_write_that_is_not_acknowledged_in_time_is_not_known(address: KafkaAddress, log: KafkaLog) -> None:
    client = IdempotentProducer(address)
    with pytest.raises(Unavailable, match=r"a record to .*nowhere was not acknowledged within 0\.3 s"):
        client.write(record(log, b"value", topic="nowhere"), 0.3)
    client.close()


@pytest.mark.rule("W3")
@pytest.mark.parametrize("partitions", [1, 2, 16])
def test_a_key_goes_to_the_partition_that_the_service_expects(
    address: KafkaAddress, log: KafkaLog, partitions: int
) -> None:
    topic = log.make("commands", partitions)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789._-"
    chance = random.Random(4)
    roots = {"".join(chance.choices(letters, k=1 + number % 64)) for number in range(300)}
    sender = IdempotentProducer(address)
    for root in roots:
        sender.send(OutRecord(topic, -1, root.encode(), b"value", []))
    sender.flush(DEADLINE_S)
    sender.close()

    for partition in range(partitions):
        met = {(each.key or b"").decode() for each in log.read("commands", partition=partition)}
        assert met == {root for root in roots if partition_of(root, partitions) == partition}


def test_a_plain_producer_with_the_partitioner_of_the_readme_agrees(address: KafkaAddress, log: KafkaLog) -> None:
    topic = log.make("commands", 8)
    met: list[tuple[bytes | None, int | None]] = []
    plain = Producer(address.options() | {"partitioner": "murmur2_random"})
    for number in range(100):
        key = b"u-%d" % number
        plain.produce(topic, b"value", key, on_delivery=lambda _, at: met.append((at.key(), at.partition())))
    assert plain.flush(DEADLINE_S) == 0

    assert set(met) == {(key, partition_of(key.decode(), 8)) for key, _ in met if key}
    assert len(met) == 100
