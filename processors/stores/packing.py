"""Small values packed into one column."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from processors.stores.rows import IngressKey, IngressPosition
from processors.wire.records import Headers, ReadHeaders

_SIZES = struct.Struct(">HI")  # of a header's name and value
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


def pack_headers(headers: ReadHeaders) -> bytes:
    """Return a record's headers as bytes; one without a value as one with none, which says the same.

    >>> unpack_headers(pack_headers([("signature", b"k1 00")]))
    [('signature', b'k1 00')]
    """
    packed = ((name.encode(), value or b"") for name, value in headers)
    return b"".join(_SIZES.pack(len(name), len(value)) + name + value for name, value in packed)


def unpack_headers(packed: bytes) -> Headers:
    """Return what ``pack_headers`` packed."""
    headers, at = [], 0
    while at < len(packed):
        name, value = _SIZES.unpack_from(packed, at)
        at += _SIZES.size
        headers.append((packed[at : at + name].decode(), packed[at + name : at + name + value]))
        at += name + value
    return headers
