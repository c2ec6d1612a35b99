"""The remover and partners who move, on real MySQL and Cassandra: what it deletes after them, and what it keeps."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from processors.ids import SLICE_MS
from processors.ledger.tables import MOVED_IDS, OPEN_TRANSFERS
from processors.metrics import REGISTRY
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.packed_ids import SLOT_MS
from tests.archived import NOW_MS, Ledger, id_at
from tests.integration.mysql_shard import rows_of, values_of_ids
from tests.integration.removal import PAST_MS, SLICE, WINDOW_MS, Shard, with_stories

NOW_MINUTE_MS = NOW_MS - NOW_MS % SLOT_MS  # ids go by the minute
PAST_MINUTE_MS = NOW_MINUTE_MS - 1


@pytest.mark.rule("M6")
@pytest.mark.rule("M7")
def test_what_moves_left_behind_goes_and_ids_that_came_along_go_with_the_window_of_the_slowest_lane(
    empty_shard: Shard,
) -> None:
    empty_shard.write(0, Ledger(lane=0))
    empty_shard.write(1, Ledger(lane=1))
    lane = empty_shard.lanes[0]
    keys = [
        PlacementRow(placement_key="here", generation=1, state=PlacementState.OWNED, other_shard="s2"),
        PlacementRow(placement_key="left", generation=1, state=PlacementState.LEFT, other_shard="s2"),
    ]
    came = [("here", id_at(PAST_MINUTE_MS)), ("here", id_at(NOW_MINUTE_MS)), ("left", id_at(NOW_MINUTE_MS))]
    arrived = {MOVED_IDS: values_of_ids(dict.fromkeys(came, b"result"))}
    lane.commit(replace(lane.batch(1, journal=[]), placements=keys, arrived=arrived))
    empty_shard.publish(NOW_MINUTE_MS + WINDOW_MS)
    empty_shard.publish(NOW_MINUTE_MS + WINDOW_MS - 1, lane=1)
    empty_shard.remover().step(NOW_MS)
    assert rows_of(empty_shard.mysql, "SELECT root FROM moved_id") == [(b"here",), (b"here",)]

    empty_shard.publish(NOW_MINUTE_MS + WINDOW_MS, lane=1)
    empty_shard.remover().step(NOW_MS)

    assert len(rows_of(empty_shard.mysql, "SELECT root FROM moved_id")) == 1
    assert rows_of(empty_shard.mysql, "SELECT state FROM placement WHERE placement_key = 'left'") == [(b"AWAY",)]


@pytest.mark.rule("M2")
@pytest.mark.rule("A6")
def test_no_slice_goes_that_a_hand_off_may_have_to_be_read_from_again(empty_shard: Shard) -> None:
    shard = with_stories(empty_shard)
    sealed = PlacementRow(
        placement_key="acme",
        generation=1,
        state=PlacementState.SEALED,
        other_shard="s2",
        sealed_ids_since_ms=(SLICE + 1) * SLICE_MS - 1,
    )
    columns = asdict(sealed) | {"lane": 0, "state": "SEALED", "rest": "", "digest": "0" * 32}
    shard.sql(f"INSERT INTO placement ({', '.join(columns)}) VALUES {tuple(columns.values())}")
    assert SLICE not in shard.remover().step(PAST_MS)

    shard.sql("UPDATE placement SET state = 'LEFT'")
    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("T5")
def test_it_tells_how_many_transfers_are_open_and_how_old_the_oldest_is(empty_shard: Shard) -> None:
    def told() -> tuple[float | None, float | None]:
        empty_shard.remover().step(NOW_MS)
        names = ("balance_open_transfers", "balance_open_transfers_oldest_seconds")
        of_one, age_s = (REGISTRY.get_sample_value(name, {"shard": "s1"}) for name in names)
        return of_one, age_s

    def transfer(root: str, age_ms: int) -> list[object]:
        return [root, id_at(NOW_MS - age_ms), root, "USD", "other", 5, 1]

    empty_shard.write(0, Ledger(lane=0))
    assert told() == (0, 0)

    lane = empty_shard.lanes[0]
    sealed = PlacementRow(placement_key="going", generation=1, state=PlacementState.SEALED, other_shard="s2")
    transfers = [transfer("here", 90_000), transfer("here", 30_000), transfer("going", 600_000)]
    lane.commit(replace(lane.batch(1, journal=[]), placements=[sealed], arrived={OPEN_TRANSFERS: transfers}))

    assert told() == (2, 90)


@pytest.mark.rule("M3")
def test_it_tells_how_long_the_oldest_move_waits_for_its_target(empty_shard: Shard) -> None:
    def told() -> float | None:
        empty_shard.remover().step(NOW_MS)
        return REGISTRY.get_sample_value("balance_moves_oldest_seconds", {"shard": "s1"})

    empty_shard.write(0, Ledger(lane=0))
    assert told() == 0

    lane = empty_shard.lanes[0]
    going = [
        PlacementRow(
            placement_key=key,
            generation=1,
            state=state,
            other_shard="s2",
            since_time_ms=NOW_MS - age_s * 1_000,
        )
        for key, state, age_s in (
            ("going", PlacementState.SEALED, 90),
            ("went", PlacementState.LEFT, 600),
            ("goes-too", PlacementState.SEALED, 400),
        )
    ]
    lane.commit(replace(lane.batch(1, journal=[]), placements=going))

    assert told() == 400
