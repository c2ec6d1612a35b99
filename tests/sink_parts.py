"""A sink on an in-memory results topic and the real Cassandra, which can crash before any step it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from processors.faults import Unavailable
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import BoundRow, CassandraSession, Meanwhile, nothing
from processors.wire.coverage import ArchivedRecord, decode_archived
from processors.wire.records import OutRecord, Record
from processors.wire.results import decode_result, headers_of
from processors.workers.sink import Sink, SinkOptions
from tests.archived import NOW_MS

TOPIC_ID = b"results topic id"
NEVER = 10**9


class SinkCrash(BaseException):
    """The process is gone, between two of its steps."""


@dataclass(slots=True)
class CrashPoint:
    """Has the process crash before a step: a request to Cassandra, a record told, a commit. Steps count from 0."""

    crash_before: int = NEVER
    steps: int = 0

    def reach(self) -> None:
        if self.steps == self.crash_before:
            raise SinkCrash
        self.steps += 1


class CrashingSession(CassandraSession):
    """A session with a crash point before each request; with ``silent`` set it gets no answers."""

    def __init__(self, address: CassandraAddress, *, requests_max: int = 4) -> None:
        super().__init__(address, keyspace=address.keyspace, requests_max=requests_max)
        self.crash_point = CrashPoint()
        self.silent = False

    def write(self, groups: Iterable[Sequence[BoundRow]], meanwhile: Meanwhile = nothing) -> None:
        if self.silent:
            raise Unavailable("Cassandra is away")
        super().write(self._with_crash_point(groups), meanwhile)

    def _with_crash_point(self, groups: Iterable[Sequence[BoundRow]]) -> Iterator[Sequence[BoundRow]]:
        for group in groups:
            self.crash_point.reach()
            yield group


@dataclass(slots=True)
class ResultsLog:
    """balance.results, in memory: what is appended stays, and can be read from any offset."""

    partitions: dict[int, list[Record]] = field(default_factory=dict)

    def append(self, partition: int, payloads: Iterable[bytes]) -> None:
        records = self.partitions.setdefault(partition, [])
        for payload in payloads:
            root = decode_result(payload).root.encode()
            records.append(
                Record("balance.results", partition, len(records), 0, NOW_MS, True, root, payload, headers_of(payload))
            )


class LogConsumer:
    """Reads a ``ResultsLog`` from some positions on, as a group member that owns all partitions."""

    def __init__(self, log: ResultsLog, positions: Mapping[int, int], crash_point: CrashPoint) -> None:
        self._log = log
        self._positions = {partition: positions.get(partition, 0) for partition in log.partitions}
        self._crash_point = crash_point
        self.committed: dict[int, int] = {}
        self.given_away: set[int] = set()
        self.marks = 0  # behind each partition's last record
        self.paused = False
        self.polls_while_paused = 0

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        del timeout_s
        if self.paused:
            self.polls_while_paused += 1
            return []
        found: list[Record] = []
        for partition, records in self._log.partitions.items():
            if partition in self.given_away:
                continue
            start = self._positions.setdefault(partition, 0)
            mine = records[start : start + max_records - len(found)]
            self._positions[partition] = start + len(mine)
            found += mine
        return found

    def positions(self) -> dict[int, int]:
        return {partition: next_ for partition, next_ in self._positions.items() if partition not in self.given_away}

    @property
    def at_end(self) -> bool:
        return all(self._positions[partition] == len(records) for partition, records in self._log.partitions.items())

    def ends(self) -> dict[int, int]:
        lengths = {partition: len(records) for partition, records in self._log.partitions.items()}
        return {partition: end + self.marks for partition, end in lengths.items() if self._positions[partition] == end}

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def commit(self, offsets: Mapping[int, int]) -> None:
        self._crash_point.reach()
        self.committed.update(offsets)


@dataclass(slots=True)
class ProducedRecords:
    """balance.archived, or balance.commands, in memory."""

    crash_point: CrashPoint
    records: list[OutRecord] = field(default_factory=list)
    on_flush: Callable[[], None] | None = None
    _queued: list[OutRecord] = field(default_factory=list)

    def send(self, record: OutRecord) -> None:
        self._queued.append(record)

    def flush(self, deadline_s: float) -> None:
        del deadline_s
        self.crash_point.reach()
        if self.on_flush is not None:
            self.on_flush()
        self.records += self._queued
        self._queued.clear()

    def archived(self) -> list[ArchivedRecord]:
        return [decode_archived(record.value) for record in self.records]


@dataclass(slots=True)
class SinkProcess:
    """One life of a sink: it begins at the position noted in Cassandra."""

    session: CrashingSession
    consumer: LogConsumer
    told: ProducedRecords
    sink: Sink

    def archive_all(self) -> None:
        while self.sink.step():
            pass


def start_sink(
    session: CrashingSession,
    log: ResultsLog,
    crash_point: CrashPoint | None = None,
    *,
    topic_id: bytes = TOPIC_ID,
    batch_rows_max: int = 300,
    clock: Callable[[], float] | None = None,
) -> SinkProcess:
    crash_point = session.crash_point = crash_point or CrashPoint()
    session.silent = False
    reader = ArchiveReader(session)
    positions = {partition: reader.position(topic_id, partition) or 0 for partition in log.partitions}
    consumer, told = LogConsumer(log, positions, crash_point), ProducedRecords(crash_point)
    options = SinkOptions(
        topic_id=topic_id,
        archived_topic="balance.archived",
        archived_partitions=1,
        batch_rows_max=batch_rows_max,
        batch_wait_ms=1,
    )
    more: dict[str, Any] = {} if clock is None else {"clock": clock}
    sink = Sink(options, consumer, ArchiveWriter(session), told, now_ms=lambda: NOW_MS, **more)
    return SinkProcess(session, consumer, told, sink)
