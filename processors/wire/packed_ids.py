"""Ids that came along with a move, or go along, each with its result: many lie in a row (M6)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from processors.ids import COMMAND_ID_BYTES
from processors.wire.packed_rows import pack_row_of_ids, split_frames

# How far the ids of a row may lie apart. All of a root's minute are in memory where they go on to another shard, in the
# order of their keys: a thousand a second are 16 MB.
SLOT_MS = 60_000
# Of one row: whoever looks for one of its ids reads all of them, in a tenth of a millisecond.
ROW_IDS_MAX = 250
ROW_BYTES_MAX = 16 * 1024  # of results; one that is larger has a row of its own
# Of ids that were decided where they are sealed, so many at a time are put into rows. Where a row ends depends on the
# ids alone, so the same are cut in the same way each time (M3).
GATHERED_IDS_MAX = 5_000
GATHERED_BYTES_MAX = 4 * 1024 * 1024
_LEVEL = 1  # as of a hand-off's parts


class IdOf(NamedTuple):
    """An id that a root's command had, and its result."""

    root: bytes
    id_: bytes
    result: bytes


def slot_of(command_id: bytes) -> int:
    """Return the minute of an id's time, as the column has it."""
    return int.from_bytes(command_id[:6], "big") // SLOT_MS


def packed_in_rows(ids: Iterable[IdOf], *, ids_max: int = ROW_IDS_MAX) -> Iterator[bytes]:
    """Yield rows of a hand-off that have all of some ids, those of a root and a minute together, by their keys."""
    for (root, _), of_minute in groupby(sorted(ids), key=lambda each: (each.root, slot_of(each.id_))):
        waiting: list[tuple[bytes, bytes]] = []
        size = 0
        for each in of_minute:
            size += len(each.result)
            if waiting and (len(waiting) == ids_max or size > ROW_BYTES_MAX):
                yield pack_row_of_ids(root, waiting)
                waiting, size = [], len(each.result)
            waiting.append((each.id_, each.result))
        yield pack_row_of_ids(root, waiting)


def gathered(ids: Iterable[IdOf | None]) -> Iterator[bytes | None]:
    """Yield rows of a hand-off that have all of some ids, which come in any order; and each None, as it comes."""
    waiting: list[IdOf] = []
    size = 0
    for each in ids:
        if each is None:
            yield None
            continue
        waiting.append(each)
        size += len(each.result)
        if len(waiting) == GATHERED_IDS_MAX or size > GATHERED_BYTES_MAX:
            yield from packed_in_rows(waiting)
            waiting, size = [], 0
    yield from packed_in_rows(waiting)


def compress_ids(framed: bytes) -> bytes:
    """Return the framed ids of a row as the database has them: compressed (zlib, RFC 1950)."""
    return zlib.compress(framed, _LEVEL)


def unpack_ids(packed: bytes) -> list[tuple[bytes, bytes]]:
    """Return the ids that ``compress_ids`` compressed, in the same order, each with its result."""
    return framed_ids(zlib.decompress(packed))


def framed_ids(framed: bytes) -> list[tuple[bytes, bytes]]:
    """Return the ids of a row, in the same order, each with its result."""
    rows, _ = split_frames(framed)
    return [(row[:COMMAND_ID_BYTES], row[COMMAND_ID_BYTES:]) for row in rows]
