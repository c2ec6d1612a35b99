"""Who owns a root at an ingress offset: a pure function of the directory's history (R2).

A *placement key* is what is placed on a shard, and moved as a whole: a root that was placed by hand, or a bucket of
roots. Until it is moved, it belongs to the home shard, at generation 0. A router that reads a stretch of the log again,
with a directory that has grown meanwhile, must route it exactly as before; so a placement says from which ingress
offset on it holds, and none is ever overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass

from processors.faults import Misconfigured
from processors.routing.buckets import placement_key_of

# The placement key whose one placement, of generation 0, holds for every other until that is moved. No root or bucket
# is named so.
HOME_PLACEMENT_KEY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a record goes: its placement key, the generation of that there, and the shard that owns it."""

    placement_key: str
    generation: int
    shard: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Since:
    placement: Placement
    ingress_partition: int
    since: int


class Directory:
    """The placements, as read from the log. Grows only."""

    def __init__(self) -> None:
        self._home: str | None = None
        self._moves: dict[str, list[_Since]] = {}  # by placement key, highest generation first
        self._at_home: dict[str, Placement] = {}  # by bucket, made when it is first met

    @property
    def home_shard(self) -> str | None:
        """Return the shard of every placement key's generation 0; None where no placement says so."""
        return self._home

    def add(self, *, placement_key: str, generation: int, shard: str, ingress_partition: int, since: int) -> None:
        """Take in a placement; the same one again changes nothing.

        Args:
            placement_key: A root, a bucket's placement key, or HOME_PLACEMENT_KEY.
            generation: 0 for HOME_PLACEMENT_KEY, at least 1 for a placement key.
            shard: The owner from there on.
            ingress_partition: The placement key's partition of the ingress topic, in which ``since`` counts.
            since: The first ingress offset that this placement holds for.

        Raises:
            Misconfigured: There is another placement of this generation (R8), or a generation that cannot be.
        """
        if (placement_key == HOME_PLACEMENT_KEY) != (generation == 0):
            raise Misconfigured(f"the directory places {placement_key} at generation {generation}, which cannot be")
        if placement_key == HOME_PLACEMENT_KEY:
            self._place_home(shard)
            return
        new = _Since(
            placement=Placement(placement_key=placement_key, generation=generation, shard=shard),
            ingress_partition=ingress_partition,
            since=since,
        )
        moves = self._moves.setdefault(placement_key, [])
        for known in moves:
            if known.placement.generation == generation:
                if known != new:  # R8
                    raise Misconfigured(
                        f"the directory has two placements of placement key {placement_key}, generation {generation}: "
                        f"{known.placement.shard} since {known.since} and {shard} since {since}; "
                        "nothing is routed until one is proven wrong"
                    )
                return
        moves.append(new)
        moves.sort(key=lambda move: -move.placement.generation)

    def _place_home(self, shard: str) -> None:
        if self._home not in (None, shard):  # R8
            raise Misconfigured(f"the directory names two home shards: {self._home} and {shard}")
        self._home = shard

    def place(self, root: str, *, ingress_partition: int, ingress_offset: int) -> Placement:
        """Return where a record of a root goes.

        Args:
            root: The record's key.
            ingress_partition: Where the record stands in the ingress topic.
            ingress_offset: Its offset there.

        Returns:
            The highest generation whose ``since`` is at or below the offset; a root placed by hand leaves its bucket
            from its first placement's ``since`` on.

        Raises:
            Misconfigured: The directory names no home shard, or has the placement key in another ingress partition.

        Source: R2.
        """
        bucket = placement_key_of(root)
        if self._moves:
            for placement_key in (root, bucket):
                moved = self._moved(placement_key, ingress_partition, ingress_offset)
                if moved is not None:
                    return moved
        placement = self._at_home.get(bucket)
        if placement is None:
            if self._home is None:
                raise Misconfigured("the directory names no home shard: run `balance init`")
            placement = self._at_home[bucket] = Placement(placement_key=bucket, generation=0, shard=self._home)
        return placement

    def _moved(self, placement_key: str, ingress_partition: int, ingress_offset: int) -> Placement | None:
        for move in self._moves.get(placement_key, ()):
            if move.ingress_partition != ingress_partition:
                raise Misconfigured(
                    f"placement key {placement_key} is placed since an offset of ingress partition "
                    f"{move.ingress_partition}, and met in partition {ingress_partition}"
                )
            if move.since <= ingress_offset:  # R2: highest generation first
                return move.placement
        return None
