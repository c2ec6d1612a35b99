"""An in-memory Kafka: topics with ids and leader epochs, transactions with a last stable offset, fencing by epochs."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from operator import attrgetter

from processors.faults import Fenced
from processors.wire.records import Headers, OutRecord, Record
from tests.simulation.fakes.clock import Clock
from tests.simulation.fakes.groups import Group, Place

TRANSACTION_TIMEOUT_MS = 30_000
_OFFSET = attrgetter("offset")


class OffsetOutOfRangeError(Exception):
    """The log does not reach back, or forward, to the position; or it was rewritten below it."""


class End(Enum):
    """How a transaction stands."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True)
class Entry:
    """What stands at an offset of a log: a record, or (``control``) a transaction's marker."""

    offset: int
    leader_epoch: int
    timestamp_ms: int
    append_time: bool
    key: bytes | None
    value: bytes | None
    headers: Headers
    transaction: KafkaTransaction | None
    control: bool = False


@dataclass(slots=True)
class KafkaTransaction:
    """One transaction: what it wrote, and the group offsets that it carries."""

    began_ms: int
    end: End = End.OPEN
    entries: list[tuple[PartitionLog, Entry]] = field(default_factory=list)
    offsets: list[tuple[Group, Place, int, str]] = field(default_factory=list)


class PartitionLog:
    """One partition: entries by offset, and where each leader epoch began."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.entries: list[Entry] = []
        self.start_offset = 0
        self.next_offset = 0
        self.epoch_starts: list[tuple[int, int]] = [(0, 0)]

    @property
    def leader_epoch(self) -> int:
        return self.epoch_starts[-1][0]

    def elect(self) -> None:
        """Have another leader."""
        self.epoch_starts.append((self.leader_epoch + 1, self.next_offset))

    def append(self, entry: Entry) -> Entry:
        entry.offset, entry.leader_epoch = self.next_offset, self.leader_epoch
        self.entries.append(entry)
        self.next_offset += 1
        return entry

    def read(self, position: int, records_max: int) -> tuple[list[Entry], Entry | None]:
        """Return records as ``read_committed`` does, up to the last stable offset, and the last entry passed."""
        if not self.start_offset <= position <= self.next_offset:
            raise OffsetOutOfRangeError(f"{self.topic} {self.number}: no offset {position}")
        found: list[Entry] = []
        passed = None
        for index in range(bisect_left(self.entries, position, key=_OFFSET), len(self.entries)):
            entry = self.entries[index]
            transaction = entry.transaction
            if len(found) == records_max or (transaction is not None and transaction.end is End.OPEN):
                break
            passed = entry
            if not entry.control and (transaction is None or transaction.end is End.COMMITTED):
                found.append(entry)
        return found, passed

    def end_of_epoch(self, epoch: int) -> int:
        """Return where records of later leader epochs begin; the log's end where there are none."""
        return next((start for later, start in self.epoch_starts if later > epoch), self.next_offset)

    def trim(self, offset: int) -> None:
        """Let retention take everything below an offset."""
        self.start_offset = max(self.start_offset, offset)
        self.entries = [entry for entry in self.entries if entry.offset >= self.start_offset]

    def lose_from(self, offset: int) -> None:
        """Lose the end of the log to a leader that never had it, and go on under its epoch."""
        self.entries = [entry for entry in self.entries if entry.offset < offset]
        self.next_offset = min(self.next_offset, offset)
        epoch = self.leader_epoch + 1
        self.epoch_starts = [(each, start) for each, start in self.epoch_starts if start <= offset] + [(epoch, offset)]

    def lose(self, offset: int) -> None:
        """Lose a single record, as compaction would."""
        self.entries = [entry for entry in self.entries if entry.offset != offset]


@dataclass(slots=True)
class Topic:
    """A topic; another id means another topic under the same name."""

    name: str
    topic_id: bytes
    partitions: list[PartitionLog]
    append_time: bool = True


@dataclass(slots=True)
class _Transactional:
    """What the coordinator knows of a transactional id; -1: never opened."""

    epoch: int = -1
    current: KafkaTransaction | None = None


class Broker:
    """The whole cluster. ``on_visible`` is told each transaction that commits, as its marker is written."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.on_visible: Callable[[KafkaTransaction], None] = lambda _: None
        self.late: list[tuple[str, int]] = []  # commits on the wire whose sender has given up: transactional id, epoch
        self._topics: dict[str, Topic] = {}
        self._groups: dict[str, Group] = {}
        self._transactionals: dict[str, _Transactional] = {}
        self._topics_made = 0
        self.first_ids: dict[str, bytes] = {}

    # ------------------------------------------------------------------ topics

    def make_topic(self, name: str, partitions: int) -> Topic:
        """Make a topic; one that was there under this name is gone with all its records."""
        self._topics_made += 1
        topic_id = hashlib.sha256(f"{name} {self._topics_made}".encode()).digest()[:16]
        topic = Topic(name, topic_id, [PartitionLog(name, number) for number in range(partitions)])
        self._topics[name] = topic
        self.first_ids.setdefault(name, topic_id)
        return topic

    def topic(self, name: str) -> Topic:
        return self._topics[name]

    def log(self, name: str, partition: int) -> PartitionLog:
        return self._topics[name].partitions[partition]

    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def group(self, name: str) -> Group:
        return self._groups.setdefault(name, Group())

    def write(self, record: OutRecord, transaction: KafkaTransaction | None = None) -> Entry:
        """Append a record under the broker's time (LogAppendTime)."""
        topic = self._topics[record.topic]
        time_ms = self.clock.now_ms + self.clock.broker_ahead_ms
        log = topic.partitions[record.partition]
        entry = Entry(-1, -1, time_ms, topic.append_time, record.key, record.value, list(record.headers), transaction)
        log.append(entry)
        if transaction is not None:
            transaction.entries.append((log, entry))
        return entry

    # ------------------------------------------------------------------ transactions

    def open_transactional(self, transactional_id: str) -> int:
        """Fence every earlier producer of the id, abort what it left open, and return the new epoch."""
        known = self._transactionals.setdefault(transactional_id, _Transactional())
        known.epoch += 1
        if known.current is not None:
            self._end(known, commit=False)
        return known.epoch

    def begin(self, transactional_id: str, epoch: int) -> KafkaTransaction:
        """Return the transaction that is open, or begin one: the coordinator knows no more than that."""
        known = self._mine(transactional_id, epoch)
        if known.current is None:
            known.current = KafkaTransaction(self.clock.now_ms)
        return known.current

    def end(self, transactional_id: str, epoch: int, *, commit: bool) -> None:
        """Write the markers of what is open now, if anything is."""
        known = self._mine(transactional_id, epoch)
        if known.current is not None:
            self._end(known, commit=commit)

    def epoch_of(self, transactional_id: str) -> int:
        """Return the id's newest epoch; -1 where it was never opened."""
        known = self._transactionals.get(transactional_id)
        return -1 if known is None else known.epoch

    def is_open(self, transactional_id: str, epoch: int) -> bool:
        """Say whether a producer was not fenced."""
        return self.epoch_of(transactional_id) == epoch

    def deliver_late(self, index: int) -> None:
        """Have a delayed EndTxn arrive: it ends whatever its producer has open by now (no KIP-890)."""
        transactional_id, epoch = self.late.pop(index)
        if self._transactionals[transactional_id].epoch == epoch:
            self.end(transactional_id, epoch, commit=True)

    def expire_transactions(self) -> None:
        """Abort what was open for too long, and fence its producer."""
        for known in self._transactionals.values():
            current = known.current
            if current is not None and self.clock.now_ms - current.began_ms > TRANSACTION_TIMEOUT_MS:
                known.epoch += 1
                self._end(known, commit=False)

    def pending_offset(self, group: Group, place: Place) -> bool:
        """Say whether an open transaction carries an offset for this place, so that it is not stable."""
        return any(
            offset[0] is group and offset[1] == place
            for known in self._transactionals.values()
            if known.current is not None
            for offset in known.current.offsets
        )

    def _mine(self, transactional_id: str, epoch: int) -> _Transactional:
        known = self._transactionals[transactional_id]
        if known.epoch != epoch:
            raise Fenced(f"{transactional_id} has epoch {known.epoch}, this producer {epoch}")
        return known

    def _end(self, known: _Transactional, *, commit: bool) -> None:
        transaction = known.current
        assert transaction is not None
        known.current = None
        transaction.end = End.COMMITTED if commit else End.ABORTED
        for log in {id(log): log for log, _ in transaction.entries}.values():
            log.append(Entry(-1, -1, self.clock.now_ms, True, None, None, [], transaction, control=True))
        if commit:
            for group, place, offset, metadata in transaction.offsets:
                group.offsets[place] = (offset, metadata)
            self.on_visible(transaction)


def record_of(log: PartitionLog, entry: Entry) -> Record:
    """Return an entry as a consumer's record."""
    return Record(
        log.topic,
        log.number,
        entry.offset,
        entry.leader_epoch,
        entry.timestamp_ms,
        entry.append_time,
        entry.key,
        entry.value,
        entry.headers,
    )
