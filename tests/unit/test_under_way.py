"""Which moves are under way, by the directory and by what each shard's lanes know of placement keys."""

from __future__ import annotations

import pytest

from processors.ops.stages import STAGES, Stage
from processors.ops.under_way import LATE_MS, MoveStatus, moves_under_way
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory
from processors.stores.rows import PlacementRow, PlacementState

SEALED, ARRIVING, OWNED, LEFT, AWAY = (
    PlacementState.SEALED,
    PlacementState.ARRIVING,
    PlacementState.OWNED,
    PlacementState.LEFT,
    PlacementState.AWAY,
)


def directory(*moves: tuple[str, int, str]) -> Directory:
    """Return a directory at home in s1 with moves: placement key, generation, target."""
    made = Directory()
    made.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0)
    for key, generation, shard in moves:
        made.add(placement_key=key, generation=generation, shard=shard, ingress_partition=0, since=10 * generation)
    return made


def row(state: PlacementState, generation: int = 1, *, parts: int = 0, parked: int = 0) -> PlacementRow:
    return PlacementRow(
        placement_key="acme", generation=generation, state=state, other_shard="", parts=parts, parked=parked
    )


def found(
    placed: Directory, *, begun_ms: int = 7, **rows: PlacementRow | None
) -> list[tuple[int, str, str, Stage | None]]:
    """Return generation, source, target and stage of the moves, by the rows of acme that shards have."""
    of_shards = {shard: {} if each is None else {"acme": each} for shard, each in rows.items()}
    moves = moves_under_way(placed, of_shards, lambda: {("acme", 1): begun_ms})
    return [(each.generation, each.source, each.target, each.stage) for each in moves]


@pytest.mark.parametrize(
    ("source", "target", "stage"),
    [
        (None, None, Stage.PLACED),
        (None, row(AWAY, 0, parked=3), Stage.PLACED),
        (row(SEALED), None, Stage.SEALED),
        (row(SEALED), row(ARRIVING, parts=3), Stage.ARRIVING),
        (row(LEFT), row(OWNED, parked=3), Stage.MOVED),
    ],
)
def test_a_move_is_under_way_in_its_stage_from_the_marker_on(
    source: PlacementRow | None, target: PlacementRow | None, stage: Stage
) -> None:
    assert found(directory(("acme", 1, "s2")), s1=source, s2=target) == [(1, "s1", "s2", stage)]


@pytest.mark.parametrize("target", [row(OWNED), row(OWNED, 3), row(SEALED, 2), row(LEFT, 2)])
def test_a_move_that_is_settled_is_none(target: PlacementRow) -> None:
    assert found(directory(("acme", 1, "s2")), s1=row(LEFT), s2=target) == []


def test_a_move_that_waits_for_the_one_before_is_told_with_it() -> None:
    placed = directory(("acme", 1, "s2"), ("acme", 2, "s1"))

    assert found(placed, s1=row(SEALED), s2=None) == [(2, "s2", "s1", Stage.PLACED), (1, "s1", "s2", Stage.SEALED)]
    assert found(placed, s1=row(LEFT), s2=row(SEALED, 2)) == [(2, "s2", "s1", Stage.SEALED)]


def test_a_move_from_whose_target_the_key_has_gone_on_is_settled_also_once_its_rows_are_deleted() -> None:
    placed = directory(("acme", 1, "s2"), ("acme", 2, "s1"))
    arrived = row(OWNED, 2, parked=3)

    assert found(placed, s1=arrived, s2=row(AWAY, 2)) == [(2, "s2", "s1", Stage.MOVED)]
    assert found(placed, s2=row(AWAY, 2)) == []  # s1 does not answer


@pytest.mark.parametrize("state", [SEALED, LEFT, AWAY])
def test_what_waits_for_a_key_to_come_back_says_nothing_of_the_move_before(state: PlacementState) -> None:
    placed = directory(("acme", 1, "s2"), ("acme", 2, "s1"), ("acme", 3, "s2"))

    assert found(placed, s2=row(state, 2, parked=3)) == [(3, "s1", "s2", None)]


def test_of_a_shard_that_does_not_answer_nothing_is_guessed() -> None:
    placed = directory(("acme", 1, "s2"))

    assert found(placed, s1=row(SEALED)) == []
    assert found(placed, s2=None) == [(1, "s1", "s2", None)]
    assert found(placed, s2=row(ARRIVING)) == [(1, "s1", "s2", Stage.ARRIVING)]


def test_it_is_asked_when_moves_began_only_if_there_are_any_and_the_first_comes_first() -> None:
    def never() -> dict[tuple[str, int], int]:
        pytest.fail("nothing moves")

    assert moves_under_way(directory(), {"s1": {}}, never) == []
    placed = directory(("acme", 1, "s2"), ("bucket:7", 1, "s2"))
    times = {("acme", 1): 2_000, ("bucket:7", 1): 1_000}
    moves = moves_under_way(placed, {"s1": {}, "s2": {"acme": row(AWAY, 0, parked=9)}}, lambda: times)

    assert [(each.placement_key, each.begun_ms, each.parked) for each in moves] == [
        ("bucket:7", 1_000, 0),
        ("acme", 2_000, 9),
    ]


def test_a_move_is_late_after_a_minute_and_says_what_it_waits_for() -> None:
    def late(begun_ms: int) -> bool:
        return MoveStatus(
            placement_key="acme",
            generation=1,
            source="s1",
            target="s2",
            stage=Stage.PLACED,
            begun_ms=begun_ms,
            parts=0,
            parked=0,
        ).is_late(LATE_MS + 1_000)

    assert [late(begun_ms) for begun_ms in (1_000, 999, 0)] == [False, True, False]


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.SETTLED])
def test_each_stage_that_a_move_may_stay_in_says_what_it_waits_for_and_what_to_type(stage: Stage) -> None:
    said = STAGES[stage].waiting_for("acme", "s1", "s2")

    assert "`balance status`" in said
    assert "{" not in said
