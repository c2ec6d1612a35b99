"""The sink on a real Cassandra: killed between any two steps, fed twice, left without an answer; Kafka is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from processors.faults import Undecodable
from processors.ids import derived_id
from processors.ledger.commands import CommandType
from processors.metrics import ARCHIVE_WAITING_SECONDS
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_rows import Covered
from processors.wire.coverage import Coverage
from processors.wire.records import Record
from tests.archived import (
    INCARNATION,
    NOW_MS,
    Ledger,
    all_said,
    empty,
    id_at,
    make_archive,
    roots_of,
)
from tests.servers import Servers
from tests.sink_parts import TOPIC_ID, CrashingSession, CrashPoint, ResultsLog, SinkCrash, start_sink

Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def address(servers: Servers, fresh_keyspace: Callable[[], str]) -> CassandraAddress:
    return make_archive(servers, fresh_keyspace)


@pytest.fixture(scope="module")
def connected(address: CassandraAddress) -> Iterator[CrashingSession]:
    session = CrashingSession(address)
    yield session
    session.close()


@pytest.fixture
def session(connected: CrashingSession) -> CrashingSession:
    empty(connected)
    return connected


def a_day() -> ResultsLog:
    """Return results of two lanes in two partitions: payments over two days, a hold's life, answers without a row."""
    log = ResultsLog()
    for lane in (0, 1):
        ledger = Ledger(lane=lane, offset=99_990)
        roots = roots_of(lane, 3)
        for number in range(300):
            ledger.pay(root=roots[number % 3], metadata=b'{"order":"%d"}' % number)
            if number % 50 == 0:
                hold = id_at(ledger.time_ms)
                ledger.add(type=CommandType.PLACE_HOLD, command_id=hold, root=roots[0], postings=())
                ledger.add(type=CommandType.CAPTURE_HOLD, transaction_id=hold, root=roots[0], postings=())
                expiry = derived_id("EXPIRE_HOLD", hold)
                ledger.add(
                    type=CommandType.EXPIRE_HOLD, command_id=expiry, transaction_id=hold, root=roots[0], postings=()
                )
                ledger.add(journalled=False, version_us=0, root=roots[0])
            if number == 150:
                ledger.time_ms += 86_400_000
        log.append(lane, ledger.results)
    return log


DAY = a_day()
JOURNALLED = 2 * (300 + 6 * 3)


@pytest.fixture(scope="module")
def undisturbed(connected: CrashingSession) -> Rows:
    empty(connected)
    process = start_sink(connected, DAY)
    process.archive_all()
    rows = all_said(connected)
    assert len(rows["journal"]) == JOURNALLED
    assert all(place[-1] for place in rows["transaction_index"])
    return rows


def steps_of_a_run(session: CrashingSession) -> int:
    empty(session)
    process = start_sink(session, DAY)
    process.archive_all()
    return process.session.crash_point.steps


# ------------------------------------------------------------------ what is archived, and what is told


@pytest.mark.rule("A1")
def test_every_result_with_a_journal_row_is_archived_and_no_other(undisturbed: Rows) -> None:
    archived = [payload for *_, payload in undisturbed["journal"]]
    published = [record.value for records in DAY.partitions.values() for record in records]

    assert len(archived) == JOURNALLED
    assert set(archived) <= set(published)
    assert len(published) - len(archived) == 12  # the answers without a row


@pytest.mark.rule("A5")
def test_coverage_is_told_on_the_topic_and_noted_in_cassandra(session: CrashingSession) -> None:
    process = start_sink(session, DAY)
    process.archive_all()

    covered = ArchiveReader(session).coverage(INCARNATION)
    told = process.told.archived()
    last_told = {
        (each.lane, each.results_partition): (each.lane_offset, each.lane_index)
        for each in told
        if isinstance(each, Coverage)
    }
    assert {place: (each.lane_offset, each.lane_index) for place, each in covered.items()} == last_told
    assert last_told == {(0, 0): (100_313, 0), (1, 1): (100_313, 0)}
    assert process.consumer.committed == {0: len(DAY.partitions[0]), 1: len(DAY.partitions[1])}


# ------------------------------------------------------------------ killed, and fed again


@pytest.mark.rule("A2")
@pytest.mark.rule("A5")
def test_a_sink_killed_before_any_of_its_steps_leaves_the_rows_of_an_undisturbed_run(
    session: CrashingSession, undisturbed: Rows
) -> None:
    steps = steps_of_a_run(session)
    # Each step of the last batch, with its coverage, telling, position and commit; and some of those before.
    for cut in sorted({*range(0, steps, 9), *range(steps - 6, steps)}):
        empty(session)
        with pytest.raises(SinkCrash):
            start_sink(session, DAY, CrashPoint(crash_before=cut)).archive_all()
        start_sink(session, DAY).archive_all()

        assert all_said(session) == undisturbed, f"killed before step {cut} of {steps}"


@pytest.mark.rule("A5")
def test_coverage_never_speaks_of_what_is_not_durable(session: CrashingSession) -> None:
    steps = steps_of_a_run(session)
    for cut in range(1, steps, 7):
        empty(session)
        with pytest.raises(SinkCrash):
            start_sink(session, DAY, CrashPoint(crash_before=cut)).archive_all()

        reader = ArchiveReader(session)
        for (lane, _), covered in reader.coverage(INCARNATION).items():
            wanted = [record.value for record in DAY.partitions[lane]]
            found = [payload for _, _, payload in reader.journal(INCARNATION, lane, 0, covered.lane_offset)]
            assert [payload for payload in wanted if payload in set(found)] == found
            assert len(found) >= covered.lane_offset - 99_990 - 6  # but for the answers without a row


@pytest.mark.rule("A2")
def test_everything_fed_twice_leaves_the_same_rows(session: CrashingSession, undisturbed: Rows) -> None:
    start_sink(session, DAY).archive_all()
    again = start_sink(session, DAY, topic_id=b"another topic id", batch_rows_max=77)
    again.archive_all()

    found = all_said(session)
    assert again.session.crash_point.steps > 0
    assert {**found, "sink_position": []} == {**undisturbed, "sink_position": []}
    assert len(found["sink_position"]) == 2 * len(undisturbed["sink_position"])


@pytest.mark.rule("A5")
def test_a_sink_goes_on_where_cassandra_says_whatever_the_group_says(
    session: CrashingSession, undisturbed: Rows
) -> None:
    """A group offset set to the end by hand must not leave a stretch out, for coverage would then be a lie."""
    steps = steps_of_a_run(session)
    empty(session)
    with pytest.raises(SinkCrash):
        start_sink(session, DAY, CrashPoint(crash_before=steps // 2)).archive_all()

    positions = {partition: ArchiveReader(session).position(TOPIC_ID, partition) for partition in (0, 1)}
    assert any((position or 0) < len(DAY.partitions[p]) for p, position in positions.items())
    start_sink(session, DAY).archive_all()

    assert all_said(session) == undisturbed


@pytest.mark.rule("A4")
def test_a_sink_that_starts_within_a_day_does_not_move_the_days_beginning(
    session: CrashingSession, undisturbed: Rows
) -> None:
    for _ in range(12):  # a new process for each batch knows no day
        start_sink(session, DAY, batch_rows_max=60).sink.step()

    assert all_said(session)["statement_day"] == undisturbed["statement_day"]


def test_a_days_beginning_is_not_written_with_each_batch(session: CrashingSession) -> None:
    log = ResultsLog()
    ledger = Ledger()
    for _ in range(3):
        log.append(0, [])
        ledger.pay()
    log.append(0, ledger.results)
    process = start_sink(session, log, batch_rows_max=1)

    used = []
    for _ in range(3):
        before = process.session.crash_point.steps
        assert process.sink.step()
        used.append(process.session.crash_point.steps - before)

    assert used == [used[0], used[0] - 1, used[0] - 1]


# ------------------------------------------------------------------ Cassandra is away


@pytest.mark.rule("A5")
def test_without_cassandra_the_sink_waits_keeps_its_membership_and_loses_nothing(
    session: CrashingSession, undisturbed: Rows
) -> None:
    now_s = 0.0
    process = start_sink(session, DAY, clock=lambda: now_s)
    process.session.silent = True
    pauses = []
    for _ in range(8):
        now_s += 1
        assert process.sink.step() is False
        pauses.append(process.sink.wait.pause_s)

    assert (process.consumer.paused, process.consumer.polls_while_paused) == (True, 7)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert ARCHIVE_WAITING_SECONDS._value.get() == 7
    assert process.consumer.committed == {}

    process.session.silent = False
    for _ in range(20):
        now_s += 1
        process.sink.step()
    assert (process.consumer.paused, ARCHIVE_WAITING_SECONDS._value.get()) == (False, 0)
    assert all_said(session) == undisturbed


@pytest.mark.rule("A5")
def test_a_silent_partition_is_noted_up_to_its_end_marks_of_transactions_included(session: CrashingSession) -> None:
    now_s = 0.0
    process = start_sink(session, DAY, clock=lambda: now_s)
    while process.sink.step():
        pass
    process.consumer.marks = 2
    ends = process.consumer.ends()
    process.sink.step()
    reader = ArchiveReader(session)
    noted = {partition: reader.position(TOPIC_ID, partition) for partition in ends}
    assert noted == {partition: end - 2 for partition, end in ends.items()}

    now_s += 60.0
    process.sink.step()
    assert {partition: reader.position(TOPIC_ID, partition) for partition in ends} == ends


# ------------------------------------------------------------------ what cannot be read


def test_a_record_that_is_no_result_stops_the_sink_before_anything_is_covered(session: CrashingSession) -> None:
    log = ResultsLog()
    ledger = Ledger()
    ledger.pay()
    log.append(0, ledger.results)
    log.partitions[0].append(
        Record("balance.results", 0, 1, 0, NOW_MS, True, b"acme", b"\xc3\x01 of a later release", [])
    )

    with pytest.raises(Undecodable):
        start_sink(session, log).archive_all()

    assert ArchiveReader(session).coverage(INCARNATION) == {}


def test_a_lane_that_is_covered_says_when(session: CrashingSession) -> None:
    ledger = Ledger()
    ledger.pay()
    log = ResultsLog()
    log.append(0, ledger.results)
    start_sink(session, log).archive_all()

    assert ArchiveReader(session).coverage(INCARNATION) == {
        (0, 0): Covered(lane_offset=0, lane_index=0, lane_time_ms=NOW_MS, version_us=NOW_MS * 1000)
    }
