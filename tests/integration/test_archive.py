"""The archive on a real Cassandra: what is written is read back, in any order, any number of times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from processors.faults import Misconfigured, Unavailable, Undecodable
from processors.ids import derived_id
from processors.ledger.commands import CommandType
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_reader import ArchiveReader, ChangeKey, Step, StepKey
from processors.stores.archive_rows import ArchiveRows, Collector, Covered
from processors.stores.archive_schema import migrate_archive, open_archive
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.wire.result_format import write_result
from processors.wire.results import Result
from processors.wire.statement_chunk import StatementRow, decode_statement_entry
from tests.archived import (
    INCARNATION,
    NOW_MS,
    Ledger,
    a_posting,
    a_result,
    all_rows,
    archive_address,
    empty,
    id_at,
    make_archive,
    session_of,
)
from tests.servers import Servers

DAY = NOW_MS // 86_400_000


@pytest.fixture(scope="module")
def address(servers: Servers, fresh_keyspace: Callable[[], str]) -> CassandraAddress:
    return make_archive(servers, fresh_keyspace)


@pytest.fixture(scope="module")
def connected(address: CassandraAddress) -> Iterator[CassandraSession]:
    with session_of(address) as session:
        yield session


@pytest.fixture
def session(connected: CassandraSession) -> CassandraSession:
    empty(connected)
    return connected


@pytest.fixture
def writer(session: CassandraSession) -> ArchiveWriter:
    return ArchiveWriter(session)


@pytest.fixture
def reader(session: CassandraSession) -> ArchiveReader:
    return ArchiveReader(session)


def rows_of(*results: Result, results_partition: int = 0) -> ArchiveRows:
    collector = Collector()
    for result in results:
        collector.add(results_partition, write_result(result))
    return collector.take()


# ------------------------------------------------------------------ schema


def test_a_keyspace_that_keeps_fewer_copies_than_the_settings_want_is_refused(address: CassandraAddress) -> None:
    with pytest.raises(Misconfigured, match=r"keeps 1 copies in datacenter1, the settings want 3.*'datacenter1': 2"):
        open_archive(replace(address, replication_factor=3), requests_max=1)
    open_archive(replace(address, replication_factor=1), requests_max=1).close()


def test_the_schema_is_applied_once_however_often_it_is_asked_for(
    servers: Servers, fresh_keyspace: Callable[[], str]
) -> None:
    address = archive_address(servers, fresh_keyspace())

    assert migrate_archive(address, replication_factor=1) == [
        "0001_archive.cql",
        "0002_packed.cql",
    ]
    assert migrate_archive(address, replication_factor=1) == []


def test_an_archive_without_its_schema_is_refused_with_what_to_type(
    servers: Servers, fresh_keyspace: Callable[[], str], connected: CassandraSession
) -> None:
    missing = archive_address(servers, fresh_keyspace())
    with pytest.raises(Misconfigured, match=r"no keyspace .* run `balance migrate`"):
        open_archive(missing, requests_max=1)

    connected.execute(
        f"CREATE KEYSPACE {missing.keyspace} WITH replication = "
        "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
    )
    with pytest.raises(Misconfigured, match="run `balance migrate`"):
        open_archive(missing, requests_max=1)


def test_an_archive_of_another_release_is_refused(servers: Servers, fresh_keyspace: Callable[[], str]) -> None:
    address = make_archive(servers, fresh_keyspace)
    with session_of(address) as session:
        session.note("INSERT INTO $migration (number, name, digest) VALUES (?, ?, ?)", (99, "later", b""))
    with pytest.raises(Misconfigured, match="number 99, which is of a later release"):
        open_archive(address, requests_max=1)


def test_a_schema_file_that_was_edited_after_it_was_applied_is_refused(
    servers: Servers, fresh_keyspace: Callable[[], str]
) -> None:
    address = make_archive(servers, fresh_keyspace)
    with session_of(address) as session:
        session.note("UPDATE $migration SET digest = ? WHERE number = 1", (b"other",))
    with pytest.raises(Misconfigured, match="was edited after it was applied"):
        migrate_archive(address, replication_factor=1)


def test_a_server_that_is_not_there_is_unavailable_and_a_refused_login_is_not(servers: Servers) -> None:
    with pytest.raises(Unavailable):
        open_archive(archive_address(servers, "balance", port=1), requests_max=1)


def test_a_statement_that_the_server_refuses_is_no_reason_to_wait(session: CassandraSession) -> None:
    with pytest.raises(Misconfigured, match="no_such_table"):
        session.prepare("SELECT x FROM $no_such_table")


# ------------------------------------------------------------------ versions


@pytest.mark.rule("A2")
def test_rows_written_again_or_in_another_order_are_the_same_to_the_last_writetime(
    session: CassandraSession, writer: ArchiveWriter
) -> None:
    ledger = Ledger()
    results = [ledger.pay(metadata=b"{}") for _ in range(600)]
    early, late = rows_of(*results[:300]), rows_of(*results[300:])
    for rows in (early, late):
        writer.write(rows)
        writer.cover(rows)
        writer.note_positions(INCARNATION, {0: 300 if rows is early else 600})
    undisturbed = all_rows(session)

    for rows in (late, early, early):
        writer.write(rows)
        writer.cover(rows)
        writer.note_positions(INCARNATION, {0: 300 if rows is early else 600})

    assert all_rows(session) == undisturbed
    assert {len(rows) > 0 for rows in undisturbed.values()} == {True}


@pytest.mark.rule("A2")
def test_coverage_and_position_never_go_back(writer: ArchiveWriter, reader: ArchiveReader) -> None:
    for offset in (7, 3):
        writer.cover(rows_of(a_result(offset)))
        writer.note_positions(INCARNATION, {2: offset})

    assert reader.coverage(INCARNATION) == {
        (0, 0): Covered(lane_offset=7, lane_index=0, lane_time_ms=NOW_MS + 7, version_us=(NOW_MS + 7) * 1000)
    }
    assert reader.position(INCARNATION, 2) == 7
    assert reader.position(INCARNATION, 3) is None


# ------------------------------------------------------------------ journal


@pytest.mark.rule("A3")
def test_rows_that_were_cut_in_two_ways_are_read_once_each(writer: ArchiveWriter, reader: ArchiveReader) -> None:
    ledger = Ledger(offset=99_900)
    results = [ledger.pay() for _ in range(600)]
    for cut in (100, 170, 600):
        for part in filter(None, (results[:cut], results[cut:])):
            writer.write(rows_of(*part))

    found = reader.journal(INCARNATION, 0, 99_900, 100_499)

    assert found == [(99_900 + number, 0, payload) for number, payload in enumerate(ledger.results)]


@pytest.mark.rule("A3")
@pytest.mark.parametrize(
    ("first", "last"), [(99_960, 99_990), (99_990, 100_010), (100_005, 100_005), (100_290, 200_000)]
)
def test_a_stretch_is_read_whole_wherever_chunks_and_buckets_begin(
    writer: ArchiveWriter, reader: ArchiveReader, first: int, last: int
) -> None:
    ledger = Ledger(offset=99_950)
    writer.write(rows_of(*[ledger.pay() for _ in range(400)]))

    found = [offset for offset, _, _ in reader.journal(INCARNATION, 0, first, last)]

    assert found == list(range(max(first, 99_950), min(last, 100_349) + 1))


@pytest.mark.rule("A3")
def test_copies_that_differ_are_both_read(writer: ArchiveWriter, reader: ArchiveReader) -> None:
    one, other = a_result(5), a_result(5)
    writer.write(rows_of(a_result(4), one))
    writer.write(rows_of(other))

    copies = {payload for offset, _, payload in reader.journal(INCARNATION, 0, 5, 5)}

    assert copies == {write_result(one), write_result(other)}


# ------------------------------------------------------------------ transactions


@pytest.mark.rule("A4")
def test_a_transactions_steps_are_found_by_its_id_in_the_order_they_were_decided(
    writer: ArchiveWriter, reader: ArchiveReader
) -> None:
    hold, capture = id_at(NOW_MS), id_at(NOW_MS + 90_000)
    expiry = derived_id("EXPIRE_HOLD", hold)
    placed = a_result(0, type=CommandType.PLACE_HOLD, command_id=hold)
    captured = a_result(1, type=CommandType.CAPTURE_HOLD, command_id=capture, transaction_id=hold)
    expired = a_result(2, type=CommandType.EXPIRE_HOLD, command_id=expiry, transaction_id=hold)
    writer.write(rows_of(expired, captured, placed))

    assert reader.steps(hold) == [
        Step(root="acme", step=hold, result=write_result(placed)),
        Step(root="acme", step=capture, result=write_result(captured)),
        Step(root="acme", step=expiry, result=write_result(expired)),
    ]
    assert [step.result for step in reader.steps(capture)] == [write_result(captured)]
    assert reader.steps(id_at()) == []


@pytest.mark.rule("A4")
def test_a_step_is_told_from_another_partners_under_the_same_id(writer: ArchiveWriter, reader: ArchiveReader) -> None:
    shared = id_at()
    mine, theirs = a_result(0, command_id=shared), a_result(1, command_id=shared, root="bolt", address="bolt")
    writer.write(rows_of(mine, theirs))
    keys = [StepKey(shared, root, shared) for root in ("acme", "bolt", "coda")]

    assert reader.steps_at(keys) == dict(zip(keys, (write_result(mine), write_result(theirs)), strict=False))


@pytest.mark.rule("A3")
@pytest.mark.rule("A4")
def test_a_step_that_was_cut_in_two_ways_is_found_once_and_with_one_of_its_chunks_lost(
    session: CassandraSession, writer: ArchiveWriter, reader: ArchiveReader
) -> None:
    results = [a_result(number) for number in range(20)]
    writer.write(rows_of(*results))
    writer.write(rows_of(*results[10:]))
    (wanted,) = [write_result(results[15])]
    assert [step.result for step in reader.steps(results[15].command_id)] == [wanted]
    assert len(reader.places_of([results[15].command_id])[results[15].command_id]) == 2

    session.note(
        "DELETE FROM $journal USING TIMESTAMP ? WHERE shard = ? AND lane = 0 AND bucket = 0 AND first_offset = 10",
        (10**16, INCARNATION),
    )
    key = StepKey(results[15].command_id, "acme", results[15].command_id)
    assert reader.steps_at([key]) == {key: wanted}


@pytest.mark.rule("H4")
def test_a_step_whose_chunk_is_lost_is_not_absent_but_unreadable(
    session: CassandraSession, writer: ArchiveWriter, reader: ArchiveReader
) -> None:
    result = a_result()
    writer.write(rows_of(result))
    session.execute("TRUNCATE journal")
    key, unknown = StepKey(result.command_id, "acme", result.command_id), StepKey(id_at(), "acme", id_at())

    found = reader.steps_at([key, unknown])

    assert found.keys() == {key}
    assert isinstance(found[key], Undecodable)
    with pytest.raises(Undecodable, match="no archived chunk of lane 0 that begins at offset 0 has offset 0 index 0"):
        reader.steps(result.command_id)


def test_many_steps_are_found_at_once(writer: ArchiveWriter, reader: ArchiveReader) -> None:
    results = [a_result(number, command_id=id_at(NOW_MS + number * 100)) for number in range(1_500)]
    writer.write(rows_of(*results))
    keys = [StepKey(result.command_id, "acme", result.command_id) for result in results]
    absent = StepKey(id_at(), "acme", id_at())

    found = reader.steps_at([absent, *keys, *keys])

    assert found == {key: write_result(result) for key, result in zip(keys, results, strict=True)}


# ------------------------------------------------------------------ statements


@pytest.mark.rule("A4")
def test_a_statement_is_read_over_buckets_with_every_figure(writer: ArchiveWriter, reader: ArchiveReader) -> None:
    sequences = [9_999, 10_000, 10_001, 20_000]
    results = [
        a_result(
            number,
            address="acme:vn",
            metadata=b'{"n":1}',
            postings=(a_posting(address="acme:vn", sequence=sequence, balance_change=-(2**63), overdraft_limit=7),),
        )
        for number, sequence in enumerate(sequences)
    ]
    writer.write(rows_of(*results))

    found = list(reader.statement("acme:vn", "USD", from_sequence=9_000, to_sequence=19_999))

    assert found == [
        StatementRow(
            sequence=sequence,
            type="PAY",
            transaction_id=result.transaction_id,
            command_id=result.command_id,
            contra="SETTLEMENT",
            balance_change=-(2**63),
            held_change=0,
            balance=9_900,
            held=0,
            overdraft_limit=7,
            lane_time_ms=result.lane_time_ms,
            metadata=b'{"n":1}',
        )
        for sequence, result in zip(sequences[:3], results[:3], strict=True)
    ]
    assert list(reader.statement("acme", "USD")) == []


@pytest.mark.rule("A3")
@pytest.mark.rule("A4")
def test_changes_that_were_cut_in_several_ways_are_read_once_each_and_in_order(
    writer: ArchiveWriter, reader: ArchiveReader
) -> None:
    ledger = Ledger()
    results = [ledger.pay() for _ in range(700)]
    for cut in (0, 100, 333, 600):
        for part in filter(None, (results[:cut], results[cut:])):
            writer.write(rows_of(*part))

    for first, last in ((1, 700), (249, 251), (300, 300), (600, 900)):
        found = [row.sequence for row in reader.statement("acme", "USD", from_sequence=first, to_sequence=last)]
        assert found == list(range(first, min(last, 700) + 1))
    assert reader.newest_sequence("acme", "USD") == 700


@pytest.mark.rule("A3")
def test_copies_of_a_change_that_differ_are_both_read(writer: ArchiveWriter, reader: ArchiveReader) -> None:
    one, other = (a_result(5, postings=(a_posting(sequence=6, balance=balance),)) for balance in (1, 2))
    writer.write(rows_of(one))
    writer.write(rows_of(a_result(4), other))
    key, unknown = ChangeKey("acme", "USD", 6), ChangeKey("acme", "USD", 7)

    assert {row.balance for row in reader.statement("acme", "USD", from_sequence=6)} == {1, 2}
    found = reader.entries_at([key, unknown])
    assert {key: {decode_statement_entry(entry).balance for entry in some} for key, some in found.items()} == {
        key: {1, 2}
    }


@pytest.mark.rule("A4")
@pytest.mark.parametrize("last", [1, 9_999, 10_000, 60_001, 90_000])
def test_the_newest_sequence_is_found_without_reading_what_lies_before(
    writer: ArchiveWriter, reader: ArchiveReader, last: int
) -> None:
    # One row a bucket stands for the gapless rest of it.
    sequences = sorted({1, last, *range(10_000, last, 10_000)})
    writer.write(
        rows_of(*(a_result(n, postings=(a_posting(sequence=sequence),)) for n, sequence in enumerate(sequences)))
    )

    assert reader.newest_sequence("acme", "USD") == last
    assert reader.newest_sequence("acme", "VND") == 0


@pytest.mark.rule("A4")
def test_a_day_begins_with_its_lowest_sequence_although_a_sink_began_within_it(
    writer: ArchiveWriter, reader: ArchiveReader
) -> None:
    ledger = Ledger()
    today = [ledger.pay() for _ in range(4)]
    ledger.time_ms += 3 * 86_400_000
    later = [ledger.pay() for _ in range(2)]
    for rows in (rows_of(*today[:2]), rows_of(*today[2:]), rows_of(*later)):
        writer.write(rows)

    assert [reader.first_sequence("acme", "USD", DAY + days) for days in range(5)] == [1, 5, 5, 5, None]


# ------------------------------------------------------------------ requests


def test_the_server_warns_of_no_batch(
    writer: ArchiveWriter, reader: ArchiveReader, caplog: pytest.LogCaptureFixture
) -> None:
    """It warns of batches over more partitions, or with more bytes, than config/stack/cassandra.yaml says."""
    ledger = Ledger()
    many = [ledger.pay(root=f"p{number % 200}", metadata=b'{"order":"%d"}' % number) for number in range(2_000)]
    with caplog.at_level(logging.WARNING):
        rows = rows_of(*many)
        writer.write(rows)
        writer.cover(rows)
        writer.write(rows_of(*(a_result(n, metadata=b"x" * 4_000) for n in range(100))))

    assert [record.getMessage() for record in caplog.records] == []
    assert len(reader.journal(INCARNATION, 0, 0, 2_000)) >= 2_000


def test_work_is_done_while_requests_are_on_the_way(address: CassandraAddress) -> None:
    ledger = Ledger()
    rows = rows_of(*[ledger.pay(root=f"p{number}") for number in range(500)])
    worked = 0

    def work() -> bool:
        nonlocal worked
        worked += 1
        return worked < 10_000

    with session_of(address, requests_max=2) as session:
        ArchiveWriter(session).write(rows, work)

    assert worked > 0
