"""An archive of the release before is brought to packed tables from its own journal, and not used before that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processors.faults import Misconfigured, Undecodable
from processors.ledger.commands import CommandType
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_rows import Collector
from processors.stores.archive_schema import migrate_archive, open_archive
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from tests.archived import Ledger, all_rows, alter, id_at, make_archive, session_of
from tests.servers import Servers

PACKED = ("transaction_index", "statement_chunk")
BROUGHT = ["0002_packed.cql"]


@pytest.fixture
def address(servers: Servers, fresh_keyspace: Callable[[], str]) -> CassandraAddress:
    return make_archive(servers, fresh_keyspace)


def written(session: CassandraSession, ledger: Ledger, cut: int) -> None:
    for start in range(0, len(ledger.results), cut):
        collector = Collector()
        for payload in ledger.results[start : start + cut]:
            collector.add(0, payload)
        ArchiveWriter(session).write(collector.take())


def as_the_release_before_left_it(session: CassandraSession) -> None:
    for table in PACKED:
        session.execute(f"DROP TABLE {table}")
    session.execute("CREATE TABLE transaction_by_id (minute bigint PRIMARY KEY)")
    session.execute("CREATE TABLE statement (root text PRIMARY KEY)")
    (first,) = session.rows(session.prepare("SELECT number, name, digest FROM $migration WHERE number = 1"), ())
    session.execute("TRUNCATE migration")
    session.note("INSERT INTO $migration (number, name, digest) VALUES (?, ?, ?)", first)


@pytest.mark.rule("A3")
@pytest.mark.rule("A4")
@pytest.mark.parametrize("cut", [10_000, 7])
def test_steps_and_statements_of_an_archive_of_the_release_before_are_found_once_it_is_migrated(
    address: CassandraAddress, cut: int
) -> None:
    ledger = Ledger(offset=99_990)
    payments = [ledger.pay(root=f"p{number % 3}", metadata=b"{}") for number in range(600)]
    hold = id_at(ledger.time_ms)
    capture = ledger.add(type=CommandType.CAPTURE_HOLD, transaction_id=hold, postings=())
    with session_of(address) as session:
        written(session, ledger, cut)
        journal = all_rows(session, "journal")
        as_the_release_before_left_it(session)
    with pytest.raises(Misconfigured, match=r"lacks 0002_packed.cql: run `balance migrate`"):
        open_archive(address, requests_max=1)

    assert migrate_archive(address, replication_factor=1) == BROUGHT
    assert migrate_archive(address, replication_factor=1) == []

    with session_of(address) as session:
        reader = ArchiveReader(session)
        assert all_rows(session, "journal") == journal
        for number, result in [*enumerate(payments)][::50]:
            assert [step.result for step in reader.steps(result.command_id)] == [ledger.results[number]]
        for id_ in (hold, capture.command_id):
            assert [step.result for step in reader.steps(id_)] == [ledger.results[-1]]
        assert [row.sequence for row in reader.statement("p1", "USD")] == list(range(1, 201))
        with pytest.raises(Misconfigured, match="transaction_by_id"):
            session.prepare("SELECT minute FROM $transaction_by_id")


def test_a_journal_that_cannot_be_read_is_no_reason_to_take_its_rows_for_absent(address: CassandraAddress) -> None:
    ledger = Ledger()
    ledger.pay()
    with session_of(address) as session:
        written(session, ledger, 1)
        alter(session, "journal", lambda _key, chunk: chunk[:-1], 10**16)
        as_the_release_before_left_it(session)

    with pytest.raises(Undecodable):
        migrate_archive(address, replication_factor=1)
    with pytest.raises(Misconfigured, match="run `balance migrate`"):
        open_archive(address, requests_max=1)
