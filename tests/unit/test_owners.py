"""Which shard has a partner's balances, by what each shard knows of his placement key (M11)."""

from __future__ import annotations

import pytest

from processors.lookup.owners import PlacedAt, owner_among, told_of_move
from processors.routing.buckets import placement_key_of
from processors.stores.rows import PlacementRow, PlacementState


def placed(key: str, state: PlacementState, *, home: bool = False) -> PlacedAt:
    row = PlacementRow(placement_key=key, generation=1, state=state, other_shard="s2", since_time_ms=1_700_000_000_123)
    return PlacedAt(rows={key: row}, home=home)


@pytest.mark.rule("M11")
def test_who_never_moved_is_at_home() -> None:
    assert [PlacedAt(rows={}, home=home).owns("acme") for home in (True, False)] == [True, False]


@pytest.mark.rule("M11")
@pytest.mark.parametrize("key", ["acme", placement_key_of("acme")])
@pytest.mark.parametrize("state", PlacementState)
def test_balances_are_where_the_partner_is_owned(key: str, state: PlacementState) -> None:
    assert placed(key, state).owns("acme") is (state is PlacementState.OWNED)


@pytest.mark.rule("M11")
def test_a_partner_on_the_way_is_told_with_where_from_where_to_and_since_when() -> None:
    told = [told_of_move(placed("acme", state, home=True), "s1", "acme") for state in PlacementState]

    assert told == ["", "", "", " from s1 to s2 since 2023-11-14T22:13:20.123Z", ""]


def knows(key: str, generation: int, state: PlacementState) -> PlacedAt:
    row = PlacementRow(placement_key=key, generation=generation, state=state, other_shard="s9")
    return PlacedAt(rows={key: row}, home=False)


@pytest.mark.rule("M11")
@pytest.mark.parametrize(
    ("others", "owner"),
    [
        ([], "s1"),
        ([PlacedAt(rows={}, home=False)], "s1"),
        ([knows("acme", 1, PlacementState.OWNED)], "s2"),
        ([knows(placement_key_of("acme"), 1, PlacementState.OWNED)], "s2"),
        ([knows("acme", 1, PlacementState.ARRIVING)], None),
        ([knows("acme", 2, PlacementState.SEALED)], None),  # he has come back since: s1 has it still to learn
        ([knows(placement_key_of("acme"), 7, PlacementState.LEFT), knows("acme", 1, PlacementState.OWNED)], "s3"),
    ],
)
def test_a_shard_that_was_restored_does_not_own_who_has_moved_since(others: list[PlacedAt], owner: str | None) -> None:
    restored = PlacedAt(rows={}, home=True)

    assert owner_among(dict(zip(("s1", "s2", "s3"), (restored, *others), strict=False)), "acme") == owner
