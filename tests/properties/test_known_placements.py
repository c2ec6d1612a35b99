"""A directory that is made again routes whatever is still to be routed as the lost one would have (R8).

Moves come at random, of roots and of their bucket; some are still on their way. The routers' position lies anywhere,
before some of the markers, which are met again. The shards keep what lanes keep: each key's latest row alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from processors.ops.known_placements import KnownPlacements, Routed, Seal, lost_moves, reconstruct
from processors.routing.buckets import bucket_named, partition_of, placement_key_of
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory, Placement
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.directory import place
from tests.properties.routing_history import HOME, LANES, NEIGHBOURS, ROOTS

PARTITIONS = 2
SEEDS = 400
RECORDS = 40
KEYS = [*ROOTS, placement_key_of(NEIGHBOURS[0])]
_GONE = (PlacementState.LEFT, PlacementState.AWAY)


class World:
    """A service: the lost directory, what its shards know, and its ingress as far as it is routed."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.lost = Directory()
        self.lost.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard=HOME, ingress_partition=0, since=0)
        self.rows: dict[str, dict[str, PlacementRow]] = {shard: {} for shard in LANES}
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        self.markers: list[
            tuple[str, int, int]
        ] = []  # placement key, generation, offset; those that count no more, too
        self._seals: dict[tuple[str, str], Seal] = {}  # by shard and placement key, of the last time it let go
        self._on_their_way: dict[str, str] = {}  # where such a placement key goes

    def run(self) -> None:
        for _ in range(RECORDS):
            draw = self.rng.random()
            key = self.rng.choice(KEYS)
            if draw < 0.4:
                self._move(key)
            elif draw < 0.5 and self.markers:
                self._again()
            else:
                self.ends[partition_of(key, PARTITIONS)] += 1
            if self._on_their_way and self.rng.random() < 0.6:
                self._arrive(self.rng.choice(sorted(self._on_their_way)))

    def _move(self, key: str) -> None:
        partition = partition_of(key, PARTITIONS)
        offset = self.ends[partition]
        owner = self._owner(key, offset)
        if owner.placement_key in self._on_their_way:
            return  # its MOVE_OUT would be parked: then nothing is made again
        generation = owner.generation + 1 if owner.placement_key == key else 1
        target = self.rng.choice([shard for shard in LANES if shard != owner.shard])
        self.lost.add(placement_key=key, generation=generation, shard=target, ingress_partition=partition, since=offset)
        self.markers.append((key, generation, offset))
        self.ends[partition] += 1
        self._put(owner.shard, key, generation, PlacementState.SEALED, target)
        self._seals[owner.shard, key] = Seal(ingress_offset=offset, source=owner.shard)
        self._on_their_way[key] = target
        if self.rng.random() < 0.5:
            self._put(target, key, generation, PlacementState.ARRIVING, owner.shard)

    def _again(self) -> None:
        """A marker that was met is sent once more, and refused."""
        key, generation, _ = self.rng.choice(self.markers)
        partition = partition_of(key, PARTITIONS)
        self.markers.append((key, generation, self.ends[partition]))
        self.ends[partition] += 1

    def _arrive(self, key: str) -> None:
        target = self._on_their_way.pop(key)
        generation = next(self.lost.moves_of(key)).placement.generation
        source = next(
            shard
            for shard, rows in self.rows.items()
            if key in rows and rows[key].is_at(PlacementState.SEALED, generation)
        )
        self._put(target, key, generation, PlacementState.OWNED, source)
        if self.rng.random() < 0.7:
            self._put(source, key, generation, self.rng.choice(_GONE), target)

    def _put(self, shard: str, key: str, generation: int, state: PlacementState, other: str) -> None:
        self.rows[shard][key] = PlacementRow(placement_key=key, generation=generation, state=state, other_shard=other)

    def _owner(self, key: str, offset: int) -> Placement:
        return self.lost.place(key, ingress_partition=partition_of(key, PARTITIONS), ingress_offset=offset)

    def routed(self, positions: dict[int, int]) -> Routed:
        """Return what the rebuilding would find: the markers behind the positions, and the seals of their keys."""
        met = {
            (key, generation)
            for key, generation, offset in self.markers
            if offset >= positions[partition_of(key, PARTITIONS)]
        }
        keys = {key for key, _ in met}
        seals = {
            (key, self.rows[shard][key].generation): seal
            for (shard, key), seal in self._seals.items()
            if key in keys and self.rows[shard][key].state in (PlacementState.SEALED, *_GONE)
        }
        return Routed(positions=positions, met_again=met, seals=seals)


def made_again(known: KnownPlacements) -> Directory:
    made = Directory()
    made.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard=HOME, ingress_partition=0, since=0)
    for record in known.placements:
        place(made, record)
    return made


def differing(world: World, made: Directory, positions: dict[int, int]) -> Iterator[str]:
    """Yield of which roots a record that is still to be routed would go elsewhere."""
    for root in ROOTS:
        partition = partition_of(root, PARTITIONS)
        for offset in range(positions[partition], world.ends[partition] + 2):
            at = {"ingress_partition": partition, "ingress_offset": offset}
            if made.place(root, **at) != world.lost.place(root, **at):
                yield f"{root} at {offset}: {made.place(root, **at)}, was {world.lost.place(root, **at)}"


@pytest.mark.rule("R8")
@pytest.mark.rule("R2")
def test_what_is_still_to_be_routed_goes_where_the_lost_directory_had_it() -> None:
    told = []
    for seed in range(SEEDS):
        world = World(Random(seed))
        world.run()
        committed = {part: world.rng.randint(0, end) for part, end in world.ends.items()}
        positions = committed if world.rng.random() < 0.5 else dict(world.ends)

        known = reconstruct(world.rows, home=HOME, partitions=PARTITIONS, routed=world.routed(positions))

        told += [(seed, problem) for problem in known.problems]
        assert all(
            "no shard's log says any more" in problem or "its bucket has moved since" in problem
            for problem in known.problems
        ), (seed, known.problems)
        had = {partition: world.lost.moves_in(partition) for partition in positions}
        assert lost_moves(known, had, PARTITIONS, []) == []
        if not known.problems:
            assert list(differing(world, made_again(known), positions)) == [], seed
    assert len({seed for seed, _ in told}) < SEEDS / 2, "most of the histories can be told"


@pytest.mark.rule("R8")
def test_with_nothing_behind_the_routers_position_every_history_can_be_told() -> None:
    told = 0
    for seed in range(SEEDS):
        world = World(Random(seed))
        world.run()
        known = reconstruct(world.rows, home=HOME, partitions=PARTITIONS, routed=Routed(positions=dict(world.ends)))
        assert all("its bucket has moved since" in problem for problem in known.problems), seed
        told += not known.problems
        moves = made_again(known).newest_moves() if not known.problems else ()
        assert all(bucket_named(move.placement.placement_key) is None or move.since <= 1 for move in moves)
    assert told > 0.9 * SEEDS
