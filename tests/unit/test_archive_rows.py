"""What one result becomes in the archive; no server is needed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from processors.ids import derived_id
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Contra, Reason, Status
from processors.stores.archive_rows import (
    ArchiveRows,
    Collector,
    Covered,
    bigint,
    covered_values,
    day_values,
    id_partition,
    integer,
    position_values,
    tinyint,
)
from processors.stores.archive_writer import GROUP_BYTES, groups, size_of
from processors.wire.journal_chunk import decode_chunk
from processors.wire.result_format import write_result
from processors.wire.results import Result
from tests.archived import INCARNATION, NOW_MS, a_posting, a_result, id_at

DAY = NOW_MS // 86_400_000


def rows_of(*results: Result, results_partition: int = 0) -> ArchiveRows:
    collector = Collector()
    for result in results:
        collector.add(results_partition, result, write_result(result))
    return collector.take()


def chunks_of(rows: ArchiveRows) -> list[tuple[int, int, int]]:
    """Return first offset, last offset and number of rows of each chunk, in order."""
    values = sorted((row for part in rows.journal.values() for row in part), key=lambda row: row[3])
    return [(number(row[3]), number(row[4]), len(decode_chunk(row[6]))) for row in values]


def number(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


@pytest.mark.rule("A1")
def test_a_result_without_a_journal_row_is_not_archived() -> None:
    rows = rows_of(a_result(journalled=False, version_us=0))

    assert rows == ArchiveRows()


@pytest.mark.rule("A1")
def test_a_control_row_is_archived_like_any_other_but_moves_nothing() -> None:
    control = derived_id("CONTROL", b"lane 0 offset 7")
    result = a_result(
        7, type=CommandType.CONTROL, root="", address="", currency="", command_id=control, transaction_id=control,
        postings=(), control=b"payload",
    )  # fmt: skip

    rows = rows_of(result)

    assert chunks_of(rows) == [(7, 7, 1)]
    assert [row[2:5] for part in rows.steps.values() for row in part] == [[control, b"", control]]
    assert rows.statement == {}
    assert rows.days == {}


@pytest.mark.rule("A2")
def test_every_row_is_written_under_the_version_of_its_result() -> None:
    rows = rows_of(a_result(version_us=77))
    versions = {
        row[-1] for table in (rows.steps, rows.statement, rows.journal) for part in table.values() for row in part
    }

    assert versions == {bigint(77)}
    assert covered_values(INCARNATION, 0, 0, rows.covered[INCARNATION, "s1", 0, 0])[-1] == bigint(77)


@pytest.mark.rule("A2")
def test_a_chunk_has_the_version_of_its_last_row() -> None:
    rows = rows_of(a_result(0, version_us=70), a_result(1, version_us=80))

    assert [row[-1] for part in rows.journal.values() for row in part] == [bigint(80)]


@pytest.mark.rule("A2")
def test_the_first_sequence_of_a_day_has_the_highest_version_of_that_day() -> None:
    first, later = day_values(("acme", "USD", DAY), 5), day_values(("acme", "USD", DAY), 6)

    assert number(first[-1]) > number(later[-1])
    assert number(first[-1]) // 86_400_000_000 == DAY  # and a time near the day, as servers expect of a version


@pytest.mark.rule("A3")
def test_chunks_end_at_bucket_borders() -> None:
    rows = rows_of(*(a_result(offset) for offset in (99_998, 99_999, 100_000, 100_001)))

    assert chunks_of(rows) == [(99_998, 99_999, 2), (100_000, 100_001, 2)]
    assert set(rows.journal) == {(INCARNATION, integer(0), bigint(0)), (INCARNATION, integer(0), bigint(1))}


@pytest.mark.rule("A3")
def test_chunks_end_at_window_borders_so_that_whole_windows_are_always_cut_alike() -> None:
    rows = rows_of(*(a_result(offset) for offset in (100, 249, 250, 499, 500)))

    assert chunks_of(rows) == [(100, 249, 2), (250, 499, 2), (500, 500, 1)]


@pytest.mark.rule("A3")
def test_a_chunk_is_named_by_the_hash_of_its_rows() -> None:
    (one,) = (row for part in rows_of(a_result(0), a_result(1)).journal.values() for row in part)
    (other,) = (row for part in rows_of(a_result(0), a_result(1)).journal.values() for row in part)

    assert one[5] == hashlib.sha256(one[6]).digest()
    assert one[3:5] == other[3:5]
    assert one[5] != other[5]  # other command ids


@pytest.mark.rule("A3")
def test_a_stretch_that_was_published_twice_is_in_a_chunk_once() -> None:
    one, other = a_result(0), a_result(1)

    assert chunks_of(rows_of(one, other, one, other)) == [(0, 1, 2)]


@pytest.mark.rule("A3")
def test_two_results_under_one_id_are_both_kept_for_the_remover_to_find() -> None:
    assert chunks_of(rows_of(a_result(0), a_result(0, amount_minor=1))) == [(0, 0, 2)]


def test_a_chunk_is_closed_before_it_grows_too_large() -> None:
    large = b'"' + b"x" * 4_000 + b'"'

    chunks = chunks_of(rows_of(*(a_result(offset, metadata=large) for offset in range(100))))

    assert [count for _, _, count in chunks] == [64, 36]  # 64 of 4.1 KB are the first to reach 256 KiB


@pytest.mark.rule("A3")
def test_rows_of_two_lanes_and_of_two_results_partitions_never_share_a_chunk() -> None:
    collector = Collector()
    for lane, partition, offset in ((0, 0, 0), (0, 1, 1), (0, 0, 2), (1, 0, 0)):
        result = a_result(offset, lane=lane)
        collector.add(partition, result, write_result(result))

    rows = collector.take()

    assert {key: sorted(len(decode_chunk(row[6])) for row in part) for key, part in rows.journal.items()} == {
        (INCARNATION, integer(0), bigint(0)): [1, 2],
        (INCARNATION, integer(1), bigint(0)): [1],
    }
    assert {key[2:]: (each.lane_offset, each.lane_index) for key, each in rows.covered.items()} == {
        (0, 0): (2, 0),
        (0, 1): (1, 0),
        (1, 0): (0, 0),
    }


@pytest.mark.rule("A4")
def test_a_step_lies_under_the_minute_and_bucket_of_its_transaction() -> None:
    hold = bytes.fromhex("018bcfe56800700080000000000000") + b"\xf3"
    capture = id_at(NOW_MS)

    rows = rows_of(a_result(type=CommandType.VOID_HOLD, command_id=capture, transaction_id=hold, postings=()))

    assert id_partition(hold) == (1_700_000_000_000 // 60_000, 3)
    key = (bigint(28_333_333), tinyint(3))
    assert [row[2:5] for row in rows.steps[key]] == [[hold, b"acme", capture]]


@pytest.mark.rule("A4")
@pytest.mark.parametrize("kind", [CommandType.CAPTURE_HOLD, CommandType.VOID_HOLD])
def test_a_capture_or_void_is_archived_under_its_holds_id_and_under_its_own(kind: CommandType) -> None:
    hold, own = id_at(NOW_MS - 3_600_000), id_at(NOW_MS)

    rows = rows_of(a_result(type=kind, command_id=own, transaction_id=hold))

    assert sorted(row[2:5] for part in rows.steps.values() for row in part) == sorted(
        [[hold, b"acme", own], [own, b"acme", own]]
    )


@pytest.mark.rule("A4")
def test_the_services_own_step_is_archived_under_its_transaction_alone() -> None:
    hold = id_at(NOW_MS)
    own = derived_id("EXPIRE_HOLD", hold)

    rows = rows_of(a_result(type=CommandType.EXPIRE_HOLD, command_id=own, transaction_id=hold, postings=()))

    assert [row[2:5] for part in rows.steps.values() for row in part] == [[hold, b"acme", own]]


@pytest.mark.rule("A4")
def test_a_step_holds_the_results_bytes_literally() -> None:
    result = a_result()

    (row,) = (row for part in rows_of(result).steps.values() for row in part)

    assert row[5] == write_result(result)


@pytest.mark.rule("A4")
def test_each_level_that_changed_has_a_statement_row() -> None:
    postings = (
        a_posting(address="acme", sequence=20_001, balance_change=-5, balance=10),
        a_posting(
            address="acme:vn", sequence=7, balance_change=-5, balance=3, held=1, held_change=-5, overdraft_limit=9
        ),
    )
    result = a_result(address="acme:vn", postings=postings, metadata=b'{"order":"1"}')

    rows = rows_of(result)

    id_, time, version = result.command_id, bigint(NOW_MS), bigint(NOW_MS * 1000)
    root_key = (b"acme", b"acme", b"USD", bigint(2))
    child_key = (b"acme", b"acme:vn", b"USD", bigint(0))
    assert rows.statement == {
        root_key: [
            [*root_key, bigint(20_001), b"PAY", id_, id_, b"SETTLEMENT", bigint(-5), bigint(0), bigint(10), bigint(0),
             bigint(0), time, b'{"order":"1"}', version]
        ],
        child_key: [
            [*child_key, bigint(7), b"PAY", id_, id_, b"SETTLEMENT", bigint(-5), bigint(-5), bigint(3), bigint(1),
             bigint(9), time, b'{"order":"1"}', version]
        ],
    }  # fmt: skip
    assert rows.days == {("acme", "USD", DAY): 20_001, ("acme:vn", "USD", DAY): 7}


@pytest.mark.rule("A4")
def test_a_posting_that_changes_nothing_has_no_statement_row() -> None:
    shown = a_posting(contra=Contra.NONE, balance_change=0, held_change=0, sequence=3)

    rows = rows_of(a_result(type=CommandType.GET_BALANCE, postings=(shown,)))

    assert rows.statement == {}
    assert rows.days == {}
    assert rows.count == 1


@pytest.mark.rule("A4")
def test_a_posting_that_only_holds_has_a_statement_row() -> None:
    held = a_posting(contra=Contra.NONE, balance_change=0, held_change=100, sequence=3)

    rows = rows_of(a_result(type=CommandType.PLACE_HOLD, postings=(held,)))

    assert rows.days == {("acme", "USD", DAY): 3}


@pytest.mark.rule("A4")
def test_a_day_begins_with_the_lowest_sequence_whatever_the_order() -> None:
    results = [a_result(offset, postings=(a_posting(sequence=sequence),)) for offset, sequence in enumerate((9, 8, 10))]

    assert rows_of(*results).days == {("acme", "USD", DAY): 8}


def test_a_rejection_is_archived_without_a_statement_row() -> None:
    refused = a_result(status=Status.REJECTED, reason=Reason.INVALID_ADDRESS, address="No\x00 address", postings=())

    rows = rows_of(refused)

    assert rows.count == 1
    assert rows.statement == {}
    assert chunks_of(rows) == [(0, 0, 1)]


@pytest.mark.rule("A5")
def test_coverage_is_the_last_row_by_offset_and_index_whatever_the_order() -> None:
    results = [a_result(2, lane_index=1), a_result(3), replace(a_result(3, lane_index=4), lane_time_ms=55), a_result(1)]

    rows = rows_of(*results, results_partition=6)

    assert rows.covered == {
        (INCARNATION, "s1", 0, 6): Covered(lane_offset=3, lane_index=4, lane_time_ms=55, version_us=(NOW_MS + 3) * 1000)
    }


def test_a_collector_begins_anew_with_each_batch() -> None:
    collector = Collector()
    result = a_result()
    collector.add(0, result, write_result(result))

    assert collector.take() == rows_of(result)
    assert collector.take() == ArchiveRows()


def test_a_position_is_its_own_version_so_that_a_lower_one_never_wins() -> None:
    assert position_values(INCARNATION, 3, 900) == [INCARNATION, integer(3), bigint(900), bigint(900)]


def test_rows_of_a_partition_are_grouped_by_size() -> None:
    rows = [[b"x" * 1_000]] * 100

    sizes = [sum(map(size_of, group)) for group in groups([rows, rows])]

    assert sum(sizes) == 200 * 1_020
    assert all(GROUP_BYTES <= size < GROUP_BYTES + 1_020 for size in sizes[:3] + sizes[4:7])
    assert len(sizes) == 8  # partitions do not share a group
