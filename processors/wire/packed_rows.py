"""The rows of a hand-off as bytes: each with its table and the columns of ``ledger.tables``, in their order (M6, M8).

Neither lane nor offset is in them: the same partner has the same bytes wherever he is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any

from processors.faults import Undecodable
from processors.ledger.tables import MOVING_TABLES, AnyTable, RowChange
from processors.wire.avro import long_bytes, read_bytes, read_long, sized_bytes
from processors.wire.causes import Cause

_LENGTH = struct.Struct(">I")


def pack_row(table: AnyTable, key: Any, row: Any) -> bytes:
    """Return a row as bytes: its table's number, then each column as Avro's long, or as bytes after their length."""
    values = table.values_of(RowChange(key, row, None))
    columns = zip(_writers(table), values, strict=True)
    return b"".join([long_bytes(MOVING_TABLES.index(table)), *[write(value) for write, value in columns]])


def frame(row: bytes) -> bytes:
    """Return a packed row as it stands among others: after its length in bytes."""
    return _LENGTH.pack(len(row)) + row


def split_frames(framed: bytes) -> tuple[list[bytes], bytes]:
    """Return the packed rows that framed bytes begin with, and what is left: a row of which the end is still to come.

    >>> rows, rest = split_frames(frame(b"acme") + frame(b"globex")[:5])
    >>> rows, rest.hex()
    ([b'acme'], '0000000667')
    """
    rows, at = [], 0
    while len(framed) - at >= _LENGTH.size:
        (size,) = _LENGTH.unpack_from(framed, at)
        end = at + _LENGTH.size + size
        if end > len(framed):
            break
        rows.append(framed[at + _LENGTH.size : end])
        at = end
    return rows, framed[at:]


def unpack_row(packed: bytes) -> tuple[AnyTable, RowChange]:
    """Return the table of a row that ``pack_row`` packed, and the row to insert.

    Raises:
        Undecodable: MALFORMED: it is none.
    """
    try:
        number, at = read_long(packed, 0)
        table = MOVING_TABLES[number]
        values = []
        for read in _readers(table):
            value, at = read(packed, at)
            values.append(value)
    except (IndexError, ValueError) as error:
        raise Undecodable(Cause.MALFORMED, f"no row: {packed[:16].hex()}") from error
    key, row = table.made_of(values)
    return table, RowChange(key, row, None)


@cache
def _writers(table: AnyTable) -> list[Callable[[Any], bytes]]:
    return [_writer(type_) for type_ in table.columns.values()]


def _writer(type_: type) -> Callable[[Any], bytes]:
    if type_ is int:
        return long_bytes
    return sized_bytes if type_ is bytes else lambda text: sized_bytes(text.encode())


@cache
def _readers(table: AnyTable) -> list[Callable[[bytes, int], tuple[Any, int]]]:
    return [_reader(type_) for type_ in table.columns.values()]


def _reader(type_: type) -> Callable[[bytes, int], tuple[Any, int]]:
    if type_ is int:
        return read_long
    if type_ is bytes:
        return read_bytes

    def read_text(packed: bytes, at: int) -> tuple[Any, int]:
        value, end = read_bytes(packed, at)
        return (type_(value.decode()) if issubclass(type_, Enum) else value.decode()), end

    return read_text
