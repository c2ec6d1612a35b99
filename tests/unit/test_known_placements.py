"""A lost directory's placements, from what shards know: who owns a key, since when, and what cannot be told."""

from __future__ import annotations

import pytest

from processors.ops.known_placements import KnownPlacements, Routed, Seal, lost_moves, reconstruct
from processors.routing.buckets import placement_key_of
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.directory import PlacementRecord

SEALED, ARRIVING, OWNED, LEFT, AWAY = (
    PlacementState.SEALED,
    PlacementState.ARRIVING,
    PlacementState.OWNED,
    PlacementState.LEFT,
    PlacementState.AWAY,
)
POSITION = 100
ROUTED = Routed(positions={0: POSITION})
BUCKET = placement_key_of("acme")
NOT_IN_SETTINGS = "which is not in the settings here: add a table [shards.s9]"


def row(state: PlacementState, generation: int, other: str, key: str = "acme", *, parked: int = 0) -> PlacementRow:
    return PlacementRow(placement_key=key, generation=generation, state=state, other_shard=other, parked=parked)


def known(routed: Routed = ROUTED, **shards: PlacementRow | list[PlacementRow] | None) -> KnownPlacements:
    """Return what comes of the rows that shards have; of s1, the home shard, s2 and s3."""
    rows: dict[str, dict[str, PlacementRow]] = {"s1": {}, "s2": {}, "s3": {}}
    for shard, found in shards.items():
        for each in found if isinstance(found, list) else [found] if found else []:
            rows[shard][each.placement_key] = each
    return reconstruct(rows, home="s1", partitions=1, routed=routed)


def placements(found: KnownPlacements) -> list[tuple[str, int, str, int]]:
    assert found.problems == []
    return [(each.unit, each.generation, each.shard, each.since) for each in found.placements]


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (row(LEFT, 1, "s2"), row(OWNED, 1, "s1")),
        (row(AWAY, 1, "s2"), row(OWNED, 1, "s1", parked=7)),
        (row(SEALED, 1, "s2"), row(OWNED, 1, "s1")),
        (row(SEALED, 1, "s2"), row(ARRIVING, 1, "s1", parked=7)),
        (row(SEALED, 1, "s2"), row(AWAY, 0, "", parked=7)),
        (row(SEALED, 1, "s2"), row(LEFT, 0, "s1", parked=7)),  # what had come was thrown away (M4)
        (row(SEALED, 1, "s2"), None),
        (None, row(OWNED, 1, "s1")),
    ],
)
def test_a_key_belongs_where_its_highest_generation_is_or_goes(
    source: PlacementRow | None, target: PlacementRow | None
) -> None:
    assert placements(known(s1=source, s2=target)) == [("acme", 1, "s2", 1)]


@pytest.mark.rule("R8")
def test_the_shard_before_is_kept_too_so_that_a_move_can_be_sent_again_or_turned_back() -> None:
    found = known(s2=row(SEALED, 3, "s3"), s1=row(AWAY, 2, "s2"))

    assert placements(found) == [("acme", 2, "s2", 1), ("acme", 3, "s3", 2)]


@pytest.mark.rule("R8")
def test_a_root_leaves_the_shard_that_had_its_bucket_when_he_left() -> None:
    bucket_at_s3 = [row(OWNED, 2, "s2", BUCKET)]
    found = known(s3=[*bucket_at_s3, row(SEALED, 1, "s1")], s2=row(AWAY, 2, "s3", BUCKET), s1=row(ARRIVING, 1, "s3"))

    assert placements(found) == [(BUCKET, 1, "s2", 0), (BUCKET, 2, "s3", 1), ("acme", 1, "s1", 2)]


@pytest.mark.rule("R8")
def test_a_marker_behind_the_routers_position_keeps_its_offset() -> None:
    routed = Routed(
        positions={0: POSITION},
        met_again={("acme", 2)},
        seals={("acme", 2): Seal(ingress_offset=POSITION + 5, source="s2")},
    )

    found = known(routed, s2=row(SEALED, 2, "s1"), s1=row(AWAY, 1, "s2"))

    assert placements(found) == [("acme", 2, "s1", POSITION + 5), ("acme", 1, "s2", 1)]


@pytest.mark.rule("R8")
def test_a_second_copy_of_a_marker_behind_the_position_moves_nobody_again() -> None:
    routed = Routed(
        positions={0: POSITION}, met_again={("acme", 1)}, seals={("acme", 1): Seal(ingress_offset=3, source="s1")}
    )

    assert placements(known(routed, s1=row(LEFT, 1, "s2"), s2=row(OWNED, 1, "s1"))) == [("acme", 1, "s2", 1)]


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    ("shards", "problem"),
    [
        (
            {"s1": row(OWNED, 2, "s2"), "s2": row(AWAY, 1, "s1"), "s3": row(OWNED, 2, "s2")},
            "acme: of generation 2 s1 says OWNED at generation 2, and s3 says OWNED at generation 2",
        ),
        (
            {"s1": row(OWNED, 2, "s2"), "s2": row(LEFT, 2, "s3")},
            "acme: of generation 2 s1 says OWNED at generation 2, and s2 says LEFT at generation 2, towards s3",
        ),
        (
            {"s1": row(OWNED, 2, "s2"), "s2": row(OWNED, 3, "s1")},
            "acme: s1 says OWNED at generation 2, and s2 says OWNED at generation 3",
        ),
        (
            {"s1": row(LEFT, 1, "s2")},
            "acme: s1 says LEFT at generation 1, towards s2, where s2 knows nothing of it",
        ),
        (
            {"s1": row(SEALED, 1, "s9")},
            f"acme: s1 says SEALED at generation 1, towards s9, {NOT_IN_SETTINGS}",
        ),
        (
            {"s2": row(AWAY, 0, "", parked=3)},
            "acme: 3 records wait for it in s2, and no shard knows that it goes there after generation 0",
        ),
        (
            {"s1": row(OWNED, 2, "s2"), "s2": row(LEFT, 2, "s1", parked=3)},
            "acme: 3 records wait for it in s2, and no shard knows that it goes there after generation 2",
        ),
        (
            {
                "s1": [row(AWAY, 3, "s3", BUCKET)],
                "s2": [row(SEALED, 1, "s1"), row(AWAY, 2, "s1", BUCKET)],
                "s3": [row(OWNED, 3, "s1", BUCKET)],
            },
            "acme: it is on its way from s2 to s1, and its bucket has moved since; wait until it has arrived",
        ),
    ],
)
def test_what_shards_say_that_cannot_be_is_named_with_the_key_and_both_shards(
    shards: dict[str, PlacementRow | list[PlacementRow]], problem: str
) -> None:
    assert known(ROUTED, **shards).problems == [problem]


@pytest.mark.rule("R8")
def test_a_marker_of_which_no_log_says_whether_it_counted_is_named() -> None:
    (problem,) = known(
        Routed(positions={0: POSITION}, met_again={("acme", 1)}), s1=row(LEFT, 1, "s2"), s2=row(OWNED, 1, "s1")
    ).problems

    assert problem.startswith("acme: a marker of its generation 1 lies behind the routers' position 100 in ingress")


@pytest.mark.rule("R8")
def test_more_moves_than_the_routers_position_has_room_for_are_named() -> None:
    (problem,) = known(Routed(positions={0: 0}), s1=row(LEFT, 1, "s2"), s2=row(OWNED, 1, "s1")).problems

    assert problem.startswith("acme: it moved 1 times before the routers' position 0 in ingress partition 0")


@pytest.mark.rule("R8")
def test_fewer_moves_than_a_router_had_when_it_committed_are_named() -> None:
    found = known(s1=row(LEFT, 3, "s2"), s2=row(OWNED, 3, "s1"))

    assert lost_moves(found, {0: 3}, 1, []) == []
    assert lost_moves(found, {0: 4}, 1, [0]) == []  # its placement was written, and nothing came of it
    (told,) = lost_moves(found, {0: 4}, 1, [])
    assert told.startswith("ingress partition 0 was routed with 4 moves, and the shards know 3: a shard has lost some")


@pytest.mark.rule("R8")
def test_a_placement_says_in_which_ingress_partition_it_counts() -> None:
    rows = {"s1": {BUCKET: row(LEFT, 1, "s2", BUCKET)}, "s2": {BUCKET: row(OWNED, 1, "s1", BUCKET)}}
    number = int(BUCKET.removeprefix("bucket:"))

    found = reconstruct(rows, home="s1", partitions=4, routed=Routed(positions={number % 4: POSITION}))

    assert found.placements == [
        PlacementRecord(unit=BUCKET, generation=1, shard="s2", ingress_partition=number % 4, since=1)
    ]
