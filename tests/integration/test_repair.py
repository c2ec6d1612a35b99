"""What the archive lost comes back from MySQL's rows, and nothing is written but that (A6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processors.ids import SLICE_MS
from processors.ops.cli.proving import summary_of
from processors.recovery.repair import Repair, RepairParts, repair
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.shard_reader import open_reader
from processors.wire.journal_chunk import encode_chunk
from processors.wire.results import Result, decode_result
from tests.archived import NOW_MS, Ledger, a_posting, all_rows, alter_change, alter_places
from tests.integration.mysql_shard import TOPIC_ID
from tests.integration.removal import (
    CAPTURE,
    LANES,
    LATER,
    PAST_MS,
    ROWS,
    SHARD,
    SLICE,
    Shard,
)

DELETED_US = (NOW_MS + SLICE_MS) * 1_000  # after the rows were written
REPAIRED_MS = NOW_MS + 2 * SLICE_MS


def repaired(shard: Shard, *, write: bool = True) -> Repair:
    return repair(
        open_reader(shard.mysql),
        RepairParts(
            archive=ArchiveReader(shard.session),
            writer=ArchiveWriter(shard.session) if write else None,
            results_partitions=SHARD.results_partitions,
            now_ms=lambda: REPAIRED_MS,
        ),
        lambda _what, _rows: None,
    )


def without_change(shard: Shard) -> None:
    alter_change(shard.session, "partner-1", 6, DELETED_US)


def without_steps(shard: Shard) -> None:
    hold = decode_result(shard.ledgers[1].results[CAPTURE]).transaction_id
    alter_places(shard.session, hold, DELETED_US)


def without_the_lanes_journal(shard: Shard) -> None:
    shard.cql(
        "DELETE FROM $journal USING TIMESTAMP ? WHERE shard = ? AND lane = 1 AND bucket = 0",
        DELETED_US, TOPIC_ID,
    )  # fmt: skip


def without_anything(shard: Shard) -> None:
    """Leave what a sink leaves that was set behind results which had left the topic: coverage alone."""
    for table in ("journal", "transaction_index", "statement_chunk", "statement_day"):
        shard.session.execute(f"TRUNCATE {table}")


LOST = [
    (without_change, 1),
    (without_steps, 2),
    (without_the_lanes_journal, 33),
    (without_anything, 2 * (33 + 34 + 30)),
]


@pytest.mark.rule("A6")
@pytest.mark.parametrize(("harm", "lost"), LOST, ids=[harm.__name__ for harm, _ in LOST])
def test_what_is_lost_is_named_then_brought_back_and_its_slice_goes(
    shard: Shard, harm: Callable[[Shard], None], lost: int
) -> None:
    harm(shard)
    before = all_rows(shard.session)
    assert SLICE not in shard.remover().step(PAST_MS)

    named = repaired(shard, write=False)
    assert (named.compared, named.found, named.left) == (ROWS, lost, lost)
    assert all_rows(shard.session) == before
    assert "nothing was written" in summary_of(named, write=False)

    done = repaired(shard)
    assert (done.found, done.left, done.told) == (lost, 0, [])
    assert summary_of(done, write=True) == f"{ROWS} rows compared, {lost} differences, {lost} mended, 0 left"
    assert repaired(shard).found == 0
    assert len(list(ArchiveReader(shard.session).statement("partner-1", "USD"))) == 30
    assert SLICE in shard.remover().step(PAST_MS)


def test_what_differs_is_named_and_never_overwritten(shard: Shard) -> None:
    another_change(shard, decode_result(shard.ledgers[1].results[5]))
    before = all_rows(shard.session)

    done = repaired(shard)

    assert [(each.kind, each.lane, each.lane_offset) for each in done.told] == [("ARCHIVE_CHANGE_DIFFERS", 1, 5)]
    assert all_rows(shard.session) == before


def another_step(shard: Shard, payment: Result) -> None:
    alter_places(shard.session, payment.transaction_id, DELETED_US, lambda place: (*place[:3], 250))


def another_change(shard: Shard, _payment: Result) -> None:
    alter_change(shard.session, "partner-1", 6, DELETED_US, lambda entry: entry[:-1] + b"\x02 ")  # other metadata


def without_step(shard: Shard, payment: Result) -> None:
    alter_places(shard.session, payment.transaction_id, DELETED_US)


BOTH = [
    (lambda shard, _: without_change(shard), another_step, ["ARCHIVE_STEP_DIFFERS", "ARCHIVE_CHANGE_MISSING"]),
    (without_step, another_change, ["ARCHIVE_STEP_MISSING", "ARCHIVE_CHANGE_DIFFERS"]),
]


@pytest.mark.rule("A6")
@pytest.mark.parametrize(("lose", "alter", "kinds"), BOTH, ids=["step differs", "change differs"])
def test_a_row_of_which_something_is_lost_and_something_differs_is_left_as_it_is(
    shard: Shard, lose: Callable[[Shard, Result], None], alter: Callable[[Shard, Result], None], kinds: list[str]
) -> None:
    payment = decode_result(shard.ledgers[1].results[5])
    lose(shard, payment)
    alter(shard, payment)
    before = all_rows(shard.session)

    done = repaired(shard)

    assert [(each.kind, each.lane, each.lane_offset) for each in done.told] == [(kind, 1, 5) for kind in kinds]
    assert all_rows(shard.session) == before


@pytest.mark.rule("A6")
def test_only_rows_that_no_chunk_has_are_put_into_a_new_one(shard: Shard) -> None:
    results = shard.ledgers[1].results
    without_the_lanes_journal(shard)
    chunk = [(offset, 0, results[0] if offset == 5 else results[offset]) for offset in range(32)]
    blob = encode_chunk(chunk)
    shard.cql(
        "INSERT INTO $journal (shard, lane, bucket, first_offset, last_offset, hash, chunk) "
        "VALUES (?, 1, 0, 0, 31, ?, ?) USING TIMESTAMP ?",
        TOPIC_ID, bytes(32), blob, DELETED_US + 1,
    )  # fmt: skip
    for offset in (5, 6):
        without_step(shard, decode_result(results[offset]))

    done = repaired(shard)

    left = [("ARCHIVE_ROW_DIFFERS", 5), ("ARCHIVE_STEP_MISSING", 5)]
    assert (done.found, [(each.kind, each.lane_offset) for each in done.told]) == (4, left)
    archived = ArchiveReader(shard.session).journal(TOPIC_ID, 1, 0, 100)
    assert sorted(archived) == [*chunk, (32, 0, results[32])]
    journal = all_rows(shard.session, "journal")["journal"]
    assert [row[3:5] for row in journal if row[1] == 1] == [(0, 31), (32, 32)]


@pytest.mark.rule("A6")
def test_a_change_that_another_row_tells_otherwise_differs(shard: Shard) -> None:
    ledger = Ledger(lane=0, offset=ROWS, time_ms=NOW_MS + ROWS)
    for balance in (1, 2):
        posting = a_posting(address="partner-0", sequence=100, balance=balance)
        ledger.add(root="partner-0", address="partner-0", postings=(posting,))
    shard.write(0, ledger)

    done = repaired(shard)

    assert [(each.kind, each.lane, each.lane_offset) for each in done.told] == [
        ("ARCHIVE_CHANGE_DIFFERS", 0, ROWS),
        ("ARCHIVE_CHANGE_DIFFERS", 0, ROWS + 1),
    ]


def test_what_a_deletion_of_the_future_takes_away_again_is_left(shard: Shard) -> None:
    shard.cql(
        "DELETE FROM $statement_chunk USING TIMESTAMP ? WHERE root = 'partner-1' AND address = 'partner-1' "
        "AND currency = 'USD' AND bucket = 0",
        LATER,
    )

    done = repaired(shard)

    assert (done.found, done.left) == (30, 30)
    assert {each.kind for each in done.told} == {"ARCHIVE_CHANGE_MISSING"}


def test_what_the_sink_has_not_passed_is_left_to_it(shard: Shard) -> None:
    shard.session.execute("TRUNCATE coverage")
    without_anything(shard)

    assert repaired(shard).compared == 0
    assert all_rows(shard.session)["statement_chunk"] == []


def test_a_chunk_that_cannot_be_read_is_named(shard: Shard) -> None:
    select = shard.session.prepare("SELECT shard, lane, bucket, first_offset, last_offset, hash, chunk FROM $journal")
    *key, chunk = next(row for row in shard.session.rows(select, ()) if row[1] == LANES - 1)
    shard.cql(
        "INSERT INTO $journal (shard, lane, bucket, first_offset, last_offset, hash, chunk) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        *key, chunk[:-1], DELETED_US,
    )  # fmt: skip

    (told,) = repaired(shard).told
    assert told.kind == "ARCHIVE_UNREADABLE"
    assert f"the archived chunk of lane 1, offsets 0 to 31, hash 0x{key[5].hex()} cannot be read" in told.detail
