from __future__ import annotations

import pytest

from processors.faults import Misconfigured
from processors.routing.buckets import placement_key_of
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory, Placement

BUCKET = placement_key_of("acme")


def directory(*moves: tuple[str, int, str, int]) -> Directory:
    """Return a directory at home in s1 with moves (placement key, generation, shard, since) of ingress partition 0."""
    made = Directory()
    made.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0)
    for placement_key, generation, shard, since in moves:
        made.add(placement_key=placement_key, generation=generation, shard=shard, ingress_partition=0, since=since)
    return made


def owner(placed: Directory, offset: int) -> Placement:
    return placed.place("acme", ingress_partition=0, ingress_offset=offset)


@pytest.mark.rule("R2")
def test_generation_0_of_every_unit_belongs_to_the_home_shard() -> None:
    assert owner(directory(), 0) == Placement(placement_key=BUCKET, generation=0, shard="s1")


@pytest.mark.rule("R2")
@pytest.mark.parametrize("read", [(1, 2), (2, 1)], ids=["in order", "as compaction left them"])
def test_the_owner_is_the_highest_generation_since_at_or_below_the_offset(read: tuple[int, int]) -> None:
    move = {1: (BUCKET, 1, "s2", 10), 2: (BUCKET, 2, "s3", 20)}
    placed = directory(*(move[generation] for generation in read))

    assert [owner(placed, offset).shard for offset in (9, 10, 19, 20, 21)] == ["s1", "s2", "s2", "s3", "s3"]
    assert owner(placed, 15) == Placement(placement_key=BUCKET, generation=1, shard="s2")


@pytest.mark.rule("R2")
def test_a_directory_that_grew_routes_what_came_before_as_it_did() -> None:
    before = directory((BUCKET, 1, "s2", 10))
    after = directory((BUCKET, 1, "s2", 10), (BUCKET, 2, "s1", 30), ("acme", 1, "s4", 40))

    assert [owner(after, offset) for offset in range(30)] == [owner(before, offset) for offset in range(30)]


@pytest.mark.rule("R2")
def test_a_root_placed_by_hand_leaves_its_bucket_at_its_first_placement() -> None:
    placed = directory((BUCKET, 1, "s2", 10), ("acme", 1, "s3", 20))

    assert owner(placed, 19) == Placement(placement_key=BUCKET, generation=1, shard="s2")
    assert owner(placed, 20) == Placement(placement_key="acme", generation=1, shard="s3")


@pytest.mark.rule("R8")
def test_two_placements_of_one_generation_stop_the_router() -> None:
    placed = directory((BUCKET, 1, "s2", 10))

    with pytest.raises(Misconfigured, match="two placements"):
        placed.add(placement_key=BUCKET, generation=1, shard="s3", ingress_partition=0, since=10)
    with pytest.raises(Misconfigured, match="two home shards"):
        placed.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s2", ingress_partition=0, since=0)


@pytest.mark.rule("R8")
def test_the_same_placement_read_twice_is_one() -> None:
    placed = directory((BUCKET, 1, "s2", 10))

    placed.add(placement_key=BUCKET, generation=1, shard="s2", ingress_partition=0, since=10)

    assert owner(placed, 10).shard == "s2"


@pytest.mark.parametrize(("placement_key", "generation"), [(HOME_PLACEMENT_KEY, 1), (BUCKET, 0)])
def test_a_generation_that_cannot_be_is_refused(placement_key: str, generation: int) -> None:
    with pytest.raises(Misconfigured, match="cannot be"):
        directory().add(placement_key=placement_key, generation=generation, shard="s1", ingress_partition=0, since=0)


@pytest.mark.rule("R2")
def test_a_placement_of_another_ingress_partition_is_refused() -> None:
    placed = directory((BUCKET, 1, "s2", 10))

    with pytest.raises(Misconfigured, match="ingress partition 0"):
        placed.place("acme", ingress_partition=1, ingress_offset=10)


def test_without_a_home_shard_nothing_is_placed() -> None:
    with pytest.raises(Misconfigured, match="balance init"):
        Directory().place("acme", ingress_partition=0, ingress_offset=0)


@pytest.mark.parametrize("again", [(HOME_PLACEMENT_KEY, 0, "s1", 0), (BUCKET, 1, "s2", 10)], ids=["home", "a move"])
def test_a_placement_that_comes_again_is_no_change(again: tuple[str, int, str, int]) -> None:
    placed = directory((BUCKET, 1, "s2", 10))
    before = placed.changes
    placement_key, generation, shard, since = again

    placed.add(placement_key=placement_key, generation=generation, shard=shard, ingress_partition=0, since=since)

    assert placed.changes == before
