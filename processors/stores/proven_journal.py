"""The journal as a proof reads it: a stretch of a lane, and what each row's columns say beside its result (L14).

Everything about the journal's layout that a proof knows is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from processors.ids import id_time_ms, slice_of
from processors.ledger.addresses import chain
from processors.ledger.commands import SLICED_BY_LANE_TIME
from processors.ledger.currencies import has_form_of_code
from processors.routing.buckets import bucket_of
from processors.stores.lane_rows import JOURNAL_ROW_COLUMNS, journal_row_of
from processors.stores.mysql import Session
from processors.stores.rows import JournalRow
from processors.wire.result_symbols import version_of
from processors.wire.results import Result

_TEXTS = ("type", "status", "reason", "address", "currency")
_NUMBERS = (
    "bucket",
    "amount_minor",
    "source_partition",
    "source_offset",
    "lane_time_ms",
    "version_us",
    "rules_version",
    "result_version",
)
_COLUMNS = (*_TEXTS, *_NUMBERS, "metadata")
_PLACE = len(JOURNAL_ROW_COLUMNS.split(","))


@dataclass(slots=True)
class ProvenRow:
    """A row, and its other columns by name, as they are."""

    row: JournalRow
    columns: dict[str, Any]


def select_lane_rows(session: Session, lane: int, first: int, end: int, numbers: Sequence[int]) -> list[ProvenRow]:
    """Return a lane's rows from offset ``first`` up to ``end``, in order, of some slices: all that there are."""
    if not numbers:
        return []
    rows = session.query(
        f"SELECT {JOURNAL_ROW_COLUMNS}, {', '.join(_COLUMNS)} FROM journal FORCE INDEX (PRIMARY) "
        f"WHERE slice IN ({', '.join(map(str, numbers))}) AND lane = {lane} "
        f"AND lane_offset >= {first} AND lane_offset < {end} ORDER BY lane_offset, lane_index",
        "reading a stretch of a lane",
    )
    return [ProvenRow(journal_row_of(row[:_PLACE]), dict(zip(_COLUMNS, row[_PLACE:], strict=True))) for row in rows]


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
        "transaction_id": row.transaction_id,
        "body_hash": row.body_hash,
        **{name: found.columns[name].decode("utf-8", "replace") for name in _TEXTS},
        **{name: found.columns[name] for name in _NUMBERS},
        "metadata": found.columns["metadata"],
    }
    meant = {
        "slice": slice_of_result(result),
        "lane": result.lane,
        "lane_offset": result.lane_offset,
        "lane_index": result.lane_index,
        "command_id": result.command_id,
        "root": result.root,
        "transaction_id": result.transaction_id,
        "body_hash": result.body_hash,
        "type": result.type.value,
        "status": result.status.value,
        "reason": result.reason.value,
        # What a refusal quotes may be anything; columns hold only what is well-formed.
        "address": result.address if chain(result.address) else "",
        "currency": result.currency if has_form_of_code(result.currency) else "",
        "bucket": bucket_of(result.root) if result.root else 0,
        "amount_minor": result.amount_minor,
        "source_partition": result.ingress_partition,
        "source_offset": result.ingress_offset,
        "lane_time_ms": result.lane_time_ms,
        "version_us": result.version_us,
        "rules_version": result.rules_version,
        "result_version": version_of(row.result),
        "metadata": result.metadata,
    }
    return [name for name in meant if meant[name] != said[name]]
