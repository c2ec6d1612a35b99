"""The rows of a hand-off as bytes: each with its table and the columns of ``ledger.tables``, in their order (M6, M8).

Neither lane nor offset is in them: the same partner has the same bytes wherever he is. In a part they are compressed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from processors.faults import Undecodable
from processors.ledger.tables import MOVING_TABLES, AnyTable, RowChange
from processors.wire.avro import long_bytes, read_bytes, read_long, sized_bytes
from processors.wire.causes import Cause

# A part's rows: below what a record of a shard's topic may have (W4), with room for its other fields, even if they do
# not get smaller. Where a part ends depends on the rows alone, and not on how small a zlib makes them: it may be sent
# again from another machine, and must have the same rows (M3).
PART_BYTES_MAX = 48 * 1024
# Rows with results come to a quarter, in 4 ms a megabyte; level 6 takes three times as long, and they come to 0.23.
_LEVEL = 1
_LENGTH = struct.Struct(">I")
_TABLES = dict(enumerate(MOVING_TABLES))
_NUMBERS = {table: long_bytes(number) for number, table in _TABLES.items()}


def pack_row(table: AnyTable, values: Iterable[int | bytes]) -> bytes:
    """Return a row as bytes: its table's number, then each column as Avro's long, or as bytes after their length.

    Args:
        table: One of those that move.
        values: Of the table's columns in their order, as a database has them: integers, and bytes, for texts, too.
    """
    columns = [long_bytes(value) if isinstance(value, int) else sized_bytes(value) for value in values]
    return _NUMBERS[table] + b"".join(columns)


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


def compress_rows(framed: bytes) -> bytes:
    """Return a part's framed rows as they go into a record: compressed (zlib, RFC 1950).

    >>> expand_rows(compress_rows(b"acme" * 1_000)) == b"acme" * 1_000
    True
    """
    assert len(framed) <= PART_BYTES_MAX, f"{len(framed)} bytes of rows in a part"
    return zlib.compress(framed, _LEVEL)


def expand_rows(compressed: bytes) -> bytes:
    """Return the framed rows that ``compress_rows`` compressed; never more than ``PART_BYTES_MAX`` of them are made.

    Raises:
        Undecodable: MALFORMED: they are no such rows, or more.
    """
    expanding = zlib.decompressobj()
    try:
        framed = expanding.decompress(compressed, PART_BYTES_MAX + 1)
    except zlib.error as error:
        raise Undecodable(Cause.MALFORMED, f"no compressed rows: {error}") from error
    if len(framed) > PART_BYTES_MAX or not expanding.eof or expanding.unused_data:
        raise Undecodable(Cause.MALFORMED, f"{len(compressed)} bytes are not compressed rows of {PART_BYTES_MAX} bytes")
    return framed


def unpack_row(packed: bytes) -> tuple[AnyTable, RowChange]:
    """Return the table of a row that ``pack_row`` packed, and the row to insert.

    Raises:
        Undecodable: MALFORMED: it is none.
    """
    try:
        number, at = read_long(packed, 0)
        table = _TABLES[number]
        values = []
        for read in _readers(table):
            value, at = read(packed, at)
            values.append(value)
    except (LookupError, ValueError) as error:
        raise Undecodable(Cause.MALFORMED, f"no row: {packed[:16].hex()}") from error
    if at != len(packed):
        raise Undecodable(Cause.MALFORMED, f"{len(packed) - at} bytes behind a row: {packed[:16].hex()}")
    key, row = table.made_of(values)
    return table, RowChange(key, row, None)


class UnpackedRows(NamedTuple):
    """What a part of a hand-off brings: whole rows, packed and as they are stored, and the beginning of one more."""

    packed: list[bytes]
    changes: list[tuple[AnyTable, RowChange]]
    rest: bytes


def unpack_part(began: bytes, compressed: bytes) -> UnpackedRows:
    """Return the rows of a part, of which the first may have begun in the part before it.

    Raises:
        Undecodable: MALFORMED: they are none.
    """
    packed, rest = split_frames(began + expand_rows(compressed))
    return UnpackedRows(packed, [unpack_row(row) for row in packed], rest)


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
