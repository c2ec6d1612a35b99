"""Chunks of the archived journal: rows of a lane, literally, many in one blob (A3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from processors.faults import Undecodable
from processors.wire import guard
from processors.wire.causes import Cause
from processors.wire.schemas import encode, schema_of

# A chunk is closed at 256 KiB; the result that closes it may have another 128, the rest is room for numbers.
CHUNK_BYTES_MAX = 512 * 1024

ChunkRow = tuple[int, int, bytes]
"""Lane offset, lane index, and the result's bytes."""


@dataclass(slots=True)
class _Columns:
    lane_offsets: list[int]
    lane_indexes: list[int]
    results: list[bytes]


_SCHEMA = schema_of("journal_chunk")
_KNOWN = {_SCHEMA.prefix: guard.format_of(_SCHEMA, _Columns)}


def encode_chunk(rows: Sequence[ChunkRow]) -> bytes:
    """Encode rows of one lane, in the order given."""
    offsets, indexes, results = zip(*rows, strict=True)
    return encode(_SCHEMA, {"lane_offsets": offsets, "lane_indexes": indexes, "results": results})


def decode_chunk(payload: bytes) -> list[ChunkRow]:
    """Decode a chunk.

    Raises:
        Undecodable: It is none; see ``guard.decode``.
    """
    columns: _Columns = guard.decode(payload, _KNOWN, bytes_max=CHUNK_BYTES_MAX)
    counts = {len(columns.lane_offsets), len(columns.lane_indexes), len(columns.results)}
    if len(counts) > 1:
        raise Undecodable(Cause.MALFORMED, f"the columns of a chunk have {sorted(counts)} rows")
    return list(zip(columns.lane_offsets, columns.lane_indexes, columns.results, strict=True))
