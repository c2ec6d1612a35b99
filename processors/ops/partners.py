"""What the directory says of partners and buckets: which shard owns each, and which ones did before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from processors.faults import Misconfigured
from processors.routing.buckets import BUCKETS, bucket_named, bucket_of, placement_key_of
from processors.routing.directory import HOME_PLACEMENT_KEY
from processors.streams.connection import KafkaAddress
from processors.streams.directory import read_placements
from processors.wire.directory import PlacementRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementShown:
    """A placement: its key is owned by ``shard`` from offset ``since`` of the ingress partition on.

    ``placed_at_ms`` is the time of the directory's record, ms since the epoch, UTC. Generation 0 is the home shard's,
    from the beginning of every ingress partition on: it has no partition, and the time is that of the installation.
    """

    placement_key: str
    generation: int
    shard: str
    ingress_partition: int | None
    since: int
    placed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerShown:
    """Who owns a partner or a bucket now. ``placements`` has all that it ever had, the newest first.

    A partner that nobody placed by hand goes with its bucket; one that was placed has the bucket's placements from
    before that among its own.
    """

    key: str
    bucket: int
    now: PlacementShown
    placements: list[PlacementShown]

    @property
    def by_hand(self) -> bool:
        """Say whether it has a placement of its own."""
        return self.now.placement_key == self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedShown:
    """The partners that were placed by hand, in order of their keys; then the buckets that were moved, by number.

    ``buckets_of`` says how many buckets each shard owns, all 65,536 of them.
    """

    partners: list[PlacementShown]
    buckets: list[PlacementShown]
    buckets_of: dict[str, int]


def read_partner(address: KafkaAddress, key: str) -> PartnerShown:
    """Return what the directory says of a root, or of a bucket's placement key.

    Raises:
        Misconfigured: There is no directory.
        Fault: Kafka cannot be reached.
    """
    return partner_of(_read(address), key)


def read_placed(address: KafkaAddress) -> PlacedShown:
    """Return every placement in force that a move has brought.

    Raises:
        Misconfigured: There is no directory.
        Fault: Kafka cannot be reached.
    """
    return placed_of(_read(address))


def partner_of(placements: Sequence[PlacementShown], key: str) -> PartnerShown:
    """Return what placements say of a root, or of a bucket's placement key."""
    of_key = {HOME_PLACEMENT_KEY, placement_key_of(key), key}
    mine = [each for each in placements if each.placement_key in of_key]
    mine.sort(key=lambda each: (_rank(each, key), each.generation), reverse=True)
    own = [each for each in mine if each.placement_key == key]
    if own and bucket_named(key) is None:  # what became of the bucket after the partner had left it is not his
        left = min(each.since for each in own)
        mine = [each for each in mine if each.placement_key == key or each.since < left]
    return PartnerShown(key=key, bucket=bucket_of(key), now=mine[0], placements=mine)


def placed_of(placements: Sequence[PlacementShown]) -> PlacedShown:
    """Return which placements are in force, apart from the home shard's."""
    newest: dict[str, PlacementShown] = {}
    for each in sorted(placements, key=lambda each: each.generation):
        newest[each.placement_key] = each
    home = newest.pop(HOME_PLACEMENT_KEY)
    buckets = {number: each for key, each in newest.items() if (number := bucket_named(key)) is not None}
    owned = Counter(each.shard for each in buckets.values())
    owned[home.shard] += BUCKETS - len(buckets)
    return PlacedShown(
        partners=[newest[key] for key in sorted(newest) if bucket_named(key) is None],
        buckets=[buckets[number] for number in sorted(buckets)],
        buckets_of=dict(sorted(owned.items())),
    )


def _rank(placement: PlacementShown, key: str) -> int:
    """Order what holds for a root: his own before his bucket's, which comes before the home shard's (R2)."""
    return (placement.placement_key != HOME_PLACEMENT_KEY) + (placement.placement_key == key)


def _read(address: KafkaAddress) -> list[PlacementShown]:
    found = [_shown(record, written_ms) for record, written_ms in read_placements(address)]
    if not any(each.placement_key == HOME_PLACEMENT_KEY for each in found):
        raise Misconfigured("the directory names no home shard: run `balance init`")
    return found


def _shown(record: PlacementRecord, written_ms: int) -> PlacementShown:
    return PlacementShown(
        placement_key=record.unit,
        generation=record.generation,
        shard=record.shard,
        ingress_partition=record.ingress_partition if record.generation else None,
        since=record.since,
        placed_at_ms=written_ms,
    )
