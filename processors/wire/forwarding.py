"""What becomes of one record of the ingress: forwarded as it is, as a stub, or refused (W2 to W4, R2). No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from processors.faults import Misconfigured
from processors.ledger.addresses import is_root
from processors.ledger.commands import CommandType
from processors.routing.buckets import bucket_named, partition_of
from processors.routing.directory import Directory, Placement
from processors.wire.admission import Refusal
from processors.wire.causes import Cause
from processors.wire.commands import PAYLOAD_BYTES_MAX, prefixes_of
from processors.wire.dead_letters import KEY_BYTES_MAX, encode_dead_letter
from processors.wire.directory import Vouched
from processors.wire.records import OutRecord, Record
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route, encode_stub, needed_headers

# The roots that one router meets often are what is worth remembering.
_KEYS_MAX = 200_000
_DEAD_LETTERS_PARTITION = 0  # where the lanes write theirs, too
# What a marker begins with (R3).
MARKERS = prefixes_of(CommandType.MOVE_PARTNER)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingContext:
    """What decides, besides the record itself, where a record goes: the directory, and the topics' fixed sizes.

    ``topic_of`` maps a shard's id to its topic; it and ``dead_letters_topic`` are whole names, with their prefix.
    ``lanes_of`` maps it to that topic's lanes, each shard's own number. Partition counts are powers of two (W3).
    ``vouched`` says which shards and keys count for which markers (R3).
    ``ingress_partitions_found`` says how many partitions the ingress has, which are more than the service uses if
    somebody raised the count.
    """

    directory: Directory
    ingress_epoch: int
    ingress_partitions: int
    ingress_partitions_found: int
    topic_of: Mapping[str, str]
    lanes_of: Mapping[str, int]
    vouched: Vouched
    dead_letters_topic: str


def refusal_of(record: Record, context: RoutingContext) -> Refusal | None:
    """Say why a record cannot be forwarded; None where it can.

    Returns:
        The first that applies of BAD_KEY, WRONG_PARTITION (a producer with another partitioner, W3), EMPTY.
    """
    key = root_of_key(record.key) or bucket_of_marker(record)
    if not key:
        return Refusal(Cause.BAD_KEY, f"{(record.key or b'')[:KEY_BYTES_MAX]!r} is no root")
    partition = partition_of(key, context.ingress_partitions)
    if partition != record.partition:  # W3
        return Refusal(Cause.WRONG_PARTITION, _astray(key, partition, record, context))
    if not record.value:
        return Refusal(Cause.EMPTY, "no payload")
    return None


def _astray(key: str, partition: int, record: Record, context: RoutingContext) -> str:
    known, found = context.ingress_partitions, context.ingress_partitions_found
    told = f"{key} belongs to partition {partition} of {known}, not {record.partition}: "
    if record.partition < known:
        return told + "the producer needs the partitioner murmur2_random"
    return told + (
        f"the topic has {found} partitions, the service knows {known}: somebody raised the count, and the producer "
        f"must choose among the first {known} (murmur2 of the key, modulo {known})"
    )


def forward(record: Record, context: RoutingContext) -> tuple[str, OutRecord]:
    """Return a record's owner and what goes to its lane: the same bytes whenever the same record is met.

    Args:
        record: One that ``refusal_of`` lets pass.
        context: Its directory holds every placement up to the record.

    Raises:
        Misconfigured: The directory does not say where the record goes.

    Source: R2, W2, W4.
    """
    root = root_of_key(record.key)
    placement = context.directory.place(root, ingress_partition=record.partition, ingress_offset=record.offset)
    if len(record.value or b"") > PAYLOAD_BYTES_MAX:  # W4
        return sent(record, root, RouteKind.STUB, placement, context)
    return sent(record, root, RouteKind.COMMAND, placement, context)


def sent(
    record: Record, key: str, kind: RouteKind, placement: Placement, context: RoutingContext
) -> tuple[str, OutRecord]:
    """Return the shard of a placement, and what goes to its lane: key, payload and signature as they are (W2).

    Raises:
        Misconfigured: The directory lacks the shard.
    """
    shard = placement.shard
    topic = context.topic_of.get(shard)
    if topic is None:
        raise Misconfigured(
            f"placement key {placement.placement_key} is placed on shard {shard}, which the directory lacks"
        )
    payload = record.value or b""
    route = Route(
        kind,
        context.ingress_epoch,
        record.partition,
        record.offset,
        record.leader_epoch,
        record.timestamp_ms,
        placement.placement_key,
        placement.generation,
    )
    headers = [*needed_headers(record.headers), (ROUTE_HEADER, encode_route(route))]
    lane = partition_of(key, context.lanes_of[shard])
    return shard, OutRecord(
        topic, lane, record.key, encode_stub(payload) if kind is RouteKind.STUB else payload, headers
    )


def is_marker(record: Record) -> bool:
    """Say whether a record is the marker of a move, by its first ten bytes (R3); one above 64 KiB is a stub (W4)."""
    payload = record.value
    return payload is not None and payload.startswith(MARKERS) and len(payload) <= PAYLOAD_BYTES_MAX


def bucket_of_marker(record: Record) -> str:
    """Return the key of a marker that moves a bucket, which is no root; the empty string of any other record."""
    key = record.key or b""
    if len(key) > KEY_BYTES_MAX or not is_marker(record):
        return ""
    text = key.decode("ascii", "replace")
    return text if bucket_named(text) is not None else ""


def dead_letter(record: Record, refusal: Refusal, context: RoutingContext) -> OutRecord:
    """Return a refused record's dead letter; its key is cut, too: any size may come in.

    It is written at least once. A repeat has the same ingress epoch, partition and offset, by which it is known.
    """
    key = None if record.key is None else record.key[:KEY_BYTES_MAX]
    letter = encode_dead_letter(record, refusal.cause, refusal.detail, ingress_epoch=context.ingress_epoch)
    return OutRecord(context.dead_letters_topic, _DEAD_LETTERS_PARTITION, key, letter, [])


def root_of_key(key: bytes | None) -> str:
    """Return a key as a root; the empty string where it is none."""
    # A key longer than any root is not worth remembering: it may have a megabyte.
    return _root_of_key(key) if key and len(key) <= KEY_BYTES_MAX else ""


@lru_cache(maxsize=_KEYS_MAX)
def _root_of_key(key: bytes) -> str:
    text = key.decode("ascii", "replace")
    return text if is_root(text) else ""
