"""What one result becomes in the archive; no server is needed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from processors.ids import derived_id
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Contra, Reason, Status
from processors.stores.archive_reader import ChangeKey
from processors.stores.archive_reader import changes_of as changes_in
from processors.stores.archive_rows import (
    PLACE,
    ArchiveRows,
    Collector,
    Covered,
    bigint,
    covered_values,
    day_values,
    integer,
    position_values,
    tinyint,
)
from processors.stores.archive_writer import GROUP_BYTES, groups, size_of
from processors.wire.journal_chunk import decode_chunk
from processors.wire.result_format import write_result
from processors.wire.results import Result
from processors.wire.statement_chunk import decode_statement_chunk, decode_statement_entry
from tests.archived import INCARNATION, NOW_MS, a_posting, a_result, id_at

DAY = NOW_MS // 86_400_000


def rows_of(*results: Result, results_partition: int = 0) -> ArchiveRows:
    collector = Collector()
    for result in results:
        collector.add(results_partition, write_result(result))
    return collector.take()


def chunks_of(rows: ArchiveRows) -> list[tuple[int, int, int]]:
    """Return first offset, last offset and number of rows of each chunk, in order."""
    values = sorted((row for part in rows.journal.values() for row in part), key=lambda row: row[3])
    return [(number(row[3]), number(row[4]), len(decode_chunk(row[6]))) for row in values]


def places_of(rows: ArchiveRows) -> list[tuple[bytes, int, int, int]]:
    """Return id, lane offset, index and chunk's first offset of every entry of the index, in no order."""
    return [entry for part in rows.places.values() for row in part for entry in PLACE.iter_unpack(row[6])]


def changes_of(rows: ArchiveRows) -> dict[tuple[bytes, ...], list[list[int]]]:
    """Return, by partition, the sequences of each chunk of a statement."""
    return {
        key: [[sequence for sequence, _ in decode_statement_chunk(row[7])] for row in part]
        for key, part in rows.statement.items()
    }


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
    assert places_of(rows) == [(control, 7, 0, 7)]
    assert rows.statement == {}
    assert rows.days == {}


@pytest.mark.rule("A2")
def test_every_row_is_written_under_the_version_of_its_result() -> None:
    rows = rows_of(a_result(version_us=77))
    versions = {
        row[-1] for table in (rows.places, rows.statement, rows.journal) for part in table.values() for row in part
    }

    assert versions == {bigint(77)}
    assert covered_values(INCARNATION, 0, 0, rows.covered[INCARNATION, "s1", 0, 0])[-1] == bigint(77)


@pytest.mark.rule("A2")
def test_a_chunk_has_the_version_of_its_last_row() -> None:
    rows = rows_of(a_result(0, version_us=70), a_result(1, version_us=80))

    assert [row[-1] for part in rows.journal.values() for row in part] == [bigint(80)]


@pytest.mark.rule("A2")
def test_the_first_sequence_of_a_day_has_the_highest_version_of_that_day() -> None:
    first, later = day_values((b"acme", b"USD", DAY), 5), day_values((b"acme", b"USD", DAY), 6)

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
        collector.add(partition, write_result(result))

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
def test_a_step_lies_under_the_second_and_bucket_of_each_of_its_ids() -> None:
    hold = bytes.fromhex("018bcfe56800700080000000000000") + b"\xf3"
    void = id_at(NOW_MS)[:15] + b"\x05"

    rows = rows_of(a_result(7, type=CommandType.VOID_HOLD, command_id=void, transaction_id=hold, postings=()))

    keys = [(bigint(1_700_000_000), tinyint(3)), (bigint(NOW_MS // 1_000), tinyint(5))]
    assert {key: [row[2:5] for row in part] for key, part in rows.places.items()} == {
        key: [[INCARNATION, integer(0), bigint(7)]] for key in keys
    }
    assert [PLACE.unpack(rows.places[key][0][6])[0] for key in keys] == [hold, void]


@pytest.mark.rule("A4")
@pytest.mark.parametrize("kind", [CommandType.CAPTURE_HOLD, CommandType.VOID_HOLD])
def test_a_capture_or_void_is_archived_under_its_holds_id_and_under_its_own(kind: CommandType) -> None:
    hold, own = id_at(NOW_MS - 3_600_000), id_at(NOW_MS)

    rows = rows_of(a_result(251), a_result(252, type=kind, command_id=own, transaction_id=hold))

    assert {entry for entry in places_of(rows) if entry[1] == 252} == {(hold, 252, 0, 251), (own, 252, 0, 251)}


@pytest.mark.rule("A4")
def test_the_services_own_step_is_archived_under_its_transaction_alone() -> None:
    hold = id_at(NOW_MS)
    own = derived_id("EXPIRE_HOLD", hold)

    rows = rows_of(a_result(type=CommandType.EXPIRE_HOLD, command_id=own, transaction_id=hold, postings=()))

    assert places_of(rows) == [(hold, 0, 0, 0)]


@pytest.mark.rule("A4")
def test_places_of_a_second_and_bucket_are_one_row_of_their_lane_in_the_ids_order() -> None:
    ids = [id_at(NOW_MS)[:15] + bytes([0x10 * n]) for n in range(6)]
    results = [a_result(300 - n, command_id=id_, lane=n % 2, lane_index=n) for n, id_ in enumerate(ids)]

    (part,) = rows_of(*results).places.values()

    by_lane = {number(row[3]): (number(row[4]), list(PLACE.iter_unpack(row[6]))) for row in part}
    assert by_lane == {
        lane: (
            300 - max(range(lane, 6, 2)),
            sorted((ids[n], 300 - n, n, 296 - lane if lane == 0 else 295) for n in range(lane, 6, 2)),
        )
        for lane in (0, 1)
    }
    assert all(row[5] == hashlib.sha256(row[6]).digest() for row in part)


@pytest.mark.rule("A3")
def test_a_step_that_was_published_twice_is_in_the_index_once() -> None:
    result = a_result(0)

    assert len(places_of(rows_of(result, result))) == 1


@pytest.mark.rule("A4")
def test_each_level_that_changed_has_its_change_in_a_chunk_with_every_figure() -> None:
    postings = (
        a_posting(address="acme", sequence=20_001, balance_change=-5, balance=10),
        a_posting(
            address="acme:vn", sequence=7, balance_change=-5, balance=3, held=1, held_change=-5, overdraft_limit=9
        ),
    )
    result = a_result(address="acme:vn", postings=postings, metadata=b'{"order":"1"}')

    rows = rows_of(result)

    root_key = (b"acme", b"acme", b"USD", bigint(2))
    child_key = (b"acme", b"acme:vn", b"USD", bigint(0))
    assert rows.statement.keys() == {root_key, child_key}
    for key, posting in ((root_key, postings[0]), (child_key, postings[1])):
        ((*head, digest, chunk, version),) = rows.statement[key]
        assert head == [*key, bigint(posting.sequence), bigint(posting.sequence)]
        assert (digest, version) == (hashlib.sha256(chunk).digest(), bigint(NOW_MS * 1000))
        ((sequence, entry),) = decode_statement_chunk(chunk)
        row = decode_statement_entry(entry)
        assert sequence == posting.sequence
        assert {ChangeKey(posting.address, "USD", sequence): row}.items() <= changes_in(result).items()
    assert rows.days == {(b"acme", b"USD", DAY): 20_001, (b"acme:vn", b"USD", DAY): 7}


@pytest.mark.rule("A3")
def test_an_accounts_changes_are_one_chunk_but_for_windows_buckets_and_days() -> None:
    sequences = [*range(9_997, 10_003), 10_249, 10_250]
    results = [a_result(n, postings=(a_posting(sequence=sequence),)) for n, sequence in enumerate(sequences)]
    next_day = a_result(90, lane_time_ms=NOW_MS + 86_400_000, postings=(a_posting(sequence=10_251),))

    rows = rows_of(*reversed(results), next_day, results[0])

    assert {key: sorted(chunks) for key, chunks in changes_of(rows).items()} == {
        (b"acme", b"acme", b"USD", bigint(0)): [[9_997, 9_998, 9_999]],
        (b"acme", b"acme", b"USD", bigint(1)): [[10_000, 10_001, 10_002, 10_249], [10_250], [10_251]],
    }
    assert rows.days == {(b"acme", b"USD", DAY): 9_997, (b"acme", b"USD", DAY + 1): 10_251}


def test_a_chunk_of_changes_is_closed_before_it_grows_too_large() -> None:
    large = b'"' + b"x" * 4_000 + b'"'

    rows = rows_of(*(a_result(offset, metadata=large) for offset in range(100)))

    assert [list(map(len, chunks)) for chunks in changes_of(rows).values()] == [[65, 35]]


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

    assert rows.days == {(b"acme", b"USD", DAY): 3}


@pytest.mark.rule("A4")
def test_a_day_begins_with_the_lowest_sequence_whatever_the_order() -> None:
    results = [a_result(offset, postings=(a_posting(sequence=sequence),)) for offset, sequence in enumerate((9, 8, 10))]

    assert rows_of(*results).days == {(b"acme", b"USD", DAY): 8}


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
    collector.add(0, write_result(result))

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
