"""The rows of a hand-off as bytes: each with its table and the columns of ``ledger.tables``, in their order (M6, M8).

Neither lane nor offset is in them: the same partner has the same bytes wherever he is. The ids of the window are most
of what he brings, so a row has many of them (``packed_ids``). In a part all rows are compressed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from processors.faults import Undecodable
from processors.ids import COMMAND_ID_BYTES
from processors.ledger.tables import MOVED_IDS, MOVING_TABLES, AnyTable
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
# A row of some ids has the number behind the tables'. A row of one, as checkouts from before 0.1.0 sent it, has that of
# its table: logs have such rows, and a replay reads them.
_IDS = len(MOVING_TABLES)


def pack_row(table: AnyTable, values: Iterable[int | bytes]) -> bytes:
    """Return a row as bytes: its table's number, then each column as Avro's long, or as bytes after their length.

    Args:
        table: One of those that move, but not that of the ids.
        values: Of the table's columns in their order, as a database has them: integers, and bytes, for texts, too.
    """
    columns = [long_bytes(value) if isinstance(value, int) else sized_bytes(value) for value in values]
    return _NUMBERS[table] + b"".join(columns)


def pack_row_of_ids(root: bytes, ids: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return some ids of a root, each with its result, as one row, as bytes."""
    framed = b"".join([frame(id_ + result) for id_, result in ids])
    return long_bytes(_IDS) + sized_bytes(root) + sized_bytes(framed)


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


def unpack_row(packed: bytes) -> UnpackedRow:
    """Return the table of a row that ``pack_row`` or ``pack_row_of_ids`` packed, and its values.

    Raises:
        Undecodable: MALFORMED: it is none.
    """
    try:
        number, at = read_long(packed, 0)
        table = MOVED_IDS if number == _IDS else _TABLES[number]
        values = []
        for read in _readers(number):
            value, at = read(packed, at)
            values.append(value)
        if table is MOVED_IDS:
            framed = values[1] if number == _IDS else frame(values[1] + values[2])
            values[1:] = [*_ends_of(framed), framed]
    except (LookupError, ValueError) as error:
        raise Undecodable(Cause.MALFORMED, f"no row: {packed[:16].hex()}") from error
    if at != len(packed):
        raise Undecodable(Cause.MALFORMED, f"{len(packed) - at} bytes behind a row: {packed[:16].hex()}")
    return UnpackedRow(table, values)


def _ends_of(framed: bytes) -> tuple[bytes, bytes]:
    ids, rest = split_frames(framed)
    if not ids or rest or min(map(len, ids)) < COMMAND_ID_BYTES:
        raise ValueError("no ids")
    return ids[0][:COMMAND_ID_BYTES], ids[-1][:COMMAND_ID_BYTES]


class UnpackedRow(NamedTuple):
    """A row that a hand-off brings, as it is to be stored: the table's columns in their order.

    Of the ids its values are the root, the first id, the last, and all of them, framed, each with its result.
    """

    table: AnyTable
    values: list[Any]


class UnpackedRows(NamedTuple):
    """What a part of a hand-off brings: whole rows, packed and as they are stored, and the beginning of one more."""

    packed: list[bytes]
    rows: list[UnpackedRow]
    rest: bytes


def unpack_part(began: bytes, compressed: bytes) -> UnpackedRows:
    """Return the rows of a part, of which the first may have begun in the part before it.

    Raises:
        Undecodable: MALFORMED: they are none.
    """
    packed, rest = split_frames(began + expand_rows(compressed))
    return UnpackedRows(packed, [unpack_row(row) for row in packed], rest)


@cache
def _readers(number: int) -> list[Callable[[bytes, int], tuple[Any, int]]]:
    types = [str, bytes] if number == _IDS else _TABLES[number].columns.values()
    return [_reader(type_) for type_ in types]


def _reader(type_: type) -> Callable[[bytes, int], tuple[Any, int]]:
    if type_ is int:
        return read_long
    if type_ is bytes:
        return read_bytes
    known: Callable[[bytes], Any] = bytes.decode
    if issubclass(type_, Enum):
        known = {member.value.encode(): member for member in type_}.__getitem__

    def read_known(packed: bytes, at: int) -> tuple[Any, int]:
        value, end = read_bytes(packed, at)
        return known(value), end

    return read_known
