"""What the remover deletes of partners who move, and what it leaves alone: frozen, arriving and waiting rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from processors.faults import Fenced
from processors.ledger.rows import Hold, OpenRefund, Refunded
from processors.ledger.tables import MOVED_IDS, MOVING_TABLES, OPEN_TRANSFERS
from processors.routing.buckets import bucket_of, partition_of, placement_key_of
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.stores.rows import BatchWrite, ParkedRow, PlacementRow, PlacementState
from processors.stores.rows import rows_of as meant_by
from processors.stores.shard_upkeep import DELETE_ROWS, LeftKey, ShardUpkeep
from processors.wire.records import Record
from tests.integration.mysql_shard import SHARD, Lane, account, new_id, rows_of, take_lane, values_of_ids

ROOT = "acme"
LANE = partition_of(ROOT, SHARD.lanes)
BUCKET = placement_key_of(ROOT)
NEIGHBOUR = next(
    name
    for name in map("p{}".format, range(9_999))
    if partition_of(name, SHARD.lanes) == LANE and bucket_of(name) != bucket_of(ROOT)
)
ELSEWHERE = [PlacementState.ARRIVING, PlacementState.SEALED, PlacementState.LEFT]
OLD_MS, OLDER_MS = 400_000_000, 200_000_000
MINUTE_MS = 60_000  # a root's ids of one lie in a row


@pytest.fixture
def lane(address: MysqlAddress) -> Lane:
    return take_lane(address, LANE)


def placed(key: str, state: PlacementState, generation: int = 1) -> PlacementRow:
    return PlacementRow(placement_key=key, generation=generation, state=state, other_shard="s2")


def batch_of(lane: Lane, *roots: str, moved_ids: int = 1, **more: Any) -> BatchWrite:
    """Return a batch that gives each root a row in every table that moves, in one of them some, all of them old."""
    ids = {root: new_id(OLDER_MS) for root in roots}
    batch = lane.batch(
        1,
        opened=[account(root) for root in roots],
        holds=[((root, id_), Hold(root, "USD", 5, 0, 1, OLDER_MS), False) for root, id_ in ids.items()],
        open_refunds=[((root, id_), OpenRefund(root, "USD", id_, 5, 1), False) for root, id_ in ids.items()],
        refunded=[((root, id_), Refunded(100, 40), False) for root, id_ in ids.items()],
    )
    minutes = [OLDER_MS - number * MINUTE_MS for number in range(moved_ids)]
    moved = values_of_ids({(root, new_id(minute)): b"r" for root in roots for minute in minutes})
    transfers = [[root, id_, root, "USD", "other", 5, 1] for root, id_ in ids.items()]
    return replace(batch, arrived={OPEN_TRANSFERS: transfers, MOVED_IDS: moved}, **more)


def left_of(address: MysqlAddress, root: str) -> list[str]:
    """Return the tables that have a row of a root."""
    found = []
    for table in MOVING_TABLES:
        column = "root" if "root" in table.key else "address"
        if rows_of(address, f"SELECT 1 FROM {table.name} WHERE {column} = '{root}' LIMIT 1"):
            found.append(table.name)
    return found


ALL = [table.name for table in MOVING_TABLES]


def state_of(address: MysqlAddress, key: str) -> str:
    ((state,),) = rows_of(address, f"SELECT state FROM placement WHERE placement_key = '{key}'")
    return str(state.decode())


# ---------------------------------------------------------------------- what has left


@pytest.mark.rule("M7")
@pytest.mark.parametrize("key", [ROOT, BUCKET])
def test_what_a_key_that_left_has_left_behind_is_deleted_some_at_a_time(
    address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane, key: str
) -> None:
    left = placed(key, PlacementState.LEFT)
    lane.commit(batch_of(lane, ROOT, NEIGHBOUR, moved_ids=DELETE_ROWS, placements=[left]))
    (the_key,) = upkeep.left_keys()
    assert the_key == LeftKey(lane=LANE, placement_key=key, generation=1)

    assert upkeep.delete_left_rows(the_key) == DELETE_ROWS
    assert (left_of(address, ROOT), state_of(address, key)) == (["moved_id"], "LEFT")
    assert upkeep.delete_left_rows(the_key) == len(MOVING_TABLES) - 1

    assert (left_of(address, ROOT), state_of(address, key)) == ([], "AWAY")
    assert left_of(address, NEIGHBOUR) == ALL
    assert upkeep.left_keys() == []


@pytest.mark.rule("M7")
@pytest.mark.parametrize(
    "now",
    [
        placed(ROOT, PlacementState.SEALED),
        placed(ROOT, PlacementState.ARRIVING, 2),
        placed(ROOT, PlacementState.OWNED, 2),
        placed(ROOT, PlacementState.LEFT, 3),
    ],
    ids=lambda row: f"{row.state} {row.generation}",
)
def test_nothing_is_deleted_of_a_key_that_has_not_left_has_come_back_or_left_again(
    address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane, now: PlacementRow
) -> None:
    lane.commit(batch_of(lane, ROOT, placements=[now]))

    assert upkeep.delete_left_rows(LeftKey(lane=LANE, placement_key=ROOT, generation=1)) == 0

    assert (left_of(address, ROOT), state_of(address, ROOT)) == (ALL, now.state)


@pytest.mark.rule("M7")
def test_a_root_that_came_back_by_itself_stays_when_its_buckets_rows_go(
    address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane
) -> None:
    keys = [placed(BUCKET, PlacementState.LEFT), placed(ROOT, PlacementState.OWNED)]
    lane.commit(batch_of(lane, ROOT, placements=keys))

    assert upkeep.delete_left_rows(LeftKey(lane=LANE, placement_key=BUCKET, generation=1)) == 0

    assert (left_of(address, ROOT), state_of(address, BUCKET)) == (ALL, "AWAY")


@pytest.mark.rule("M6")
def test_a_roots_ids_that_came_ahead_stay_when_its_buckets_rows_go(
    address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane
) -> None:
    ahead = PlacementRow(placement_key=ROOT, generation=0, state=PlacementState.AWAY, ahead_generation=1)
    keys = [placed(BUCKET, PlacementState.LEFT), ahead]
    lane.commit(batch_of(lane, ROOT, placements=keys))

    assert upkeep.delete_left_rows(LeftKey(lane=LANE, placement_key=BUCKET, generation=1)) == 0

    assert (left_of(address, ROOT), state_of(address, BUCKET)) == (ALL, "AWAY")


@pytest.mark.rule("M7")
@pytest.mark.rule("L1")
@pytest.mark.parametrize("key", [ROOT, BUCKET])
def test_what_a_key_has_left_behind_its_lane_deletes_some_at_a_time_while_it_is_the_owner(
    address: MysqlAddress, lane: Lane, key: str
) -> None:
    sealed = placed(key, PlacementState.SEALED)
    lane.commit(batch_of(lane, ROOT, NEIGHBOUR, moved_ids=5, placements=[sealed]))
    rows, all_rows = meant_by(key, {key: sealed}), len(MOVING_TABLES) + 4

    published = replace(lane.progress, published_offset=1, published_time_ms=OLDER_MS)
    assert lane.store.delete_left(published, rows, rows_max=all_rows - 1) == all_rows - 1
    assert left_of(address, ROOT) == ["moved_id"]
    stored = rows_of(address, f"SELECT published_offset, published_time_ms FROM progress WHERE lane = {LANE}")
    assert stored == [(1, OLDER_MS)]  # without the rows nobody may answer again what lies before the seal (L4)
    fence = lane.progress
    lane.write()
    with pytest.raises(Fenced):
        lane.store.delete_left(fence, rows, rows_max=1)
    assert left_of(address, ROOT) == ["moved_id"]

    owner = take_lane(address, LANE)
    assert owner.store.delete_left(owner.progress, rows, rows_max=7) == 1
    assert (left_of(address, ROOT), left_of(address, NEIGHBOUR)) == ([], ALL)


class Held:
    """A lane in the midst of a transaction, behind which a deletion waits."""

    def __init__(self, address: MysqlAddress) -> None:
        self.session = Session(address, lane=True)
        self.session.begin()
        self.session.query(f"SELECT 1 FROM progress WHERE lane = {LANE} FOR UPDATE", "a lane's fence")

    def while_waiting(self, deletion: Callable[[], int], *statements: str) -> int:
        """Have a deletion begin, then commit the statements, and return how many rows the deletion found."""
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(deletion()))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "it did not wait for the lane"
        try:
            for statement in statements:
                self.session.execute(statement, "what the lane writes")
            self.session.commit()
        finally:
            self.session.close()
            thread.join(10)
        return found[0]


@pytest.mark.rule("M7")
def test_a_root_that_comes_back_while_its_buckets_rows_are_about_to_go_stays(
    address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane
) -> None:
    lane.commit(batch_of(lane, ROOT, placements=[placed(BUCKET, PlacementState.LEFT)]))
    left = LeftKey(lane=LANE, placement_key=BUCKET, generation=1)
    columns = [field.name for field in fields(PlacementRow)]
    came = {"placement_key": f"'{ROOT}'", "state": "'ARRIVING'"}
    values = ", ".join(came.get(name, name) for name in columns)

    deleted = Held(address).while_waiting(
        lambda: upkeep.delete_left_rows(left),
        f"INSERT INTO placement (lane, {', '.join(columns)}) SELECT lane, {values} FROM placement",
    )

    assert (deleted, left_of(address, ROOT)) == (0, ALL)


# ---------------------------------------------------------------------- what is old


DELETIONS: dict[str, Callable[[ShardUpkeep], int]] = {
    "hold": lambda upkeep: upkeep.delete_expired_holds(LANE, before_ms=OLD_MS),
    "refunded": lambda upkeep: upkeep.delete_old_refunded(before_ms=OLD_MS),
    "moved_id": lambda upkeep: upkeep.delete_old_moved_ids(before_ms=OLD_MS),
}


@pytest.mark.rule("M6")
@pytest.mark.parametrize("table", DELETIONS)
def test_old_rows_of_owned_partners_are_deleted(
    address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane, table: str
) -> None:
    lane.commit(batch_of(lane, ROOT, NEIGHBOUR, placements=[placed(ROOT, PlacementState.OWNED)]))

    assert DELETIONS[table](upkeep) == 2

    others = [name for name in ALL if name != table]
    assert (left_of(address, ROOT), left_of(address, NEIGHBOUR)) == (others, others)


@pytest.mark.rule("M6")
def test_old_ids_that_came_ahead_of_a_move_are_deleted(address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane) -> None:
    lane.commit(batch_of(lane, ROOT, placements=[replace(placed(ROOT, PlacementState.AWAY), ahead_generation=2)]))

    assert upkeep.delete_old_moved_ids(before_ms=OLD_MS) == 1
    assert left_of(address, ROOT) == [name for name in ALL if name != "moved_id"]


def test_ids_within_the_window_stay(address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane) -> None:
    lane.commit(batch_of(lane, ROOT, placements=[placed(ROOT, PlacementState.OWNED)]))

    assert upkeep.delete_old_moved_ids(before_ms=OLDER_MS) == 0
    assert left_of(address, ROOT) == ALL


@pytest.mark.rule("M2")
@pytest.mark.parametrize("state", ELSEWHERE)
@pytest.mark.parametrize("key", [ROOT, BUCKET])
@pytest.mark.parametrize("table", DELETIONS)
def test_frozen_and_arriving_rows_stay_however_old_they_are(
    *, address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane, table: str, key: str, state: PlacementState
) -> None:
    lane.commit(batch_of(lane, ROOT, NEIGHBOUR, placements=[placed(key, state)]))

    assert DELETIONS[table](upkeep) == 1

    assert left_of(address, ROOT) == ALL


@pytest.mark.rule("M2")
@pytest.mark.parametrize("table", DELETIONS)
def test_rows_that_are_sealed_while_they_are_about_to_go_stay(
    address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane, table: str
) -> None:
    lane.commit(batch_of(lane, ROOT, placements=[placed(ROOT, PlacementState.OWNED)]))

    Held(address).while_waiting(lambda: DELETIONS[table](upkeep), "UPDATE placement SET state = 'SEALED'")

    assert left_of(address, ROOT) == ALL


# ---------------------------------------------------------------------- what was parked


@pytest.mark.rule("L4")
def test_a_parked_record_stays_until_the_border_before_what_is_published_has_passed_its_answer(
    address: MysqlAddress, upkeep: ShardUpkeep, lane: Lane
) -> None:
    parked = [
        ParkedRow(
            placement_key=ROOT,
            record=Record("balance.shard.s1", LANE, offset, 0, 1_000, True, b"acme", b"payload", []),
            is_move_out=False,
            unparked=unparked,
        )
        for offset, unparked in ((1, (9, 1)), (2, (10, 1)), (3, None), (4, (4, 0)), (5, (15, 1)))
    ]
    lane.commit(replace(lane.batch(10), parked=parked))
    lane.write(10)
    published = "UPDATE progress SET published_offset = {}"
    session = Session(address, lane=False)

    def parked_left() -> list[int]:
        upkeep.delete_published_parked(LANE)
        return [offset for (offset,) in rows_of(address, "SELECT lane_offset FROM parked ORDER BY lane_offset")]

    session.execute(published.format(9), "publishing")
    assert parked_left() == [1, 2, 3, 4, 5]  # it answers again from 0 on
    session.execute(published.format(19), "publishing")
    assert parked_left() == [2, 3, 5]  # from 10 on
    session.execute(published.format(20), "publishing")
    assert parked_left() == [3]
    session.close()
