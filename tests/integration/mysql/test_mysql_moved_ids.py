"""Ids that came along with a move: many lie in a row, each is found by itself, and all go on in the order of keys."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from processors.ids import make_command_id
from processors.ledger.book import Keys
from processors.ledger.rows import DecisionKey
from processors.ledger.tables import MOVED_IDS
from processors.routing.buckets import bucket_of, partition_of
from processors.stores.addresses import MysqlAddress
from processors.stores.frozen_rows import FrozenRowsReader
from processors.stores.mysql import Session
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.packed_ids import ROW_BYTES_MAX, ROW_IDS_MAX, SLOT_MS
from processors.wire.packed_rows import unpack_row
from tests.integration.mysql_shard import SHARD, Lane, rows_of, take_lane, values_of_ids

ROOT = "acme"
LANE = partition_of(ROOT, SHARD.lanes)
NEIGHBOUR = next(
    name for name in map("p{}".format, range(9_999)) if partition_of(name, SHARD.lanes) == LANE and name != ROOT
)
BEGAN_MS = 1_700_000_000_000 // SLOT_MS * SLOT_MS


@pytest.fixture
def lane(address: MysqlAddress) -> Lane:
    return take_lane(address, LANE)


def id_at(after_ms: int, number: int = 0) -> bytes:
    return make_command_id(BEGAN_MS + after_ms, number.to_bytes(10, "big"))


def bring(lane: Lane, ids: dict[DecisionKey, bytes]) -> None:
    """Have ids come along, each with its result, in one batch."""
    lane.commit(replace(lane.batch(1), arrived={MOVED_IDS: values_of_ids(ids)}))


def found_by(lane: Lane, *keys: DecisionKey) -> dict[DecisionKey, bytes]:
    """Return the results that the lane finds of ids."""
    wanted = dict.fromkeys(keys)
    lane.store.begin(lane.progress, None, Keys(decisions=wanted, moved_ids=wanted))
    rows = lane.store.loaded()
    lane.store.finish()
    return {key: decision.result for key, decision in rows.decisions.items()}


def count(address: MysqlAddress) -> int:
    ((found,),) = rows_of(address, "SELECT COUNT(*) FROM moved_id")
    return int(found)


@pytest.mark.rule("M6")
def test_each_id_is_found_among_those_that_lie_in_a_row_and_no_other_is(address: MysqlAddress, lane: Lane) -> None:
    first = {(ROOT, id_at(number, number)): b"result %d" % number for number in range(0, 3 * ROW_IDS_MAX, 2)}
    later = {(ROOT, id_at(number, number)): b"late %d" % number for number in range(1, 9, 2)}  # between the first ones
    alone = {(NEIGHBOUR, id_at(2, 2)): b"alone", (ROOT, id_at(SLOT_MS)): b"the next minute"}
    bring(lane, first | alone)
    bring(lane, later)

    assert count(address) == 2 + 2 + 1  # of the first in a minute, alone ones, and the later
    assert found_by(lane, *first, *later, *alone) == first | later | alone
    for key, result in (first | later | alone).items():
        assert found_by(lane, key) == {key: result}
    never = [(NEIGHBOUR, id_at(4, 4)), (ROOT, id_at(4, 5)), (ROOT, id_at(-1)), (ROOT, id_at(SLOT_MS, 1))]
    assert found_by(lane, *never) == {}


@pytest.mark.rule("M6")
def test_an_id_with_a_large_result_has_a_row_of_its_own(address: MysqlAddress, lane: Lane) -> None:
    ids = {(ROOT, id_at(number)): bytes([number]) * (ROW_BYTES_MAX + 1) for number in range(3)}
    bring(lane, ids)

    assert count(address) == len(ids)
    assert found_by(lane, *ids) == ids


@pytest.mark.rule("M6")
def test_an_id_that_a_worker_of_an_earlier_release_stored_is_found(address: MysqlAddress, lane: Lane) -> None:
    key = (ROOT, id_at(7))
    session = Session(address, lane=False)
    session.execute(
        f"INSERT INTO moved_id (root, command_id, bucket, result) "
        f"VALUES ('{ROOT}', X'{key[1].hex()}', {bucket_of(ROOT)}, 'its result')",
        "what an earlier release wrote",
    )
    session.close()
    bring(lane, {(ROOT, id_at(number)): b"r" for number in (1, 20)})

    assert found_by(lane, key, (ROOT, id_at(8))) == {key: b"its result"}


@pytest.mark.rule("M3")
@pytest.mark.rule("M8")
def test_ids_that_came_along_go_on_in_the_order_of_their_keys_however_they_came_and_without_old_ones(
    address: MysqlAddress, lane: Lane
) -> None:
    """A source that was restored has cut its batches elsewhere, and its remover has deleted other rows."""
    ids = {(ROOT, id_at(number * SLOT_MS // 100)): b"r%d" % number for number in range(600)}
    keys = list(ids)
    for every_third in range(3):
        bring(lane, {key: ids[key] for key in keys[every_third::3]})
    oldest_ms = BEGAN_MS + 2 * SLOT_MS + SLOT_MS // 2  # in the midst of a row
    sealed = PlacementRow(
        placement_key=ROOT,
        generation=2,
        state=PlacementState.SEALED,
        other_shard="s2",
        sealed_ids_since_ms=oldest_ms,
    )
    lane.commit(replace(lane.batch(1), placements=[sealed]))

    with closing(FrozenRowsReader(address, LANE)) as reader:
        found = [unpack_row(row) for row in reader.read(sealed) if row is not None]

    assert [row.values for row in found] == values_of_ids(
        {key: result for key, result in ids.items() if int.from_bytes(key[1][:6]) >= oldest_ms}
    )
