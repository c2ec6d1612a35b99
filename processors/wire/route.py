"""The router's one header: where a record came from, and who owns its placement key there (W2)."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

from processors.faults import Undecodable
from processors.wire.causes import Cause
from processors.wire.records import Headers, ReadHeaders
from processors.wire.signature import SIGNATURE_BYTES_MAX, SIGNATURE_HEADER

ROUTE_HEADER = "balance-route"
SIGNATURES_MAX = 2  # a lane refuses two
PLACEMENT_KEY_BYTES_MAX = 64  # a root: one segment of an address


class RouteKind(IntEnum):
    """What the router did with the record; the number is the one on the wire."""

    COMMAND = 1  # forwarded as it was
    STUB = 2  # too large: its size and hash instead (W4)
    MOVE_OUT = 3  # a move's marker, for the old shard (R4)
    MOVE_REFUSED = 4  # a marker that was not accepted (R3)


@dataclass(slots=True)
class Route:
    """Where a record stood in the ingress topic, and its placement key's owner there.

    ``broker_time_ms`` is the ingress record's, ms since the epoch; ``ingress_leader_epoch`` is -1 where the broker told
    none. Not frozen: one per command on the hot path, freezing costs 1 µs.
    """

    kind: RouteKind
    ingress_epoch: int
    ingress_partition: int
    ingress_offset: int
    ingress_leader_epoch: int
    broker_time_ms: int
    placement_key: str
    generation: int


# layout version, kind, epoch, partition, offset, leader epoch, broker time, generation, bytes of the placement key
_LAYOUT = struct.Struct(">BBIIqiqIB")
_BEGIN, _MIDDLE, _END = struct.Struct(">BBII"), struct.Struct(">qiq"), struct.Struct(">IB")  # the same, in parts
assert _BEGIN.format + _MIDDLE.format[1:] + _END.format[1:] == _LAYOUT.format
_LAYOUT_VERSION = 1
_KINDS = {int(kind): kind for kind in RouteKind}


def encode_route(route: Route) -> bytes:
    """Encode a route: big endian, 35 bytes and the placement key in UTF-8.

    Raises:
        ValueError: A number or the placement key is out of its range.
    """
    placement_key = route.placement_key.encode()
    if not 1 <= len(placement_key) <= PLACEMENT_KEY_BYTES_MAX:
        raise ValueError(f"a placement key has 1 to {PLACEMENT_KEY_BYTES_MAX} bytes, not {len(placement_key)}")
    try:
        fixed = _LAYOUT.pack(
            _LAYOUT_VERSION,
            route.kind,
            route.ingress_epoch,
            route.ingress_partition,
            route.ingress_offset,
            route.ingress_leader_epoch,
            route.broker_time_ms,
            route.generation,
            len(placement_key),
        )
    except struct.error as error:
        raise ValueError(f"{route}: {error}") from error
    return fixed + placement_key


# What differs between the routes of one key's records: ingress offset, leader epoch and broker time.
encode_route_middle = _MIDDLE.pack


def route_ends(
    kind: RouteKind, *, ingress_epoch: int, ingress_partition: int, placement_key: str, generation: int
) -> tuple[bytes, bytes]:
    """Return what all routes of one key's records begin and end with, around ``encode_route_middle``.

    >>> ends = route_ends(RouteKind.COMMAND, ingress_epoch=1, ingress_partition=2, placement_key="acme", generation=3)
    >>> encode_route_middle(4, 5, 6).join(ends) == encode_route(Route(RouteKind.COMMAND, 1, 2, 4, 5, 6, "acme", 3))
    True
    """
    whole = encode_route(Route(kind, ingress_epoch, ingress_partition, 0, 0, 0, placement_key, generation))
    return whole[: _BEGIN.size], whole[_BEGIN.size + _MIDDLE.size :]


def decode_route(value: bytes) -> Route:
    """Decode a route.

    Raises:
        Undecodable: BAD_ROUTE: cut short, too long, or of an unknown layout or kind.
    """
    if len(value) < _LAYOUT.size:
        raise Undecodable(Cause.BAD_ROUTE, f"cut short: {len(value)} bytes")
    version, kind_number, epoch, partition, offset, leader_epoch, time_ms, generation, size = _LAYOUT.unpack_from(value)
    kind = _KINDS.get(kind_number)
    if version != _LAYOUT_VERSION or kind is None:
        raise Undecodable(Cause.BAD_ROUTE, f"layout {version}, kind {kind_number}")
    placement_key = value[_LAYOUT.size :]
    if (
        len(placement_key) != size
        or not 1 <= size <= PLACEMENT_KEY_BYTES_MAX
        or offset < 0
        or not placement_key.isascii()
    ):
        raise Undecodable(Cause.BAD_ROUTE, f"{len(value)} bytes, a unit of {size}, offset {offset}")
    return Route(kind, epoch, partition, offset, leader_epoch, time_ms, placement_key.decode("ascii"), generation)


def needed_headers(headers: ReadHeaders) -> Headers:
    """Return what a lane needs of a producer's headers: the signature. All others are dropped, however many (W2).

    Two signatures are as wrong as ten, and one that is too long stays so when it is cut.
    """
    signatures = [value for name, value in headers if name == SIGNATURE_HEADER]
    return [(SIGNATURE_HEADER, (value or b"")[: SIGNATURE_BYTES_MAX + 1]) for value in signatures[:SIGNATURES_MAX]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stub:
    """What is forwarded of a record that is too large (W4): its payload's size in bytes, and SHA-256."""

    size: int
    sha256: bytes


_STUB = struct.Struct(">Q32s")


def encode_stub(payload: bytes) -> bytes:
    """Return the stub of a payload: 40 bytes."""
    return _STUB.pack(len(payload), hashlib.sha256(payload).digest())


def decode_stub(value: bytes) -> Stub:
    """Decode a stub.

    Raises:
        Undecodable: MALFORMED: it has not 40 bytes.
    """
    if len(value) != _STUB.size:
        raise Undecodable(Cause.MALFORMED, f"a stub of {len(value)} bytes")
    size, sha256 = _STUB.unpack(value)
    return Stub(size=size, sha256=sha256)
