"""The shard worker's consumer: static, cooperative, and positioned by the lanes, not by the group."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Message, TopicPartition

from processors.faults import Fault, Fenced, LaneStopped, Retryable, StopCode, Unavailable
from processors.streams.connection import (
    CLIENT_LOG,
    MESSAGE_BYTES_MAX,
    KafkaAddress,
    Login,
    as_faults,
    bears,
    error_of,
    fault_of,
    is_fatal,
)
from processors.streams.watched import Watched
from processors.troubles import TROUBLES
from processors.wire.records import UNREADABLE_HEADERS, ReadHeaders, Record

COMMITTED_DEADLINE_S = 10.0
# The poll thread comes round every 100 ms and may be held up for 3 s by lanes that are being revoked.
START_DEADLINE_S = 30.0
# Read ahead at most this much, in bytes, whatever the lanes do: three batches of ordinary commands.
QUEUE_KIB_MAX = 16 * 1024
# What is read ahead of a lane that pauses is thrown away and read again, so no more than two batches.
QUEUE_RECORDS = 8_000
MAX_POLL_INTERVAL_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """A member's place in its group; see P4. ``instance`` is unique and the same after a restart."""

    group: str
    instance: str
    session_timeout_ms: int = 6_000

    def options(self, address: KafkaAddress, *, max_poll_interval_ms: int) -> dict[str, str | int | bool]:
        """Return a static member's options (P4), with nothing committed or moved by the client itself."""
        return {
            "group.id": address.topic_prefix + self.group,
            "group.instance.id": self.instance,
            "group.protocol": "classic",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": self.session_timeout_ms,
            "heartbeat.interval.ms": self.session_timeout_ms // 3,
            "max.poll.interval.ms": max_poll_interval_ms,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",  # L3: any other value acts on a mismatch by moving
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
            "check.crcs": True,
        }


@dataclass(slots=True, eq=False)
class _StartRequest:
    """A lane's request to start at a place, for the poll thread to carry out; ``fault`` says why it did not."""

    place: TopicPartition
    fault: Fault | None = None
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentEvents:
    """What the consumer tells, in the poll thread; each takes partition numbers."""

    assigned: Callable[[Collection[int]], None]
    revoked: Callable[[Collection[int]], None]
    started: Callable[[int], None]


class RecordConsumer:
    """Reads a shard's topic, each partition from where its lane says (L3, L12, P4).

    ``poll``, ``pause``, ``resume`` and ``close`` belong to one thread, the poll thread; any may call the rest. (Tried:
    the client lets one thread in at a time, and another one that asks waits in vain while the first one polls.)

    The group's callback fetches nothing (L12). A partition is assigned only when its lane says where it starts: at that
    offset and with its leader epoch. The partition is then sought to the same place once more. Both ask the broker
    whether the log of that epoch still reaches so far (L3).

    (To assign a partition in the callback, paused, loses records; two ways were tried. At offset 0, a fetch may be on
    its way before the pause; where the log no longer begins at 0, its error stops the partition for good. At the end,
    the broker's answer about the end may arrive after the seek, and moves the partition to the end without a word.)
    """

    def __init__(self, address: KafkaAddress, topic: str, group: GroupOptions, events: AssignmentEvents) -> None:
        """Join the group; partitions come with the first polls.

        Args:
            address: The brokers.
            topic: The shard's topic, its whole name.
            group: The group, and this member's place in it.
            events: Whom to tell of partitions that come, start, and go.
        """
        self._topic = topic
        self._doing = f"read of {topic}"
        self._events = events
        self._owned: set[int] = set()  # what the group gave us
        self._fetching: set[int] = set()  # what the client was told to fetch
        self._started: set[int] = set()  # whose records are wanted
        self._requests: list[_StartRequest] = []
        self._lock = threading.Lock()
        self._group_metadata: object = None
        self._next: dict[int, int] = {}  # of each partition, the offset after its last record that was returned
        self._watched = Watched(topic)
        member = address.options() | group.options(address, max_poll_interval_ms=MAX_POLL_INTERVAL_MS)
        self._login, self._asking_login = Login(address), Login(address)
        self._asked = threading.Lock()  # held by who uses `_asking`
        # Only asks the coordinator, never joins: an answer may take seconds, and the poll thread must not wait for it.
        self._asking = Consumer({name: value for name, value in member.items() if name != "group.instance.id"})
        self._consumer = Consumer(
            member
            | {
                "error_cb": self._watched.hear,
                "queued.max.messages.kbytes": QUEUE_KIB_MAX,
                "queued.min.messages": QUEUE_RECORDS,
                "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
                "fetch.min.bytes": 1,
                "fetch.wait.max.ms": 100,
                "fetch.error.backoff.ms": 100,
                "fetch.queue.backoff.ms": 10,
            },
            logger=CLIENT_LOG,
        )
        self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def poll(self, max_records: int, timeout_s: float) -> tuple[dict[int, list[Record]], dict[int, LaneStopped]]:
        """Return the next records by partition, and the partitions whose log is not what it was.

        Args:
            max_records: At most this many records.
            timeout_s: How long to wait for the first.

        Raises:
            Fenced: Another process has this one's ``instance``: end this one (L12).
            Fault: The topic cannot be read; end the process, too.
        """
        self._login.renew(self._consumer)
        self._look_after_asking()
        self._carry_out_requests()
        self._note_membership()
        records: dict[int, list[Record]] = {}
        stopped: dict[int, LaneStopped] = {}
        started = self._started
        for message in consumed(self._consumer, max_records, timeout_s, self._doing):
            error = message.error()
            if error is not None:
                self._meet_error(message, error, stopped)
                continue
            partition = message.partition()
            if partition in started:
                records.setdefault(partition, []).append(record_of(message))
        if records:
            TROUBLES.over("shard", subject=self._doing)
            self._next.update((partition, of_it[-1].offset + 1) for partition, of_it in records.items())
        self._watched.look(self._consumer, self._next)
        return records, stopped

    def start(self, partition: int, offset: int, leader_epoch: int, deadline_s: float = START_DEADLINE_S) -> None:
        """Have records of a partition come from an offset on, as of a leader epoch; what was read before is dropped.

        Waits for the poll thread, so never call it from there.

        Args:
            partition: One that was assigned.
            offset: The first one wanted.
            leader_epoch: That of the record before it; -1 where none is known.
            deadline_s: How long to wait.

        Raises:
            Fenced: The partition was revoked meanwhile.
            LaneStopped: LOG_TRUNCATED: the log does not have that offset (L3). It may also come from a later ``poll``.
            Unavailable: The poll thread did not come to it within the deadline; nothing will start.
        """
        request = _StartRequest(TopicPartition(self._topic, partition, offset, "", leader_epoch))
        with self._lock:
            self._requests.append(request)
        if not request.done.wait(deadline_s):
            with self._lock:
                self._requests = [other for other in self._requests if other is not request]
            raise Unavailable(f"partition {partition} of {self._topic} was not positioned within {deadline_s} s")
        if request.fault is not None:
            raise request.fault

    def committed(self, partition: int) -> tuple[int, str] | None:
        """Return the group's offset and metadata, none of an unfinished transaction; None where there is none (L4).

        Raises:
            Fault: The coordinator did not answer within ``COMMITTED_DEADLINE_S``, or a transaction stayed unfinished.
        """
        advice = "for minutes? docs/runbook.md, A transaction that stays open"
        doing = f"committed offset of {self._topic} {partition} ({advice})"
        try:
            with self._asked:
                self._hear_asking()
                (place,) = self._asking.committed([TopicPartition(self._topic, partition)], COMMITTED_DEADLINE_S)
        except KafkaException as exception:
            raise fault_of(error_of(exception), doing) from exception
        except RuntimeError as exception:  # closed: a fault for a lane that has not ended yet, and no bug
            raise Retryable(f"{doing}: {exception}") from exception
        if place.error is not None:
            raise fault_of(place.error, doing)
        return None if place.offset < 0 else (place.offset, place.metadata or "")

    def group_metadata(self) -> object:
        """Return what a transaction needs to commit this group's offsets: this member as it was at the last poll.

        Raises:
            Retryable: There was no poll yet.
        """
        if self._group_metadata is None:
            raise Retryable(f"this process has not joined the group of {self._topic} yet")
        return self._group_metadata

    # ------------------------------------------------------------------ in the poll thread

    def pause(self, partition: int) -> None:
        """Have no more records of a partition come, what was read ahead included, until ``resume``."""
        with as_faults(self._doing):
            self._consumer.pause([TopicPartition(self._topic, partition)])

    def resume(self, partition: int) -> None:
        """Have a paused partition's records come again."""
        with as_faults(self._doing):
            self._consumer.resume([TopicPartition(self._topic, partition)])

    def close(self) -> None:
        """Leave without telling the group: a static member's lanes wait for its return (P4)."""
        self._consumer.close()
        self._asking.close()

    def _look_after_asking(self) -> None:
        """Renew the password of the client that only asks, and hear what it says, while nobody asks it.

        That client keeps its connections all the time. With an old password it tries again for ever, and keeps in
        memory what it is told of that (tried). While a thread asks, that thread does both; a poll from here would wait
        for as long as the other thread does (tried).
        """
        if self._asked.acquire(blocking=False):
            try:
                with as_faults(self._doing):
                    self._hear_asking()
            finally:
                self._asked.release()

    def _hear_asking(self) -> None:
        self._asking_login.renew(self._asking)
        self._asking.poll(0)  # it has joined nothing: no record comes, and an error is the next answer's, too

    def _note_membership(self) -> None:
        with contextlib.suppress(RuntimeError):  # a client that is ending has none any more; what it was stays true
            self._group_metadata = self._consumer.consumer_group_metadata()

    def _carry_out_requests(self) -> None:
        with self._lock:
            requests = list(self._requests)
        for request in requests:
            if self._carried_out(request):
                self._end_requests([request], None)

    def _carried_out(self, request: _StartRequest) -> bool:
        """Carry out a request; False where the client is not ready for it, so that the next poll tries again."""
        place = request.place
        partition = place.partition
        if partition not in self._owned:
            request.fault = Fenced(f"partition {partition} of {self._topic} was revoked")
            return True
        try:
            if partition not in self._fetching:
                self._consumer.incremental_assign([place])
                self._fetching.add(partition)
            # The partition is resumed before the seek. If it were resumed later, the answer about the epoch would
            # come too late, and the client would ask again after half a second.
            self._consumer.resume([place])
            self._consumer.seek(place)  # L3: with the leader epoch
        except KafkaException as exception:
            if error_of(exception).code() in (KafkaError._STATE, KafkaError._PREV_IN_PROGRESS):
                return False
            raise fault_of(error_of(exception), f"start of {self._topic} {partition}") from exception
        self._started.add(partition)
        self._events.started(partition)  # L12
        return True

    def _end_requests(self, ending: list[_StartRequest], fault: Fault | None) -> None:
        with self._lock:
            self._requests = [request for request in self._requests if request not in ending]
        for request in ending:
            request.fault = request.fault or fault
            request.done.set()

    def _requests_for(self, partitions: Collection[int]) -> list[_StartRequest]:
        with self._lock:
            return [request for request in self._requests if request.place.partition in partitions]

    def _meet_error(self, message: Message, error: KafkaError, stopped: dict[int, LaneStopped]) -> None:
        partition = message.partition()
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            if partition in self._fetching:
                self._meet_truncation(partition, error, stopped)
            return
        if is_fatal(error):
            raise Fenced(f"read of {self._topic}: {error.name()}: {error.str()}")  # L12
        if not bears(error, self._doing, "shard"):
            raise fault_of(error, self._doing)

    def _meet_truncation(self, partition: int, error: KafkaError, stopped: dict[int, LaneStopped]) -> None:
        """Stop a partition whose log does not have the wanted offset (L3). The client fetches no more of it."""
        stop = LaneStopped(StopCode.LOG_TRUNCATED, f"{self._topic} {partition}: {error.str()}")
        with as_faults(self._doing):
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        self._fetching.discard(partition)
        if partition in self._started:
            self._started.discard(partition)
            stopped[partition] = stop
        self._end_requests(self._requests_for([partition]), stop)

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        # L12: nothing is fetched, looked up or reset before the lane says where it starts.
        consumer.incremental_assign([])
        partitions = [place.partition for place in places]
        self._owned.update(partitions)
        self._note_membership()
        TROUBLES.over("shard", subject=self._doing)
        self._events.assigned(partitions)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = {place.partition for place in places}
        self._owned -= partitions
        self._started -= partitions
        self._end_requests(self._requests_for(partitions), Fenced(f"partitions {sorted(partitions)} were revoked"))
        for partition in partitions & self._next.keys():
            del self._next[partition]
        self._watched.forget(partitions)
        self._events.revoked(sorted(partitions))
        consumer.incremental_unassign([place for place in places if place.partition in self._fetching])
        self._fetching -= partitions


def consumed(consumer: Consumer, max_records: int, timeout_s: float, doing: str) -> list[Message]:
    """Return what a consumer has, at most ``max_records``, waiting for the first only.

    (Tried: ``consume`` alone waits until it has as many as it may return.)

    Raises:
        Fault: The client's, or one of its callbacks; ``doing`` is for the text.
    """
    with as_faults(doing):
        first = consumer.poll(timeout_s)
        if first is None:
            return []
        return [first, *consumer.consume(max_records - 1, 0)] if max_records > 1 else [first]


# Of a header's name that is no UTF-8 the driver makes a hole in its list, which ends any process that looks at it, and
# leaves an exception behind that a plain call of the method does not notice once the interpreter has specialised it
# (tried). A call from C is always checked.
_headers_of = methodcaller("headers")


def record_of(message: Any, *, with_headers: bool = True) -> Record:
    """Return a driver's message without an error as a record; its fields are all there then, but headers if so told."""
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
        headers_of(message) if with_headers else [],
    )


def headers_of(message: Any) -> ReadHeaders:
    """Return a driver's message's headers, or ``UNREADABLE_HEADERS``."""
    try:
        return _headers_of(message) or []
    except SystemError:
        return UNREADABLE_HEADERS
