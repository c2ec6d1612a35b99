"""Compares a shard that was decided again with what was published, and with the live database (V2).

Each at the same offsets, and digests first: they cover every decision (L13). Where one differs, the first journal row
that does is told, among those that both still have. Then, of the lanes that stand at the same offset in both, what lies
in the tables: a bug that writes another balance than it journals would show only there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Protocol

from processors.ids import id_text, id_time_ms
from processors.lane.placements import Placements
from processors.lane.standing import chain_digest
from processors.ledger.rows import SystemKey
from processors.ledger.rules import Rules
from processors.ledger.tables import MOVED_IDS, MOVING_TABLES, REFUNDED, AnyTable, RowChange
from processors.routing.buckets import partition_of
from processors.stores.rows import (
    Border,
    IngressKey,
    IngressPosition,
    JournalRow,
    ParkedRow,
    PlacementRow,
    PlacementState,
    Progress,
)
from processors.stores.shard_reader import SliceReader, rows_of_slice
from processors.wire.positions import LANE_START, GroupPosition

_BEFORE_ANY_INDEX = 2**32  # INT UNSIGNED: behind the offset before it


class ComparedBooks(SliceReader, Protocol):
    """A shard's database (``stores.whole_shard``)."""

    def positions(self) -> dict[int, Progress]:
        """Return each lane's progress."""

    def last_border(self, lane: int, at_most: int) -> Border | None:
        """Return a lane's state at the last batch border up to an offset, if one is still known."""

    def placements(self, lane: int) -> dict[str, PlacementRow]:
        """Return what a lane knows of placement keys, by key."""

    def system_accounts(self, lane: int) -> dict[SystemKey, int]:
        """Return the balances of a lane's system accounts."""

    def rules(self, lane: int) -> dict[int, Rules]:
        """Return by offset the rules in force in a lane from there on."""

    def ingress(self, lane: int) -> dict[IngressKey, IngressPosition]:
        """Return a lane's ingress positions."""

    def waiting(self, lane: int) -> dict[int, ParkedRow]:
        """Return by offset the records of a lane that wait for their placement key."""

    def window_start_ms(self, lane: int, now_ms: int) -> int:
        """Return before which id time a lane looks for no id any more."""

    def refund_start_ms(self, lane: int, now_ms: int) -> int:
        """Return since which time what was given back of an original is kept."""

    def rows(self, table: AnyTable) -> Iterator[RowChange]:
        """Yield the rows of a table in key order."""

    def slices(self) -> list[int]:
        """Return the journal's slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDifference:
    """The first thing that is not equal; ``live`` is what the live database has, or what was published."""

    what: str
    live: str
    replayed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared, each a sentence, what could not be, and the first difference; None where all is equal.

    ``unproven`` are lanes that have decided something, and of which nothing says that it is what was published: no
    digest was compared, and none will be when a worker goes on there.
    """

    compared: tuple[str, ...]
    not_compared: tuple[str, ...]
    difference: ReplayDifference | None
    unproven: tuple[int, ...] = ()


def digest_at(books: ComparedBooks, lane: int, offset: int, *, from_start: bool) -> bytes | None:
    """Return a lane's digest at any offset that it has decided: from the last border before it, row by row (L13).

    Args:
        books: The database.
        lane: Its number.
        offset: At most where the lane stands.
        from_start: Whether the journal has every row since the lane's first record.

    Returns:
        32 bytes; None where no border before the offset is known any more.
    """
    border = books.last_border(lane, offset)
    if border is None and not from_start:
        return None
    at = LANE_START if border is None else border.at
    rows = sorted(
        (row for number in books.slices() for row in _rows_of_stretch(books, number, lane, at.next_offset, offset)),
        key=_place,
    )
    digest = at.digest
    for row in rows:
        digest = chain_digest(digest, row.result)
    return digest


def _rows_of_stretch(books: ComparedBooks, number: int, lane: int, first: int, end: int) -> Iterator[JournalRow]:
    after = (first - 1, _BEFORE_ANY_INDEX)
    while rows := books.slice_rows(number, lane, after):
        for row in rows:
            if row.lane_offset >= end:
                return
            yield row
        after = _place(rows[-1])


def compare_published(
    replayed: ComparedBooks, published: Mapping[int, GroupPosition], *, from_start: bool
) -> Comparison:
    """Compare each lane's digest with that of the group's last commit, which says what was published (V2, L4).

    Args:
        replayed: The database that was filled.
        published: What the group committed, by lane; only what is ours, of this topic.
        from_start: Whether the replay began with the lanes' first records.
    """
    compared: list[str] = []
    not_compared: list[str] = []
    unproven: list[int] = []
    for lane, progress in sorted(replayed.positions().items()):
        position = published.get(lane)
        if position is None:
            not_compared.append(f"lane {lane}: nothing says what was published")
            unproven += [lane] if progress.at.next_offset else []
            continue
        offset = position.at.next_offset
        if offset > progress.at.next_offset:
            not_compared.append(f"lane {lane}: published up to {offset}, decided up to {progress.at.next_offset}")
            continue
        digest = digest_at(replayed, lane, offset, from_start=from_start)
        if digest is None:
            not_compared.append(f"lane {lane}: published up to {offset}, which is before the snapshot's borders")
            unproven.append(lane)
        elif digest != position.at.digest:
            difference = _digests(lane, offset, position.at.digest, digest)
            return Comparison(compared=tuple(compared), not_compared=tuple(not_compared), difference=difference)
        else:
            compared.append(f"lane {lane}: the digest of what was published, at offset {offset}")
    return Comparison(
        compared=tuple(compared), not_compared=tuple(not_compared), difference=None, unproven=tuple(unproven)
    )


def compare_live(
    live: ComparedBooks, replayed: ComparedBooks, *, lanes: int, home: bool, from_start: bool
) -> Comparison:
    """Compare two databases of a shard: digests where both have been, and tables where both stand.

    Args:
        live: Read as of one moment.
        replayed: Nobody writes to it.
        lanes: How many the shard has.
        home: Whether the shard owns generation 0 of every placement key.
        from_start: Whether the replay began with the lanes' first records.
    """
    compared: list[str] = []
    not_compared: list[str] = []
    positions, others = live.positions(), replayed.positions()
    same: set[int] = set()
    for lane in sorted(positions):
        offset = positions[lane].at.next_offset
        other = others[lane].at.next_offset if lane in others else 0
        at = min(offset, other)
        digest = positions[lane].at.digest if at == offset else digest_at(live, lane, at, from_start=False)
        found = digest_at(replayed, lane, at, from_start=from_start)
        if digest is None or found is None:
            not_compared.append(f"lane {lane}: no batch border at or before offset {at} is known in both")
        elif digest != found:
            first = _first_row_that_differs(live, replayed, lane) or _digests(lane, at, digest, found)
            return Comparison(compared=tuple(compared), not_compared=tuple(not_compared), difference=first)
        else:
            compared.append(f"lane {lane}: the live digest, at offset {at}")
        if offset == other:
            same.add(lane)
        else:
            not_compared.append(f"lane {lane}: balances, since the live lane stands at {offset}, the replay at {other}")
    difference = _first_table_row_that_differs(live, replayed, same, lanes=lanes, home=home)
    if difference is None and same:
        tables = [table.plural.replace("_", " ") for table in MOVING_TABLES]
        names = ", ".join([*tables, *_OF_LANES])
        compared.append(f"lanes {', '.join(map(str, sorted(same)))}: {names}")
    return Comparison(compared=tuple(compared), not_compared=tuple(not_compared), difference=difference)


def _digests(lane: int, offset: int, live: bytes, replayed: bytes) -> ReplayDifference:
    return ReplayDifference(
        what=f"lane {lane}",
        live=f"offset {offset} digest {live.hex()}",
        replayed=f"offset {offset} digest {replayed.hex()}",
    )


def _first_table_row_that_differs(
    live: ComparedBooks, replayed: ComparedBooks, same: set[int], *, lanes: int, home: bool
) -> ReplayDifference | None:
    for table in MOVING_TABLES:
        rows, others = (_rows(books, table, same, lanes=lanes, home=home) for books in (live, replayed))
        for row, other in _side_by_side(rows, others):
            if row != other and not _is_forgotten(live, table, row, other, lanes=lanes):
                return _told(table, row, other)
    for lane in sorted(same):
        for what, read in _OF_LANES.items():
            found, other_found = read(live, lane), read(replayed, lane)
            if found != other_found:
                return _first_of(f"lane {lane}: {what}", found, other_found)
    return None


def _first_of(what: str, found: Mapping[Any, Any], others: Mapping[Any, Any]) -> ReplayDifference:
    """Tell the first key whose values differ: all of them might be a screen or a thousand."""
    keys = sorted(key for key in {*found, *others} if found.get(key) != others.get(key))
    live, replayed = (str(each.get(keys[0], "no row")) for each in (found, others))
    return ReplayDifference(what=f"{what}, {keys[0]}", live=live, replayed=replayed)


def _placements(books: ComparedBooks, lane: int) -> dict[str, PlacementRow]:
    """Return a lane's placements; whether the remover has deleted all frozen rows of one that left is no decision."""
    return {
        key: replace(row, state=PlacementState.AWAY) if row.state is PlacementState.LEFT else row
        for key, row in books.placements(lane).items()
    }


# Of a lane itself, by what it is called: how it is read. Records that were unparked may be deleted once published.
_OF_LANES: dict[str, Callable[[ComparedBooks, int], Mapping[Any, Any]]] = {
    "system accounts": lambda books, lane: books.system_accounts(lane),
    "placements": _placements,
    "parked records": lambda books, lane: books.waiting(lane),
    "rules": lambda books, lane: books.rules(lane),
    "ingress positions": lambda books, lane: books.ingress(lane),
}


def _rows(books: ComparedBooks, table: AnyTable, same: set[int], *, lanes: int, home: bool) -> Iterator[RowChange]:
    """Yield the rows of some lanes, but for those of partners who are frozen or left: these may be deleted (M7)."""
    here = {lane: Placements(books.placements(lane), home=home) for lane in same}
    for row in books.rows(table):
        root = table.root_of(row.key)
        lane = partition_of(root, lanes)
        if lane in same and here[lane].has(root):
            yield row


def _side_by_side(
    rows: Iterator[RowChange], others: Iterator[RowChange]
) -> Iterator[tuple[RowChange | None, RowChange | None]]:
    """Yield the rows of two iterators in key order, each beside the one of the same key, or beside nothing."""
    row, other = next(rows, None), next(others, None)
    while row is not None or other is not None:
        if other is None or (row is not None and row.key < other.key):
            yield row, None
            row = next(rows, None)
        elif row is None or other.key < row.key:
            yield None, other
            other = next(others, None)
        else:
            yield row, other
            row, other = next(rows, None), next(others, None)


def _is_forgotten(
    live: ComparedBooks, table: AnyTable, row: RowChange | None, other: RowChange | None, *, lanes: int
) -> bool:
    """Say whether the live database has deleted what no decision looks at any more, as its remover does (H3, M6)."""
    if table not in {REFUNDED, MOVED_IDS} or row is not None or other is None:
        return False
    root, id_ = other.key
    lane, time_ms = partition_of(root, lanes), id_time_ms(id_)
    starts_ms = live.refund_start_ms if table is REFUNDED else live.window_start_ms
    return time_ms is not None and time_ms < starts_ms(lane, live.positions()[lane].at.lane_time_ms)


def _told(table: AnyTable, row: RowChange | None, other: RowChange | None) -> ReplayDifference:
    named = row or other
    assert named is not None
    key = " ".join(id_text(part) if isinstance(part, bytes) else str(part) for part in named.key)
    return ReplayDifference(
        what=f"{table.name.replace('_', ' ')} {key}",
        live="no row" if row is None else str(row.row),
        replayed="no row" if other is None else str(other.row),
    )


def _first_row_that_differs(live: ComparedBooks, replayed: ComparedBooks, lane: int) -> ReplayDifference | None:
    """Return the difference at the lowest offset: each slice has its rows in order, and may have one."""
    found = []
    end = min(books.positions()[lane].at.next_offset for books in (live, replayed))
    for number in live.slices():
        rows, others = (_rows_below(books, number, lane, end) for books in (live, replayed))
        for row, other in zip_longest(rows, others):
            if row != other:
                found.append((min(_place(each) for each in (row, other) if each is not None), row, other))
                break
    if not found:
        return None
    (offset, index), row, other = min(found, key=lambda each: each[0])
    what = f"lane {lane} offset {offset} index {index}"
    return ReplayDifference(what=what, live=_row_text(row), replayed=_row_text(other))


def _rows_below(books: ComparedBooks, number: int, lane: int, end: int) -> Iterator[JournalRow]:
    return (row for row in rows_of_slice(books, number, lane) if row.lane_offset < end)


def _place(row: JournalRow) -> tuple[int, int]:
    return row.lane_offset, row.lane_index


def _row_text(row: JournalRow | None) -> str:
    if row is None:
        return "no row"
    return f"offset {row.lane_offset}, command {id_text(row.command_id)} of {row.root}, result {row.result.hex()}"
