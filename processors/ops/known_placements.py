"""The placements of a lost directory, made again from what the shards' lanes know of placement keys (R8). No I/O.

A lane keeps of each placement key where it is or went, and nothing of where it was before. That is enough: nothing
before the routers' position is ever routed again. So a move whose marker lies before that position gets a ``since`` at
the beginning of its ingress partition. A move whose marker lies behind it, since its router was killed before it had
committed, keeps the marker's own offset, which the source's log has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from processors.routing.buckets import bucket_named, partition_of
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.directory import PlacementRecord, place

RowsOfShards = Mapping[str, Mapping[str, PlacementRow]]
"""What each shard's lanes know of placement keys, by shard and key; every lane has decided to the end of its log."""

_HERE = (PlacementState.OWNED, PlacementState.ARRIVING)
_GONE = (PlacementState.LEFT, PlacementState.AWAY)  # what was handed over has come


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where a placement key is, or goes: ``generation`` begins in ``shard``, and the one before ended in ``source``.

    ``has_come`` says that ``shard`` decides its commands.
    """

    placement_key: str
    generation: int
    shard: str
    source: str
    has_come: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a MOVE_OUT in a lane's log says: the move's marker stood at ``ingress_offset``, and ``source`` let go."""

    ingress_offset: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """How far the ingress is forwarded for certain, and which moves may have been met behind that.

    ``positions`` has of each ingress partition the routers' position: everything before it was acknowledged.
    ``met_again`` are placement keys and generations that markers name from there up to the last record that any lane
    has met. ``seals`` are what the lanes' logs say of those placement keys, by key and generation.
    """

    positions: Mapping[int, int]
    met_again: Collection[tuple[str, int]] = frozenset()
    seals: Mapping[tuple[str, int], Seal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPlacements:
    """What comes of it: every placement but the home shard's, or ``problems``, because of which nothing is written."""

    placements: list[PlacementRecord]
    placed: list[Whereabouts]
    problems: list[str]

    def moves_in(self, ingress_partition: int, partitions: int) -> int:
        """Return how many moves the shards know of an ingress partition: a generation is one."""
        return sum(
            each.generation for each in self.placed if partition_of(each.placement_key, partitions) == ingress_partition
        )


def reconstruct(rows: RowsOfShards, *, home: str, partitions: int, routed: Routed) -> KnownPlacements:
    """Return the placements by which the ingress is routed on as the lost directory would have had it.

    Args:
        rows: Of all shards.
        home: The home shard.
        partitions: Of the ingress.
        routed: How far it is forwarded.
    """
    placed, problems = [], []
    for key in sorted({key for of_shard in rows.values() for key in of_shard}):
        found = _whereabouts(key, {shard: of_shard[key] for shard, of_shard in rows.items() if key in of_shard}, rows)
        if isinstance(found, str):
            problems.append(f"{key}: {found}")
        elif found is not None:
            placed.append(found)
    reconstructing = _Reconstructing(home, partitions, routed)
    # Buckets first: what a root left is looked up in them.
    for there in sorted(placed, key=lambda each: bucket_named(each.placement_key) is None):
        why = reconstructing.add(there)
        if why:
            problems.append(f"{there.placement_key}: {why}")
    return KnownPlacements(placements=reconstructing.placements, placed=placed, problems=problems)


# ---------------------------------------------------------------------- what the shards say


def _whereabouts(key: str, of_key: Mapping[str, PlacementRow], rows: RowsOfShards) -> Whereabouts | str | None:
    """Return where a placement key is, None where it never moved; or what speaks against it, in words."""
    claims = [(row.generation, _owner(shard, row), shard) for shard, row in of_key.items() if not row.only_waits]
    owners: dict[int, tuple[str, str]] = {}
    for generation, owner, shard in claims:
        other, told_by = owners.setdefault(generation, (owner, shard))
        if other != owner:
            return f"of generation {generation} {_told(told_by, of_key)}, and {_told(shard, of_key)}"
    newest = max(owners, default=0)
    owner, told_by = owners.get(newest, ("", ""))
    for shard, row in of_key.items():
        if row.state in _HERE and row.generation < newest:
            return f"{_told(shard, of_key)}, and {_told(told_by, of_key)}"
        if _waits_in_vain(shard, row, newest, owner):
            return (
                f"{row.parked} records wait for it in {shard}, and no shard knows that it goes there after generation "
                f"{row.generation}"
            )
    if not newest:
        return None
    if owner not in rows:
        return f"{_told(told_by, of_key)}, which is not in the settings here: add a table [shards.{owner}]"
    there = of_key.get(owner)
    has_come = there is not None and there.is_at(PlacementState.OWNED, newest)
    gone = next((shard for shard, row in of_key.items() if row.generation == newest and row.state in _GONE), None)
    if gone is not None and not has_come:
        return f"{_told(gone, of_key)}, where {_told(owner, of_key)}"
    source = there.other_shard if there is not None and there.generation == newest else told_by
    return Whereabouts(placement_key=key, generation=newest, shard=owner, source=source, has_come=has_come)


def _owner(shard: str, row: PlacementRow) -> str:
    return shard if row.state in _HERE else row.other_shard


def _waits_in_vain(shard: str, row: PlacementRow, newest: int, owner: str) -> bool:
    """Say whether records wait in a shard for a generation that it is not about to get."""
    if not row.parked or row.state in _HERE:
        return False
    return owner != shard or newest <= row.generation


def _told(shard: str, of_key: Mapping[str, PlacementRow]) -> str:
    row = of_key.get(shard)
    if row is None or row.only_waits:
        return f"{shard} knows nothing of it"
    if row.state in _HERE:
        return f"{shard} says {row.state} at generation {row.generation}"
    return f"{shard} says {row.state} at generation {row.generation}, towards {row.other_shard}"


# ---------------------------------------------------------------------- since when


class _Reconstructing:
    """Gathers placements, and knows the directory that they make."""

    def __init__(self, home: str, partitions: int, routed: Routed) -> None:
        self._partitions, self._routed = partitions, routed
        self.placements: list[PlacementRecord] = []
        self._directory = Directory()
        self._directory.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard=home, ingress_partition=0, since=0)

    def add(self, there: Whereabouts) -> str:
        """Take in where a placement key is; say what speaks against it, nothing where nothing does."""
        key, generation = there.placement_key, there.generation
        partition = partition_of(key, self._partitions)
        position = self._routed.positions.get(partition, 0)
        shard, source = there.shard, there.source
        while (key, generation) in self._routed.met_again:
            seal = self._routed.seals.get((key, generation))
            if seal is None:
                return (
                    f"a marker of its generation {generation} lies behind the routers' position {position} in ingress "
                    f"partition {partition}, and no shard's log says any more whether it was that one that counted; "
                    "restore the directory's topic from a copy"
                )
            if seal.ingress_offset < position:
                break
            self._put(key, generation, shard, partition, seal.ingress_offset)
            shard, source, generation = seal.source, "", generation - 1
        if generation:
            since = self._rank(key, generation, source, partition)
            if since > position:
                return (
                    f"it moved {generation} times before the routers' position {position} in ingress partition "
                    f"{partition}, which cannot be: set the group's offset to where the routers were"
                )
            if source and generation > 1:  # just before that its source, as far as it is known
                self._put(key, generation - 1, source, partition, since - 1)
            self._put(key, generation, shard, partition, since)
        return self._why_unfit(there)

    def _rank(self, key: str, generation: int, source: str, partition: int) -> int:
        """Return a ``since`` just before which the directory names the source; no higher than the key's moves are.

        So a bucket is at 1, with its source at 0. A root comes behind its bucket, and leaves it from 2 on; from 1 on,
        if it left before the bucket moved.
        """
        if bucket_named(key) is not None:
            return 1
        if generation > 1:
            return 2
        at_first = self._directory.place(key, ingress_partition=partition, ingress_offset=0)
        return 1 if source in ("", at_first.shard) else 2

    def _put(self, key: str, generation: int, shard: str, partition: int, since: int) -> None:
        record = PlacementRecord(unit=key, generation=generation, shard=shard, ingress_partition=partition, since=since)
        place(self._directory, record)
        self.placements.append(record)

    def _why_unfit(self, there: Whereabouts) -> str:
        """Say what the directory tells otherwise than the shards, of a move that the operators may have to help on."""
        newest = next(self._directory.moves_of(there.placement_key))
        if there.has_come or self._directory.source_of(newest) == there.source:
            return ""
        return (
            f"it is on its way from {there.source} to {there.shard}, and its bucket has moved since; wait until "
            "it has arrived"
        )


def lost_moves(known: KnownPlacements, committed: Mapping[int, int], partitions: int, met: Iterable[int]) -> list[str]:
    """Say of which ingress partitions the shards know fewer moves than a router had when it committed.

    Args:
        known: What the shards know.
        committed: How many moves of it the lost directory had, by ingress partition, as the commits say.
        partitions: Of the ingress.
        met: The ingress partition of each marker that may have been met and not delivered.
    """
    undelivered = Counter(met)
    return [
        f"ingress partition {partition} was routed with {moves} moves, and the shards know {of_shards}: a shard has "
        "lost some, as one does that was restored from a copy; restore the directory's topic from a copy"
        for partition, moves in sorted(committed.items())
        if moves > (of_shards := known.moves_in(partition, partitions)) + undelivered[partition]
    ]
