"""A plain member of a consumer group: for processes that do a record at least once and commit afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from processors.faults import Fault, Fenced, Misconfigured
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
from processors.streams.consumer import GroupOptions, consumed, headers_of, record_of
from processors.streams.watched import Watched
from processors.troubles import TROUBLES
from processors.wire.records import Headers, ReadHeaders, Record

# Read ahead: memory is bounded by bytes, and there is always a whole batch of small records at hand.
QUEUE_KIB_MAX = 32 * 1024
QUEUE_RECORDS = 50_000
FETCH_WAIT_MS = 100  # how long the broker waits for more where there is little
COMMIT_DEADLINE_S = 10.0
NO_METADATA: Mapping[int, str] = MappingProxyType({})
MAX_POLL_INTERVAL_MS = 300_000
_READ_AHEAD = {
    "queued.max.messages.kbytes": QUEUE_KIB_MAX,
    "queued.min.messages": QUEUE_RECORDS,
    "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
    "fetch.wait.max.ms": FETCH_WAIT_MS,
    "enable.partition.eof": True,
}


class GroupConsumer:
    """Reads a topic from where its group committed, else from where it is told, or the beginning. For one thread.

    It is a fault if the log no longer has the committed offset, because retention or an accident took it. The client
    itself would go on elsewhere, and leave records out without a word. The marks that end transactions are no records,
    though. Where nothing but marks lies behind the committed offset, that offset is moved over them. Else a partition
    that gets no record for longer than its retention would look as if it had lost some.
    """

    def __init__(
        self,
        address: KafkaAddress,
        topic: str,
        group: GroupOptions,
        *,
        on_assigned: Callable[[Collection[int]], Mapping[int, int] | None] | None = None,
        on_revoked: Callable[[Collection[int]], None] | None = None,
        start_at: Callable[[Collection[int]], Mapping[int, int]] | None = None,
        needed_headers: Callable[[ReadHeaders], Headers] | None = None,
        wanted: Callable[[ReadHeaders], bool] | None = None,
        with_headers: bool = True,
    ) -> None:
        """Join the group.

        Args:
            address: The brokers.
            topic: Name without prefix.
            group: The group and this member's place in it (P4).
            on_assigned: Called before the first record of these partitions (R1); may return where to begin those
                of which the group has no offset (any more).
            on_revoked: Called when they are given away; what is not committed is read again by their next owner.
            start_at: Says from which offset each is read, for a process that keeps its positions elsewhere.
            needed_headers: Says which headers of each record are kept; anybody's records may have any number of them.
            wanted: Says by its headers whether a record is returned; any other is passed over, at a fourth of the cost.
            with_headers: False leaves them all in the client: making them costs as much as the rest of a record.
        """
        self._with_headers = with_headers
        self._process = group.group.removeprefix("balance-")
        self._needed, self._wanted = needed_headers, wanted
        self._topic = address.topic_prefix + topic
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._start_at = start_at
        self._paused = self._closing = False
        self._owned: set[int] = set()
        self._epochs: dict[int, int] = {}  # the leader epoch of each partition's last record
        self._next: dict[int, int] = {}  # of each partition, the offset after its last record that was returned
        self._done: dict[int, tuple[int, str]] = {}  # what is committed, and with which metadata
        self._ends: dict[int, int] = {}  # where the end was met, with no record since
        self._login = Login(address)
        self._watched = Watched(self._topic)
        self._consumer = Consumer(
            address.options()
            | {"error_cb": self._watched.hear}
            | group.options(address, max_poll_interval_ms=MAX_POLL_INTERVAL_MS)
            | _READ_AHEAD,
            logger=CLIENT_LOG,
        )
        told = {"on_assign": self._assigned, "on_revoke": self._revoked, "on_lost": self._revoked}
        self._consumer.subscribe([self._topic], **told)

    @property
    def _doing(self) -> str:
        return f"read of {self._topic}"

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records that are wanted, in order within each partition.

        Raises:
            Fenced: Another process has this one's ``instance``.
            Misconfigured: The log does not have the offset to go on at.
            Fault: The topic cannot be read.
        """
        records: list[Record] = []
        last: dict[int | None, Message] = {}
        self._login.renew(self._consumer)
        messages = consumed(self._consumer, max_records, timeout_s, self._doing)
        messages.reverse()
        while messages:
            message = messages.pop()  # and let go of: it keeps the whole list of its headers, once it was asked
            error = message.error()
            if error is None:
                last[message.partition()] = message
                if self._wanted is not None and not self._wanted(headers_of(message)):
                    continue
                record = record_of(message, with_headers=self._with_headers)
                if record.headers and self._needed is not None:
                    record.headers = self._needed(record.headers)
                records.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._note_end(message)
            else:
                self._meet_error(message, error)
        if not last.keys() <= self._owned:  # given away while this was read: its next owner reads it
            records = [record for record in records if record.partition in self._owned]
        self._note_last(last)
        if not last:
            self._move_over_marks()
        else:
            TROUBLES.over(self._process, subject=self._doing)
        self._watched.look(self._consumer, self._next, self._ends.keys())
        return records

    def positions(self) -> dict[int, int]:
        """Return, of this member's partitions, the offset after the last record that ``poll`` returned or passed over.

        Where there was none yet it is the offset that the group had committed; without one a partition is left out.
        """
        return dict(self._next)

    def ends(self) -> dict[int, int]:
        """Return, of partitions whose end was met, the offset there: behind all records that ``poll`` returned."""
        return dict(self._ends)

    def commit(self, offsets: Mapping[int, int], metadata: Mapping[int, str] = NO_METADATA) -> None:
        """Commit the next offset of some partitions, each with its metadata if it has any, and wait for it.

        Raises:
            Fenced: The partitions were given away meanwhile; nothing is lost, their owner reads again.
            Fault: It may or may not be committed; read again from what is.
        """
        places = [
            TopicPartition(self._topic, partition, offset, metadata.get(partition, ""), self._epochs.get(partition, -1))
            for partition, offset in offsets.items()
        ]
        doing = f"commit of {self._topic}"
        try:
            answered = self._consumer.commit(offsets=places, asynchronous=False) or []
        except KafkaException as exception:
            raise _commit_fault(error_of(exception), doing) from exception
        for place in answered:
            if place.error is not None:
                raise _commit_fault(place.error, f"{doing} {place.partition}")
        self._done.update({partition: (offset, metadata.get(partition, "")) for partition, offset in offsets.items()})

    def _move_over_marks(self) -> None:
        """Commit the ends of partitions whose records are all committed; if that fails, the next end is committed."""
        for partition, end in self._ends.items():
            offset, metadata = self._done.get(partition, (end, ""))
            if offset < end and offset == self._next.get(partition):
                place = TopicPartition(self._topic, partition, end, metadata, self._epochs.get(partition, -1))
                with as_faults(f"commit of {self._topic} {partition}"):
                    self._consumer.commit(offsets=[place], asynchronous=True)
                self._done[partition] = (end, metadata)

    def pause(self) -> None:
        """Have no more records come, until ``resume``: ``poll`` only keeps the membership."""
        self._paused = True
        with as_faults(self._doing):
            self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Have records come again, after the last that came."""
        self._paused = False
        with as_faults(self._doing):
            self._consumer.resume(self._consumer.assignment())

    def committed(self, partitions: Collection[int]) -> dict[int, tuple[int, str]]:
        """Return the group's offset and metadata of those partitions that have any."""
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        with as_faults(f"committed offsets of {self._topic}"):
            found = self._consumer.committed(places, COMMIT_DEADLINE_S)
        return {place.partition: (place.offset, place.metadata or "") for place in found if place.offset >= 0}

    def close(self) -> None:
        """Leave without telling the group: a static member's partitions wait for its return (P4)."""
        self._closing = True
        self._consumer.close()

    def _meet_error(self, message: Message, error: KafkaError) -> None:
        if is_fatal(error):
            raise Fenced(f"read of {self._topic}: {error.name()}: {error.str()}")
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise Misconfigured(
                f"{self._topic} {message.partition()} does not have the offset that its reader goes on at, so records "
                f"may be lost ({error.str()}): find out what took them before the group's offset is set by hand"
            )
        if not bears(error, self._doing, self._process):
            raise fault_of(error, self._doing)

    def _note_end(self, message: Message) -> None:
        partition, end = message.partition(), message.offset()
        if partition is not None and partition in self._owned and end is not None:
            self._ends[partition] = end

    def _note_last(self, last: Mapping[int | None, Message]) -> None:
        """Remember where each partition goes on, and the leader epoch of its last record, for its commit.

        Where the log went back, the broker then refuses the position (L3). An epoch above the committed record's own
        only makes that check milder.
        """
        for partition, message in last.items():
            offset, epoch = message.offset(), message.leader_epoch()
            if partition in self._owned and offset is not None:
                self._next[partition] = offset + 1
                self._epochs[partition] = -1 if epoch is None else epoch
                if self._ends.get(partition, 0) <= offset:
                    self._ends.pop(partition, None)

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if self._closing:  # of a rebalance that was under way: nothing is read any more, and nobody answers questions
            consumer.incremental_assign(places)
            return
        TROUBLES.over(self._process, subject=self._doing)
        partitions = [place.partition for place in places]
        known = (self._on_assigned(partitions) if self._on_assigned is not None else None) or {}
        starts = self._committed_places(partitions, known) if self._start_at is None else self._told_places(partitions)
        self._owned.update(partitions)
        consumer.incremental_assign(starts)
        # The driver remembers a pause over assignments: one from before, ended meanwhile, would last for ever.
        if self._paused:
            consumer.pause(starts)
        else:
            consumer.resume(starts)

    def _told_places(self, partitions: list[int]) -> list[TopicPartition]:
        assert self._start_at is not None
        told = self._start_at(partitions)
        return [TopicPartition(self._topic, partition, told[partition]) for partition in partitions]

    def _committed_places(self, partitions: list[int], known: Mapping[int, int]) -> list[TopicPartition]:
        """Return where the group committed, with its leader epoch; else what is known, or the beginning."""
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        with as_faults(f"committed offsets of {self._topic}"):
            found = self._consumer.committed(places, COMMIT_DEADLINE_S)
        for place in found:
            if place.error is not None:
                raise fault_of(place.error, f"committed offset of {self._topic} {place.partition}")
            if place.offset < 0:
                place.offset = known.get(place.partition, OFFSET_BEGINNING)
            else:
                self._next[place.partition] = place.offset
                self._done[place.partition] = (place.offset, place.metadata or "")
        return found

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        if self._on_revoked is not None:
            self._on_revoked([place.partition for place in places])
        consumer.incremental_unassign(places)
        self._watched.forget([place.partition for place in places])
        for place in places:
            self._owned.discard(place.partition)
            for known in (self._epochs, self._next, self._done, self._ends):
                known.pop(place.partition, None)


def _commit_fault(error: KafkaError, doing: str) -> Fault:
    given_away = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS)
    if is_fatal(error) or error.code() in given_away:
        return Fenced(f"{doing}: {error.name()}: {error.str()}")
    return fault_of(error, doing)
