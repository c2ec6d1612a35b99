"""Ids and their results as one value: how a shard keeps those that came along with a move (M6)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from processors.ids import COMMAND_ID_BYTES
from processors.wire.packed_rows import frame, split_frames

_LEVEL = 1  # as of a hand-off's parts


def pack_ids(ids: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return ids, each with its result, as bytes: framed one after the other, and compressed (zlib, RFC 1950).

    >>> unpack_ids(pack_ids([(bytes(16), b"result")])) == [(bytes(16), b"result")]
    True
    """
    return zlib.compress(b"".join([frame(id_ + result) for id_, result in ids]), _LEVEL)


def unpack_ids(packed: bytes) -> list[tuple[bytes, bytes]]:
    """Return what ``pack_ids`` packed, in the same order."""
    rows, _ = split_frames(zlib.decompress(packed))
    return [(row[:COMMAND_ID_BYTES], row[COMMAND_ID_BYTES:]) for row in rows]
