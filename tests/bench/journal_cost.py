"""``python -m tests.bench.journal_cost``: what a decision's journal row costs MySQL, in its CPU and on disk.

Payments are decided and written by a lane's store, into a database of its own on the stack's server, as ``lane`` has it
done. With ``--base COMMIT`` that commit and this checkout are measured in turn. CPU is that of the server's thread that
serves the lane, as the kernel accounts it: worth comparing on a busy machine, too. Disk is all tables and indexes, in
whole pages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import MySQLdb
import typer

from devtools import stack
from processors.ledger.book import Keys
from processors.ledger.rules import Rules
from processors.settings import load_settings
from processors.stores.addresses import MysqlAddress
from processors.stores.lane_store import MysqlLaneStore
from processors.stores.migrations import ShardRow, migrate
from processors.wire.admission import Gate, admit
from processors.wire.records import Record
from processors.wire.results import decision_of
from processors.wire.signature import KeyRing
from tests.bench import stages
from tests.servers import Servers, from_settings

ROOT = Path(__file__).parents[2]
_DATABASE = "balance_bench_journal"
_SHARD = ShardRow(shard="s1", lanes=1, results_partitions=4, home=True)

Costs = dict[str, float]


class _Server:
    """The stack's MySQL: the thread that serves a database, and how large that is."""

    def __init__(self, servers: Servers) -> None:
        pid = stack.pid(load_settings(), stack.Server.MYSQL)
        assert pid is not None, "the native stack's MySQL does not run: `make stack`"
        self._tasks = Path(f"/proc/{pid}/task")
        self._connection = MySQLdb.connect(
            host=servers.mysql_host, port=servers.mysql_port, user=servers.mysql_user, password=servers.mysql_password
        )

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        self._connection.query(statement)
        found = self._connection.store_result()
        return [] if found is None else list(found.fetch_row(maxrows=0))

    def thread(self) -> int:
        """Return the thread that serves the only connection to the database."""
        ((thread,),) = self.ask(
            f"SELECT thread_os_id FROM performance_schema.threads WHERE processlist_db = '{_DATABASE}'"
        )
        assert isinstance(thread, int)
        return thread

    def cpu_us(self, thread: int) -> float:
        """Return the CPU that a thread has used, microseconds."""
        return int((self._tasks / str(thread) / "schedstat").read_text().split()[0]) / 1_000

    def disk_bytes(self) -> int:
        """Return what the database's tables and indexes take."""
        self.ask("SET SESSION information_schema_stats_expiry = 0")
        names = self.ask(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{_DATABASE}'")
        tables = ", ".join(f"{_DATABASE}.{_text(name)}" for (name,) in names if not _text(name).endswith("_text"))
        self.ask(f"ANALYZE NO_WRITE_TO_BINLOG TABLE {tables}")
        ((size,),) = self.ask(
            f"SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = '{_DATABASE}'"
        )
        return int(str(size))


def _text(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


@contextmanager
def _database(servers: Servers, server: _Server) -> Iterator[MysqlAddress]:
    server.ask(f"DROP DATABASE IF EXISTS {_DATABASE}")
    server.ask(f"CREATE DATABASE {_DATABASE}")
    address = MysqlAddress(
        host=servers.mysql_host,
        port=servers.mysql_port,
        user=servers.mysql_user,
        password=servers.mysql_password,
        database=_DATABASE,
    )
    migrate(address, _SHARD, {0: Rules(version=1)}, now_ms=stages.START_MS)
    try:
        yield address
    finally:
        server.ask(f"DROP DATABASE {_DATABASE}")


def measure(kind: str) -> Costs:
    """Return microseconds and bytes a payment."""
    servers = from_settings()
    assert servers is not None, "the native stack was never started: `make stack`"
    server = _Server(servers)
    openings, payments = stages.log_of(kind)
    with _database(servers, server) as address:
        lane = _Lane(address)
        lane.write_all(openings, {})
        thread, size = server.thread(), server.disk_bytes()
        spent: Costs = {}
        lane.write_all(payments, spent, lambda: server.cpu_us(thread))
        found = {f"{name}, us": us / len(payments) for name, us in spent.items()}
        found["all, us"] = sum(found.values())
        found["disk, bytes"] = (server.disk_bytes() - size) / len(payments)
        lane.store.close()
    return {name: round(value, 2) for name, value in found.items()}


class _Lane:
    """Decides batches and writes them."""

    def __init__(self, address: MysqlAddress) -> None:
        self.store = MysqlLaneStore(address, 0, decision_of=decision_of, clock_ms=lambda: stages.START_MS)
        self._fence = self.store.take_over(bytes(16)).progress
        self._decider = stages._decider()
        self._gate = Gate(keyring=KeyRing(signing="k1", keys={"k1": bytes(32)}), lane=0, lanes=1)
        self._before: list[object] = []

    def write_all(self, records: list[Record], spent: Costs, clock: Callable[[], float] = lambda: 0.0) -> None:
        """Take records through in batches; ``spent`` is told what each part took by ``clock``, microseconds."""
        for first in range(0, len(records), stages.BATCH):
            admissions = [
                admit(record, self._decider.book.rules, self._gate) for record in records[first : first + stages.BATCH]
            ]
            needs = self._decider.needs_of(admissions)
            missing = self._decider.book.missing(needs)
            before = clock()
            self.store.begin(self._fence, None, missing)
            rows = self.store.loaded()
            self.store.finish()
            spent["looking ids up"] = spent.get("looking ids up", 0.0) + clock() - before
            self._decider.book.add(missing, rows)
            write = self._decider.decide(admissions, needs, published=(0, 0)).write
            before = clock()
            self.store.begin(self._fence, write, Keys())
            self.store.finish()
            spent["writing"] = spent.get("writing", 0.0) + clock() - before
            self._fence = write.progress
            self._decider.book.forget([needs, *self._before], stages.BOOK_ACCOUNTS_MAX)  # type: ignore[list-item]
            self._before = [needs]


def main(
    *,
    only: Annotated[list[str] | None, typer.Option("--only", help="hot, many or three; may be given again.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="A commit to measure in turn with this checkout.")] = None,
    as_json: Annotated[bool, typer.Option("--as-json", help="As JSON: kind, cost, figure.")] = False,
) -> None:
    """Print what a payment's journal row costs MySQL: microseconds of its thread's CPU, and bytes."""
    kinds = only or list(stages.KINDS)
    if base is not None:
        from tests.bench.in_turn import print_ratios  # noqa: PLC0415 - a base that this file measures may not have it

        print_ratios(Path(__file__), base, kinds)
        return
    found = {kind: measure(kind) for kind in kinds}
    if as_json:
        print(json.dumps(found))  # noqa: T201
        return
    for name in found[kinds[0]]:
        print(f"{name:20}", *(f"{kind} {found[kind][name]:8.2f}" for kind in kinds))  # noqa: T201


if __name__ == "__main__":
    typer.run(main)
