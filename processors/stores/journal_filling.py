"""Fills the journal's tables from the one that the release before wrote, whose rows have their results in hex.

That release must not run any more, and none of this one runs before the migration is noted. So nobody else writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from processors.faults import Misconfigured
from processors.stores.journal_names import TYPE_NUMBERS
from processors.stores.journal_sql import journal_writes
from processors.stores.mysql import Row, Session
from processors.stores.partitions import TABLES, change_journal, ensure_slices, slices_of
from processors.stores.rows import JournalRow, NewJournalRow

BEFORE = "journal_before"
# Rows of a lane that are read and written at once, in a transaction: some megabytes. Chunks are cut at its ends, too.
ROWS_AT_ONCE = 5_000
_COLUMNS = (
    "slice, lane, lane_offset, lane_index, command_id, root, result, transaction_id, type, status, reason, currency, "
    "amount_minor, lane_time_ms"
)


def fill_journal(
    session: Session, *, slices_max: int, on_rows: Callable[[int], None], rows_at_once: int = ROWS_AT_ONCE
) -> int:
    """Bring what the release before wrote into this release's tables, and drop its table; return how many rows.

    Slice by slice, each removed from the old table once it is in the new ones, so that a run that was cut off is gone
    on with. Nothing where there is no old table. ``on_rows`` is told how many rows were brought over so far.

    Raises:
        Misconfigured: The old table has a row that no lane of ours can have written; it stays as it is.
        Retryable: A table was in use.
    """
    if not _exists(session):
        return 0
    count, numbers = 0, sorted(slices_of(session, [BEFORE])[BEFORE])
    ensure_slices(session, numbers, slices_max=slices_max)
    for number in filter(partial(_has_rows, session, BEFORE), numbers):  # most that a shard keeps ready are empty
        for table in TABLES:
            if _has_rows(session, table, number):  # what a run that was cut off has left
                truncate = f"ALTER TABLE {table} TRUNCATE PARTITION p{number}"
                change_journal(session, truncate, f"emptying slice {number}")
        brought = 0
        for rows in _rows(session, number, rows_at_once):
            _write(session, rows)
            brought += len(rows)
            on_rows(count + brought)
        ((there,),) = session.query(f"SELECT COUNT(*) FROM {BEFORE} WHERE slice = {number}", "counting a slice's rows")
        assert brought == there, f"slice {number} of {BEFORE} has {there} rows, and {brought} were brought over"
        count += brought
        change_journal(session, f"ALTER TABLE {BEFORE} DROP PARTITION p{number}", f"dropping slice {number}")
    session.execute(f"DROP TABLE {BEFORE}", "dropping the journal of the release before")
    return count


def _has_rows(session: Session, table: str, number: int) -> bool:
    sql = f"SELECT 1 FROM {table} PARTITION (p{number}) LIMIT 1"
    return bool(session.query(sql, f"looking whether slice {number} has rows"))


def _exists(session: Session) -> bool:
    sql = (
        "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() "
        f"AND table_name = '{BEFORE}' AND table_type = 'BASE TABLE'"
    )
    return bool(session.query(sql, "looking for the journal of the release before"))


def _rows(session: Session, number: int, rows_at_once: int) -> Iterator[list[Row]]:
    """Yield a slice's rows, each part of one lane and in its order."""
    lanes = session.query(f"SELECT DISTINCT lane FROM {BEFORE} WHERE slice = {number}", "reading a slice's lanes")
    for (lane,) in lanes:
        offset, index = -1, 0
        while True:
            rows = session.query(
                f"SELECT {_COLUMNS} FROM {BEFORE} WHERE slice = {number} AND lane = {lane} "
                f"AND lane_offset >= {offset} AND (lane_offset > {offset} OR lane_index > {index}) "
                f"ORDER BY lane_offset, lane_index LIMIT {rows_at_once}",
                "reading the old journal",
            )
            if not rows:
                break
            yield rows
            _, _, offset, index, *_ = rows[-1]


def _write(session: Session, rows: list[Row]) -> None:
    session.begin()
    for statement in journal_writes([_new(session, row) for row in rows]):
        inserted = session.execute(statement.sql, statement.what)
        assert inserted == statement.rows, f"{statement.what}: {inserted} rows, not {statement.rows}"
    session.commit()


def _new(session: Session, row: Row) -> NewJournalRow:
    number, lane, offset, index, command_id, root, result, transaction_id, *told, amount_minor, lane_time_ms = row
    type_, status, reason, currency = (text.decode() for text in told)
    if type_ not in TYPE_NUMBERS:
        raise Misconfigured(f"{session.address}: slice {number} of {BEFORE} has a row of the unknown type {type_!r}")
    journal_row = JournalRow(number, lane, offset, index, command_id, root.decode(), result)
    return NewJournalRow(journal_row, transaction_id, type_, status, reason, currency, amount_minor, lane_time_ms)
