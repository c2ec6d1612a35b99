"""The remover on real MySQL and Cassandra: what must be so before a slice goes, and what is left when it has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from processors.faults import Unavailable
from processors.ids import SLICE_MS, derived_id, id_text, slice_of
from processors.ledger.book import Hold, Refunded
from processors.ledger.commands import CommandType
from processors.ledger.rules import Rules
from processors.routing.units import partition_of
from processors.stores.archive_reader import ArchiveReader, StepKey
from processors.stores.archive_rows import Collector
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraAddress, CassandraSession
from processors.stores.migrations import ShardRow, migrate
from processors.stores.mysql import MysqlAddress, Session
from processors.stores.shard_reader import JournalRecord, ShardReader, open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.wire.coverage import SliceRemoved
from processors.wire.journal_chunk import ChunkRow
from processors.wire.results import decode_result
from processors.workers.remover import FINDING_PAUSE_MS, Remover, RemoverOptions
from processors.workers.slice_proof import SliceProver
from tests.archived import INCARNATION, NOW_MS, Ledger, empty, id_at, journal_row_of, make_archive, session_of
from tests.integration.mysql_shard import Lane, address_of, rows_of, take_lane
from tests.servers import Servers
from tests.sink_parts import Power, Told

LANES = 2
SHARD = ShardRow(shard="s1", lanes=LANES, results_partitions=4)
WINDOW_MS = SLICE_MS
RULES = Rules(version=1, window_ms=WINDOW_MS, future_limit_ms=SLICE_MS)
SLICE = slice_of(NOW_MS)  # begins at NOW_MS
PAST_MS = NOW_MS + SLICE_MS + WINDOW_MS  # the lane time from which nothing of SLICE is asked for any more
LATER = 10**16  # above every version that was written, for what a test does to the archive by hand


@dataclass(slots=True)
class Shard:
    """A shard whose lanes' rows are in MySQL and in the archive, and its remover."""

    mysql: MysqlAddress
    session: CassandraSession
    told: Told = field(default_factory=lambda: Told(Power()))
    stopping: threading.Event = field(default_factory=threading.Event)
    lanes: dict[int, Lane] = field(default_factory=dict)
    ledgers: dict[int, Ledger] = field(default_factory=dict)

    def write(self, lane: int, ledger: Ledger, *, archived: bool = True, **more: Any) -> None:
        """Journal a ledger's results in MySQL, all at once, and have the sink archive them."""
        self.ledgers[lane] = ledger
        self.lanes[lane] = take_lane(self.mysql, lane)
        self.lanes[lane].write(len(ledger.results), journal=list(map(journal_row_of, ledger.results)), **more)
        if archived:
            self.archive(ledger.results)

    def archive(self, results: list[bytes], *, covered: bool = True, cut: int = 10**6) -> None:
        for start in range(0, len(results), cut):
            collector, writer = Collector(), ArchiveWriter(self.session)
            for payload in results[start : start + cut]:
                result = decode_result(payload)
                root = result.root
                partition = partition_of(root, SHARD.results_partitions) if root else result.lane
                collector.add(partition, result, payload)
            rows = collector.take()
            writer.write(rows)
            if covered:
                writer.cover(rows)

    def publish(self, time_ms: int = PAST_MS, *, lane: int | None = None) -> None:
        """Have lanes' published time reach a moment."""
        where = "" if lane is None else f"WHERE lane = {lane}"
        self.sql(
            f"UPDATE progress SET published_offset = next_offset, published_time_ms = {time_ms}, "
            f"last_time_ms = {time_ms} {where}"
        )

    def sql(self, statement: str) -> None:
        session = Session(self.mysql, lane=False)
        session.execute(statement, "a test's hand")
        session.close()

    def cql(self, statement: str, *values: Any) -> None:
        self.session.note(statement, values)

    def remover(self, reader: ShardReader | None = None) -> Remover:
        options = RemoverOptions(
            shard="s1", lanes=LANES, results_partitions=SHARD.results_partitions, archived_topic="balance.archived"
        )
        return Remover(
            options,
            reader or open_reader(self.mysql),
            ShardUpkeep(self.mysql),
            ArchiveReader(self.session),
            self.told,
            stopping=self.stopping,
        )

    def journal_rows(self, number: int = SLICE) -> int:
        ((rows,),) = rows_of(self.mysql, f"SELECT COUNT(*) FROM journal WHERE slice = {number}")
        return int(rows)

    def findings(self, *, resolved: bool = False) -> list[tuple[str, str]]:
        found = ShardUpkeep(self.mysql).findings(resolved=resolved)
        return [(finding.kind, finding.subject) for finding in reversed(found)]


@pytest.fixture(scope="module")
def archive(servers: Servers, fresh_keyspace: Callable[[], str]) -> CassandraAddress:
    return make_archive(servers, fresh_keyspace)


@pytest.fixture(scope="module")
def session(archive: CassandraAddress) -> Iterator[CassandraSession]:
    with session_of(archive) as session:
        yield session


@pytest.fixture
def empty_shard(servers: Servers, fresh_database: Callable[[], str], session: CassandraSession) -> Shard:
    empty(session)
    mysql = address_of(servers, fresh_database())
    migrate(mysql, SHARD, {0: RULES}, now_ms=NOW_MS)
    return Shard(mysql, session)


def a_story(lane: int, payments: int = 30) -> Ledger:
    """Return results of one slice: payments, a hold of an hour before that is captured and expires, a control row."""
    ledger = Ledger(lane=lane)
    for _ in range(payments):
        ledger.pay(root=f"partner-{lane}")
    hold = id_at(NOW_MS - SLICE_MS)
    ledger.add(type=CommandType.CAPTURE_HOLD, transaction_id=hold, root=f"partner-{lane}", postings=())
    ledger.add(
        type=CommandType.EXPIRE_HOLD, command_id=derived_id("EXPIRE_HOLD", hold), transaction_id=hold,
        root=f"partner-{lane}", postings=(),
    )  # fmt: skip
    control = derived_id("CONTROL", b"%d" % lane)
    ledger.add(
        type=CommandType.CONTROL, command_id=control, transaction_id=control, root="", address="", currency="",
        postings=(), control=b"payload",
    )  # fmt: skip
    return ledger


@pytest.fixture
def shard(empty_shard: Shard) -> Shard:
    for lane in range(LANES):
        empty_shard.write(lane, a_story(lane))
    empty_shard.publish()
    return empty_shard


CAPTURE, EXPIRY, CONTROL = 30, 31, 32  # offsets in a story
ROWS = 2 * 33


# ------------------------------------------------------------------ a slice goes


@pytest.mark.rule("A6")
def test_a_slice_that_is_past_and_proven_goes_whole_and_this_is_told(shard: Shard) -> None:
    assert shard.journal_rows() == ROWS

    assert shard.remover().step(PAST_MS) == [SLICE - 1, SLICE]

    assert shard.journal_rows() == 0
    assert rows_of(shard.mysql, "SELECT COUNT(*) FROM journal") == [(0,)]
    assert min(open_reader(shard.mysql).slices()) == SLICE + 1
    assert shard.told.archived() == [
        SliceRemoved(incarnation=INCARNATION, shard="s1", slice=number, rows=rows, time_ms=PAST_MS)
        for number, rows in ((SLICE - 1, 0), (SLICE, ROWS))
    ]
    assert shard.findings() == []


@pytest.mark.rule("A6")
def test_mysql_is_back_at_its_size_however_many_slices_have_passed(empty_shard: Shard) -> None:
    shard = empty_shard
    ledgers = {lane: Ledger(lane=lane) for lane in range(LANES)}
    lanes = {lane: take_lane(shard.mysql, lane) for lane in range(LANES)}
    sizes = []
    for hour in range(6):
        now_ms = NOW_MS + hour * SLICE_MS
        for lane, ledger in ledgers.items():
            ledger.time_ms, before = now_ms, len(ledger.results)
            for _ in range(50):
                ledger.pay(root=f"partner-{lane}")
            fresh = ledger.results[before:]
            lanes[lane].write(len(fresh), journal=list(map(journal_row_of, fresh)))
            shard.archive(fresh)
        shard.publish(now_ms)
        shard.remover().step(now_ms)
        ((rows,),) = rows_of(shard.mysql, "SELECT COUNT(*) FROM journal")
        sizes.append((rows, len(open_reader(shard.mysql).slices())))

    assert sizes == [(100, 4), (200, 4), (200, 4), (200, 4), (200, 4), (200, 4)]


@pytest.mark.rule("A6")
def test_what_is_open_does_not_keep_its_slice(empty_shard: Shard) -> None:
    ledger = Ledger(lane=0)
    placed = ledger.add(type=CommandType.PLACE_HOLD)
    hold = Hold("acme", "USD", 100, 100, 1, PAST_MS + 10**9)
    empty_shard.write(0, ledger, holds=[(("acme", placed.command_id), hold, False)])
    empty_shard.write(1, Ledger(lane=1))
    empty_shard.publish()

    assert SLICE in empty_shard.remover().step(PAST_MS)
    assert open_reader(empty_shard.mysql).open_transactions(placed.command_id) == [("acme", hold)]


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


# ------------------------------------------------------------------ (a) needed no more


@pytest.mark.rule("A6")
@pytest.mark.parametrize("lane", range(LANES))
def test_every_lane_must_have_published_past_the_slices_end_by_the_window(shard: Shard, lane: int) -> None:
    shard.publish(PAST_MS - 1, lane=lane)
    assert SLICE not in shard.remover().step(PAST_MS)
    assert shard.journal_rows() == ROWS

    shard.publish(PAST_MS, lane=lane)
    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("A6")
def test_it_is_the_lanes_time_that_counts_not_the_wall_clock(shard: Shard) -> None:
    shard.publish(NOW_MS)

    assert SLICE not in shard.remover().step(PAST_MS + 10 * SLICE_MS)


@pytest.mark.rule("A6")
def test_a_lane_without_progress_keeps_every_slice(shard: Shard) -> None:
    shard.sql("DELETE FROM progress WHERE lane = 1")

    assert shard.remover().step(PAST_MS) == []


@pytest.mark.rule("A6")
def test_a_stopped_lane_keeps_every_slice(shard: Shard) -> None:
    shard.sql("UPDATE progress SET stop_code = 'BUG', stopped_at_ms = 1 WHERE lane = 1")
    assert shard.remover().step(PAST_MS) == []

    shard.sql("UPDATE progress SET stop_code = NULL WHERE lane = 1")
    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("A6")
@pytest.mark.rule("I6")
def test_the_window_is_that_of_the_rules_where_the_lane_has_published_to(shard: Shard) -> None:
    """Rules with a smaller window, decided but not published, say nothing about what must be answered again."""
    ((next_offset,),) = rows_of(shard.mysql, "SELECT next_offset FROM progress WHERE lane = 1")
    shard.publish(PAST_MS - WINDOW_MS + 60_000)
    shard.sql(
        "INSERT INTO rules SELECT lane, 2, IF(lane = 0, 0, next_offset + 5), since_time_ms, rules_release, 60000, "
        "skew_ms, future_limit_ms, refund_period_ms, longest_hold_ms, result_version, window_floor_ms, "
        f"refund_floor_ms FROM rules JOIN (SELECT {next_offset} AS next_offset) AS lane_1 WHERE version = 1"
    )
    assert SLICE not in shard.remover().step(PAST_MS)

    shard.sql("UPDATE progress SET published_offset = published_offset + 5 WHERE lane = 1")
    assert SLICE in shard.remover().step(PAST_MS)


@pytest.mark.rule("A6")
@pytest.mark.rule("I6")
def test_a_window_that_was_grown_does_not_bring_passed_ids_back(shard: Shard) -> None:
    shard.sql(f"UPDATE rules SET window_ms = {50 * SLICE_MS}, window_floor_ms = {NOW_MS + SLICE_MS}")

    assert SLICE in shard.remover().step(PAST_MS)


# ------------------------------------------------------------------ (b) covered


@pytest.mark.rule("A6")
@pytest.mark.rule("A5")
def test_coverage_must_have_reached_the_slices_last_row_in_each_results_partition(empty_shard: Shard) -> None:
    shard = empty_shard
    for lane in range(LANES):
        shard.write(lane, a_story(lane), archived=False)
        shard.archive(shard.ledgers[lane].results, covered=False)
    shard.publish()
    assert SLICE not in shard.remover().step(PAST_MS)
    shard.archive(shard.ledgers[0].results)
    shard.archive(shard.ledgers[1].results[:-1])
    assert SLICE not in shard.remover().step(PAST_MS)
    assert shard.findings() == []  # waiting is no finding

    shard.archive(shard.ledgers[1].results)
    assert SLICE in shard.remover().step(PAST_MS)


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


def test_a_slice_that_must_stay_does_not_keep_others(empty_shard: Shard) -> None:
    ledgers = {lane: Ledger(lane=lane) for lane in range(LANES)}
    for lane, ledger in ledgers.items():
        for hour in range(2):
            ledger.time_ms = NOW_MS + hour * SLICE_MS
            ledger.pay(root=f"partner-{lane}")
        empty_shard.write(lane, ledger)
    empty_shard.publish(PAST_MS + SLICE_MS)
    without_step(0)(empty_shard)

    removed = empty_shard.remover().step(PAST_MS + SLICE_MS)

    assert removed == [SLICE - 1, SLICE + 1]
    assert empty_shard.journal_rows() == 2


# ------------------------------------------------------------------ reading meanwhile


@pytest.mark.rule("A8")
def test_a_transaction_and_a_statement_can_be_read_before_during_and_after_the_removal(shard: Shard) -> None:
    reader, archive = open_reader(shard.mysql), ArchiveReader(shard.session)
    payment = decode_result(shard.ledgers[1].results[7])
    seen: list[tuple[int, int, int]] = []

    def look() -> None:
        seen.append(
            (
                len(reader.transaction(payment.command_id)),
                len(archive.steps(payment.command_id)),
                len(list(archive.statement("partner-1", "USD"))),
            )
        )

    look()
    shard.told.on_flush = look  # just after the drop
    shard.remover().step(PAST_MS)
    look()

    assert seen == [(1, 1, 30), (1, 1, 30), (0, 1, 30), (0, 1, 30)]


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
        ) -> list[JournalRecord]:
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

    options = RemoverOptions(shard="s1", lanes=LANES, results_partitions=4, archived_topic="balance.archived")
    remover = Remover(
        options, open_reader(shard.mysql), ShardUpkeep(shard.mysql), Silent(), shard.told, stopping=shard.stopping
    )

    with pytest.raises(Unavailable):
        remover.step(PAST_MS)
    assert shard.journal_rows() == ROWS


# ------------------------------------------------------------------ room ahead, and other old rows


@pytest.mark.rule("A7")
def test_slices_are_made_up_to_twice_the_future_limit_ahead(shard: Shard) -> None:
    now_ms = PAST_MS + 5 * SLICE_MS

    shard.remover().step(now_ms)

    slices = open_reader(shard.mysql).slices()
    assert slices[-1] == slice_of(now_ms + 2 * SLICE_MS)
    # Without a gap, from the oldest that a lane may still need: what came before is gone.
    assert slices == list(range(SLICE + 1, slices[-1] + 1))


@pytest.mark.rule("A7")
def test_a_slice_that_went_is_not_made_again_although_the_window_was_wider_once(shard: Shard) -> None:
    remover = shard.remover()
    shard.sql(
        f"INSERT INTO rules SELECT lane, 2, 0, since_time_ms, rules_release, {WINDOW_MS}, skew_ms, future_limit_ms, "
        "refund_period_ms, longest_hold_ms, result_version, window_floor_ms, refund_floor_ms FROM rules"
    )
    shard.sql(f"UPDATE rules SET window_ms = {9 * WINDOW_MS} WHERE version = 1")
    assert SLICE in remover.step(PAST_MS)

    assert remover.step(PAST_MS) == []
    assert min(open_reader(shard.mysql).slices()) == SLICE + 1


@pytest.mark.rule("L13")
def test_batch_digests_go_after_seven_days_of_the_lanes_time_but_the_newest(empty_shard: Shard) -> None:
    for lane in range(LANES):
        empty_shard.write(lane, Ledger(lane=lane))
    week_ms = 7 * 86_400_000
    empty_shard.sql("DELETE FROM batch_digest")
    empty_shard.sql(
        "INSERT INTO batch_digest (lane, next_offset, digest, lane_time_ms, sources) VALUES "
        + ", ".join(
            f"({lane}, {offset}, REPEAT('d', 32), {time_ms}, '')"
            for lane in range(LANES)
            for offset, time_ms in ((10, NOW_MS), (20, NOW_MS + 1), (30, NOW_MS + 2))
        )
    )
    empty_shard.sql("UPDATE progress SET next_offset = 30")
    empty_shard.publish(NOW_MS + 1 + week_ms, lane=0)
    empty_shard.publish(NOW_MS + 99 * week_ms, lane=1)

    empty_shard.remover().step(NOW_MS)

    assert rows_of(empty_shard.mysql, "SELECT lane, next_offset FROM batch_digest ORDER BY lane, next_offset") == [
        (0, 20),
        (0, 30),
        (1, 30),
    ]


@pytest.mark.rule("H3")
def test_what_was_refunded_is_kept_for_refund_period_and_window_of_the_slowest_lane(empty_shard: Shard) -> None:
    kept_ms = RULES.refund_period_ms + RULES.window_ms
    old, young = id_at(NOW_MS), id_at(NOW_MS + 1)
    empty_shard.write(
        0,
        Ledger(lane=0),
        refunded=[(("acme", old), Refunded(100, 40), False), (("acme", young), Refunded(100, 40), False)],
    )
    empty_shard.write(1, Ledger(lane=1))
    empty_shard.publish(NOW_MS + kept_ms + 1)
    empty_shard.publish(NOW_MS + kept_ms, lane=1)
    empty_shard.remover().step(NOW_MS)
    assert len(rows_of(empty_shard.mysql, "SELECT 1 FROM refunded")) == 2

    empty_shard.publish(NOW_MS + kept_ms + 1)
    empty_shard.remover().step(NOW_MS)

    ((left,),) = rows_of(empty_shard.mysql, "SELECT transaction_id FROM refunded")
    assert id_text(left) == id_text(young)
