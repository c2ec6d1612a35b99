"""The records of ``balance.archived``: how far the archive is durable, and which slices were removed (A5, A6)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from processors.wire import guard
from processors.wire.schemas import encode, schema_of

_RECORD_BYTES_MAX = 512  # two ids and numbers, with room


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The last result that is durable in the archive, of one lane in one results partition (A5).

    ``incarnation`` is the shard's topic id, 16 bytes; ``time_ms`` is when it was noted, ms since the epoch.
    """

    incarnation: bytes
    shard: str
    lane: int
    results_partition: int
    lane_offset: int
    lane_index: int
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRemoved:
    """A slice of a shard's journal that is only in the archive now (A6). ``slice`` is whole hours since the epoch."""

    incarnation: bytes
    shard: str
    slice: int
    rows: int
    time_ms: int


ArchivedRecord = Coverage | SliceRemoved

_SCHEMA_OF = {Coverage: schema_of("coverage"), SliceRemoved: schema_of("slice_removed")}
_KNOWN = {schema.prefix: guard.format_of(schema, kind) for kind, schema in _SCHEMA_OF.items()}


def encode_archived(record: ArchivedRecord) -> bytes:
    """Encode a record of ``balance.archived``."""
    return encode(_SCHEMA_OF[type(record)], asdict(record))


def decode_archived(payload: bytes) -> ArchivedRecord:
    """Decode a record of ``balance.archived``.

    Raises:
        Undecodable: It is none; see ``guard.decode``.
    """
    record: ArchivedRecord = guard.decode(payload, _KNOWN, bytes_max=_RECORD_BYTES_MAX)
    return record
