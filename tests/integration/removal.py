"""A shard whose journal is in MySQL and in the archive, with the remover that may take it out of MySQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from processors.ids import SLICE_MS, derived_id, slice_of
from processors.ledger.commands import CommandType
from processors.ledger.rules import Rules
from processors.routing.buckets import partition_of
from processors.stores.addresses import MysqlAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_rows import Collector
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.stores.migrations import ShardRow, migrate
from processors.stores.mysql import Session
from processors.stores.shard_reader import ShardReader, open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.wire.results import decode_result
from processors.workers.remover import Remover, RemoverOptions
from tests.archived import NOW_MS, Ledger, empty, id_at, journal_row_of
from tests.integration.mysql_shard import Lane, address_of, rows_of, take_lane
from tests.servers import Servers
from tests.sink_parts import CrashPoint, ProducedRecords

LANES = 2
SHARD = ShardRow(shard="s1", lanes=LANES, results_partitions=4, home=True)
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
    told: ProducedRecords = field(default_factory=lambda: ProducedRecords(CrashPoint()))
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
                collector.add(partition, payload)
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

    def remover(
        self,
        reader: ShardReader | None = None,
        *,
        upkeep: ShardUpkeep | None = None,
        archive: ArchiveReader | None = None,
    ) -> Remover:
        options = RemoverOptions(
            shard="s1", lanes=LANES, results_partitions=SHARD.results_partitions, archived_topic="balance.archived"
        )
        return Remover(
            options,
            reader or open_reader(self.mysql),
            upkeep or ShardUpkeep(self.mysql),
            archive or ArchiveReader(self.session),
            self.told,
            stopping=self.stopping,
        )

    def journal_rows(self, number: int = SLICE) -> int:
        ((rows,),) = rows_of(self.mysql, f"SELECT COUNT(*) FROM journal WHERE slice = {number}")
        return int(rows)

    def findings(self, *, resolved: bool = False) -> list[tuple[str, str]]:
        found = ShardUpkeep(self.mysql).findings(resolved=resolved)
        return [(finding.kind, finding.subject) for finding in reversed(found)]


def make_shard(servers: Servers, fresh_database: Callable[[], str], session: CassandraSession) -> Shard:
    empty(session)
    mysql = address_of(servers, fresh_database())
    migrate(mysql, SHARD, {0: RULES}, now_ms=NOW_MS)
    return Shard(mysql, session)


def with_stories(shard: Shard) -> Shard:
    """Have every lane journal, archive and publish a story."""
    for lane in range(LANES):
        shard.write(lane, a_story(lane))
    shard.publish()
    return shard


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


CAPTURE, EXPIRY, CONTROL = 30, 31, 32  # offsets in a story
ROWS = 2 * 33
