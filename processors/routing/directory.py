"""Who owns a root at an ingress offset: a pure function of the directory's history (R2).

A *unit* is a root that was placed by hand, or a bucket. Until it is moved, a unit belongs to the home shard, at
generation 0. A router that reads a stretch of the log again, with a directory that has grown meanwhile, must route it
exactly as before; so a placement says from which ingress offset on it holds, and none is ever overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass

from processors.faults import Misconfigured
from processors.routing.units import unit_of

# The unit whose one placement, of generation 0, says where every unit lives until it is moved. No root or bucket is
# named so.
HOME_UNIT = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a record goes: its unit, the unit's generation there, and the shard that owns it."""

    unit: str
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
        self._moves: dict[str, list[_Since]] = {}  # by unit, highest generation first
        self._at_home: dict[str, Placement] = {}  # by bucket, made when it is first met

    @property
    def home_shard(self) -> str | None:
        """Return the shard of every unit's generation 0; None where no placement says so."""
        return self._home

    def add(self, *, unit: str, generation: int, shard: str, ingress_partition: int, since: int) -> None:
        """Take in a placement; the same one again changes nothing.

        Args:
            unit: A root, a bucket's unit, or HOME_UNIT.
            generation: 0 for HOME_UNIT, at least 1 for a unit.
            shard: The owner from there on.
            ingress_partition: The unit's partition of the ingress topic, in which ``since`` counts.
            since: The first ingress offset that this placement holds for.

        Raises:
            Misconfigured: There is another placement of this generation (R8), or a generation that cannot be.
        """
        if (unit == HOME_UNIT) != (generation == 0):
            raise Misconfigured(f"the directory places unit {unit} at generation {generation}, which cannot be")
        if unit == HOME_UNIT:
            self._place_home(shard)
            return
        new = _Since(
            placement=Placement(unit=unit, generation=generation, shard=shard),
            ingress_partition=ingress_partition,
            since=since,
        )
        moves = self._moves.setdefault(unit, [])
        for known in moves:
            if known.placement.generation == generation:
                if known != new:  # R8
                    raise Misconfigured(
                        f"the directory has two placements of unit {unit}, generation {generation}: "
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
            Misconfigured: The directory names no home shard, or places the unit in another ingress partition.

        Source: R2.
        """
        bucket = unit_of(root)
        if self._moves:
            for unit in (root, bucket):
                moved = self._moved(unit, ingress_partition, ingress_offset)
                if moved is not None:
                    return moved
        placement = self._at_home.get(bucket)
        if placement is None:
            if self._home is None:
                raise Misconfigured("the directory names no home shard: run `balance init`")
            placement = self._at_home[bucket] = Placement(unit=bucket, generation=0, shard=self._home)
        return placement

    def _moved(self, unit: str, ingress_partition: int, ingress_offset: int) -> Placement | None:
        for move in self._moves.get(unit, ()):
            if move.ingress_partition != ingress_partition:
                raise Misconfigured(
                    f"unit {unit} is placed since an offset of ingress partition {move.ingress_partition}, "
                    f"and met in partition {ingress_partition}"
                )
            if move.since <= ingress_offset:  # R2: highest generation first
                return move.placement
        return None
