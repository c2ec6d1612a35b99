"""What tests of the streams do to a real Kafka beside the service's own code: topics, plain records, and accidents."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of the driver's stubs
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from processors.faults import Fault, LaneStopped
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import AssignmentEvents, GroupOptions, RecordConsumer, record_of
from processors.wire.records import ReadHeaders, Record
from tests.waiting import eventually

DEADLINE_S = 30.0


@dataclass(slots=True)
class KafkaLog:
    """A test's own topics; names are without prefix."""

    address: KafkaAddress
    admin: AdminClient = field(init=False)

    def __post_init__(self) -> None:
        self.admin = AdminClient(self.address.options())

    def full(self, topic: str) -> str:
        return self.address.topic_prefix + topic

    def make(self, topic: str, partitions: int = 1, *, settings: Mapping[str, str] | None = None) -> str:
        """Make a topic, with LogAppendTime unless its settings say else, and return its whole name."""
        name = self.full(topic)
        config = {"message.timestamp.type": "LogAppendTime", **(settings or {})}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        self.admin.create_topics([new])[name].result(DEADLINE_S)
        eventually(lambda: name in self.admin.list_topics(timeout=DEADLINE_S).topics, f"{name} is listed")
        return name

    def alter(self, topic: str, setting: str, value: str) -> None:
        """Change a setting of a topic, as an operator does with kafka-configs."""
        entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, self.full(topic), incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result(DEADLINE_S)

    def widen(self, topic: str, partitions: int) -> None:
        """Raise a topic's number of partitions, as an operator does with kafka-topics --alter."""
        name = self.full(topic)
        self.admin.create_partitions([NewPartitions(name, partitions)])[name].result(DEADLINE_S)
        eventually(
            lambda: len(self.admin.list_topics(timeout=DEADLINE_S).topics[name].partitions) == partitions,
            f"{name} has {partitions} partitions",
        )

    def drop(self, topic: str) -> None:
        """Delete a topic and wait until no broker knows it."""
        name = self.full(topic)
        self.admin.delete_topics([name])[name].result(DEADLINE_S)
        eventually(lambda: name not in self.admin.list_topics(timeout=DEADLINE_S).topics, f"{name} is gone")

    def write(
        self,
        topic: str,
        values: Collection[bytes],
        *,
        partition: int = 0,
        key: bytes = b"acme",
        headers: ReadHeaders = (),
    ) -> None:
        """Append plain records, acknowledged."""
        producer = Producer(self.address.options() | {"enable.idempotence": True, "linger.ms": 5})
        for value in values:
            producer.produce(self.full(topic), value, key, partition, headers=list(headers))
        assert producer.flush(DEADLINE_S) == 0

    def write_in_transaction(self, topic: str, values: Collection[bytes], *, commit: bool, partition: int = 0) -> None:
        """Append records as a gateway that uses transactions does."""
        producer = Producer(self.address.options() | {"transactional.id": f"{self.full(topic)}.gateway"})
        producer.init_transactions(DEADLINE_S)
        producer.begin_transaction()
        for value in values:
            producer.produce(self.full(topic), value, b"acme", partition)
        assert producer.flush(DEADLINE_S) == 0
        if commit:
            producer.commit_transaction(DEADLINE_S)
        else:
            producer.abort_transaction(DEADLINE_S)

    def truncate(self, topic: str, first_offset: int, *, partition: int = 0) -> None:
        """Delete what stands before an offset, as retention does."""
        place = TopicPartition(self.full(topic), partition, first_offset)
        for done in self.admin.delete_records([place]).values():
            done.result(DEADLINE_S)

    def read(self, topic: str, *, partition: int = 0, isolation: str = "read_committed") -> list[Record]:
        """Return everything that a reader sees in a partition now."""
        consumer = Consumer(
            self.address.options()
            | {
                "group.id": "unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": isolation,
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(self.full(topic), partition, 0)])
        records: list[Record] = []
        ends_s = time.monotonic() + DEADLINE_S
        try:
            while time.monotonic() < ends_s:
                for message in consumer.consume(1_000, 0.2):
                    error = message.error()
                    if error is None:
                        records.append(record_of(message))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return records
            raise AssertionError(f"the end of {topic} {partition} was not met within {DEADLINE_S} s")
        finally:
            consumer.close()

    def committed(self, group: str, topic: str, *, partition: int = 0) -> TopicPartition:
        """Return a group's committed place."""
        consumer = Consumer(self.address.options() | {"group.id": self.full(group)})
        try:
            return consumer.committed([TopicPartition(self.full(topic), partition)], DEADLINE_S)[0]
        finally:
            consumer.close()

    def commit(self, group: str, topic: str, offset: int, *, partition: int = 0, metadata: str = "") -> None:
        """Set a group's offset by hand, as an operator's tool does; nobody of the group may be running."""
        consumer = Consumer(self.address.options() | {"group.id": self.full(group), "enable.auto.commit": False})
        try:
            place = TopicPartition(self.full(topic), partition, offset, metadata)
            consumer.commit(offsets=[place], asynchronous=False)
        finally:
            consumer.close()

    def forget(self, group: str) -> None:
        """Remove a group and its offsets, as the brokers do where nobody of it is there for long enough."""
        name = self.full(group)

        def is_gone() -> bool:
            try:
                self.admin.delete_consumer_groups([name])[name].result(DEADLINE_S)
            except KafkaException as exception:  # a static member stays in it until its session ends
                error = exception.args[0]
                assert error.code() in (KafkaError.NON_EMPTY_GROUP, KafkaError.GROUP_ID_NOT_FOUND), error
                return bool(error.code() == KafkaError.GROUP_ID_NOT_FOUND)
            return True

        eventually(is_gone, f"group {name} is gone")

    def topic_id(self, topic: str) -> str:
        """Return a topic's id as the broker says it."""
        described = self.admin.describe_topics(TopicCollection([self.full(topic)]))
        return str(described[self.full(topic)].result(DEADLINE_S).topic_id)


class Member:
    """A ``RecordConsumer`` with its poll thread; what it saw is kept by partition."""

    def __init__(self, address: KafkaAddress, topic: str, group: GroupOptions) -> None:
        self.assigned: set[int] = set()
        self.records: dict[int, list[Record]] = {}
        self.stopped: dict[int, LaneStopped] = {}
        self.events: list[tuple[str, tuple[int, ...]]] = []
        self.fault: Fault | None = None
        self.errands: deque[Callable[[], None]] = deque()  # to be done in the poll thread
        self.held = threading.Event()  # set: polls no more, as a stopped process; cleared: goes on
        self._stands = threading.Event()
        self._ending = threading.Event()
        self.consumer = RecordConsumer(
            address,
            address.topic_prefix + topic,
            group,
            AssignmentEvents(assigned=self._assigned, revoked=self._revoked, started=self._started),
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _assigned(self, partitions: Collection[int]) -> None:
        self.events.append(("assigned", tuple(partitions)))
        self.assigned.update(partitions)

    def _revoked(self, partitions: Collection[int]) -> None:
        self.events.append(("revoked", tuple(partitions)))
        self.assigned.difference_update(partitions)

    def _started(self, partition: int) -> None:
        self.events.append(("started", (partition,)))
        self.records[partition] = []

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                if self.held.is_set():
                    self._stands.set()
                    time.sleep(0.05)
                    continue
                while self.errands:
                    self.errands.popleft()()
                records, stopped = self.consumer.poll(1_000, 0.1)
                for partition, batch in records.items():
                    self.records[partition].extend(batch)
                self.stopped.update(stopped)
        except Fault as fault:
            self.fault = fault

    def hold(self) -> None:
        """Have it poll no more, as a stopped process; no poll is under way when this returns."""
        self._stands.clear()
        self.held.set()
        assert self._stands.wait(DEADLINE_S)

    def do(self, errand: Callable[[], None]) -> None:
        """Have something done in the poll thread, and wait for it."""
        done = threading.Event()
        self.errands += [errand, done.set]
        assert done.wait(DEADLINE_S)

    def await_assigned(self, *partitions: int) -> None:
        eventually(lambda: self.assigned == set(partitions), f"assigned {partitions}, not {self.assigned}")

    def offsets(self, partition: int = 0) -> list[int]:
        return [record.offset for record in self.records.get(partition, [])]

    def await_offsets(self, offsets: Collection[int], partition: int = 0) -> None:
        eventually(
            lambda: self.offsets(partition) == list(offsets), f"offsets {offsets}, not {self.offsets(partition)}"
        )

    def close(self) -> None:
        self._ending.set()
        self._thread.join(DEADLINE_S)
        self.consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
