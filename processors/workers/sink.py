"""The sink: copies every result that left a journal row from balance.results to Cassandra, and says how far (A5).

With each batch it does four things in this order: it writes the rows; it says in ``coverage`` how far they reach; it
tells ``balance.archived``; it notes its position in Cassandra. Killed between any two of them, it begins again at the
noted position, and writes the same rows as before (A2). Payments never wait for it.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from processors.archive.telling import coverage_records
from processors.archive.waiting import FIRST_PAUSE_S, ArchiveWait
from processors.faults import Fault, Misconfigured, Retryable, Unavailable
from processors.metrics import SINK_ROWS, SINK_WRITE_SECONDS
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_rows import ArchiveRows, Collector, position_by_hand
from processors.streams.record_producer import RecordProducer
from processors.streams.topics import RESULTS_TOPIC, TopicAdmin
from processors.telemetry import PULSE
from processors.troubles import TROUBLES
from processors.wire.records import Record

# A batch is closed here, too: the rows made of it take some four times as much memory.
BATCH_BYTES_MAX = 32 * 1024 * 1024
# Taken in while requests are on the way: some 10 ms of work, which Cassandra spends on 32 requests.
GATHER_RECORDS = 500
# Accounts of which it is remembered that the day's first change is noted: 200 bytes each. Where one is forgotten, its
# row is written once more.
KNOWN_DAYS_MAX = 50_000
# A batch of 20,000 results makes some 200,000 objects, and none in a cycle: collecting after every 700, the default,
# scans them again and again, 3 µs a result.
COLLECT_AFTER = (500_000, 20, 100)
TELL_DEADLINE_S = 10.0
ENDS_NOTED_EVERY_S = 60.0  # far below any retention
# While partitions are handed over the group waits for this process; beyond it, better to begin anew.
ASSIGNMENT_DEADLINE_S = 60.0


class SinkConsumer(Protocol):
    """A member of the sink's group (``streams.group``), positioned by what Cassandra says."""

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records."""

    def pause(self) -> None:
        """Have no more records come."""

    def resume(self) -> None:
        """Have records come again."""

    def ends(self) -> dict[int, int]:
        """Return, of partitions whose end was met, the offset there: behind all records that ``poll`` returned."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit the next offset of some partitions, and wait for it."""


class RowsWriter(Protocol):
    """The archive, as far as the sink writes it (``stores.archive_writer``)."""

    def write(self, rows: ArchiveRows, meanwhile: Callable[[], bool] = ...) -> None:
        """Make rows durable, all but their coverage; work on something else while there is nothing to do but wait."""

    def cover(self, rows: ArchiveRows) -> None:
        """Say that all up to these rows is durable."""

    def note_positions(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        """Note from which offsets to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """One sink. ``topic_id`` is that of balance.results; ``archived_topic`` has its prefix."""

    topic_id: bytes
    archived_topic: str
    archived_partitions: int
    batch_rows_max: int
    batch_wait_ms: int


@dataclass(frozen=True, slots=True)
class _ReadBatch:
    """What was read at once: its rows, and where to go on in each results partition."""

    rows: ArchiveRows
    positions: dict[int, int]


class _Intake:
    """Gathers results: the more of them, the more rows share a request (docs/design.md, The archive)."""

    def __init__(self, consumer: SinkConsumer, records_max: int) -> None:
        self._consumer = consumer
        self._records_max = records_max
        self._collector = Collector()
        self._positions: dict[int, int] = {}
        self._records = 0
        self._bytes = 0

    @property
    def full(self) -> bool:
        return self._records >= self._records_max or self._bytes >= BATCH_BYTES_MAX

    def gather(self, timeout_s: float = 0.0) -> bool:
        """Take some records in, waiting at most so long for the first, and say whether there were any."""
        room = max(1, self._records_max - self._records)
        records = self._consumer.poll(min(GATHER_RECORDS, room), timeout_s)
        for record in records:
            payload = record.value or b""
            self._collector.add(record.partition, payload)
            self._positions[record.partition] = record.offset + 1
            self._bytes += len(payload)
        self._records += len(records)
        return bool(records)

    def gather_more(self) -> bool:
        """Take some records in that are there already, unless enough are taken in.

        Raises:
            Retryable: What the consumer had is lost to this process, so that it must begin anew.
        """
        try:
            return not self.full and self.gather()
        except Unavailable as fault:  # of an assignment: it is no silence of the archive, which is waited for
            raise Retryable(f"reading on while the archive was written: {fault}") from fault

    def take(self) -> _ReadBatch | None:
        if self._records == 0:
            return None
        batch = _ReadBatch(self._collector.take(), self._positions)
        self._positions, self._records, self._bytes = {}, 0, 0
        return batch


class Sink:
    """Archives one batch of results after the other; the next is taken once the last is durable, covered and told."""

    def __init__(
        self,
        options: SinkOptions,
        consumer: SinkConsumer,
        writer: RowsWriter,
        producer: RecordProducer,
        *,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold the parts.

        Args:
            options: Limits and names.
            consumer: Positioned by ``sink_position``.
            writer: The archive.
            producer: For balance.archived.
            now_ms: Wall clock, ms since the epoch: when coverage was noted.
            clock: Seconds that never go back.
        """
        self._options = options
        self._consumer = consumer
        self._intake = _Intake(consumer, options.batch_rows_max)
        self._writer = writer
        self._producer = producer
        self._now_ms = now_ms
        self._clock = clock
        self._batch: _ReadBatch | None = None
        self._noted: dict[int, int] = {}
        self._ends_due_s = 0.0
        self._known_days: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        self.wait = ArchiveWait("sink", clock)

    def step(self) -> bool:
        """Archive what waits, or try again what Cassandra did not take, and say whether anything was archived.

        Raises:
            Undecodable: A record of balance.results is none of this release's: nothing is covered past it.
            Fault: Kafka's, or one of Cassandra's that waiting does not mend.
        """
        batch = self._batch or self._read()
        if batch is None:
            self._note_ends()
            return False
        self._batch = batch
        if self.wait.waiting:
            self._intake.gather()  # keeps the membership; nothing comes while it is paused
        try:
            self._archive(batch)
        except Unavailable as silent:
            if not self.wait.waiting:
                self._consumer.pause()
            self.wait.failed(silent)
            return False
        if self.wait.waiting:
            self._consumer.resume()
        self.wait.answered()
        self._remember(batch.rows)
        self._batch = None
        self._commit(batch)
        return True

    def run(self, stopping: threading.Event) -> None:
        """Archive until told to stop. What is not covered by then is read again at the next start."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        while not stopping.is_set():
            self.step()
            PULSE.beat()
            if self.wait.waiting:
                stopping.wait(self.wait.pause_s)

    def _read(self) -> _ReadBatch | None:
        """Gather for a while; what came while the last batch was written is there already."""
        ends_s = self._clock() + self._options.batch_wait_ms / 1000
        while not self._intake.full:
            left_s = ends_s - self._clock()
            if left_s <= 0 or not self._intake.gather(left_s):
                break
        batch = self._intake.take()
        if batch is not None:
            batch.rows.days = {
                (address, currency, day): first
                for (address, currency, day), first in batch.rows.days.items()
                if not self._day_is_noted(address, currency, day, first)
            }
        return batch

    def _archive(self, batch: _ReadBatch) -> None:
        """Write, then cover, then tell, then note the position (A5): each speaks of what precedes it."""
        started_s = self._clock()
        self._writer.write(batch.rows, self._intake.gather_more)
        self._writer.cover(batch.rows)
        self._tell(batch.rows)
        self._writer.note_positions(self._options.topic_id, batch.positions)
        self._noted.update(batch.positions)
        SINK_ROWS.inc(batch.rows.count)
        SINK_WRITE_SECONDS.observe(self._clock() - started_s)

    def _note_ends(self) -> None:
        """Note the end of partitions in which nothing comes; a transaction's mark stands behind their last record.

        A partition may get no result for longer than its retention. Its last records leave, and it then begins above
        the position that was noted at them, as if results had been lost. So the end itself is noted.
        """
        if self._clock() < self._ends_due_s:
            return
        self._ends_due_s = self._clock() + ENDS_NOTED_EVERY_S
        ends = {
            partition: end for partition, end in self._consumer.ends().items() if end > self._noted.get(partition, 0)
        }
        if not ends:
            return
        try:
            self._writer.note_positions(self._options.topic_id, ends)
        except Unavailable as silent:  # another time
            TROUBLES.met("sink", silent, subject="ends of partitions")
        else:
            self._noted.update(ends)
            TROUBLES.over("sink", subject="ends of partitions")

    def _tell(self, rows: ArchiveRows) -> None:
        records = coverage_records(
            rows.covered,
            topic=self._options.archived_topic,
            partitions=self._options.archived_partitions,
            now_ms=self._now_ms(),
        )
        for record in records:
            self._producer.send(record)
        self._producer.flush(TELL_DEADLINE_S)

    def _commit(self, batch: _ReadBatch) -> None:
        """Commit to the group, too, so that its lag can be seen; the position that counts is in the archive."""
        try:
            self._consumer.commit(batch.positions)
        except Fault as fault:  # a fatal one comes again with the next poll
            TROUBLES.met("sink", fault, subject="the group's offsets")
        else:
            TROUBLES.over("sink", subject="the group's offsets")

    def _day_is_noted(self, address: bytes, currency: bytes, day: int, first: int) -> bool:
        known = self._known_days.get((address, currency))
        return known is not None and known[0] == day and known[1] <= first

    def _remember(self, rows: ArchiveRows) -> None:
        known = self._known_days
        for (address, currency, day), first in sorted(rows.days.items(), key=lambda item: item[0][2]):
            known.pop((address, currency), None)
            known[address, currency] = (day, first)
        for account in list(known)[: max(0, len(known) - KNOWN_DAYS_MAX)]:
            del known[account]


class SinkPositions:
    """Where the sink begins in each results partition: at the position that it noted in the archive last (A5)."""

    def __init__(self, reader: ArchiveReader, topics: TopicAdmin, topic_id: bytes, stopping: threading.Event) -> None:
        """Hold the parts; ``topic_id`` is that of balance.results."""
        self._reader = reader
        self._topics = topics
        self._topic_id = topic_id
        self._stopping = stopping

    def start_at(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the first offset to read of each partition.

        Raises:
            Misconfigured: The topic no longer has it: results would be left out in silence, and coverage be a lie.
            Unavailable: Cassandra is silent for so long that the group should not wait any more.
        """
        return {partition: self._start_of(partition) for partition in partitions}

    def _start_of(self, partition: int) -> int:
        noted = self._noted(partition)
        first, end = self._topics.bounds(RESULTS_TOPIC, partition)
        if noted < first:
            raise Misconfigured(
                f"{RESULTS_TOPIC} {partition} holds offsets {first} to {end}, and the archive goes on at {noted}: what "
                "lies between is in MySQL only, whose slices stay. `balance archive fill --write` archives it from "
                "there, and then has the sink go on behind it (docs/runbook.md, When the sink stops)"
            )
        if noted > end:
            raise Misconfigured(
                f"{RESULTS_TOPIC} {partition} holds offsets {first} to {end}, and the archive goes on at {noted}: say "
                "where it goes on (docs/runbook.md, When the sink stops): "
                f"{position_by_hand(self._topic_id, partition, first)}"
            )
        return noted

    def _noted(self, partition: int) -> int:
        ends_s = time.monotonic() + ASSIGNMENT_DEADLINE_S
        while True:
            try:
                return self._reader.position(self._topic_id, partition) or 0
            except Unavailable:
                if time.monotonic() > ends_s or self._stopping.wait(FIRST_PAUSE_S):
                    raise
