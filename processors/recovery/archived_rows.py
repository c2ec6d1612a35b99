"""The archive's side of a stretch of a lane: rows that have left MySQL, and the proof that it has the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from processors.faults import Unavailable, Undecodable
from processors.recovery.checks import Tally
from processors.routing.buckets import partition_of
from processors.stores.archive_reader import ChangeKey
from processors.stores.archive_rows import Covered
from processors.stores.proven_journal import ProvenRow, slice_of_result
from processors.wire.journal_chunk import ChunkRow
from processors.wire.result_keys import keys_of
from processors.wire.results import Result
from processors.wire.statement_chunk import StatementRow

CHANGES_AT_ONCE = 2_000  # some 600 KB of answers
Place = tuple[int, int]  # lane offset and index


class ArchivedBooks(Protocol):
    """The archive (``stores.archive_reader``)."""

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        """Return (lane, results partition) -> how far it reaches."""

    def journal(self, incarnation: bytes, lane: int, from_offset: int, to_offset: int) -> list[ChunkRow]:
        """Return the rows of a stretch."""

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        """Yield an account's changes."""

    def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
        """Return the entries of some changes: one each, or several that differ; of one that is not there, none."""


class Reach:
    """How far the archive reaches, by lane, as of when a proof began: the sink goes on meanwhile."""

    def __init__(self, reached: Mapping[tuple[int, int], Covered], results_partitions: int) -> None:
        """Hold what was read."""
        self._reached = reached
        self._partitions = results_partitions

    def has(self, root: str, lane: int, place: Place) -> bool:
        """Say whether the sink has passed a row."""
        count = self._partitions
        covered = self._reached.get((lane, partition_of(root, count) if root else lane % count))
        return covered is not None and place <= (covered.lane_offset, covered.lane_index)


class ArchiveTallies:
    """The checks that compare rows with the archive, and whether the archive is away."""

    def __init__(self) -> None:
        """Begin with nothing found."""
        self.journal = Tally("each covered journal row is in the archive, byte for byte")
        self.statements = Tally("statements have each covered change, column by column")
        self.away = False

    def lacks(self, why: str) -> None:
        """Note that the archive does not answer: from then on nothing is asked of it."""
        self.away = True
        told = f"Cassandra does not answer: {why}"
        self.journal.lacks(told)
        self.statements.lacks(told)

    @property
    def wrong(self) -> int:
        """Return how much was found."""
        return self.journal.wrong + self.statements.wrong


class ArchivedLane:
    """A lane's rows in the archive, compared in order with MySQL's. ``archive`` None: nothing is read."""

    def __init__(
        self,
        archive: ArchivedBooks | None,
        coverage: Reach,
        slices: SlicesNow,
        tallies: ArchiveTallies,
        *,
        incarnation: bytes,
        lane: int,
        proven: int,
    ) -> None:
        """Begin at ``proven``, before which all is compared."""
        self._archive = archive
        self._coverage = coverage
        self._slices = slices
        self._tallies = tallies
        self._incarnation = incarnation
        self._lane = lane
        self._proven = proven
        self._uncovered: int | None = None
        self._refuted = False
        self._waiting: dict[ChangeKey, bytes] = {}
        self._there: dict[Place, set[bytes]] = {}
        self._readable = True
        self._in_mysql: frozenset[int] = frozenset()  # slices, as of when the stretch was read

    @property
    def is_read(self) -> bool:
        """Say whether the archive is asked, and answers."""
        return self._archive is not None and not self._tallies.away

    def rows(self, first: int, end: int) -> dict[Place, bytes]:
        """Return the archived rows of a stretch, the first copy of each."""
        self._there, self._readable = {}, False
        if not self.is_read:
            return {}
        assert self._archive is not None
        try:
            for offset, index, payload in self._archive.journal(self._incarnation, self._lane, first, end - 1):
                self._there.setdefault((offset, index), set()).add(payload)
        except Undecodable as fault:
            self._tallies.journal.refute(fault.detail)
            self._refuted = True
            return {}
        except Unavailable as fault:
            self._tallies.lacks(str(fault))
            return {}
        self._readable = True
        self._in_mysql = frozenset(self._slices.slices())
        return {place: min(copies) for place, copies in self._there.items()}

    def compare(self, place: Place, found: ProvenRow | None, result: Result, payload: bytes) -> None:
        """Compare a row with what the archive has of it; ``found`` is MySQL's, None where it has none."""
        if place[0] < self._proven or not self._readable:
            return
        if not self._coverage.has(result.root, self._lane, place):
            self._uncovered = place[0] if self._uncovered is None else self._uncovered
            return
        tally = self._tallies.journal
        tally.counted += 1
        copies = self._there.get(place, set())
        told = f"lane {self._lane} offset {place[0]} index {place[1]}"
        if found is None and self._is_in_mysql(slice_of_result(result)):
            self._refute(f"{told}: MySQL lacks it, though its slice is there")
        elif not copies:
            self._refute(f"{told}: it is not there; `balance archive repair` brings it back")
        elif copies != {payload}:
            self._refute(f"{told}: it is another there")
        self._waiting |= {
            ChangeKey(change.address.decode(), change.currency.decode(), change.sequence): change.entry
            for change in keys_of(result).changes
        }
        if len(self._waiting) >= CHANGES_AT_ONCE:
            self.finish()

    def _is_in_mysql(self, number: int) -> bool:
        """Say whether a slice is there, and was when the stretch was read: the remover goes on meanwhile."""
        return number in self._in_mysql and number in self._slices.slices()

    def _refute(self, told: str) -> None:
        self._tallies.journal.refute(told)
        self._refuted = True

    def finish(self) -> None:
        """Compare the changes of accounts that still wait with the accounts' statements."""
        waiting, self._waiting = self._waiting, {}
        if not waiting or not self.is_read:
            return
        assert self._archive is not None
        tally = self._tallies.statements
        try:
            archived = self._archive.entries_at(waiting)
        except Undecodable as fault:
            tally.refute(fault.detail)
            self._refuted = True
            return
        except Unavailable as fault:
            self._tallies.lacks(str(fault))
            return
        for key, change in waiting.items():
            tally.counted += 1
            if archived.get(key) != {change}:
                how = "is another" if key in archived else "is not there; `balance archive repair` brings it back"
                tally.refute(f"{key.address} {key.currency}: change {key.sequence} {how}")
                self._refuted = True

    def proven_to(self, reached: int) -> int:
        """Return before which offset all that is covered is compared, where the journal was read up to ``reached``."""
        if self._refuted or not self.is_read:
            return self._proven
        return reached if self._uncovered is None else min(self._uncovered, reached)

    def needs_from(self, reached: int) -> int:
        """Return from which offset on rows must be read for this; ``reached`` where nothing is compared."""
        return self._proven if self.is_read else reached


class SlicesNow(Protocol):
    """A shard's database."""

    def slices(self) -> list[int]:
        """Return the journal's slices, as they are now."""
