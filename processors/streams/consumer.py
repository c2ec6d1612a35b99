"""The shard worker's consumer: static, cooperative, and positioned by the lanes, not by the group."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Message, TopicPartition

from processors.faults import Fenced, LaneStopped, StopCode, Unavailable
from processors.streams.connection import MESSAGE_BYTES_MAX, KafkaAddress, error_of, fault_of
from processors.wire.records import Record

COMMITTED_DEADLINE_S = 10.0
# Read ahead at most this much, in bytes, whatever the lanes do: three batches of ordinary commands.
QUEUE_KBYTES = 16 * 1024
MAX_POLL_INTERVAL_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """A member's place in its group; see P4. ``instance`` is unique and the same after a restart."""

    group: str
    instance: str
    session_timeout_ms: int = 6_000


@dataclass(slots=True)
class _Wish:
    """A lane's wish to start at a place, for the poll thread to carry out."""

    place: TopicPartition
    done: threading.Event
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentEvents:
    """What the consumer tells, in the poll thread; each takes partition numbers."""

    assigned: Callable[[Collection[int]], None]
    revoked: Callable[[Collection[int]], None]
    started: Callable[[int], None]


class RecordConsumer:
    """Reads a shard's topic, each partition from where its lane says (L3, L12, P4).

    ``poll`` and ``close`` belong to one thread; the rest may be called from any.
    """

    def __init__(self, address: KafkaAddress, topic: str, group: GroupOptions, events: AssignmentEvents) -> None:
        """Join the group; partitions come with the first polls."""
        self._topic = topic
        self._events = events
        self._started: set[int] = set()
        self._wanted: list[_Wish] = []
        self._lock = threading.Lock()
        self._consumer = Consumer(
            address.options()
            | {
                "group.id": address.topic_prefix + group.group,
                "group.instance.id": group.instance,
                "group.protocol": "classic",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": group.session_timeout_ms,
                "heartbeat.interval.ms": group.session_timeout_ms // 3,
                "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",  # L3: any other value acts on a mismatch by moving
                "isolation.level": "read_committed",
                "enable.partition.eof": False,
                "check.crcs": True,
                "queued.max.messages.kbytes": QUEUE_KBYTES,
                "queued.min.messages": 20_000,
                "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
                "fetch.wait.max.ms": 100,
                "fetch.error.backoff.ms": 100,
                "fetch.queue.backoff.ms": 50,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def poll(self, max_records: int, timeout_s: float) -> tuple[dict[int, list[Record]], dict[int, LaneStopped]]:
        """Return the next records by partition, and the partitions whose log is not what it was.

        Args:
            max_records: At most this many records.
            timeout_s: How long to wait for the first.

        Raises:
            Fenced: Another process has this one's ``instance``: end it (L12).
            Fault: The group cannot be reached; poll again.
        """
        self._start_wanted()
        first = self._consumer.poll(timeout_s)
        records: dict[int, list[Record]] = {}
        stopped: dict[int, LaneStopped] = {}
        if first is None:
            return records, stopped
        messages = [first]
        if max_records > 1:
            messages += self._consumer.consume(max_records - 1, 0)
        for message in messages:
            error = message.error()
            if error is not None:
                self._note_error(message, error, stopped)
                continue
            partition = message.partition()
            if partition in self._started:
                records.setdefault(partition, []).append(record_of(message))
        return records, stopped

    def start(self, partition: int, offset: int, leader_epoch: int, deadline_s: float = 30.0) -> None:
        """Have records of a partition come from an offset on, as of a leader epoch; what was read before is dropped.

        Raises:
            Fenced: The partition was revoked meanwhile.
            Unavailable: The poll thread did not come to it within the deadline.
        """
        wish = _Wish(TopicPartition(self._topic, partition, offset, "", leader_epoch), threading.Event())
        with self._lock:
            self._wanted.append(wish)
        if not wish.done.wait(deadline_s):
            raise Unavailable(f"partition {partition} of {self._topic} was not positioned within {deadline_s} s")
        if wish.revoked:
            raise Fenced(f"partition {partition} of {self._topic} was revoked")

    def pause(self, partition: int) -> None:
        """Have no more records of a partition come; those on the way still do."""
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def resume(self, partition: int) -> None:
        """Have a paused partition's records come again."""
        self._consumer.resume([TopicPartition(self._topic, partition)])

    def committed(self, partition: int) -> tuple[int, str] | None:
        """Return the group's offset and metadata, stable transactions only; None where there is none (L4)."""
        try:
            (place,) = self._consumer.committed([TopicPartition(self._topic, partition)], COMMITTED_DEADLINE_S)
        except KafkaException as exception:
            raise fault_of(error_of(exception), f"committed offset of {self._topic} {partition}") from exception
        if place.error is not None:
            raise fault_of(place.error, f"committed offset of {self._topic} {partition}")
        return None if place.offset < 0 else (place.offset, place.metadata or "")

    def group_metadata(self) -> object:
        """Return what a transaction needs to commit this group's offsets."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave without telling the group: a static member's lanes wait for its return (P4)."""
        self._consumer.close()

    def _start_wanted(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, []
        for wish in wanted:
            place = wish.place
            try:
                self._consumer.seek(place)
                self._consumer.resume([place])
            except KafkaException as exception:
                if error_of(exception).code() not in (KafkaError._STATE, KafkaError._UNKNOWN_PARTITION):
                    raise fault_of(error_of(exception), f"seek to {place}") from exception
                with self._lock:  # not fetching yet, or revoked meanwhile: the waiter's deadline ends it
                    self._wanted.append(wish)
                continue
            self._events.started(place.partition)
            self._started.add(place.partition)
            wish.done.set()

    def _note_error(self, message: Message, error: KafkaError, stopped: dict[int, LaneStopped]) -> None:
        partition = message.partition()
        code = error.code()
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION):
            if partition in self._started:
                self._started.discard(partition)
                stopped[partition] = LaneStopped(StopCode.LOG_TRUNCATED, f"{self._topic} {partition}: {error.str()}")
            return
        fault = fault_of(error, f"read of {self._topic}")
        if error.fatal() or isinstance(fault, Fenced):
            raise Fenced(str(fault))
        if not isinstance(fault, Unavailable) and not error.retriable():
            raise fault

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        # L12: an absolute offset, so that nothing is looked up or reset before the lane says where it starts.
        partitions = [place.partition for place in places]
        at_zero = [TopicPartition(self._topic, partition, 0) for partition in partitions]
        consumer.incremental_assign(at_zero)
        consumer.pause(at_zero)
        self._events.assigned(partitions)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = {place.partition for place in places}
        self._started -= partitions
        with self._lock:
            for wish in self._wanted:
                wish.revoked = wish.place.partition in partitions
            ended = [wish for wish in self._wanted if wish.revoked]
            self._wanted = [wish for wish in self._wanted if not wish.revoked]
        for wish in ended:
            wish.done.set()
        self._events.revoked(sorted(partitions))
        consumer.incremental_unassign(places)


def record_of(message: Message) -> Record:
    """Return a message as a record."""
    kind, time_ms = message.timestamp()
    epoch = message.leader_epoch()
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        -1 if epoch is None else epoch,
        time_ms,
        kind == TIMESTAMP_LOG_APPEND_TIME,
        message.key(),
        message.value(),
        message.headers() or [],
    )
