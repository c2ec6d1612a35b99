"""The journal as a proof reads it: a stretch of a lane, and what each row's columns say beside its result (L14).

Everything about the journal's layout that a proof knows is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from processors.ids import id_time_ms, slice_of
from processors.ledger.command_types import SLICED_BY_LANE_TIME
from processors.ledger.currencies import has_form_of_code
from processors.routing.buckets import bucket_of
from processors.stores.journal_names import REASON_NUMBERS, STATUS_NUMBERS, TYPE_NUMBERS
from processors.stores.journal_reading import JOURNAL_ROW_COLUMNS, results_and_slices
from processors.stores.mysql import Session
from processors.stores.rows import JournalRow
from processors.wire.results import Result

_COLUMNS = ("bucket", "type", "status", "reason", "currency", "amount_minor", "lane_time_ms")
_PLACE = len(JOURNAL_ROW_COLUMNS.split(","))


@dataclass(slots=True)
class ProvenRow:
    """A row, and its other columns by name, as they are; the result is empty where no chunk has it."""

    row: JournalRow
    columns: dict[str, Any]


def select_lane_rows(session: Session, lane: int, first: int, end: int, numbers: Sequence[int]) -> list[ProvenRow]:
    """Return a lane's rows from offset ``first`` up to ``end``, in order, of some slices: all that there are.

    Raises:
        Undecodable: A chunk cannot be read.
    """
    if not numbers:
        return []
    rows = session.query(
        f"SELECT {JOURNAL_ROW_COLUMNS}, {', '.join(_COLUMNS)} FROM journal FORCE INDEX (PRIMARY) "
        f"WHERE slice IN ({', '.join(map(str, numbers))}) AND lane = {lane} "
        f"AND lane_offset >= {first} AND lane_offset < {end} ORDER BY lane_offset, lane_index",
        "reading a stretch of a lane",
    )
    results, present = results_and_slices(session, [row[:4] for row in rows])
    return [_proven_row(row, results.get(row[:4], b"")) for row in rows if row[:4] in results or row[0] in present]


def _proven_row(row: Sequence[Any], result: bytes) -> ProvenRow:
    number, lane, offset, index, command_id, root = row[:_PLACE]
    columns = dict(zip(_COLUMNS, row[_PLACE:], strict=True))
    return ProvenRow(JournalRow(number, lane, offset, index, command_id, root.decode(), result), columns)


def slice_of_result(result: Result) -> int:
    """Return a row's slice: its id's hour, of the service's own records the lane time's (I7)."""
    time_ms = None if result.type in SLICED_BY_LANE_TIME else id_time_ms(result.command_id)
    return slice_of(result.lane_time_ms if time_ms is None else time_ms)


def columns_that_differ(found: ProvenRow, result: Result) -> list[str]:
    """Return the columns of a row that do not say what its result says, in the order of the table."""
    row = found.row
    said = {
        "slice": row.slice,
        "lane": row.lane,
        "lane_offset": row.lane_offset,
        "lane_index": row.lane_index,
        "command_id": row.command_id,
        "root": row.root,
        **found.columns,
    }
    meant = {
        "slice": slice_of_result(result),
        "lane": result.lane,
        "lane_offset": result.lane_offset,
        "lane_index": result.lane_index,
        "command_id": result.command_id,
        "root": result.root,
        "bucket": bucket_of(result.root) if result.root else 0,
        "type": TYPE_NUMBERS[result.type],
        "status": STATUS_NUMBERS[result.status],
        "reason": REASON_NUMBERS[result.reason],
        # What a refusal quotes may be anything; columns hold only what is well-formed.
        "currency": (result.currency if has_form_of_code(result.currency) else "").encode(),
        "amount_minor": result.amount_minor,
        "lane_time_ms": result.lane_time_ms,
    }
    return [name for name in meant if meant[name] != said[name]]
