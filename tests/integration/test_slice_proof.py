"""Slices of a real MySQL read back from a real Cassandra: one row missing or different, and they stay (A6)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from processors.archive.slice_proof import SliceProver
from processors.faults import Unavailable
from processors.ids import SLICE_MS
from processors.stores.archive_reader import ArchiveReader, ChangeKey, StepKey
from processors.stores.archive_rows import StatementRow
from processors.stores.cassandra import CassandraSession
from processors.stores.rows import JournalRow
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.wire.journal_chunk import ChunkRow
from processors.wire.results import decode_result
from processors.workers.remover import FINDING_PAUSE_MS, Remover, RemoverOptions
from tests.archived import INCARNATION, NOW_MS, Ledger
from tests.integration.removal import (
    CAPTURE,
    CONTROL,
    EXPIRY,
    LANES,
    LATER,
    PAST_MS,
    ROWS,
    SHARD,
    SLICE,
    Shard,
    make_shard,
    with_stories,
)
from tests.servers import Servers


@pytest.fixture
def empty_shard(servers: Servers, fresh_database: Callable[[], str], session: CassandraSession) -> Shard:
    return make_shard(servers, fresh_database, session)


@pytest.fixture
def shard(empty_shard: Shard) -> Shard:
    return with_stories(empty_shard)


@pytest.mark.rule("A3")
@pytest.mark.rule("A6")
def test_rows_that_were_archived_in_several_cuts_are_proven(shard: Shard) -> None:
    for lane in range(LANES):
        shard.archive(shard.ledgers[lane].results, cut=7)

    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("A6")
def test_a_slice_of_several_ranges_with_gaps_between_its_rows_is_proven_to_its_last_row(empty_shard: Shard) -> None:
    ledger = Ledger(lane=0, offset=95_000)
    for number in range(4_500):
        if number % 900 == 0:
            ledger.offset += 3_001  # what other slices and answers without a row take up
        ledger.pay(root="partner-0")
    empty_shard.write(0, ledger)
    empty_shard.write(1, Ledger(lane=1))
    empty_shard.publish()
    last = decode_result(ledger.results[-1])
    empty_shard.cql(
        "DELETE FROM $transaction_by_id USING TIMESTAMP ? WHERE minute = ? AND bucket = ? AND transaction_id = ?",
        LATER, int.from_bytes(last.command_id[:6], "big") // 60_000, last.command_id[15] % 16, last.command_id,
    )  # fmt: skip

    assert SLICE not in empty_shard.remover().step(PAST_MS)
    assert empty_shard.findings() == [
        ("ARCHIVE_STEP_MISSING", f"slice {SLICE}, lane 0 offset {last.lane_offset} index 0")
    ]


# ------------------------------------------------------------------ (c) read back


def chunk_of(shard: Shard, lane: int) -> tuple[Any, ...]:
    select = shard.session.prepare("SELECT shard, lane, bucket, first_offset, last_offset, hash, chunk FROM $journal")
    return next(row for row in shard.session.rows(select, ()) if row[1] == lane and row[3] == 0)


def without_chunk(shard: Shard) -> None:
    shard.cql(
        "DELETE FROM $journal USING TIMESTAMP ? "
        "WHERE shard = ? AND lane = ? AND bucket = ? AND first_offset = ? AND last_offset = ? AND hash = ?",
        LATER, *chunk_of(shard, 1)[:6],
    )  # fmt: skip


def with_a_changed_byte_in_the_chunk(shard: Shard) -> None:
    *key, chunk = chunk_of(shard, 1)
    payload = shard.ledgers[1].results[5]
    changed = bytearray(payload)
    changed[-1] ^= 2
    shard.cql(
        "INSERT INTO $journal (shard, lane, bucket, first_offset, last_offset, hash, chunk) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        *key, chunk.replace(payload, bytes(changed)), LATER,
    )  # fmt: skip


def with_a_second_copy_that_differs(shard: Shard) -> None:
    *key, chunk = chunk_of(shard, 1)
    payload = shard.ledgers[1].results[5]
    changed = bytearray(payload)
    changed[-1] ^= 2
    key[5] = b"another cut"
    shard.cql(
        "INSERT INTO $journal (shard, lane, bucket, first_offset, last_offset, hash, chunk) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        *key, chunk.replace(payload, bytes(changed)), LATER,
    )  # fmt: skip


def step_key(shard: Shard, offset: int, *, own: bool = False) -> tuple[int, int, bytes, str, bytes]:
    result = decode_result(shard.ledgers[1].results[offset])
    id_ = result.command_id if own else result.transaction_id
    return int.from_bytes(id_[:6], "big") // 60_000, id_[15] % 16, id_, result.root, result.command_id


def without_step(offset: int, *, own: bool = False) -> Callable[[Shard], None]:
    def harm(shard: Shard) -> None:
        shard.cql(
            "DELETE FROM $transaction_by_id USING TIMESTAMP ? "
            "WHERE minute = ? AND bucket = ? AND transaction_id = ? AND root = ? AND step = ?",
            LATER, *step_key(shard, offset, own=own),
        )  # fmt: skip

    return harm


def with_a_changed_step(shard: Shard) -> None:
    shard.cql(
        "INSERT INTO $transaction_by_id (minute, bucket, transaction_id, root, step, result) "
        "VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        *step_key(shard, 5), shard.ledgers[1].results[4], LATER,
    )  # fmt: skip


STATEMENT_KEY = "root = 'partner-1' AND address = 'partner-1' AND currency = 'USD' AND bucket = 0 AND sequence = 6"


def without_change(shard: Shard) -> None:
    shard.cql(f"DELETE FROM $statement USING TIMESTAMP ? WHERE {STATEMENT_KEY}", LATER)


def with_a_changed_change(shard: Shard) -> None:
    shard.cql(f"UPDATE $statement USING TIMESTAMP ? SET balance_change = 1 WHERE {STATEMENT_KEY}", LATER)


def with_an_emptied_change(shard: Shard) -> None:
    shard.cql(f"DELETE metadata FROM $statement USING TIMESTAMP ? WHERE {STATEMENT_KEY}", LATER)


def with_a_broken_chunk(shard: Shard) -> None:
    *key, chunk = chunk_of(shard, 1)
    shard.cql(
        "INSERT INTO $journal (shard, lane, bucket, first_offset, last_offset, hash, chunk) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        *key, chunk[:-1], LATER,
    )  # fmt: skip


def with_a_changed_row_in_mysql(shard: Shard) -> None:
    shard.sql(f"UPDATE journal SET result = CONCAT(result, 'x') WHERE slice = {SLICE} AND lane = 1 AND lane_offset = 5")


@pytest.mark.rule("A6")
@pytest.mark.parametrize(
    ("harm", "kinds", "offset"),
    [
        (without_chunk, {"ARCHIVE_ROW_MISSING"}, 0),
        (with_a_changed_byte_in_the_chunk, {"ARCHIVE_ROW_DIFFERS"}, 5),
        (with_a_second_copy_that_differs, {"ARCHIVE_ROW_DIFFERS"}, 5),
        (without_step(5), {"ARCHIVE_STEP_MISSING"}, 5),
        (with_a_changed_step, {"ARCHIVE_STEP_DIFFERS"}, 5),
        (without_step(CAPTURE), {"ARCHIVE_STEP_MISSING"}, CAPTURE),
        (without_step(CAPTURE, own=True), {"ARCHIVE_STEP_MISSING"}, CAPTURE),
        (without_step(EXPIRY), {"ARCHIVE_STEP_MISSING"}, EXPIRY),  # its minute is its hold's, not its slice's (I7)
        (without_step(CONTROL), {"ARCHIVE_STEP_MISSING"}, CONTROL),
        (without_change, {"ARCHIVE_CHANGE_MISSING"}, 5),
        (with_a_changed_change, {"ARCHIVE_CHANGE_DIFFERS"}, 5),
        (with_an_emptied_change, {"ARCHIVE_CHANGE_DIFFERS"}, 5),
        (with_a_broken_chunk, {"ARCHIVE_UNREADABLE"}, 0),
        (with_a_changed_row_in_mysql, {"ARCHIVE_ROW_DIFFERS", "ARCHIVE_STEP_DIFFERS"}, 5),
    ],
    ids=lambda value: value.__qualname__.split(".")[0] if callable(value) else None,
)
def test_a_slice_with_one_row_missing_or_different_stays_and_is_a_finding(
    shard: Shard, harm: Callable[[Shard], None], kinds: set[str], offset: int
) -> None:
    harm(shard)

    assert shard.remover().step(PAST_MS) == [SLICE - 1]  # a slice without rows goes

    assert shard.journal_rows() == ROWS
    findings = shard.findings()
    assert {kind for kind, _ in findings} == kinds
    assert findings[0][1] == f"slice {SLICE}, lane 1 offset {offset} index 0"


@pytest.mark.rule("A6")
def test_a_finding_is_resolved_when_its_slice_goes_after_all(shard: Shard) -> None:
    remover = shard.remover()
    without_step(5)(shard)
    remover.step(PAST_MS)
    subject = f"slice {SLICE}, lane 1 offset 5 index 0"
    assert shard.findings() == [("ARCHIVE_STEP_MISSING", subject)]

    shard.cql(
        "INSERT INTO $transaction_by_id (minute, bucket, transaction_id, root, step, result) "
        "VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        *step_key(shard, 5), shard.ledgers[1].results[5], LATER + 1,
    )  # fmt: skip
    assert remover.step(PAST_MS + FINDING_PAUSE_MS - 1) == []  # not read again at once
    assert remover.step(PAST_MS + FINDING_PAUSE_MS) == [SLICE]

    assert shard.findings() == []
    assert shard.findings(resolved=True) == [("ARCHIVE_STEP_MISSING", subject)]


@pytest.mark.parametrize("harm", [without_step(0), with_a_broken_chunk], ids=["step", "chunk"])
def test_a_slice_that_must_stay_does_not_keep_others(empty_shard: Shard, harm: Callable[[Shard], None]) -> None:
    ledgers = {lane: Ledger(lane=lane) for lane in range(LANES)}
    for lane, ledger in ledgers.items():
        for hour in range(2):
            ledger.time_ms = NOW_MS + hour * SLICE_MS
            ledger.offset = hour * 1_000  # in a chunk of its own
            ledger.pay(root=f"partner-{lane}")
        empty_shard.write(lane, ledger)
    empty_shard.publish(PAST_MS + SLICE_MS)
    harm(empty_shard)

    removed = empty_shard.remover().step(PAST_MS + SLICE_MS)

    assert removed == [SLICE - 1, SLICE + 1]
    assert empty_shard.journal_rows() == 2


@pytest.mark.rule("A7")
def test_a_slice_that_another_process_drops_while_it_is_read_is_not_taken_for_proven(shard: Shard) -> None:
    """Read after the drop it has too few rows, without an error."""
    reader = open_reader(shard.mysql)

    @dataclass(slots=True)
    class Overtaken:
        """A shard's journal, whose slice is dropped by someone else after the first range."""

        ranges: int = 0

        def slices(self) -> list[int]:
            return reader.slices()

        def slice_last_rows(self, number: int, results_partitions: int) -> dict[tuple[int, int], tuple[int, int]]:
            return reader.slice_last_rows(number, results_partitions)

        def slice_rows(
            self, number: int, lane: int, after: tuple[int, int] = (-1, 0), *, rows_max: int = 10
        ) -> list[JournalRow]:
            self.ranges += 1
            if self.ranges == 2:
                ShardUpkeep(shard.mysql).drop_slice(number)
            return reader.slice_rows(number, lane, after, rows_max=min(rows_max, 10))

    overtaken = Overtaken()
    prover = SliceProver(
        overtaken,
        ArchiveReader(shard.session),
        lanes=LANES,
        results_partitions=SHARD.results_partitions,
        stopping=threading.Event(),
    )

    proof = prover.prove(SLICE, INCARNATION)

    assert overtaken.ranges > 1
    assert not proof.complete


def test_a_proof_that_is_broken_off_counts_for_nothing(shard: Shard) -> None:
    archive = ArchiveReader(shard.session)

    @dataclass(slots=True)
    class Interrupted:
        """The archive; the process is told to stop while it is read."""

        def coverage(self, incarnation: bytes) -> Any:
            return archive.coverage(incarnation)

        def journal(self, incarnation: bytes, lane: int, from_offset: int, to_offset: int) -> list[ChunkRow]:
            shard.stopping.set()
            return archive.journal(incarnation, lane, from_offset, to_offset)

        def steps_at(self, keys: Any) -> dict[StepKey, bytes]:
            return archive.steps_at(keys)

        def changes_at(self, keys: Any) -> dict[ChangeKey, StatementRow]:
            return archive.changes_at(keys)

    prover = SliceProver(
        open_reader(shard.mysql),
        Interrupted(),
        lanes=LANES,
        results_partitions=SHARD.results_partitions,
        stopping=shard.stopping,
    )

    assert not prover.prove(SLICE, INCARNATION).complete


def test_without_the_archive_nothing_is_removed(shard: Shard) -> None:
    class Silent:
        def coverage(self, incarnation: bytes) -> Any:
            raise Unavailable(f"no answer about {incarnation.hex()}")

        def journal(self, incarnation: bytes, lane: int, from_offset: int, to_offset: int) -> list[ChunkRow]:
            raise AssertionError((incarnation, lane, from_offset, to_offset))

        def steps_at(self, keys: Any) -> dict[StepKey, bytes]:
            raise AssertionError(keys)

        def changes_at(self, keys: Any) -> dict[ChangeKey, StatementRow]:
            raise AssertionError(keys)

    options = RemoverOptions(shard="s1", lanes=LANES, results_partitions=4, archived_topic="balance.archived")
    remover = Remover(
        options, open_reader(shard.mysql), ShardUpkeep(shard.mysql), Silent(), shard.told, stopping=shard.stopping
    )

    with pytest.raises(Unavailable):
        remover.step(PAST_MS)
    assert shard.journal_rows() == ROWS
