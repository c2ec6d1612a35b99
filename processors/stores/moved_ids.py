"""The SQL of ids that came along with moves: a root's ids of a minute lie in one row, or in some (M6). No I/O.

A partner brings more of them than of anything else, and a row costs MySQL 16 us whatever is in it, an id in a row with
others less than 1. Nobody asks for one of them but a repetition, or a refund, of what another shard decided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby

from processors.ledger.rows import DecisionKey
from processors.ledger.tables import MOVED_IDS, RowChange
from processors.routing.buckets import bucket_of
from processors.stores.mysql import Row
from processors.stores.sql_text import chunks, hex_literal, row_chunks, text_literal
from processors.stores.table_sql import SqlStatement
from processors.wire.packed_ids import pack_ids, unpack_ids

# How far the ids of a row may lie apart. All of a root's minute are in memory where they go on to another shard, in the
# order of their keys: a thousand a second are 16 MB.
SLOT_MS = 60_000
# Of one row: whoever looks for one of its ids reads all of them, in half a millisecond.
CHUNK_IDS_MAX = 250
CHUNK_BYTES_MAX = 64 * 1024  # of results; one that is larger has a row of its own
COLUMNS = "root, command_id, last_id, result"


def slot_of(command_id: bytes) -> int:
    """Return the minute of an id's time, as the column has it."""
    return int.from_bytes(command_id[:6], "big") // SLOT_MS


def inserts(arrived: Iterable[RowChange]) -> Iterator[SqlStatement]:
    """Yield the statements that store ids which came along; none of them is stored."""
    packed = (row for _, ids in groupby(sorted(arrived, key=_key), key=_minute) for row in _chunked(ids))
    for rows, text in row_chunks(packed, str):
        sql = f"INSERT INTO {MOVED_IDS.name} ({COLUMNS}, bucket) VALUES {text}"
        yield SqlStatement(what=f"inserting into {MOVED_IDS.name}", sql=sql, rows=rows)


def _key(change: RowChange) -> DecisionKey:
    key: DecisionKey = change.key
    return key


def _minute(change: RowChange) -> tuple[str, int]:
    root, command_id = change.key
    return root, slot_of(command_id)


def _chunked(ids: Iterable[RowChange]) -> Iterator[str]:
    """Yield the rows, as SQL, that have the ids of a root and a minute."""
    waiting: list[RowChange] = []
    size = 0
    for change in ids:
        size += len(change.row.result)
        if waiting and (len(waiting) == CHUNK_IDS_MAX or size > CHUNK_BYTES_MAX):
            yield _row(waiting)
            waiting, size = [], len(change.row.result)
        waiting.append(change)
    yield _row(waiting)


def _row(ids: list[RowChange]) -> str:
    root, first = ids[0].key
    if len(ids) == 1:
        last, result = b"", ids[0].row.result
    else:
        last, result = ids[-1].key[1], pack_ids([(change.key[1], change.row.result) for change in ids])
    values = f"{text_literal(root)},{hex_literal(first)},{hex_literal(last)},{hex_literal(result)}"
    return f"({values},{bucket_of(root)})"


def selects(keys: Iterable[DecisionKey], keys_max: int) -> Iterator[str]:
    """Yield the SELECTs of the rows that may have some ids, in the order of roots and minutes.

    They are not locked: nobody changes one while its root is owned, and only the lane's owner asks.
    """
    stretches = [
        f"ROW({minute},{text_literal(root)},{hex_literal(found[0])},{hex_literal(found[-1])})"
        for (root, minute), found in _by_minute(keys)
    ]
    columns = ", ".join(f"t.{column}" for column in COLUMNS.split(", "))
    for chunk in chunks(stretches, keys_max):
        yield (
            f"SELECT {columns} FROM (VALUES {','.join(chunk)}) AS v (minute, root, first_id, last_id) "
            f"STRAIGHT_JOIN {MOVED_IDS.name} AS t FORCE INDEX (by_minute) "
            "ON t.minute = v.minute AND t.root = v.root AND t.command_id <= v.last_id "
            "AND GREATEST(t.command_id, t.last_id) >= v.first_id"
        )


def _by_minute(keys: Iterable[DecisionKey]) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    for minute, found in groupby(sorted(keys), key=lambda key: (key[0], slot_of(key[1]))):
        yield minute, [command_id for _, command_id in found]


def ids_in(row: Row) -> list[tuple[bytes, bytes]]:
    """Return the ids of a row, from ``COLUMNS``, in order, each with its result."""
    _, first, last, result = row
    return unpack_ids(result) if last else [(first, result)]


def wanted_in(rows: Iterable[Row], keys: Collection[DecisionKey]) -> Iterator[tuple[DecisionKey, bytes]]:
    """Yield those of some rows' ids that are meant, each with its result."""
    for row in rows:
        root = row[0].decode()
        for command_id, result in ids_in(row):
            if (root, command_id) in keys:
                yield (root, command_id), result
