"""Reads journal rows with their results, which lie in chunks (L14)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby

from processors.faults import Undecodable
from processors.ledger.rows import DecisionKey
from processors.stores.journal_sql import CHUNK_COLUMNS
from processors.stores.mysql import Row, Session
from processors.stores.packing import decompress
from processors.stores.partitions import slices
from processors.stores.rows import JournalRow
from processors.stores.sql_text import chunks, hex_literal, select_by_keys
from processors.wire.causes import Cause
from processors.wire.journal_chunk import CHUNK_BYTES_MAX, WINDOW_OFFSETS, decode_chunk

JOURNAL_ROW_COLUMNS = "slice, lane, lane_offset, lane_index, command_id, root"
# Windows of 250 offsets, some 10 KB each where results are small: a statement returns some megabytes, however far apart
# they lie.
WINDOWS_AT_ONCE = 400

TRANSACTION_STEPS_MAX = 1_000  # a hold that was captured in more parts is shown in part

Place = tuple[int, int, int, int]
"""Slice, lane, lane offset and lane index of a journal row: its primary key."""
_Window = tuple[int, int, int]  # slice, lane, offsets divided by WINDOW_OFFSETS


def journal_rows(session: Session, where: str) -> list[JournalRow]:
    """Return the rows that meet a condition, with their results.

    Args:
        session: Rows and chunks are read one after the other.
        where: What follows FROM, with the journal as ``t``: "journal AS t WHERE ...", or a join.

    Raises:
        Undecodable: The journal lacks a row's result, or it cannot be read.
    """
    columns = ", ".join(f"t.{column}" for column in JOURNAL_ROW_COLUMNS.split(", "))
    rows = session.query(f"SELECT {columns} FROM {where}", "reading the journal")
    results, present = results_and_slices(session, [row[:4] for row in rows])
    found = []
    for number, lane, offset, index, command_id, root in rows:
        place = (number, lane, offset, index)
        if place in results:
            found.append(JournalRow(*place, command_id, root.decode(), results[place]))
        elif number in present:
            raise without_result(place)
    return found


def steps_of(session: Session, transaction_id: bytes) -> list[JournalRow]:
    """Return the rows of a transaction's steps, and of the command of that id, whoever's they are, in order."""
    literal = hex_literal(transaction_id)
    by_command = f"journal AS t FORCE INDEX (by_command) WHERE t.command_id = {literal}"
    by_step = (
        f"(SELECT * FROM journal_step WHERE transaction_id = {literal} LIMIT {TRANSACTION_STEPS_MAX}) AS s "
        "STRAIGHT_JOIN journal AS t FORCE INDEX (PRIMARY) ON t.slice = s.slice AND t.lane = s.lane "
        "AND t.lane_offset = s.lane_offset AND t.lane_index = s.lane_index"
    )
    found = {
        (row.lane, row.lane_offset, row.lane_index): row
        for where in (by_command, by_step)
        for row in journal_rows(session, f"{where} LIMIT {TRANSACTION_STEPS_MAX}")
    }
    return [found[place] for place in sorted(found)]


def decided(session: Session, sql: str) -> list[tuple[DecisionKey, bytes]]:
    """Return what a SELECT of decisions finds (``lane_sql.select_decisions``), with the results.

    Raises:
        Undecodable: The journal lacks a row's result, or it cannot be read.
    """
    return with_results(session, session.query(sql, "looking for decisions"))


def with_results(session: Session, rows: list[Row]) -> list[tuple[DecisionKey, bytes]]:
    """Return rows of decisions that were found, with the results, but for those whose slice is gone by now.

    Raises:
        Undecodable: The journal lacks a row's result, or it cannot be read.
    """
    results, present = results_and_slices(session, [row[2:6] for row in rows])
    return list(decided_in([row for row in rows if row[2:6] in results or row[2] in present], results))


def results_and_slices(session: Session, places: Collection[Place]) -> tuple[dict[Place, bytes], set[int]]:
    """Return the results of the rows at some places, and the slices that are here, where any row has none.

    A row without a result whose slice is gone was dropped between the two statements, and is not here any more (A7).
    """
    results = results_at(session, places)
    return results, set(slices(session)) if len(results) < len(places) else set()


def decided_in(rows: Iterable[Row], results: Mapping[Place, bytes]) -> Iterator[tuple[DecisionKey, bytes]]:
    """Yield root, id and result of what a SELECT of decisions found, given the results.

    Raises:
        Undecodable: The journal lacks a row's result.
    """
    for root, id_, *at in rows:
        place = (at[0], at[1], at[2], at[3])
        if place not in results:
            raise without_result(place)
        yield (root.decode(), id_), results[place]


def results_at(session: Session, places: Iterable[Place]) -> dict[Place, bytes]:
    """Return the results of the rows at some places; what no chunk has is missing.

    Each chunk is read and unpacked once, and nothing of it is kept but what was asked for.

    Raises:
        Undecodable: A chunk cannot be read.
    """
    wanted: dict[_Window, set[Place]] = {}
    for place in places:
        number, lane, offset, _ = place
        wanted.setdefault((number, lane, offset // WINDOW_OFFSETS), set()).add(place)
    found: dict[Place, bytes] = {}
    for sql, some in _selects(sorted(wanted)):
        rows = sorted(session.query(sql, "reading journal chunks"))
        meant = {window: wanted[window] for window in some}
        for window, of_window in groupby(rows, key=lambda row: row[:3]):
            found.update(_wanted_in(list(of_window), meant[window]))
    return found


def without_result(place: Place) -> Undecodable:
    """Return the fault of a journal that has a row and not its result."""
    number, lane, offset, index = place
    where = f"slice {number}, lane {lane}, offset {offset}, index {index}"
    return Undecodable(Cause.MALFORMED, f"no chunk of the journal has the result of its row at {where}")


def _selects(windows: list[_Window]) -> Iterator[tuple[str, list[_Window]]]:
    for some in chunks(windows, WINDOWS_AT_ONCE):
        rows = ",".join(f"ROW({number},{lane},{window})" for number, lane, window in some)
        key = ("slice", "lane", "offset_window")
        yield select_by_keys("journal_chunk", CHUNK_COLUMNS, key, rows, lock=False), some


def _wanted_in(rows: list[Row], wanted: set[Place]) -> Iterator[tuple[Place, bytes]]:
    """Yield the results at some places of one window, whose chunks are given in order."""
    begins = [(row[0], row[1], row[3], row[4]) for row in rows]
    inside: dict[int, set[Place]] = {}  # each place is in the last chunk that begins up to it, or in none
    for place in wanted:
        inside.setdefault(bisect_right(begins, place) - 1, set()).add(place)
    inside.pop(-1, None)
    for number, places in inside.items():
        slice_, lane, *_, blob = rows[number]
        for offset, index, result in decode_chunk(decompress(blob, bytes_max=CHUNK_BYTES_MAX)):
            place = (slice_, lane, offset, index)
            if place in places:
                yield place, result
