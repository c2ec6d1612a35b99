"""Who owns a root at an ingress offset: a pure function of the directory's history (R2).

A *placement key* is what is placed on a shard, and moved as a whole: a root that was placed by hand, or a bucket of
roots. Until it is moved, it belongs to the home shard, at generation 0. A router that reads a stretch of the log again,
with a directory that has grown meanwhile, must route it exactly as before; so a placement says from which ingress
offset on it holds, and none is ever overwritten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from processors.faults import Misconfigured
from processors.routing.buckets import BUCKETS, bucket_named, bucket_of, placement_key_of

# The placement key whose one placement, of generation 0, holds for every other until that is moved. No root or bucket
# is named so.
HOME_PLACEMENT_KEY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a record goes: its placement key, the generation of that there, and the shard that owns it."""

    placement_key: str
    generation: int
    shard: str


@dataclass(slots=True)
class Move:
    """A placement that a move brought, the ingress offset that it holds from, and the one of a lower generation."""

    placement: Placement
    ingress_partition: int
    since: int
    before: Move | None


class Directory:
    """The placements, as read from the log. Grows only.

    Compact, since all 65,536 buckets and many roots may have moved: a placement takes some 300 bytes, and what is asked
    for each record is a look into a dict and one into a list.
    """

    def __init__(self) -> None:
        self._home: str | None = None
        self._of_roots: dict[str, Move] = {}  # each the one of the highest generation
        self._of_buckets: list[Move | None] = [None] * BUCKETS
        self._at_home: list[Placement | None] = [None] * BUCKETS  # made when the bucket is first met
        self._shards: dict[str, str] = {}  # each shard's name once, however often it was read
        self._counts: Counter[int] = Counter()  # placements by ingress partition
        self._changes = 0

    @property
    def home_shard(self) -> str | None:
        """Return the shard of every placement key's generation 0; None where no placement says so."""
        return self._home

    @property
    def changes(self) -> int:
        """Return how often it has grown: as long as that is the same, so is what any other question is answered."""
        return self._changes

    def moves_in(self, ingress_partition: int) -> int:
        """Return how many placements moves have brought in an ingress partition; it never falls (R8)."""
        return self._counts[ingress_partition]

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
        above, before = None, self._newest(placement_key)
        while before is not None and before.placement.generation > generation:
            above, before = before, before.before
        placement = Placement(
            placement_key=placement_key, generation=generation, shard=self._shards.setdefault(shard, shard)
        )
        if before is not None and before.placement.generation == generation:
            _refuse_another(before, placement, ingress_partition, since)
            return
        move = Move(placement, ingress_partition, since, before)
        self._counts[ingress_partition] += 1
        self._changes += 1
        if above is not None:
            above.before = move
        else:
            self._set_newest(move)

    def _place_home(self, shard: str) -> None:
        if self._home not in (None, shard):  # R8
            raise Misconfigured(f"the directory names two home shards: {self._home} and {shard}")
        if self._home is None:
            self._home = shard
            self._changes += 1

    def place(self, key: str, *, ingress_partition: int, ingress_offset: int) -> Placement:
        """Return where a record of a root goes, or who owns a bucket.

        Args:
            key: The record's key: a root, or a bucket's own placement key.
            ingress_partition: Where the record stands in the ingress topic.
            ingress_offset: Its offset there; one less tells who owned the key just before it.

        Returns:
            The highest generation whose ``since`` is at or below the offset; a root placed by hand leaves its bucket
            from its first placement's ``since`` on.

        Raises:
            Misconfigured: The directory names no home shard, or has the placement key in another ingress partition.

        Source: R2.
        """
        move = self._of_roots.get(key)
        placement = _at(move, ingress_partition, ingress_offset) if move is not None else None
        if placement is not None:
            return placement
        bucket = bucket_of(key)
        move = self._of_buckets[bucket]
        placement = _at(move, ingress_partition, ingress_offset) if move is not None else self._at_home[bucket]
        return placement or self._first_at_home(key)

    def settled(self, root: str, *, ingress_partition: int) -> tuple[Placement, int]:
        """Return where all records of a root go that lie behind every move of it, and the first offset of which so is.

        Raises:
            Misconfigured: As ``place``.
        """
        move = self._of_roots.get(root) or self._of_buckets[bucket_of(root)]
        since = 0 if move is None else move.since
        return self.place(root, ingress_partition=ingress_partition, ingress_offset=since), since

    def moves_of(self, placement_key: str) -> Iterator[Move]:
        """Yield a placement key's moves, the newest first; none where it is still where its bucket or home is."""
        move = self._newest(placement_key)
        while move is not None:
            yield move
            move = move.before

    def newest_moves(self) -> Iterator[Move]:
        """Yield the newest move of each placement key that ever moved by itself, in no order."""
        yield from self._of_roots.values()
        yield from (move for move in self._of_buckets if move is not None)

    def source_of(self, move: Move) -> str:
        """Return the shard that owned a move's placement key just before it."""
        key = move.placement.placement_key
        return self.place(key, ingress_partition=move.ingress_partition, ingress_offset=move.since - 1).shard

    def _first_at_home(self, key: str) -> Placement:
        bucket = bucket_of(key)
        known = self._at_home[bucket]
        if known is None:
            if self._home is None:
                raise Misconfigured("the directory names no home shard: run `balance init`")
            known = Placement(placement_key=placement_key_of(key), generation=0, shard=self._home)
            self._at_home[bucket] = known
        return known

    def _newest(self, placement_key: str) -> Move | None:
        bucket = bucket_named(placement_key)
        return self._of_roots.get(placement_key) if bucket is None else self._of_buckets[bucket]

    def _set_newest(self, move: Move) -> None:
        bucket = bucket_named(move.placement.placement_key)
        if bucket is None:
            self._of_roots[move.placement.placement_key] = move
        else:
            self._of_buckets[bucket] = move


def _at(move: Move | None, ingress_partition: int, ingress_offset: int) -> Placement | None:
    """Return the placement in force at an offset: the highest generation comes first (R2)."""
    while move is not None:
        if move.ingress_partition != ingress_partition:
            raise Misconfigured(
                f"placement key {move.placement.placement_key} is placed since an offset of ingress partition "
                f"{move.ingress_partition}, and met in partition {ingress_partition}"
            )
        if move.since <= ingress_offset:
            return move.placement
        move = move.before
    return None


def _refuse_another(known: Move, placement: Placement, ingress_partition: int, since: int) -> None:
    """Refuse a second placement of one generation, unless it is the same one (R8)."""
    if (known.placement, known.ingress_partition, known.since) != (placement, ingress_partition, since):
        raise Misconfigured(
            f"the directory has two placements of placement key {placement.placement_key}, generation "
            f"{placement.generation}: {known.placement.shard} since {known.since} and {placement.shard} since {since}; "
            "nothing is routed until one is proven wrong"
        )
