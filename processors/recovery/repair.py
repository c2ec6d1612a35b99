"""Brings back what the archive lost, from MySQL's rows while they are there (A6); without a writer it only names it.

What is missing is written again, made from MySQL's rows as the sink makes it from results. Where the archive differs
from a row, the difference is named, and nothing of that row is written: MySQL alone cannot tell which of the two is
right (`balance verify` compares MySQL with the results topic).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from processors.archive.slice_proof import (
    RANGE_ROWS,
    ArchiveDifference,
    Copies,
    ProvenJournal,
    UnprovenChanges,
    differences,
    stretches,
    unreadable,
)
from processors.faults import Undecodable
from processors.routing.buckets import partition_of
from processors.stores.archive_rows import ArchiveRows, Collector, Covered, in_chunks, written_again
from processors.stores.rows import JournalRow, Progress

MISSING = frozenset({"ARCHIVE_ROW_MISSING", "ARCHIVE_STEP_MISSING", "ARCHIVE_CHANGE_MISSING"})
TOLD_MAX = 1_000  # differences that are kept to be told; all are counted


class RepairJournal(ProvenJournal, Protocol):
    """A shard's database (``stores.shard_reader``)."""

    def positions(self) -> dict[int, Progress]:
        """Return lane -> progress."""


class RepairWriter(Protocol):
    """The archive, as far as it is written again (``stores.archive_writer``)."""

    def write(self, rows: ArchiveRows) -> None:
        """Make rows durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairParts:
    """What is compared and mended. Without a ``writer`` nothing is written; ``now_ms`` is the wall clock's."""

    archive: Copies
    writer: RepairWriter | None
    results_partitions: int
    now_ms: Callable[[], int]


@dataclass(slots=True, kw_only=True)
class Repair:
    """What was found: rows compared, differences found, and how many of them are left; ``told`` are those left."""

    compared: int = 0
    found: int = 0
    left: int = 0
    told: list[ArchiveDifference]

    def note(self, found: list[ArchiveDifference], left: list[ArchiveDifference]) -> None:
        """Add what was found among some rows, and what is left of it."""
        self.found += len(found)
        self.left += len(left)
        self.told += left[: TOLD_MAX - len(self.told)]


def repair(journal: RepairJournal, parts: RepairParts, on_progress: Callable[[str, int], None]) -> Repair:
    """Compare every row of the journal that the sink has passed with the archive, and write again what is missing.

    Args:
        journal: The shard's.
        parts: The archive; without a writer nothing is written.
        on_progress: Told what is at how many rows.

    Raises:
        Unavailable: MySQL or Cassandra does not answer; run it again.
    """
    done = Repair(told=[])
    positions = journal.positions()
    coverage = {progress.topic_id: parts.archive.coverage(progress.topic_id) for progress in positions.values()}
    for number in journal.slices_with_any_table():
        for lane, progress in positions.items():
            reached = coverage[progress.topic_id]
            for some in ranges(journal, number, lane):
                rows = [row for row in some if _is_covered(parts, row, reached)]
                compare(parts, progress.topic_id, rows, done)
                on_progress("journal", done.compared)
    return done


def ranges(journal: ProvenJournal, number: int, lane: int) -> Iterator[list[JournalRow]]:
    """Yield a slice's rows of a lane in order, some at a time."""
    after = (-1, 0)
    while rows := journal.slice_rows(number, lane, after, rows_max=RANGE_ROWS):
        yield rows
        after = (rows[-1].lane_offset, rows[-1].lane_index)


def _is_covered(parts: RepairParts, row: JournalRow, coverage: Mapping[tuple[int, int], Covered]) -> bool:
    covered = coverage.get((row.lane, results_partition(parts, row)))
    return covered is not None and (row.lane_offset, row.lane_index) <= (covered.lane_offset, covered.lane_index)


def results_partition(parts: RepairParts, row: JournalRow) -> int:
    """Return the partition in which a row's result was published (A1)."""
    count = parts.results_partitions
    return partition_of(row.root, count) if row.root else row.lane % count


def compare(parts: RepairParts, incarnation: bytes, rows: list[JournalRow], done: Repair) -> list[ArchiveDifference]:
    """Write what the archive lacks of some rows of one lane, note it, and return which differences are left."""
    found = row_differences(parts, incarnation, rows)
    left = mend(parts, incarnation, rows, found)
    done.compared += len(rows)
    done.note(found, left)
    return left


def row_differences(parts: RepairParts, incarnation: bytes, rows: list[JournalRow]) -> list[ArchiveDifference]:
    """Return how the archive differs from some rows of one lane."""
    if not rows:
        return []
    try:
        changes = UnprovenChanges(parts.archive)
        return differences(parts.archive, incarnation, rows, changes) + changes.compare()
    except Undecodable as fault:
        return [unreadable(rows[0], fault)]


def mend(
    parts: RepairParts, incarnation: bytes, rows: list[JournalRow], found: list[ArchiveDifference]
) -> list[ArchiveDifference]:
    """Write again what is missing, and return what differs still when it is read back."""
    lost = {_place(each) for each in found if each.kind in MISSING}
    # A row is written whole, with the present time: it would win over what it has elsewhere that differs.
    lost -= {_place(each) for each in found if each.kind not in MISSING}
    if parts.writer is None or not lost:
        return found
    in_no_chunk = lost & {_place(each) for each in found if each.kind == "ARCHIVE_ROW_MISSING"}
    parts.writer.write(_rows_of(parts, [row for row in rows if _place(row) in in_no_chunk]))
    in_a_chunk = [row for row in rows if _place(row) in lost - in_no_chunk]
    again = _rows_of(parts, in_a_chunk)
    again.journal = {}
    parts.writer.write(in_chunks(again, _chunks_of(parts, incarnation, in_a_chunk)))
    return row_differences(parts, incarnation, rows)


def _chunks_of(parts: RepairParts, incarnation: bytes, rows: list[JournalRow]) -> dict[tuple[int, int], int]:
    """Return the first offset of a chunk that has each of some rows of one lane."""
    return {
        (offset, index): first
        for begins, ends in stretches(row.lane_offset for row in rows)
        for first, chunk in parts.archive.chunks(incarnation, rows[0].lane, begins, ends)
        for offset, index, _ in chunk
    }


def _place(each: JournalRow | ArchiveDifference) -> tuple[int, int]:
    return each.lane_offset, each.lane_index


def _rows_of(parts: RepairParts, rows: list[JournalRow]) -> ArchiveRows:
    collector = Collector()
    for row in rows:
        collector.add(results_partition(parts, row), row.result)
    return written_again(collector.take(), now_us=parts.now_ms() * 1_000)
