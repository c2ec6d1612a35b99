"""What a hand-off carries of the journal is the same, in the same order, with the index by bucket and without it."""

from __future__ import annotations

from contextlib import closing
from random import Random

import pytest

from processors.ids import SLICE_MS
from processors.ledger.rows import MovedId
from processors.ledger.tables import MOVED_IDS, RowChange
from processors.routing.buckets import bucket_of, partition_of, placement_key_of
from processors.stores.addresses import MysqlAddress
from processors.stores.frozen_rows import PAGE_ROWS, FrozenRowsReader
from processors.stores.journal_index import bucket_index, has_bucket_index
from processors.stores.mysql import Session
from processors.stores.rows import PlacementRow, PlacementState
from tests.integration.mysql_shard import SHARD, clock_ms, journal_row, new_id, take_lane

ROOT = "acme"
LANE = partition_of(ROOT, SHARD.lanes)
OTHERS = [name for name in map("p{}".format, range(2_000)) if partition_of(name, SHARD.lanes) == LANE][:40]


def has_index(address: MysqlAddress) -> bool:
    session = Session(address, lane=False)
    try:
        return has_bucket_index(session)
    finally:
        session.close()


@pytest.mark.rule("M3")
@pytest.mark.rule("M6")
def test_the_ids_that_move_are_the_same_with_the_index_and_without(address: MysqlAddress) -> None:
    rng, now_ms, lane = Random(1), clock_ms(), take_lane(address, LANE)
    ids = []
    for _ in range(5):  # more than two pages of the partner's, with others' in between
        rows = []
        for number in range(1_200):
            root, id_ = rng.choice((*[ROOT] * len(OTHERS), *OTHERS)), new_id(now_ms - rng.randrange(2) * SLICE_MS)
            offset = lane.progress.at.next_offset + number
            rows.append(journal_row(offset, root=root, address=root, command_id=id_))
            ids.append((root, id_))
        lane.write(len(rows), journal=rows)
    mine = [id_ for root, id_ in ids if root == ROOT]
    came_back = RowChange((ROOT, mine[0]), MovedId(b"r"), None)
    batch = lane.batch(1)
    batch.arrived[MOVED_IDS] = [came_back]
    lane.commit(batch)
    sealed = PlacementRow(placement_key=placement_key_of(ROOT), generation=1, state=PlacementState.SEALED)

    with closing(FrozenRowsReader(address, LANE)) as reader:
        without = [row for row in reader.read(sealed) if row is not None]
        with bucket_index(address):
            assert has_index(address)
            by_index = [row for row in reader.read(sealed) if row is not None]

    assert not has_index(address)
    assert len(without) == len(mine) + 1 > PAGE_ROWS  # the last batch's own row is another of the partner
    assert by_index == without
    assert bucket_of(ROOT) != bucket_of(OTHERS[0])


def test_an_index_that_a_killed_run_left_is_taken_away_by_the_next(address: MysqlAddress) -> None:
    left = bucket_index(address)
    left.__enter__()

    with bucket_index(address):
        assert has_index(address)

    assert not has_index(address)
