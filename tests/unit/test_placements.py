"""What a lane knows of its placement keys is found without going through all of them, and is the same."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.lane.placements import Placements
from processors.routing.buckets import placement_key_of
from processors.stores.rows import PlacementRow, PlacementState, rows_of

ROOTS = ("acme", "globex", "hooli")
KEYS = (*ROOTS, *map(placement_key_of, ROOTS), "bucket:17")


def a_row(rng: Random) -> PlacementRow:
    return PlacementRow(
        placement_key=rng.choice(KEYS),
        generation=rng.randrange(1, 4),
        state=rng.choice(list(PlacementState)),
        other_shard=rng.choice(("", "s2")),
        parked=rng.randrange(2),
    )


@pytest.mark.rule("M5")
@pytest.mark.rule("M6")
@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 12))
def test_what_waits_and_what_moves_with_a_key_is_as_all_rows_say(seed: int, taken_over: int, changes: int) -> None:
    rng = Random(seed)
    rows = {row.placement_key: row for row in (a_row(rng) for _ in range(taken_over))}
    placements = Placements(rows, home=True)
    for _ in range(changes):
        row = a_row(rng)
        placements.put(row)
        rows[row.placement_key] = row

    waiting = [row for _, row in sorted(rows.items()) if row.parked and row.state is PlacementState.OWNED]

    assert placements.waiting() == waiting
    assert placements.parked_records == sum(row.parked for row in rows.values())
    assert [placements.rows_of(key) for key in KEYS] == [rows_of(key, rows) for key in KEYS]
