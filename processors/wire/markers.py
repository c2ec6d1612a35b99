"""What becomes of a move's marker at the router: it counts, or it is refused (R3 to R5). No I/O.

It is judged by what lies before it in the ingress. So a router that meets it again, with a directory that has grown
since, judges it as before.
"""

from __future__ import annotations

from dataclasses import dataclass

from processors.faults import Misconfigured, Undecodable
from processors.ids import derived_id
from processors.ledger.commands import CommandType, MovePartner
from processors.routing.directory import Placement
from processors.wire.commands import decode_command
from processors.wire.directory import PlacementRecord
from processors.wire.forwarding import RoutingContext, bucket_of_marker, root_of_key, sent
from processors.wire.records import OutRecord, Record
from processors.wire.route import RouteKind
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, key_id_of, verify

# A placement key and two shards' names have some 200 bytes at most. A larger one would not fit the lane's row.
MARKER_BYTES_MAX = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedMarker:
    """A marker that counts: its ``placement``, and who owned the placement key just before it.

    ``is_known``: the placement is in the directory already, since the marker was met before (R5).
    """

    placement: PlacementRecord
    owner: Placement
    is_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedMarker:
    """A marker that does not count: ``why``, in words for operators, and who owns its key.

    ``lacks_target``: nothing is wrong with it but that the directory does not have its target, or did not when it was
    read.
    """

    why: str
    owner: Placement
    lacks_target: bool = False


def marker_id(placement_key: str, generation: int, source: str, target: str) -> bytes:
    """Return the id that a marker must have: the same whoever makes it, so that a repeat is one (R3)."""
    return derived_id(CommandType.MOVE_PARTNER, f"{placement_key}.{generation}.{source}.{target}".encode())


def judge(record: Record, context: RoutingContext, keyring: KeyRing) -> AcceptedMarker | RefusedMarker:
    """Judge a marker by what lies before it, the keys file and the shards that the directory has.

    Args:
        record: One that ``forwarding.refusal_of`` lets pass, and that ``forwarding.is_marker`` tells.
        context: Its directory holds every placement up to the record.
        keyring: The keys file's.

    Raises:
        Misconfigured: Nothing is wrong with the marker, and the keys file lacks the key that signed it: another router
            may have the key, and would judge otherwise.

    Source: R3, R5.
    """
    key = root_of_key(record.key) or bucket_of_marker(record)
    owner = context.directory.place(key, ingress_partition=record.partition, ingress_offset=record.offset - 1)
    marker = _decoded(record.value or b"")
    if isinstance(marker, str):
        return RefusedMarker(why=marker, owner=owner)
    placement = PlacementRecord(
        unit=key,
        generation=marker.generation,
        shard=marker.target,
        ingress_partition=record.partition,
        since=record.offset,
    )
    if marker.placement_key == key and _is_there(placement, context):  # R5
        return AcceptedMarker(placement=placement, owner=owner, is_known=True)
    why = _why_not(marker, key, owner) or _why_unsigned(record, keyring)
    if why is not None:
        return RefusedMarker(why=why, owner=owner)
    if marker.target not in context.topic_of:
        return RefusedMarker(why=f"the directory has no shard {marker.target}", owner=owner, lacks_target=True)
    return AcceptedMarker(placement=placement, owner=owner, is_known=False)


def move_out(record: Record, accepted: AcceptedMarker, context: RoutingContext) -> tuple[str, OutRecord]:
    """Return the shard that owned the placement key before a marker, and the MOVE_OUT that goes to its lane (R4)."""
    return sent(record, accepted.placement.unit, RouteKind.MOVE_OUT, accepted.owner, context)


def move_refused(record: Record, refused: RefusedMarker, context: RoutingContext) -> tuple[str, OutRecord]:
    """Return the shard that owns a refused marker's key, and what goes to its lane, which answers it (R3)."""
    key = root_of_key(record.key) or bucket_of_marker(record)
    return sent(record, key, RouteKind.MOVE_REFUSED, refused.owner, context)


def _decoded(payload: bytes) -> MovePartner | str:
    """Return a marker, or why it is none."""
    if len(payload) > MARKER_BYTES_MAX:
        return f"{len(payload)} bytes are above {MARKER_BYTES_MAX}"
    try:
        marker = decode_command(payload)
    except Undecodable as fault:
        return f"{fault.cause}: {fault.detail}"
    assert isinstance(marker, MovePartner), "its first ten bytes say so"
    return marker


def _is_there(placement: PlacementRecord, context: RoutingContext) -> bool:
    moves = context.directory.moves_of(placement.unit)
    return any(
        (move.placement.generation, move.placement.shard, move.since)
        == (placement.generation, placement.shard, placement.since)
        for move in moves
    )


def _why_not(marker: MovePartner, key: str, owner: Placement) -> str | None:
    """Say what of a marker's own words is not so; None where all of it is."""
    if marker.placement_key != key:
        return f"it moves {marker.placement_key} and lies under the key {key}"
    if marker.command_id != marker_id(key, marker.generation, marker.source, marker.target):
        return "its id is not the one that follows from what it says"
    if marker.source != owner.shard:
        return f"{key} is on {owner.shard}, not on {marker.source}"
    if marker.target == marker.source:
        return f"{key} is on {marker.target} already"
    # A root that leaves its bucket begins a life of its own, whatever the bucket's generation.
    following = owner.generation + 1 if owner.placement_key == key else 1
    if marker.generation != following:
        return f"it begins generation {marker.generation} of {key}, and the next one is {following}"
    return None


def _why_unsigned(record: Record, keyring: KeyRing) -> str | None:
    values = [value for name, value in record.headers if name == SIGNATURE_HEADER]
    if len(values) != 1:
        return f"it has {len(values)} signatures"
    signature = values[0] or b""
    key_id = key_id_of(signature)
    if key_id not in keyring.keys:
        raise Misconfigured(
            f"the marker at offset {record.offset} of {record.topic} {record.partition} is signed with key {key_id!r}, "
            f"which the keys file lacks (it has {', '.join(keyring.keys)}): bring the file of a machine that has it"
        )
    if not verify(keyring, record.key, record.value or b"", signature):
        return f"its signature with key {key_id} is wrong"
    return None
