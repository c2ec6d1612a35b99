"""Slices of a real MySQL read back from a real Cassandra: one row missing or different, and they stay (A6)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from processors.archive.slice_proof import SliceProver
from processors.faults import Unavailable
from processors.ids import SLICE_MS
from processors.stores.archive_reader import ArchiveReader, ChangeKey, IndexedPlace
from processors.stores.archive_rows import Collector
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.rows import JournalRow
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.wire.journal_chunk import ChunkRow
from processors.wire.result_format import write_result
from processors.wire.results import decode_result
from processors.workers.remover import FINDING_PAUSE_MS, Remover, RemoverOptions
from tests.archived import INCARNATION, NOW_MS, Ledger, alter, alter_change, alter_places
from tests.integration.journal_chunks import change_result
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
)


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
    alter_places(empty_shard.session, last.command_id, LATER)

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


def id_of(shard: Shard, offset: int, *, own: bool = False) -> bytes:
    result = decode_result(shard.ledgers[1].results[offset])
    return result.command_id if own else result.transaction_id


def without_step(offset: int, *, own: bool = False) -> Callable[[Shard], None]:
    def harm(shard: Shard) -> None:
        id_ = id_of(shard, offset, own=own)
        alter_places(shard.session, id_, LATER, lambda place: None if place[1] == offset else place)

    return harm


def with_a_place_that_is_none(shard: Shard) -> None:
    """Have the index name a chunk that has another row."""
    alter_places(shard.session, id_of(shard, 5), LATER, lambda place: (*place[:3], 250))


def without_change(shard: Shard) -> None:
    alter_change(shard.session, "partner-1", 6, LATER)


def with_a_changed_change(shard: Shard) -> None:
    alter_change(shard.session, "partner-1", 6, LATER, lambda entry: entry.replace(b"\x06PAY", b"\x06PAI"))


def with_a_second_change_that_differs(shard: Shard) -> None:
    """Have another cut of the account's changes, with one that is not the same."""
    result = decode_result(shard.ledgers[1].results[5])
    posting = replace(result.postings[0], balance_change=1)
    collector = Collector()
    collector.add(1, write_result(replace(result, postings=(posting,))))
    rows = collector.take()
    rows.journal.clear()
    ArchiveWriter(shard.session).write(rows)


def with_a_broken_chunk(shard: Shard) -> None:
    *key, chunk = chunk_of(shard, 1)
    shard.cql(
        "INSERT INTO $journal (shard, lane, bucket, first_offset, last_offset, hash, chunk) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        *key, chunk[:-1], LATER,
    )  # fmt: skip


def with_a_changed_row_in_mysql(shard: Shard) -> None:
    change_result(shard.mysql, SLICE, 1, 5, lambda result: result + b"x")


@pytest.mark.rule("A6")
@pytest.mark.parametrize(
    ("harm", "kinds", "offset"),
    [
        (without_chunk, {"ARCHIVE_ROW_MISSING"}, 0),
        (with_a_changed_byte_in_the_chunk, {"ARCHIVE_ROW_DIFFERS"}, 5),
        (with_a_second_copy_that_differs, {"ARCHIVE_ROW_DIFFERS"}, 5),
        (without_step(5), {"ARCHIVE_STEP_MISSING"}, 5),
        (with_a_place_that_is_none, {"ARCHIVE_STEP_DIFFERS"}, 5),
        (without_step(CAPTURE), {"ARCHIVE_STEP_MISSING"}, CAPTURE),
        (without_step(CAPTURE, own=True), {"ARCHIVE_STEP_MISSING"}, CAPTURE),
        (without_step(EXPIRY), {"ARCHIVE_STEP_MISSING"}, EXPIRY),  # its second is its hold's, not its slice's (I7)
        (without_step(CONTROL), {"ARCHIVE_STEP_MISSING"}, CONTROL),
        (without_change, {"ARCHIVE_CHANGE_MISSING"}, 5),
        (with_a_changed_change, {"ARCHIVE_CHANGE_DIFFERS"}, 5),
        (with_a_second_change_that_differs, {"ARCHIVE_CHANGE_DIFFERS"}, 5),
        (with_a_broken_chunk, {"ARCHIVE_UNREADABLE"}, 0),
        (with_a_changed_row_in_mysql, {"ARCHIVE_ROW_DIFFERS"}, 5),
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
def test_a_statement_that_cannot_be_read_is_a_finding_of_the_first_change_that_was_looked_for(shard: Shard) -> None:
    alter(shard.session, "statement_chunk", lambda key, blob: blob[:-1] if key[1] == "partner-1" else blob, LATER)

    assert SLICE not in shard.remover().step(PAST_MS)
    assert shard.findings() == [("ARCHIVE_UNREADABLE", f"slice {SLICE}, lane 0 offset 0 index 0")]


@pytest.mark.rule("A6")
def test_a_finding_is_resolved_when_its_slice_goes_after_all(shard: Shard) -> None:
    remover = shard.remover()
    without_step(5)(shard)
    remover.step(PAST_MS)
    subject = f"slice {SLICE}, lane 1 offset 5 index 0"
    assert shard.findings() == [("ARCHIVE_STEP_MISSING", subject)]

    shard.archive(shard.ledgers[1].results, cut=5)  # in a chunk that begins elsewhere: under another key
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

        def slices_with_any_table(self) -> list[int]:
            return reader.slices_with_any_table()

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

        def chunks(
            self, incarnation: bytes, lane: int, from_offset: int, to_offset: int
        ) -> Iterator[tuple[int, list[ChunkRow]]]:
            shard.stopping.set()
            return archive.chunks(incarnation, lane, from_offset, to_offset)

        def places_in(self, incarnation: bytes, lane: int, ids: Iterable[bytes]) -> dict[bytes, set[IndexedPlace]]:
            return archive.places_in(incarnation, lane, ids)

        def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
            return archive.entries_at(keys)

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

        def chunks(
            self, incarnation: bytes, lane: int, from_offset: int, to_offset: int
        ) -> Iterator[tuple[int, list[ChunkRow]]]:
            raise AssertionError((incarnation, lane, from_offset, to_offset))

        def places_in(self, incarnation: bytes, lane: int, ids: Iterable[bytes]) -> dict[bytes, set[IndexedPlace]]:
            raise AssertionError((incarnation, lane, ids))

        def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
            raise AssertionError(keys)

    options = RemoverOptions(shard="s1", lanes=LANES, results_partitions=4, archived_topic="balance.archived")
    remover = Remover(
        options, open_reader(shard.mysql), ShardUpkeep(shard.mysql), Silent(), shard.told, stopping=shard.stopping
    )

    with pytest.raises(Unavailable):
        remover.step(PAST_MS)
    assert shard.journal_rows() == ROWS
