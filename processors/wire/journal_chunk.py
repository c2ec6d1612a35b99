"""Chunks of the journal, in MySQL and in the archive: rows of a lane, literally, many in one blob (L14, A3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from processors.faults import Undecodable
from processors.wire import guard
from processors.wire.causes import Cause
from processors.wire.schemas import encode, schema_of

# A chunk holds rows of one such window, which divides a bucket of the archive: so chunks end at bucket borders (A3), a
# reader knows where those begin that hold an offset, and whole windows are cut alike however often they are delivered.
WINDOW_OFFSETS = 250
CHUNK_BYTES = 256 * 1024  # where a chunk is closed within its window; Cassandra takes up to 16 MiB in one write
# The result that closes a chunk may have another 128 KiB, the rest is room for numbers.
CHUNK_BYTES_MAX = 512 * 1024

T = TypeVar("T")

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


def cut(rows: Iterable[T], offset_of: Callable[[T], int], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield rows of one lane, given in order, in chunks: at window borders, and where one grows too large (A3)."""
    chunk: list[T] = []
    window, size = -1, 0
    for row in rows:
        of_row = offset_of(row) // WINDOW_OFFSETS
        if chunk and (of_row != window or size >= CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        window = of_row
        chunk.append(row)
        size += size_of(row)
    if chunk:
        yield chunk
