"""What a client has of the in-memory Kafka: ends, tails and producers, for its threads and in real time.

``away`` stands for brokers that do not answer: ends are not told, nothing is read, and a record that is not delivered
in time ends its producer, as ``streams.producer.IdempotentProducer`` ends.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field

from processors.client.connections import Connections
from processors.faults import Fault, Refused, Unavailable, UnknownOutcome
from processors.routing.buckets import partition_of
from processors.wire.records import OutRecord, Record
from tests.simulation.fakes.broker import Broker, record_of
from tests.simulation.fakes.clock import Clock

COMMANDS, RESULTS, SHARD = "balance.commands", "balance.results", "balance.shard.s1"
_LOOK_S = 0.005


@dataclass(slots=True)
class ClientKafka:
    """The topics that a client knows, and what befalls them."""

    partitions: int = 4
    delivery_deadline_s: float = 0.5
    away: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    broker: Broker = field(default_factory=lambda: Broker(Clock()))
    wrote: Callable[[Record], None] = lambda _: None  # told of each record that was written
    faults: deque[Fault] = field(default_factory=deque)  # what the next reads raise
    full: Callable[[OutRecord], bool] = lambda _: False  # whether a producer has no room for a record just now
    asked: list[int] = field(default_factory=list)  # of which partitions ends were asked
    tails: list[FakeTail] = field(default_factory=list)

    def __post_init__(self) -> None:
        for topic in (COMMANDS, RESULTS, SHARD):
            self.broker.make_topic(topic, self.partitions)

    def connections(self) -> Connections:
        return Connections(ends=FakeEnds(self), open_tail=self._open_tail, open_producer=lambda: FakeProducer(self))

    def write(self, topic: str, partition: int, key: bytes | None, value: bytes) -> Record:
        with self.lock:
            entry = self.broker.write(OutRecord(topic, partition, key, value, []))
            return record_of(self.broker.log(topic, partition), entry)

    def _open_tail(self, places: Mapping[int, int]) -> FakeTail:
        tail = FakeTail(self, RESULTS, places)
        self.tails.append(tail)
        return tail


class FakeEnds:
    """``streams.ends.TopicEnds`` of the results topic."""

    def __init__(self, kafka: ClientKafka, topic: str = RESULTS) -> None:
        self._kafka = kafka
        self._topic = topic
        self.partitions = len(kafka.broker.topic(topic).partitions)

    def ask(self, partitions: Collection[int], told: Callable[[int, int | Fault], None]) -> None:
        self._kafka.asked.extend(partitions)
        for partition in partitions:
            told(partition, Unavailable("no broker answers") if self._kafka.away else self.now()[partition])

    def now(self) -> dict[int, int]:
        with self._kafka.lock:
            return {log.number: log.next_offset for log in self._kafka.broker.topic(self._topic).partitions}

    def trouble(self) -> str:
        return "127.0.0.1:9092: Connection refused" if self._kafka.away else ""


class FakeTail:
    """``streams.tail.TopicTail``."""

    def __init__(self, kafka: ClientKafka, topic: str, places: Mapping[int, int]) -> None:
        self._kafka = kafka
        self._topic = topic
        self._places = dict(places)
        self.closed = False

    def begin(self, places: Mapping[int, int]) -> None:
        self._places |= places

    def drop(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            del self._places[partition]

    def places(self) -> dict[int, int]:
        return dict(self._places)

    def read(self, timeout_s: float, keys: Container[bytes | None] | None = None) -> list[Record]:
        ends_s = time.monotonic() + timeout_s
        if self._kafka.faults:
            raise self._kafka.faults.popleft()
        while not (records := self._now()) and time.monotonic() < ends_s:
            time.sleep(_LOOK_S)
        return [record for record in records if keys is None or record.key in keys]

    def _now(self) -> list[Record]:
        found: list[Record] = []
        with self._kafka.lock:
            for partition, position in self._places.items():
                log = self._kafka.broker.log(self._topic, partition)
                entries, passed = ([], None) if self._kafka.away else log.read(position, 1_000)
                found += [record_of(log, entry) for entry in entries]
                self._places[partition] = position if passed is None else passed.offset + 1
        return found

    def close(self) -> None:
        self.closed = True


class FakeProducer:
    """``streams.producer.IdempotentProducer``, with a deadline of delivery; partition -1 is the key's."""

    def __init__(self, kafka: ClientKafka) -> None:
        self._kafka = kafka
        self._queue: deque[tuple[float, OutRecord, Callable[[], None] | None]] = deque()
        self._fault: Fault | None = None

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        self.poll(0)
        while not self.send_at_once(record, on_delivered):
            time.sleep(_LOOK_S)
        self.poll(0)

    def send_at_once(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> bool:
        if record.topic not in {COMMANDS, SHARD}:
            refused = Refused(f"delivery to {record.topic}: UNKNOWN_TOPIC_OR_PART")
            self._fault = UnknownOutcome(str(refused))
            self._fault.__cause__ = refused
        if self._fault is not None:
            raise self._fault
        if self._kafka.full(record):
            return False
        self._queue.append((time.monotonic() + self._kafka.delivery_deadline_s, record, on_delivered))
        self._write()
        return True

    def poll(self, timeout_s: float) -> None:  # noqa: ARG002 - the real one's signature
        self._write()
        if self._queue and self._queue[0][0] < time.monotonic():
            self._fault = self._fault or UnknownOutcome("delivery to balance.commands: _MSG_TIMED_OUT")
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        self._queue.clear()

    def _write(self) -> None:
        while self._queue and self._fault is None and not self._kafka.away:
            _, record, on_delivered = self._queue.popleft()
            self._deliver(record)
            if on_delivered is not None:
                on_delivered()

    def _deliver(self, record: OutRecord) -> None:
        partition = record.partition
        if partition < 0:
            partition = partition_of((record.key or b"").decode(), self._kafka.partitions)
        self._kafka.wrote(self._kafka.write(record.topic, partition, record.key, record.value))
