"""A shard's database and an archive of a test's own, and a lane's story that is written into either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from processors.faults import Unavailable
from processors.ledger.rows import Account
from processors.lookup.history import Lookup
from processors.lookup.service import LookupPlaces, ServiceReader
from processors.routing.buckets import partition_of
from processors.stores.addresses import CassandraAddress, MysqlAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_rows import Collector
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.mysql import Session
from processors.stores.partitions import TABLES
from processors.stores.shard_reader import open_reader
from processors.wire.results import Result, decode_result
from tests.archived import Ledger, empty, journal_row_of, session_of
from tests.integration.mysql_shard import SHARD, Lane, clock_ms, empty_shard, rows_of, take_lane

ROOT = "acme"
LANE = partition_of(ROOT, SHARD.lanes)


@dataclass(slots=True)
class Stores:
    """A shard and an archive, and a lane's story that is written into either."""

    mysql: MysqlAddress
    archive: CassandraAddress
    lane: Lane
    ledger: Ledger

    def in_mysql(self, results: list[Result], balance: int = 0) -> None:
        """Have the lane journal some results of the ledger; the account is where they lead."""
        payloads = {decode_result(payload).command_id: payload for payload in self.ledger.results}
        sequence = max((posting.sequence for each in results for posting in each.postings), default=0)
        account = Account(ROOT, "USD", balance=balance, sequence=sequence)
        first = not rows_of(self.mysql, "SELECT 1 FROM account")
        self.lane.write(
            len(results),
            journal=[journal_row_of(payloads[each.command_id]) for each in results],
            opened=[account] if first else [],
        )

    def archived(self, results: list[Result]) -> None:
        """Have the sink copy some results of the ledger."""
        mine = {each.command_id for each in results}
        collector = Collector()
        for payload in self.ledger.results:
            result = decode_result(payload)
            if result.command_id in mine:
                collector.add(LANE, payload)
        rows = collector.take()
        with session_of(self.archive) as session:
            writer = ArchiveWriter(session)
            writer.write(rows)
            writer.cover(rows)

    def removed(self) -> None:
        """Have every slice leave MySQL."""
        for table in TABLES:
            self.sql(f"DELETE FROM {table}")

    def sql(self, statement: str) -> None:
        session = Session(self.mysql, lane=False)
        session.execute(statement, "a test's hand")
        session.close()

    @contextmanager
    def lookup(self, *, archive_answers: bool = True) -> Iterator[Lookup]:
        reader = open_reader(self.mysql)
        with session_of(self.archive) as session:

            def archive() -> ArchiveReader:
                if not archive_answers:
                    raise Unavailable("Cassandra is away")
                return ArchiveReader(session)

            yield Lookup(reader, archive, lanes=SHARD.lanes, results_partitions=4)
        reader.close()

    @contextmanager
    def service(self) -> Iterator[ServiceReader]:
        places = LookupPlaces(shards={SHARD.shard: self.mysql}, home_shard=SHARD.shard, archive=self.archive)
        with ServiceReader(places) as service:
            yield service


@contextmanager
def fresh_stores(mysql: MysqlAddress, archive: CassandraAddress) -> Iterator[Stores]:
    """Give both, emptied, and a ledger whose clock is a second behind ours."""
    empty_shard(mysql)
    with session_of(archive) as session:
        empty(session)
    lane = take_lane(mysql, LANE)
    yield Stores(mysql, archive, lane, Ledger(lane=LANE, time_ms=clock_ms() - 1_000))
    lane.store.close()
