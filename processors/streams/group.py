"""A plain member of a consumer group: for processes that do a record at least once and commit afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from processors.faults import Fenced, Unavailable
from processors.streams.connection import MESSAGE_BYTES_MAX, KafkaAddress, error_of, fault_of
from processors.streams.consumer import GroupOptions, record_of
from processors.wire.records import Record

COMMIT_DEADLINE_S = 10.0
MAX_POLL_INTERVAL_MS = 300_000


class GroupConsumer:
    """Reads a topic from where its group committed, else from the beginning. For one thread."""

    def __init__(
        self,
        address: KafkaAddress,
        topic: str,
        group: GroupOptions,
        *,
        on_assigned: Callable[[Collection[int]], None] | None = None,
        on_revoked: Callable[[Collection[int]], None] | None = None,
        start_at: Callable[[Collection[int]], Mapping[int, int]] | None = None,
    ) -> None:
        """Join the group.

        Args:
            address: The brokers.
            topic: Name without prefix.
            group: The group and this member's place in it (P4).
            on_assigned: Called before the first record of these partitions (R1).
            on_revoked: Called when they are given away; what is not committed is read again by their next owner.
            start_at: Says from which offset each is read, for a process that keeps its positions elsewhere than in the
                group; ``poll`` then raises where the log no longer has that offset, instead of moving on.
        """
        self._topic = address.topic_prefix + topic
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._start_at = start_at
        self._paused = False
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
                "auto.offset.reset": "earliest" if start_at is None else "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": False,
                "check.crcs": True,
                "queued.max.messages.kbytes": 32 * 1024,
                "queued.min.messages": 50_000,
                "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
                "fetch.wait.max.ms": 100,
            }
        )
        self._consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records, in order within each partition.

        Raises:
            Fenced: Another process has this one's ``instance``.
            Fault: The topic cannot be read.
        """
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        records = []
        for message in [first, *self._consumer.consume(max_records - 1, 0)]:
            error = message.error()
            if error is None:
                records.append(record_of(message))
                continue
            fault = fault_of(error, f"read of {self._topic}")
            if error.fatal():
                raise Fenced(str(fault))
            if not isinstance(fault, Unavailable) and not error.retriable():
                raise fault
        return records

    def commit(self, offsets: Mapping[int, int], metadata: str = "") -> None:
        """Commit the next offset of some partitions, and wait for it.

        Raises:
            Fenced: The partitions were given away meanwhile; nothing is lost, their owner reads again.
            Fault: It may or may not be committed; read again from what is.
        """
        places = [TopicPartition(self._topic, partition, offset, metadata) for partition, offset in offsets.items()]
        try:
            for place in self._consumer.commit(offsets=places, asynchronous=False) or []:
                if place.error is not None:
                    raise fault_of(place.error, f"commit of {self._topic} {place.partition}")
        except KafkaException as exception:
            error = error_of(exception)
            given_away = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS)
            if error.code() in given_away:
                raise Fenced(f"commit of {self._topic}: {error.str()}") from exception
            raise fault_of(error, f"commit of {self._topic}") from exception

    def pause(self) -> None:
        """Have no more records come, until ``resume``: ``poll`` only keeps the membership."""
        self._paused = True
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Have records come again, after the last that came."""
        self._paused = False
        self._consumer.resume(self._consumer.assignment())

    def rewind(self, offsets: Mapping[int, int]) -> None:
        """Read some partitions again from an offset on."""
        for partition, offset in offsets.items():
            try:
                self._consumer.seek(TopicPartition(self._topic, partition, offset))
            except KafkaException as exception:
                raise fault_of(error_of(exception), f"rewind of {self._topic} {partition}") from exception

    def committed(self, partitions: Collection[int]) -> dict[int, tuple[int, str]]:
        """Return the group's offset and metadata of those partitions that have any."""
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        try:
            found = self._consumer.committed(places, COMMIT_DEADLINE_S)
        except KafkaException as exception:
            raise fault_of(error_of(exception), f"committed offsets of {self._topic}") from exception
        return {place.partition: (place.offset, place.metadata or "") for place in found if place.offset >= 0}

    def close(self) -> None:
        """Leave without telling the group: a static member's partitions wait for its return (P4)."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if self._on_assigned is not None:
            self._on_assigned([place.partition for place in places])
        if self._start_at is not None:
            for partition, offset in self._start_at([place.partition for place in places]).items():
                next(place for place in places if place.partition == partition).offset = offset
        consumer.incremental_assign(places)
        if self._paused:
            consumer.pause(places)

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if self._on_revoked is not None:
            self._on_revoked([place.partition for place in places])
        consumer.incremental_unassign(places)
