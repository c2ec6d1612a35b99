"""Small values packed into one column."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from processors.stores.rows import SourceKey, SourcePosition

_SOURCE = struct.Struct(">IIqi")  # ingress epoch, ingress partition, offset, leader epoch


def pack_sources(sources: Mapping[SourceKey, SourcePosition]) -> bytes:
    """Return a lane's ingress positions as bytes, the same for the same positions: 20 bytes each, in key order.

    >>> unpack_sources(pack_sources({(1, 0): SourcePosition(offset=7, leader_epoch=2)}))
    {(1, 0): SourcePosition(offset=7, leader_epoch=2)}
    """
    return b"".join(
        _SOURCE.pack(epoch, partition, position.offset, position.leader_epoch)
        for (epoch, partition), position in sorted(sources.items())
    )


def unpack_sources(packed: bytes) -> dict[SourceKey, SourcePosition]:
    """Return what ``pack_sources`` packed."""
    return {
        (epoch, partition): SourcePosition(offset=offset, leader_epoch=leader_epoch)
        for epoch, partition, offset, leader_epoch in _SOURCE.iter_unpack(packed)
    }
