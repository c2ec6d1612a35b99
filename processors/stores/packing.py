"""Small values packed into one column."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from processors.stores.rows import IngressKey, IngressPosition

_POSITION = struct.Struct(">IIqi")  # ingress epoch, ingress partition, offset, leader epoch


def pack_ingress(ingress: Mapping[IngressKey, IngressPosition]) -> bytes:
    """Return a lane's ingress positions as bytes, the same for the same positions: 20 bytes each, in key order.

    >>> unpack_ingress(pack_ingress({(1, 0): IngressPosition(offset=7, leader_epoch=2)}))
    {(1, 0): IngressPosition(offset=7, leader_epoch=2)}
    """
    return b"".join(
        _POSITION.pack(epoch, partition, position.offset, position.leader_epoch)
        for (epoch, partition), position in sorted(ingress.items())
    )


def unpack_ingress(packed: bytes) -> dict[IngressKey, IngressPosition]:
    """Return what ``pack_ingress`` packed."""
    return {
        (epoch, partition): IngressPosition(offset=offset, leader_epoch=leader_epoch)
        for epoch, partition, offset, leader_epoch in _POSITION.iter_unpack(packed)
    }
