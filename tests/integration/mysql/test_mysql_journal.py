"""The journal's three tables: narrow rows, results in chunks, and the steps of transactions begun elsewhere (L14)."""

from __future__ import annotations

import pytest

from processors.faults import Retryable, Undecodable
from processors.ids import SLICE_MS, slice_of
from processors.ledger.book import Keys
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Reason, Status
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.stores.partitions import TABLES, drop_slice, ensure_slices, slices, slices_with_any_table
from processors.stores.rows import NewJournalRow
from processors.stores.shard_reader import ShardReader, open_reader
from processors.stores.snapshot_rows import SnapshotSource
from tests.integration.mysql_shard import (
    Lane,
    clock_ms,
    journal_row,
    new_id,
    rows_of,
    take_lane,
)


def write(lane: Lane, *sizes: int) -> list[NewJournalRow]:
    """Write batches of so many records each, and return their rows."""
    written = []
    for size in sizes:
        first = lane.progress.at.next_offset
        rows = [journal_row(first + number) for number in range(size)]
        lane.write(size, journal=rows)
        written += rows
    return written


def results_by_offset(rows: list[NewJournalRow]) -> list[tuple[int, bytes]]:
    return [(new.row.lane_offset, new.row.result) for new in rows]


@pytest.mark.rule("L14")
def test_results_come_back_literally_however_batches_lie_in_windows(address: MysqlAddress) -> None:
    lane = take_lane(address)
    written = write(lane, 1, 3, 240, 20, 700, 1, 1)

    found = lane.store.answers(0, 966)

    assert [(row.lane_offset, row.result) for row in found] == results_by_offset(written)
    assert lane.store.answers(243, 245) == [new.row for new in written[243:245]]
    begins = rows_of(address, "SELECT offset_window, first_offset FROM journal_chunk ORDER BY first_offset")
    assert begins == [(0, 0), (0, 1), (0, 4), (0, 244), (1, 250), (1, 264), (2, 500), (3, 750), (3, 964), (3, 965)]


@pytest.mark.rule("I3")
def test_ids_of_far_and_near_find_their_results(address: MysqlAddress, reader: ShardReader) -> None:
    lane = take_lane(address)
    written = write(lane, 300, 1, 900)
    chosen = [written[number] for number in (0, 249, 250, 299, 300, 301, 1_200)]
    keys = {("acme", new.row.command_id): None for new in chosen}

    lane.store.begin(lane.progress, None, Keys(decisions={**keys, ("acme", new_id()): None}))
    found = lane.store.loaded().decisions
    lane.store.finish()

    results = {("acme", new.row.command_id): new.row.result for new in chosen}
    assert {key: decision.result for key, decision in found.items()} == results
    assert reader.decided(keys) == results


@pytest.mark.rule("I1")
def test_rows_of_one_record_are_told_apart_by_their_index_across_chunks(address: MysqlAddress) -> None:
    lane = take_lane(address)
    rows = [journal_row(0, lane_index=number, result=bytes([number]) * 100_000) for number in range(9)]
    lane.write(1, journal=rows)

    assert rows_of(address, "SELECT COUNT(*) > 1 FROM journal_chunk") == [(1,)]
    assert lane.store.answers(0, 1) == [new.row for new in rows]


@pytest.mark.rule("L14")
def test_a_row_without_its_result_is_told_and_not_passed_over(address: MysqlAddress, reader: ShardReader) -> None:
    lane = take_lane(address)
    (new,) = write(lane, 1)
    session = Session(address, lane=False)
    session.execute("DELETE FROM journal_chunk", "damage")
    session.close()

    with pytest.raises(Undecodable, match="no chunk of the journal has the result of its row at slice"):
        lane.store.answers(0, 1)
    with pytest.raises(Undecodable, match="no chunk of the journal"):
        reader.slice_rows(new.row.slice, 0)
    with pytest.raises(Undecodable, match="no chunk of the journal"):
        reader.decided([("acme", new.row.command_id)])


def test_only_what_another_command_began_has_a_step(address: MysqlAddress, reader: ShardReader) -> None:
    lane = take_lane(address)
    hold = journal_row(0, type="PLACE_HOLD")
    capture = journal_row(1, type="CAPTURE_HOLD", transaction_id=hold.row.command_id)
    lane.write(2, journal=[hold, capture])

    assert rows_of(address, "SELECT transaction_id, lane_offset FROM journal_step") == [(hold.row.command_id, 1)]
    assert reader.transaction(hold.row.command_id) == [hold.row, capture.row]
    assert reader.transaction(capture.row.command_id) == [capture.row]


def test_the_view_has_the_name_of_every_type_status_and_reason(address: MysqlAddress) -> None:
    lane = take_lane(address)
    types, statuses, reasons = list(CommandType), list(Status), list(Reason)
    count = max(len(types), len(reasons))
    told = [
        (types[number % len(types)], statuses[number % len(statuses)], reasons[number % len(reasons)])
        for number in range(count)
    ]
    rows = [journal_row(number, type=each[0], status=each[1], reason=each[2]) for number, each in enumerate(told)]
    lane.write(count, journal=rows)

    shown = rows_of(address, "SELECT type, status, reason, root, currency, amount_minor FROM journal_text ORDER BY 1")
    assert sorted(shown) == sorted((*map(str, each), "acme", "USD", 1_250) for each in told)


@pytest.mark.rule("A7")
def test_a_slice_goes_from_every_table_also_where_it_was_half_dropped(address: MysqlAddress) -> None:
    old_ms = clock_ms() - 10 * SLICE_MS
    number = slice_of(old_ms)
    session = Session(address, lane=False)
    ensure_slices(session, range(number, number + 1))
    lane = take_lane(address)
    gone = journal_row(0, command_id=new_id(old_ms), transaction_id=new_id(old_ms))
    lane.write(2, journal=[gone, journal_row(1)])
    session.execute(f"ALTER TABLE journal DROP PARTITION p{number}", "as if killed in between")
    assert (number in slices(session), number in slices_with_any_table(session)) == (False, True)
    assert open_reader(address).slice_rows(number, 0) == []

    drop_slice(session, number)

    assert number not in slices_with_any_table(session)
    counts = [rows_of(address, f"SELECT COUNT(*) FROM {table}") for table in TABLES]
    assert counts == [[(1,)], [(0,)], [(1,)]]
    session.close()


@pytest.mark.rule("V1")
def test_a_copy_of_a_slice_that_was_half_dropped_meanwhile_counts_for_nothing(address: MysqlAddress) -> None:
    """Its rows are gone, and its results are there still: what is copied then has too few rows, without an error."""
    session = Session(address, lane=False)
    number = slices(session)[-1] + 1
    ensure_slices(session, range(number, number + 1))
    source = SnapshotSource(address, "s1")
    source.refuse_dropped()

    session.execute(f"ALTER TABLE journal DROP PARTITION p{number}", "as if killed in between")

    with pytest.raises(Retryable, match=rf"slices \[{number}\] were removed while they were copied"):
        source.refuse_dropped()
    source.close()
    drop_slice(session, number)
    session.close()


@pytest.mark.rule("A7")
def test_a_slice_that_was_half_made_is_made(address: MysqlAddress) -> None:
    session = Session(address, lane=False)
    number = slices(session)[-1] + 1
    session.execute(f"ALTER TABLE journal_step ADD PARTITION (PARTITION p{number} VALUES IN ({number}))", "half made")

    ensure_slices(session, range(number, number + 1))

    lane = take_lane(address)
    lane.write(1, journal=[journal_row(0, command_id=new_id(number * SLICE_MS), transaction_id=new_id())])
    assert len(lane.store.answers(0, 1)) == 1
    session.execute("DELETE FROM journal", "emptying")
    drop_slice(session, number)
    session.close()
