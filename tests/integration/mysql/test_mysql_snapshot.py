"""Which slices a snapshot of a shard's database has, on the real MySQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from processors.ids import SLICE_MS, slice_of
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.stores.partitions import ensure_slices
from processors.stores.rows import PlacementRow, PlacementState
from processors.stores.snapshot_rows import SnapshotSource
from tests.integration.mysql_shard import RULES, SHARD, clock_ms, journal_row, new_id, rows_of, take_lane

WINDOW_SLICES = RULES.window_ms // SLICE_MS
OLD_SLICES = 5  # before the window: the remover keeps them for a sealed key


@contextmanager
def snapshot_of(address: MysqlAddress) -> Iterator[SnapshotSource]:
    source = SnapshotSource(address, SHARD.shard)
    try:
        yield source
    finally:
        source.close()


@pytest.fixture
def old_ms(address: MysqlAddress) -> int:
    """Have a lane with P in the present hour, and a row in each hour before; return when the first was."""
    now_ms = clock_ms()
    session = Session(address, lane=False)
    ensure_slices(session, range(slice_of(now_ms) - OLD_SLICES, slice_of(now_ms) + 1))
    session.close()
    lane = take_lane(address)
    ids = [new_id(now_ms - number * SLICE_MS) for number in range(OLD_SLICES, -1, -1)]
    batch = lane.batch(len(ids), journal=[journal_row(offset, command_id=each) for offset, each in enumerate(ids)])
    published = replace(batch.progress, published_offset=len(ids), published_time_ms=now_ms)
    lane.commit(replace(batch, progress=published))
    lane.store.close()
    return now_ms - OLD_SLICES * SLICE_MS


def place(address: MysqlAddress, root: str, state: PlacementState, ids_since_ms: int) -> None:
    row = PlacementRow(
        placement_key=root, generation=1, state=state, other_shard="s2", sealed_ids_since_ms=ids_since_ms
    )
    columns = asdict(row) | {"lane": 0, "state": state.value, "rest": "", "digest": "0" * 32}
    session = Session(address, lane=False)
    session.execute(f"INSERT INTO placement ({', '.join(columns)}) VALUES {tuple(columns.values())}", "a test's hand")
    session.close()


def copied_slices(address: MysqlAddress) -> list[int | None]:
    with snapshot_of(address) as source:
        tables = [table for table in source.tables() if table.name == "journal"]
        rows = sum(len(list(source.rows(table))) for table in tables)
    ((there,),) = rows_of(address, f"SELECT COUNT(*) FROM journal WHERE slice >= {tables[0].slice}")
    assert rows == there
    return [table.slice for table in tables]


@pytest.mark.rule("V1")
def test_a_snapshot_begins_with_the_window_at_p(address: MysqlAddress, old_ms: int) -> None:
    assert copied_slices(address)[0] == slice_of(old_ms) + OLD_SLICES - WINDOW_SLICES


@pytest.mark.rule("V1")
@pytest.mark.rule("M3")
def test_a_snapshot_has_the_slices_from_which_a_sealed_key_has_yet_to_hand_over(
    address: MysqlAddress, old_ms: int
) -> None:
    place(address, "acme", PlacementState.SEALED, old_ms + SLICE_MS)
    place(address, "bravo", PlacementState.LEFT, old_ms)  # it has handed over

    assert copied_slices(address)[0] == slice_of(old_ms) + 1
