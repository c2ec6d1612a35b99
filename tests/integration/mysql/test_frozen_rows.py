"""What is handed over of a sealed placement key: its own rows of this stay, with an index of the journal or without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from random import Random

import pytest

from processors.ids import SLICE_MS
from processors.ledger.rows import Hold, OpenRefund
from processors.ledger.tables import MOVED_IDS, AnyTable
from processors.routing.buckets import bucket_of, partition_of, placement_key_of
from processors.stores.addresses import MysqlAddress
from processors.stores.frozen_rows import PAGE_ROWS, FrozenRowsReader
from processors.stores.journal_index import bucket_index, has_bucket_index
from processors.stores.mysql import Session
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.packed_ids import framed_ids
from processors.wire.packed_rows import frame, unpack_row
from tests.integration.mysql_shard import SHARD, Lane, account, clock_ms, journal_row, new_id, take_lane
from tests.simulation.two_shards import TWIN

ROOT = "acme"  # TWIN lies in the same bucket
LANE = partition_of(ROOT, SHARD.lanes)
SEALED = PlacementRow(
    placement_key=placement_key_of(ROOT),
    generation=3,
    state=PlacementState.SEALED,
    other_shard="s2",
    since_offset=100,
)
NEVER_ENDS_MS = 1 << 60
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
    ids = {}
    for _ in range(5):  # more than two pages of the partner's, with others' in between
        rows = []
        for number in range(1_200):
            root, id_ = rng.choice((*[ROOT] * len(OTHERS), *OTHERS)), new_id(now_ms - rng.randrange(2) * SLICE_MS)
            offset = lane.progress.at.next_offset + number
            rows.append(journal_row(offset, root=root, command_id=id_))
            ids[root, offset] = id_
        lane.write(len(rows), journal=rows)
    stay = range(600, lane.progress.at.next_offset - 600)
    mine = [id_ for (root, offset), id_ in ids.items() if root == ROOT and offset in stay]
    sealed = replace(SEALED, sealed_from_offset=stay.start, since_offset=stay.stop)

    with closing(FrozenRowsReader(address, LANE)) as reader:
        without = [row for row in reader.read(sealed) if row is not None]
        with bucket_index(address):
            assert has_index(address)
            by_index = [row for row in reader.read(sealed) if row is not None]

    assert not has_index(address)
    assert [id_ for _, _, id_ in unpacked(iter(without))] == sorted(mine)
    assert len(mine) > PAGE_ROWS
    assert by_index == without
    assert bucket_of(ROOT) != bucket_of(OTHERS[0])


def test_an_index_that_a_killed_run_left_is_taken_away_by_the_next(address: MysqlAddress) -> None:
    left = bucket_index(address)
    left.__enter__()

    with bucket_index(address):
        assert has_index(address)

    assert not has_index(address)


@pytest.fixture
def lane(address: MysqlAddress) -> Lane:
    return take_lane(address, LANE)


def unpacked(rows: Iterator[bytes | None]) -> Iterator[tuple[AnyTable, str, bytes]]:
    """Yield of each row its table, its root, and the rest of its key; a row of ids is one for each."""
    for packed in rows:
        if packed is not None:
            table, values = unpack_row(packed)
            keys = [id_ for id_, _ in framed_ids(values[-1])] if table is MOVED_IDS else [values[1]]
            for key in keys:
                yield table, table.root_of(values), key


@pytest.mark.rule("M3")
@pytest.mark.rule("M6")
def test_a_root_that_comes_by_itself_while_its_old_bucket_is_read_does_not_go_along(
    address: MysqlAddress, lane: Lane
) -> None:
    of_root, of_twin = (root_with_a_row_in_some_tables(root) for root in (ROOT, TWIN))
    lane.commit(lane.batch(1, **of_root))
    lane.commit(replace(lane.batch(1), placements=[SEALED]))
    came = PlacementRow(placement_key=TWIN, generation=4, state=PlacementState.ARRIVING, other_shard="s3")

    with closing(FrozenRowsReader(address, LANE)) as reader:
        reading = unpacked(reader.read(SEALED))
        first = next(reading)
        lane.commit(replace(lane.batch(1, **of_twin), placements=[came]))
        rest = list(reading)

    assert [(table.name, root) for table, root, _ in [first, *rest] if table is not MOVED_IDS] == [
        ("account", ROOT),
        ("hold", ROOT),
        ("open_refund", ROOT),
    ]


def root_with_a_row_in_some_tables(root: str) -> dict[str, object]:
    id_ = new_id()
    return {
        "opened": [account(root)],
        "holds": [((root, id_), Hold(root, "USD", 5, 0, 1, NEVER_ENDS_MS), False)],
        "open_refunds": [((root, id_), OpenRefund(root, "USD", id_, 5, 1), False)],
    }


@pytest.mark.rule("M6")
@pytest.mark.parametrize("key", [ROOT, SEALED.placement_key])
def test_the_ids_of_a_stay_are_those_between_the_record_that_brought_the_key_and_its_seal(
    address: MysqlAddress, lane: Lane, key: str
) -> None:
    ids = [new_id() for _ in range(6)]
    rows = [journal_row(offset, command_id=id_, root=ROOT) for offset, id_ in enumerate(ids)]
    lane.commit(lane.batch(6, journal=rows))
    sealed = replace(SEALED, placement_key=key, sealed_from_offset=2, since_offset=5)

    with closing(FrozenRowsReader(address, LANE)) as reader:
        found = [id_ for table, _, id_ in unpacked(reader.read(sealed)) if table is MOVED_IDS]

    assert found == sorted(ids[2:5])


@pytest.mark.rule("M6")
def test_the_ids_of_a_root_that_has_a_key_of_its_own_stay_when_its_bucket_goes(
    address: MysqlAddress, lane: Lane
) -> None:
    ids = {root: new_id() for root in (ROOT, TWIN)}
    rows = [journal_row(offset, command_id=ids[root], root=root) for offset, root in enumerate(ids)]
    own = PlacementRow(placement_key=TWIN, generation=1, state=PlacementState.OWNED, other_shard="s2")
    waits = PlacementRow(placement_key=ROOT, generation=1, state=PlacementState.AWAY)  # it has not come
    lane.commit(replace(lane.batch(2, journal=rows), placements=[own, waits, SEALED]))

    with closing(FrozenRowsReader(address, LANE)) as reader:
        found = list(unpacked(reader.read(SEALED)))

    assert found == [(MOVED_IDS, ROOT, ids[ROOT])]


@pytest.mark.rule("M6")
def test_what_went_ahead_and_what_is_handed_over_are_all_ids_each_once(address: MysqlAddress, lane: Lane) -> None:
    ids = [new_id() for _ in range(7)]
    rows = [journal_row(offset, command_id=id_, root=ROOT) for offset, id_ in enumerate(ids[:5])]
    came = [[ROOT, id_, id_, frame(id_ + b"result")] for id_ in ids[5:]]
    own = PlacementRow(placement_key=ROOT, generation=2, state=PlacementState.OWNED, other_shard="s2")
    lane.commit(replace(lane.batch(5, journal=rows), placements=[own], arrived={MOVED_IDS: came}))
    sealed = replace(SEALED, placement_key=ROOT, since_offset=5)

    with closing(FrozenRowsReader(address, LANE)) as reader:
        first = list(unpacked(reader.read_ids(replace(sealed, since_offset=2))))
        second = list(unpacked(reader.read_ids(replace(sealed, since_offset=3, ahead_offset=2))))
        handed_over = list(unpacked(reader.read(replace(sealed, ahead_offset=3))))
        whole = list(unpacked(reader.read(sealed)))

    assert sorted(id_ for _, _, id_ in first) == sorted([*ids[:2], *ids[5:]])
    assert [id_ for _, _, id_ in second] == ids[2:3]
    assert sorted(id_ for _, _, id_ in handed_over) == sorted(ids[3:5])
    assert sorted(first + second + handed_over, key=str) == sorted(whole, key=str)
