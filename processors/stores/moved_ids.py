"""The SQL of ids that came along with moves: a root's ids of a minute lie in one row, or in some (M6). No I/O.

A partner brings more of them than of anything else, and a row costs MySQL 16 us whatever is in it, an id in a row with
others less than 1. Nobody asks for one of them but a repetition, or a refund, of what another shard decided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from typing import Any

from processors.ids import COMMAND_ID_BYTES
from processors.ledger.rows import DecisionKey
from processors.ledger.tables import MOVED_IDS
from processors.routing.buckets import bucket_of
from processors.stores.mysql import Row
from processors.stores.sql_text import chunks, hex_literal, row_chunks, text_literal
from processors.stores.table_sql import SqlStatement
from processors.wire.packed_ids import compress_ids, slot_of, unpack_ids
from processors.wire.packed_rows import frame

COLUMNS = "root, command_id, last_id, result"
_BEFORE_RESULT = len(frame(bytes(COMMAND_ID_BYTES)))


def inserts(arrived: Iterable[list[Any]]) -> Iterator[SqlStatement]:
    """Yield the statements that store rows of ids which came along, as a hand-off has them; none is stored."""
    for rows, text in row_chunks(arrived, _row):
        sql = f"INSERT INTO {MOVED_IDS.name} ({COLUMNS}, bucket) VALUES {text}"
        yield SqlStatement(what=f"inserting into {MOVED_IDS.name}", sql=sql, rows=rows)


def _row(values: list[Any]) -> str:
    root, first, last, framed = values
    if first == last:
        last, result = b"", framed[_BEFORE_RESULT:]
    else:
        result = compress_ids(framed)
    literals = f"{text_literal(root)},{hex_literal(first)},{hex_literal(last)},{hex_literal(result)}"
    return f"({literals},{bucket_of(root)})"


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
