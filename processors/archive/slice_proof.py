"""Proves that a slice of the journal is in the archive (A6).

The sink must have passed it, and each of its rows, read back from Cassandra, must be as MySQL has it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from processors.archive.findings import FindingKind
from processors.faults import Undecodable
from processors.ids import id_text
from processors.stores.archive_reader import ChangeKey, IndexedPlace
from processors.stores.archive_rows import Covered, step_ids
from processors.stores.rows import JournalRow
from processors.telemetry import PULSE
from processors.wire.journal_chunk import ChunkRow
from processors.wire.result_keys import ResultKeys, result_keys

# Rows of one read from MySQL. The read's transaction ends with it, and no other keeps the journal from changing (A7).
# Comparing so many takes a second, and holds 3 MB of MySQL's rows and as much of the archive's.
RANGE_ROWS = 2_000
# Changes of accounts that are compared at once: 40 MB. Of a thousand accounts, a hundred changes share a request.
CHANGES_MAX = 100_000
# A slice holds the ids of an hour, which the lane may have decided hours later and among others, so that they lie far
# apart in it. The archive's journal, which is in the lane's order, is read in stretches of at most so many offsets.
STRETCH_OFFSETS = 2_500


class ProvenJournal(Protocol):
    """A shard's journal (``stores.shard_reader``)."""

    def slices_with_any_table(self) -> list[int]:
        """Return the slices of which anything is left."""

    def slice_last_rows(self, number: int, results_partitions: int) -> dict[tuple[int, int], tuple[int, int]]:
        """Return (lane, results partition) -> offset and index of the slice's last row there."""

    def slice_rows(
        self, number: int, lane: int, after: tuple[int, int] = ..., *, rows_max: int = ...
    ) -> list[JournalRow]:
        """Return a slice's rows of one lane in order, from the one after ``after`` on."""


class Copies(Protocol):
    """The archive (``stores.archive_reader``), at LOCAL_QUORUM."""

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        """Return how far a shard's incarnation is archived, by lane and results partition."""

    def chunks(
        self, incarnation: bytes, lane: int, from_offset: int, to_offset: int
    ) -> Iterator[tuple[int, list[ChunkRow]]]:
        """Yield the chunks that may have rows of a stretch of a lane: each one's first offset, and all of its rows."""

    def places_in(self, incarnation: bytes, lane: int, ids: Iterable[bytes]) -> dict[bytes, set[IndexedPlace]]:
        """Return, by id, where the index says that the journal has the rows of some ids that a lane decided."""

    def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
        """Return the entries of some changes: one each, or several that differ; of one that is not there, none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveDifference:
    """A row that the archive does not have as MySQL has it."""

    kind: FindingKind
    slice: int
    lane: int
    lane_offset: int
    lane_index: int
    detail: str

    @property
    def subject(self) -> str:
        """Name the row, the same whenever it is found."""
        return f"{slice_subject(self.slice)} lane {self.lane} offset {self.lane_offset} index {self.lane_index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What is known of a slice. The slice may leave MySQL if this is ``complete`` and has no ``differences``.

    It is not complete where the sink has not passed the slice yet, or where the proof was broken off. ``rows`` says how
    many were compared; the comparison ends after the first range that has a difference.
    """

    complete: bool
    rows: int
    differences: tuple[ArchiveDifference, ...] = ()


_NOTHING = Proof(complete=False, rows=0)


def slice_subject(number: int) -> str:
    """Return what the subject of each finding about a slice begins with."""
    return f"slice {number},"


class SliceProver:
    """Proves slices of one incarnation of a shard."""

    def __init__(
        self,
        journal: ProvenJournal,
        archive: Copies,
        *,
        lanes: int,
        results_partitions: int,
        stopping: threading.Event,
    ) -> None:
        """Hold the parts; ``stopping`` breaks a proof off, which then counts for nothing."""
        self._journal = journal
        self._archive = archive
        self._lanes = lanes
        self._results_partitions = results_partitions
        self._stopping = stopping

    def prove(self, number: int, incarnation: bytes) -> Proof:
        """Compare a slice, to which no row is added any more, with the archive.

        Args:
            number: The slice.
            incarnation: Under which the shard's rows are archived.

        Raises:
            Unavailable: MySQL or Cassandra does not answer.
        """
        if not self._is_covered(number, incarnation):
            return _NOTHING
        rows, changes = 0, UnprovenChanges(self._archive)
        for some in self._ranges(number):
            rows += len(some)
            found = self._differences(incarnation, some, changes)
            if found:
                return Proof(complete=True, rows=rows, differences=tuple(found))
        found = changes.compare()
        if found:
            return Proof(complete=True, rows=rows, differences=tuple(found))
        # A7: a slice that is dropped meanwhile reads as too few rows, without an error. One that is half dropped was
        # proven before, and is only dropped to its end.
        if self._stopping.is_set() or number not in self._journal.slices_with_any_table():
            return _NOTHING
        return Proof(complete=True, rows=rows)

    def _is_covered(self, number: int, incarnation: bytes) -> bool:
        """Say whether the sink has passed the slice's last row in each results partition (A6 b)."""
        last = self._journal.slice_last_rows(number, self._results_partitions)
        coverage = self._archive.coverage(incarnation) if last else {}
        return all(_reaches(coverage.get(place), row) for place, row in last.items())

    def _ranges(self, number: int) -> Iterator[list[JournalRow]]:
        for lane in range(self._lanes):
            after = (-1, 0)
            while not self._stopping.is_set():
                rows = self._journal.slice_rows(number, lane, after, rows_max=RANGE_ROWS)
                if not rows:
                    break
                yield rows
                after = (rows[-1].lane_offset, rows[-1].lane_index)
                PULSE.beat()

    def _differences(
        self, incarnation: bytes, rows: list[JournalRow], changes: UnprovenChanges
    ) -> list[ArchiveDifference]:
        """Return the differences of some rows of one lane; what cannot be read differs, wherever it lies."""
        try:
            found = differences(self._archive, incarnation, rows, changes)
        except Undecodable as fault:
            return [unreadable(rows[0], fault)]
        return found + changes.compare() if len(changes) >= CHANGES_MAX else found


class UnprovenChanges:
    """The changes of accounts that journal rows tell of: kept until they are many, then compared with the statements.

    A request to Cassandra costs nearly the same for one change as for twenty of one account. So comparing the changes
    of a few rows at a time, two of each of a thousand accounts, would cost a request for every two changes.
    """

    def __init__(self, archive: Copies) -> None:
        """Begin with none."""
        self._archive = archive
        # A list: two rows that tell of the same change are both compared, and one of them differs.
        self._waiting: list[tuple[ChangeKey, _RowPlace, bytes]] = []

    def __len__(self) -> int:
        """Return how many wait to be compared."""
        return len(self._waiting)

    def add(self, row: JournalRow, keys: ResultKeys) -> None:
        """Take in what a row tells of."""
        place = _place_of(row)
        for address, currency, sequence, entry in keys.changes:
            self._waiting.append((ChangeKey(address.decode(), currency.decode(), sequence), place, entry))

    def compare(self) -> list[ArchiveDifference]:
        """Return which of them are not on their accounts' statements as the rows tell of them, and begin anew.

        What cannot be read differs, wherever it lies.

        Raises:
            Unavailable: Cassandra does not answer.
        """
        if not self._waiting:
            return []
        try:
            archived = self._archive.entries_at({key for key, _, _ in self._waiting})
        except Undecodable as fault:
            _, first, _ = self._waiting[0]
            self._waiting.clear()
            return [_difference(FindingKind.ARCHIVE_UNREADABLE, first, fault.detail)]
        found = []
        for key, place, entry in self._waiting:
            name = f"change {key.sequence} of {key.address} {key.currency}"
            copies = archived.get(key)
            if copies is None:
                found.append(
                    _difference(FindingKind.ARCHIVE_CHANGE_MISSING, place, f"{name} is not in statement_chunk")
                )
            elif copies != {entry}:
                found.append(_difference(FindingKind.ARCHIVE_CHANGE_DIFFERS, place, f"{name} is another there"))
        self._waiting.clear()
        return found


def differences(
    archive: Copies, incarnation: bytes, rows: list[JournalRow], changes: UnprovenChanges
) -> list[ArchiveDifference]:
    """Read some rows of one lane back, and return those that are not the same (A6 c).

    Args:
        archive: Where they are read.
        incarnation: Of the shard.
        rows: Of one lane, in order.
        changes: Takes in what the rows tell of accounts, but for rows of which the archive has another.

    Raises:
        Undecodable: A chunk in the archive, or a result, is none of this release's.
        Unavailable: Cassandra does not answer.
    """
    lane = rows[0].lane
    journal: _Copies = defaultdict(list)
    for first, last in stretches(row.lane_offset for row in rows):
        for chunk_offset, chunk in archive.chunks(incarnation, lane, first, last):
            for offset, index, result in chunk:
                journal[offset, index].append((result, chunk_offset))
    readable = [_keys_of(row) for row in rows]
    ids = list(map(_ids_of, rows, readable))
    places = archive.places_in(incarnation, lane, set(chain.from_iterable(ids)))
    found: list[ArchiveDifference] = []
    for row, of_row, keys in zip(rows, ids, readable, strict=True):
        copies = journal.get((row.lane_offset, row.lane_index), [])
        found += _compare(row, of_row, copies, places)
        if all(result == row.result for result, _ in copies):
            changes.add(row, keys or result_keys(row.result))
    return found


_Copies = dict[tuple[int, int], list[tuple[bytes, int]]]
"""By lane offset and index: the results that the archived journal has there, each with its chunk's first offset."""


def unreadable(row: JournalRow, fault: Undecodable) -> ArchiveDifference:
    """Return a difference for archived bytes that are none of ours; it names the first row that was looked for."""
    return _difference(FindingKind.ARCHIVE_UNREADABLE, _place_of(row), fault.detail)


def stretches(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last offset of stretches that hold all offsets given in order, none longer than STRETCH_OFFSETS.

    >>> list(stretches([0, 7, 2_499, 2_500, 90_000]))
    [(0, 2499), (2500, 2500), (90000, 90000)]
    """
    first = last = -1
    for offset in offsets:
        if first >= 0 and offset - first >= STRETCH_OFFSETS:
            yield first, last
            first = -1
        first = offset if first < 0 else first
        last = offset
    if first >= 0:
        yield first, last


def _reaches(covered: Covered | None, row: tuple[int, int]) -> bool:
    return covered is not None and (covered.lane_offset, covered.lane_index) >= row


_RowPlace = tuple[int, int, int, int]
"""Slice, lane, offset and index of a row."""


def _place_of(row: JournalRow) -> _RowPlace:
    return row.slice, row.lane, row.lane_offset, row.lane_index


def _ids_of(row: JournalRow, keys: ResultKeys | None) -> tuple[bytes, ...]:
    return (row.command_id,) if keys is None else step_ids(keys.transaction_id, row.command_id)


def _keys_of(row: JournalRow) -> ResultKeys | None:
    """Return a result's keys; None for one that cannot be read, which is told where it is compared."""
    try:
        return result_keys(row.result)
    except Undecodable:
        return None


def _compare(
    row: JournalRow,
    ids: Iterable[bytes],
    copies: list[tuple[bytes, int]],
    places: Mapping[bytes, set[IndexedPlace]],
) -> list[ArchiveDifference]:
    """Return in what the archive differs from a row.

    Each copy in the journal must be the same bytes, and under each of its ids the index must name a chunk that has it.
    """
    found = []
    if not copies:
        told = "no chunk of the archived journal has it"
        found.append(_difference(FindingKind.ARCHIVE_ROW_MISSING, _place_of(row), told))
    elif any(result != row.result for result, _ in copies):
        told = f"{len({result for result, _ in copies})} copies in the archived journal"
        found.append(_difference(FindingKind.ARCHIVE_ROW_DIFFERS, _place_of(row), told))
    chunks = [chunk_offset for _, chunk_offset in copies]
    for id_ in ids:
        named = [
            place.chunk_offset
            for place in places[id_]
            if place.lane_offset == row.lane_offset and place.lane_index == row.lane_index
        ]
        if not named:
            told = f"id {id_text(id_)} is not in transaction_index"
            found.append(_difference(FindingKind.ARCHIVE_STEP_MISSING, _place_of(row), told))
        elif copies and not any(chunk_offset in chunks for chunk_offset in named):
            told = f"id {id_text(id_)} in transaction_index names chunks that lack it: {sorted(named)}"
            found.append(_difference(FindingKind.ARCHIVE_STEP_DIFFERS, _place_of(row), told))
    return found


def _difference(kind: FindingKind, place: _RowPlace, detail: str) -> ArchiveDifference:
    number, lane, offset, index = place
    return ArchiveDifference(kind=kind, slice=number, lane=lane, lane_offset=offset, lane_index=index, detail=detail)
