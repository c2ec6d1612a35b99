"""The statements that write journal rows: one narrow row each, their results in chunks, and the steps. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from processors.routing.buckets import bucket_of
from processors.stores.journal_names import REASON_NUMBERS, STATUS_NUMBERS, TYPE_NUMBERS
from processors.stores.packing import compress
from processors.stores.rows import JournalRow, NewJournalRow
from processors.stores.sql_text import hex_literal, row_chunks, text_literal
from processors.stores.table_sql import SqlStatement
from processors.wire.journal_chunk import WINDOW_OFFSETS, cut, encode_chunk

JOURNAL_COLUMNS = (
    "slice, lane, lane_offset, lane_index, command_id, root, bucket, type, status, reason, currency, amount_minor, "
    "lane_time_ms"
)
CHUNK_COLUMNS = "slice, lane, offset_window, first_offset, first_index, results"
STEP_COLUMNS = "transaction_id, slice, lane, lane_offset, lane_index"


class _Chunk(NamedTuple):
    slice: int
    lane: int
    first_offset: int
    first_index: int
    results: bytes


def journal_writes(rows: Sequence[NewJournalRow]) -> Iterator[SqlStatement]:
    """Yield what inserts a lane's rows, given in its order, into the journal's three tables.

    All of them in one transaction: a row without its result, or the other way round, is a damaged journal.
    """
    for count, text in row_chunks(rows, _journal_row):
        yield _insert("journal", JOURNAL_COLUMNS, text, count, "inserting journal rows")
    for count, text in row_chunks(_chunks(rows), _chunk_row):
        yield _insert("journal_chunk", CHUNK_COLUMNS, text, count, "inserting journal chunks")
    steps = [new for new in rows if new.transaction_id != new.row.command_id]
    for count, text in row_chunks(steps, _step_row):
        yield _insert("journal_step", STEP_COLUMNS, text, count, "inserting steps")


def _insert(table: str, columns: str, text: str, count: int, what: str) -> SqlStatement:
    return SqlStatement(what=what, sql=f"INSERT INTO {table} ({columns}) VALUES {text}", rows=count)


def _journal_row(new: NewJournalRow) -> str:
    row = new.row
    # One expression, 4,000 times a batch.
    return (
        f"({row.slice},{row.lane},{row.lane_offset},{row.lane_index},X'{row.command_id.hex()}',{text_literal(row.root)},"
        f"{bucket_of(row.root) if row.root else 0},{TYPE_NUMBERS[new.type]},{STATUS_NUMBERS[new.status]},"
        f"{REASON_NUMBERS[new.reason]},{text_literal(new.currency)},{new.amount_minor},{new.lane_time_ms})"
    )


def _chunks(rows: Sequence[NewJournalRow]) -> Iterator[_Chunk]:
    by_slice: dict[int, list[JournalRow]] = {}
    for new in rows:
        of_slice = by_slice.get(new.row.slice)
        if of_slice is None:
            of_slice = by_slice[new.row.slice] = []
        of_slice.append(new.row)
    for number, of_slice in by_slice.items():
        for some in cut(of_slice, _offset_of, _size_of):
            first = some[0]
            blob = encode_chunk([(row.lane_offset, row.lane_index, row.result) for row in some])
            yield _Chunk(number, first.lane, first.lane_offset, first.lane_index, compress(blob))


def _chunk_row(chunk: _Chunk) -> str:
    return (
        f"({chunk.slice},{chunk.lane},{chunk.first_offset // WINDOW_OFFSETS},{chunk.first_offset},{chunk.first_index},"
        f"{hex_literal(chunk.results)})"
    )


def _step_row(new: NewJournalRow) -> str:
    row = new.row
    return f"({hex_literal(new.transaction_id)},{row.slice},{row.lane},{row.lane_offset},{row.lane_index})"


def _offset_of(row: JournalRow) -> int:
    return row.lane_offset


def _size_of(row: JournalRow) -> int:
    return len(row.result)
