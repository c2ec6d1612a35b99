"""What becomes of a move's marker at the router: it counts, or it is refused (R3 to R5). No I/O.

It is judged by what lies before it in the ingress, and by what the directory said of keys and shards some seconds
before its stamp. So a router that meets it again, with a directory that has grown since, judges it as before.
"""

from __future__ import annotations

from dataclasses import dataclass

from processors.faults import Misconfigured, Undecodable
from processors.ids import derived_id
from processors.ledger.commands import CommandType, MovePartner
from processors.routing.directory import Placement
from processors.wire.commands import decode_command
from processors.wire.directory import PlacementRecord, Vouched
from processors.wire.forwarding import RoutingContext, bucket_of_marker, is_marker, root_of_key, sent
from processors.wire.records import OutRecord, Record
from processors.wire.route import RouteKind
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, fingerprint, key_id_of, verify

# A placement key and two shards' names have some 200 bytes at most. A larger one would not fit the lane's row.
MARKER_BYTES_MAX = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedMarker:
    """A marker that counts: its ``placement``, and who owned the placement key just before it.

    ``is_known``: the placement is in the directory already, since the marker was met before (R5). Else it counts by the
    keys and shards of the directory.
    """

    placement: PlacementRecord
    owner: Placement
    is_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedMarker:
    """A marker that does not count: ``why``, in words for operators, and who owns its key.

    ``by_directory``: it does not count by the keys and shards of the directory, of which more may be known by now.
    """

    why: str
    owner: Placement
    by_directory: bool = False


def marker_id(placement_key: str, generation: int, source: str, target: str) -> bytes:
    """Return the id that a marker must have: the same whoever makes it, so that a repeat is one (R3)."""
    return derived_id(CommandType.MOVE_PARTNER, f"{placement_key}.{generation}.{source}.{target}".encode())


def marker_of(record: Record) -> MovePartner | None:
    """Return the marker that a record is, whoever signed it; None where it is none."""
    found = _decoded(record.value or b"") if is_marker(record) else ""
    return None if isinstance(found, str) else found


def is_signed(record: Record, keyring: KeyRing) -> bool:
    """Say whether a marker has one signature, and that by a key of the keys file."""
    found = _signatures(record)
    return len(found) == 1 and verify(keyring, record.key, record.value or b"", found[0])


def judge(record: Record, context: RoutingContext, keyring: KeyRing) -> AcceptedMarker | RefusedMarker:
    """Judge a marker by what lies before it, in the ingress and in the directory.

    Args:
        record: One that ``forwarding.refusal_of`` lets pass, and that ``forwarding.is_marker`` tells.
        context: Its directory holds every placement up to the record, and what it vouches for is known as it was
            ``COUNTS_AFTER_MS`` before the record's stamp, at least.
        keyring: The keys file's, for the secrets alone.

    Raises:
        Misconfigured: The directory has the key that signed it, and the keys file does not, or has another secret.

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
    why = _why_not(marker, key, owner) or _why_not_judged_by_key(record)
    if why is not None:
        return RefusedMarker(why=why, owner=owner)
    why = _why_not_signed(record, context.vouched, keyring) or _why_no_target(record, marker, context.vouched)
    if why is not None:
        return RefusedMarker(why=why, owner=owner, by_directory=True)
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


def _why_not_judged_by_key(record: Record) -> str | None:
    """Say what is wrong with a marker, whoever signed it: a producer could give it a time at which a key counted."""
    found = _signatures(record)
    if len(found) != 1:
        return f"it has {len(found)} signatures"
    return None if record.append_time else "its time is its producer's, and not a broker's"


def _signatures(record: Record) -> list[bytes]:
    return [value or b"" for name, value in record.headers if name == SIGNATURE_HEADER]


def _why_not_signed(record: Record, vouched: Vouched, keyring: KeyRing) -> str | None:
    """Say why a marker's one signature does not count; None where it does."""
    (signature,) = _signatures(record)
    key_id = key_id_of(signature)
    known = vouched.keys.get(key_id)
    if known is None or record.timestamp_ms < known.counts_from_ms:
        return f"it is signed with key {key_id!r}, which the directory did not have then: `balance key announce`"
    if known.ended_from_ms is not None and record.timestamp_ms >= known.ended_from_ms:
        return f"its key {key_id} has ended"
    secret = keyring.keys.get(key_id)
    if secret is None or fingerprint(secret) != known.fingerprint:
        has = "lacks it" if secret is None else "has another secret there"
        raise Misconfigured(
            f"the marker at offset {record.offset} of {record.topic} {record.partition} is signed with key {key_id}, "
            f"which the directory has with fingerprint {known.fingerprint}, and the keys file here {has}: bring the "
            "file of a machine that has it"
        )
    if not verify(keyring, record.key, record.value or b"", signature):
        return f"its signature with key {key_id} is wrong"
    return None


def _why_no_target(record: Record, marker: MovePartner, vouched: Vouched) -> str | None:
    from_ms = vouched.targets.get(marker.target)
    if from_ms is None:
        return f"the directory has no shard {marker.target}"
    return f"the directory did not have shard {marker.target} then" if record.timestamp_ms < from_ms else None
