"""Proves what was given back: a refund's result says what was left of its original, and so must ``refunded`` (H3)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from processors.faults import Undecodable
from processors.ids import id_text, id_time_ms
from processors.lane.placements import Placements
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Status
from processors.ledger.rows import Refunded, TransactionKey
from processors.recovery.checks import Tally
from processors.stores.proven_journal import ProvenRow
from processors.stores.rows import Progress
from processors.wire.results import Result, decode_result

_GIVES_BACK = {CommandType.REFUND: Status.ACCEPTED, CommandType.RECALL_ORIGINAL: Status.COMPLETED}


class RefundBooks(Protocol):
    """A shard's database (``stores.verify_reader``)."""

    def refunded(self, keys: Collection[TransactionKey]) -> tuple[dict[int, int], dict[TransactionKey, Refunded]]:
        """Return how far each lane had decided, and what was given back of some originals, as of one moment."""

    def lane_rows(self, lane: int, first: int, end: int) -> list[ProvenRow]:
        """Return the rows of a stretch of a lane in order."""

    def refund_start_ms(self, lane: int, now_ms: int) -> int:
        """Return since which time what was given back of an original is kept in a lane at some lane time."""


class _Left(NamedTuple):
    """What the last refund of an original left of it, and where it was decided."""

    remaining_minor: int
    lane_offset: int


class Refunds:
    """What refunds left of their originals, until it is compared."""

    def __init__(self, books: RefundBooks, here: Placements, tally: Tally) -> None:
        """Begin with none; ``here`` says whose rows are here."""
        self._books = books
        self._here = here
        self._tally = tally
        self._left: dict[int, dict[TransactionKey, _Left]] = {}

    def add(self, result: Result) -> None:
        """Take in a result, in the order of its lane."""
        if _GIVES_BACK.get(result.type) is result.status:
            left = self._left.setdefault(result.lane, {})
            left[result.root, result.related_id] = _Left(result.remaining_minor, result.lane_offset)

    def prove_so_far(self, lane: int) -> bool:
        """Compare a lane's, and forget those that agree; False where some do not, perhaps for what comes later."""
        left = self._left.get(lane, {})
        if not left:
            return True
        _, rows = self._books.refunded(left)
        agreed = [key for key, each in left.items() if _remaining(rows.get(key)) == each.remaining_minor]
        self._tally.counted += len(agreed)
        for key in agreed:
            del left[key]
        return not left

    def prove_rest(self, end: Progress) -> bool:
        """Compare the rest of a lane's, which was read up to ``end``, and say whether all agree."""
        lane, wrong = end.lane, self._tally.wrong
        if self.prove_so_far(lane):
            return True
        left = self._left.pop(lane)
        offsets, rows = self._books.refunded(left)
        for each in self._books.lane_rows(lane, end.at.next_offset, offsets[lane]):  # refunded since then
            self._add_late(left, each)
        floor_ms = self._books.refund_start_ms(lane, end.at.lane_time_ms)
        for (root, original_id), meant in sorted(left.items()):
            row, time_ms = rows.get((root, original_id)), id_time_ms(original_id)
            is_forgotten = row is None and time_ms is not None and time_ms < floor_ms
            if is_forgotten or not self._is_of_this_stay(root, meant.lane_offset):
                continue
            self._tally.counted += 1
            if _remaining(row) != meant.remaining_minor:
                said = "no row" if row is None else f"{row.refunded_minor} of {row.amount_minor} was given back"
                self._tally.refute(
                    f"{root} {id_text(original_id)}: {said}, its last refund left {meant.remaining_minor}"
                )
        return self._tally.wrong == wrong

    def _add_late(self, left: dict[TransactionKey, _Left], each: ProvenRow) -> None:
        try:
            result = decode_result(each.row.result)
        except Undecodable:
            return  # the next proof, which has this row in its stretch, says so
        key = (result.root, result.related_id)
        if key in left and _GIVES_BACK.get(result.type) is result.status:
            left[key] = _Left(result.remaining_minor, result.lane_offset)

    def _is_of_this_stay(self, root: str, offset: int) -> bool:
        placed = self._here.row_of(root)
        return self._here.owns(root) and (placed is None or offset >= placed.since_offset)


def _remaining(row: Refunded | None) -> int | None:
    return None if row is None else row.amount_minor - row.refunded_minor
