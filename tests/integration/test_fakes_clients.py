"""The simulation's plain group member and producer, and the real ones: the same questions, the same answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import pytest

from processors.client.reader import Tail
from processors.faults import Fault, Fenced
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.ends import TopicEnds
from processors.streams.group import NO_METADATA, GroupConsumer
from processors.streams.producer import IdempotentProducer
from processors.streams.tail import TopicTail
from processors.wire.records import OutRecord, Record
from processors.workers.router import LaneProducer
from tests.kafka_log import KafkaLog
from tests.servers import Servers
from tests.simulation.fakes.broker import Broker
from tests.simulation.fakes.client_kafka import RESULTS, ClientKafka
from tests.simulation.fakes.clock import Clock
from tests.simulation.fakes.consumers import FakeGroupConsumer
from tests.simulation.fakes.crash_points import NoCrashes
from tests.simulation.fakes.producers import FakeProducer
from tests.waiting import eventually

TOPIC = "commands"
Told = Callable[[Collection[int]], None]


class Reader(Protocol):
    """A member of a group."""

    def poll(self, max_records: int, timeout_s: float) -> list[Record]: ...

    def commit(self, offsets: Mapping[int, int], metadata: Mapping[int, str] = NO_METADATA) -> None: ...

    def committed(self, partitions: Collection[int]) -> dict[int, tuple[int, str]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """A topic of one partition, whose name ``name`` is, and the clients of it."""

    name: str
    join: Callable[[str, Told | None], Reader]
    producer: Callable[[], LaneProducer]
    write_in_transaction: Callable[[list[bytes], bool], None]


def fake_kafka() -> Kafka:
    broker = Broker(Clock())
    broker.make_topic(TOPIC, 1)

    def write_in_transaction(values: list[bytes], commit: bool) -> None:
        epoch = broker.open_transactional("gateway")
        for value in values:
            broker.write(OutRecord(TOPIC, 0, b"acme", value, []), broker.begin("gateway", epoch))
        broker.end("gateway", epoch, commit=commit)

    return Kafka(
        name=TOPIC,
        join=lambda instance, told: FakeGroupConsumer(
            broker, TOPIC, "readers", instance, NoCrashes(), on_assigned=told
        ),
        producer=lambda: FakeProducer(broker, NoCrashes()),
        write_in_transaction=write_in_transaction,
    )


def real_kafka(log: KafkaLog, ending: ExitStack) -> Kafka:
    name = log.make(TOPIC)

    def join(instance: str, told: Told | None) -> Reader:
        member = GroupConsumer(log.address, TOPIC, GroupOptions(group="readers", instance=instance), on_assigned=told)
        ending.callback(member.close)
        return member

    def producer() -> LaneProducer:
        made = IdempotentProducer(log.address)
        ending.callback(made.close)
        return made

    return Kafka(
        name=name,
        join=join,
        producer=producer,
        write_in_transaction=lambda values, commit: log.write_in_transaction(TOPIC, values, commit=commit),
    )


@pytest.fixture(params=["the simulation's", "Kafka"])
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    if request.param == "the simulation's":
        yield fake_kafka()
        return
    servers: Servers = request.getfixturevalue("servers")
    prefix: Callable[[], str] = request.getfixturevalue("topic_prefix")
    address = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=prefix())
    with ExitStack() as ending:
        yield real_kafka(KafkaLog(address), ending)


def send(kafka: Kafka, *values: bytes) -> list[bytes]:
    """Send records, and return them in the order in which they were acknowledged."""
    producer = kafka.producer()
    acknowledged: list[bytes] = []
    for value in values:
        producer.send(OutRecord(kafka.name, 0, b"acme", value, []), partial(acknowledged.append, value))
    producer.flush(10)
    assert producer.undelivered == 0
    return acknowledged


def read(reader: Reader, count: int) -> list[tuple[int, bytes | None]]:
    found: list[Record] = []

    def enough() -> bool:
        found.extend(reader.poll(100, 0.1))
        return len(found) >= count

    eventually(enough, f"{count} records")
    return [(record.offset, record.value) for record in found]


def test_records_are_acknowledged_and_read_in_the_order_in_which_they_were_sent(kafka: Kafka) -> None:
    assert send(kafka, b"a", b"b", b"c") == [b"a", b"b", b"c"]
    assert read(kafka.join("x", None), 3) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_records_that_are_sent_together_are_told_of_once_when_all_are_acknowledged(kafka: Kafka) -> None:
    producer = kafka.producer()
    told: list[int] = []
    contents = [(b"acme", b"%d" % number, [("route", b"r")]) for number in range(3)]
    producer.send_together(kafka.name, 0, contents, lambda: told.append(producer.undelivered))
    producer.flush(10)

    assert told == [0]
    assert read(kafka.join("x", None), 3) == [(0, b"0"), (1, b"1"), (2, b"2")]


def test_an_aborted_transaction_of_a_gateway_leaves_a_gap(kafka: Kafka) -> None:
    send(kafka, b"a")
    kafka.write_in_transaction([b"no", b"no"], False)
    kafka.write_in_transaction([b"yes"], True)
    send(kafka, b"z")

    assert read(kafka.join("x", None), 3) == [(0, b"a"), (4, b"yes"), (6, b"z")]


def test_a_member_is_told_its_partitions_before_their_first_record(kafka: Kafka) -> None:
    send(kafka, b"a")
    told: list[list[int]] = []

    assert read(kafka.join("x", lambda partitions: told.append(list(partitions))), 1)
    assert told == [[0]]


def test_the_next_life_of_a_member_goes_on_where_the_last_one_committed(kafka: Kafka) -> None:
    send(kafka, b"a", b"b", b"c")
    first = kafka.join("x", None)
    read(first, 3)
    before = first.committed([0])
    first.commit({0: 1}, {0: "so far"})

    second = kafka.join("x", None)

    assert before == {}
    assert read(second, 2) == [(1, b"b"), (2, b"c")]
    assert second.committed([0]) == {0: (1, "so far")}


@pytest.mark.rule("P4")
def test_an_earlier_life_of_a_member_can_neither_read_nor_commit(kafka: Kafka) -> None:
    send(kafka, b"a")
    first = kafka.join("x", None)
    read(first, 1)
    second = kafka.join("x", None)
    read(second, 1)

    with pytest.raises(Fenced):
        first.commit({0: 1})
    with pytest.raises(Fenced):
        eventually(lambda: bool(first.poll(10, 0.1)), "the earlier life is told")
    assert second.committed([0]) == {}


# ------------------------------------------------------------------ what a program's client has of Kafka


class Ends(Protocol):
    """Knows where a topic's partitions end."""

    partitions: int

    def ask(self, partitions: Collection[int], told: Callable[[int, int | Fault], None]) -> None: ...

    def now(self) -> dict[int, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A topic of four partitions, and what a client has of it."""

    ends: Ends
    open_tail: Callable[[Mapping[int, int]], Tail]
    write: Callable[[int, bytes, list[bytes]], None]


def fake_results() -> Results:
    kafka = ClientKafka(partitions=4)

    def write(partition: int, key: bytes, values: list[bytes]) -> None:
        for value in values:
            kafka.write(RESULTS, partition, key, value)

    connections = kafka.connections()
    return Results(ends=connections.ends, open_tail=connections.open_tail, write=write)


def real_results(log: KafkaLog, ending: ExitStack) -> Results:
    log.make(TOPIC, 4)

    def open_tail(places: Mapping[int, int]) -> TopicTail:
        tail = TopicTail(log.address, TOPIC, places)
        ending.callback(tail.close)
        return tail

    return Results(
        ends=TopicEnds(log.address, TOPIC),
        open_tail=open_tail,
        write=lambda partition, key, values: log.write(TOPIC, values, partition=partition, key=key),
    )


@pytest.fixture(params=["the simulation's", "Kafka"])
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    if request.param == "the simulation's":
        yield fake_results()
        return
    servers: Servers = request.getfixturevalue("servers")
    prefix: Callable[[], str] = request.getfixturevalue("topic_prefix")
    address = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=prefix())
    with ExitStack() as ending:
        yield real_results(KafkaLog(address), ending)


def followed(tail: Tail, count: int, keys: Container[bytes | None] | None = None) -> list[tuple[int, bytes | None]]:
    found: list[Record] = []

    def enough() -> bool:
        found.extend(tail.read(0.1, keys))
        return len(found) >= count

    eventually(enough, f"{count} records")
    return sorted((record.partition, record.value) for record in found)


def test_a_tail_reads_from_the_ends_that_were_told(results: Results) -> None:
    results.write(1, b"acme", [b"before"])
    told: dict[int, int | Fault] = {}

    def all_told() -> bool:  # a new topic's leader may not know it yet
        missing = [partition for partition in (1, 2) if not isinstance(told.get(partition), int)]
        results.ends.ask(missing, told.__setitem__) if missing else None
        return not missing

    eventually(all_told, "both ends are told")
    assert results.ends.partitions == 4
    assert told == {1: 1, 2: 0}
    assert results.ends.now() == {0: 0, 1: 1, 2: 0, 3: 0}

    results.write(1, b"acme", [b"a"])
    results.write(2, b"kite", [b"k"])
    tail = results.open_tail({1: 1, 2: 0})
    assert followed(tail, 2) == [(1, b"a"), (2, b"k")]
    assert tail.places() == {1: 2, 2: 1}


def test_a_tail_is_given_more_partitions_and_lets_go_of_some(results: Results) -> None:
    results.ends.now()
    tail = results.open_tail({})
    results.write(0, b"acme", [b"a"])
    tail.begin({0: 0})
    assert followed(tail, 1) == [(0, b"a")]

    tail.drop([0])
    tail.begin({3: 0})
    results.write(0, b"acme", [b"b"])
    results.write(3, b"kite", [b"k"])
    assert followed(tail, 1) == [(3, b"k")]
    assert tail.places() == {3: 1}

    tail.begin({0: 1})
    assert followed(tail, 1) == [(0, b"b")]


def test_a_tail_shows_the_keys_that_are_wanted(results: Results) -> None:
    results.ends.now()
    results.write(0, b"kite", [b"k"] * 5)
    results.write(0, b"acme", [b"a"])
    tail = results.open_tail({0: 0})

    assert followed(tail, 1, {b"acme"}) == [(0, b"a")]
    assert tail.places() == {0: 6}


def test_another_tail_goes_on_where_one_was(results: Results) -> None:
    results.ends.now()
    results.write(0, b"acme", [b"a", b"b"])
    first = results.open_tail({0: 0, 1: 0})
    followed(first, 2)
    results.write(0, b"acme", [b"c"])
    results.write(1, b"kite", [b"k"])

    assert followed(results.open_tail(first.places()), 2) == [(0, b"c"), (1, b"k")]
