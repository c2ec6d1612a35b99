"""A service of a run's own on the real servers, with its processes; nothing is left of it."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import MySQLdb
from cassandra.cluster import Cluster
from confluent_kafka.admin import AdminClient

from devtools import stack
from processors.ops import addresses
from processors.ops.setting_up import initialize
from processors.routing.buckets import partition_of
from processors.settings import Settings, load_settings
from processors.stores.archive_reader import ArchiveReader
from processors.stores.cassandra import CassandraSession
from processors.stores.rows import PlacementState
from processors.stores.shard_reader import open_reader
from processors.streams.topics import TopicAdmin, shard_topic
from tests.bench.measure import memory_mb
from tests.servers import Servers

SHARD = "s1"
_S1, _S2 = "BALANCE_SHARDS__S1__", "BALANCE_SHARDS__S2__"
OF_A_SHARD = {"shard", "expirer", "remover"}
RESULTS_PARTITIONS = 4
END_DEADLINE_S = 60.0
_ADMIN_TIMEOUT_S = 60.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that ended well: its output, how long it took, and the peak memory of its largest process."""

    stdout: bytes
    took_s: float
    peak_mb: int


class Service:
    """Topics, database, keyspace and processes under names of this run alone."""

    def __init__(self, servers: Servers, folder: Path, lanes: int, shards: int) -> None:
        """Make everything that the first command needs."""
        self._servers = servers
        self.folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._health_ports: dict[str, int] = {}
        mark = secrets.token_hex(4)
        self.database = self.keyspace = f"balance_bench_{mark}"
        self.prefix = f"bench{mark}."
        self.environment = {
            **servers.environment(),
            "BALANCE_KAFKA__TOPIC_PREFIX": self.prefix,
            "BALANCE_SHARDS__S1__DATABASE": self.database,
            "BALANCE_CASSANDRA__KEYSPACE": self.keyspace,
            "BALANCE_KEYS_FILE": str(folder / f"keys-{mark}.json"),
            "BALANCE_TOPICS__LANES": str(lanes),
            "BALANCE_TOPICS__RESULTS_PARTITIONS": str(RESULTS_PARTITIONS),
            "BALANCE_LOG_LEVEL": "warning",
        }
        self._databases = [self.database]
        if shards == 2:
            self._databases.append(f"{self.database}_2")
            of_s1 = {name: value for name, value in self.environment.items() if name.startswith(_S1)}
            self.environment |= {name.replace(_S1, _S2): value for name, value in of_s1.items()}
            self.environment[f"{_S2}DATABASE"] = self._databases[-1]
        self.settings = load_settings(environment=self.environment)
        initialize(self.settings, lambda _said: None)
        self.kafka = addresses.kafka_address(self.settings)
        self.mysql = addresses.mysql_address(self.settings, SHARD)

    @property
    def shard_topic(self) -> str:
        """Return the shard's topic, without the prefix."""
        return shard_topic(SHARD)

    def partition_of(self, root: str) -> int:
        """Return a root's partition of `balance.commands`."""
        return partition_of(root, self.settings.topics.commands_partitions)

    # ------------------------------------------------------------------ processes

    def start(self, *names: str) -> None:
        """Start processes: ``router``, ``shard``, ...; ``shard-2`` is one more, ``shard@s2`` one of another shard."""
        for name in names:
            kind, _, shard = name.partition("@")
            of_shard = ["--shard", shard or SHARD] if kind.partition("-")[0] in OF_A_SHARD else []
            self._health_ports[name] = _free_port()
            with (self.folder / f"{self.prefix}{name}.log").open("wb") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "processors.ops.cli", kind.partition("-")[0], "run", *of_shard],
                    env={**os.environ, **self.environment, **self._of_one(name)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def _of_one(self, name: str) -> dict[str, str]:
        return {"BALANCE_INSTANCE": name.replace("@", "-of-"), "BALANCE_HEALTH__PORT": str(self._health_ports[name])}

    def health_port(self, name: str) -> int:
        """Return where a process that was started answers ``/metrics``, on the loopback interface."""
        return self._health_ports[name]

    def check(self) -> None:
        """Raise where a process has ended by itself; its log is in the error."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = (self.folder / f"{self.prefix}{name}.log").read_text()
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{log[-4_000:]}")

    def pids(self) -> dict[str, int]:
        """Return the processes' ids by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def memory_mb(self) -> dict[str, int]:
        """Return the processes' resident memory in MB."""
        return {name: memory_mb(pid) for name, pid in self.pids().items()}

    def stop(self) -> None:
        """End the processes, finishing what they do."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(END_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    # ------------------------------------------------------------------ commands

    def run(self, *words: str) -> Ran:
        """Run a command of ``balance``, and raise where it does not end with 0; what it says is in the error."""
        began_s = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "processors.ops.cli", *words],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
            )
            try:
                _, status, used = os.wait4(process.pid, 0)  # the largest of the process and of those it had started
            except BaseException:  # such as Ctrl-C: nothing goes on without us
                process.kill()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            took_s = time.monotonic() - began_s
            out.seek(0)
            errors.seek(0)
            stdout = out.read()
            if process.returncode != 0:
                told = f"{stdout[-2_000:].decode()}{errors.read()[-2_000:].decode()}"
                raise RuntimeError(f"balance {' '.join(words)} ended with {process.returncode}:\n{told}")
        return Ran(stdout=stdout, took_s=took_s, peak_mb=used.ru_maxrss // 1024)

    def empty_database(self) -> str:
        """Make a database beside the shard's, and return its name; it goes with the service."""
        self._databases.append(f"{self.database}_{len(self._databases)}")
        connection = self._connect()
        connection.query(f"CREATE DATABASE {self._databases[-1]}")
        connection.close()
        return self._databases[-1]

    # ------------------------------------------------------------------ moves

    def await_moved(self, shard: str, count: int, deadline_s: float) -> None:
        """Wait until a shard owns so many placement keys, and the others were told of it."""
        deadline = time.monotonic() + deadline_s
        address = addresses.mysql_address(self.settings, shard)
        with closing(open_reader(address)) as target, closing(open_reader(self.mysql)) as source:
            while True:
                owned = [row.state for row in target.placements(0).values()].count(PlacementState.OWNED)
                sealed = [row.state for row in source.placements(0).values()].count(PlacementState.SEALED)
                if owned >= count and not sealed:
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{shard} owns {owned} of {count} after {deadline_s} s")
                self.check()
                time.sleep(_LOOK_S)

    # ------------------------------------------------------------------ the archive

    def disk_bytes(self) -> int:
        """Return what the shard's tables and indexes take in MySQL, in whole pages."""
        connection = self._connect()
        try:
            tables = self._asked(connection, f"SHOW TABLES FROM {self.database}")
            names = ", ".join(
                f"{self.database}.{str(name, 'ascii') if isinstance(name, bytes) else name}" for (name,) in tables
            )
            self._asked(connection, f"ANALYZE NO_WRITE_TO_BINLOG TABLE {names}")
            self._asked(connection, "SET SESSION information_schema_stats_expiry = 0")
            ((size,),) = self._asked(
                connection,
                "SELECT SUM(data_length + index_length) FROM information_schema.tables "
                f"WHERE table_schema = '{self.database}'",
            )
            return int(size)
        finally:
            connection.close()

    @staticmethod
    def _asked(connection: MySQLdb.Connection, statement: str) -> Sequence[tuple[Any, ...]]:
        connection.query(statement)
        found = connection.store_result()
        return () if found is None else tuple(found.fetch_row(maxrows=0))

    def journal_ends(self) -> dict[tuple[int, int], int]:
        """Return the last journalled lane offset by lane and results partition."""
        connection = self._connect()
        connection.query(
            f"SELECT lane, bucket & {RESULTS_PARTITIONS - 1}, MAX(lane_offset) FROM {self.database}.journal "
            "GROUP BY 1, 2"
        )
        rows = connection.store_result().fetch_row(maxrows=0)
        connection.close()
        return {(int(lane), int(partition)): int(offset) for lane, partition, offset in rows}

    def await_archived(self, ends: dict[tuple[int, int], int], deadline_s: float) -> tuple[float, int, float]:
        """Wait until the archive covers these offsets.

        Returns:
            When coverage was first seen, how far it was then (offsets over all lanes and partitions), and when it
            covered all; seconds on the monotonic clock.
        """
        session = CassandraSession(addresses.cassandra_address(self.settings), keyspace=self.keyspace)
        reader = ArchiveReader(session)
        shard = TopicAdmin(self.kafka).topic_id(self.shard_topic)
        first: tuple[float, int] | None = None
        deadline = time.monotonic() + deadline_s
        try:
            while True:
                covered = {key: found.lane_offset for key, found in reader.coverage(shard).items()}
                now_s = time.monotonic()
                if covered and first is None:
                    first = now_s, sum(covered.values())
                if first is not None and all(covered.get(key, -1) >= end for key, end in ends.items()):
                    return first[0], first[1], now_s
                if now_s > deadline:
                    raise TimeoutError(f"the archive covers {covered} of {ends} after {deadline_s} s")
                self.check()
                time.sleep(_LOOK_S)
        finally:
            session.close()

    # ------------------------------------------------------------------ the end

    def remove(self) -> None:
        """Stop what still runs, and take topics, database and keyspace away."""
        self.stop()
        admin = AdminClient({"bootstrap.servers": self._servers.kafka_bootstrap_servers})
        topics = [name for name in admin.list_topics(timeout=_ADMIN_TIMEOUT_S).topics if name.startswith(self.prefix)]
        for done in admin.delete_topics(topics, operation_timeout=_ADMIN_TIMEOUT_S).values():
            done.result(timeout=_ADMIN_TIMEOUT_S)
        connection = self._connect()
        for database in self._databases:
            connection.query(f"DROP DATABASE IF EXISTS {database}")
        connection.close()
        cluster = Cluster([self._servers.cassandra_host], port=self._servers.cassandra_port, protocol_version=5)
        try:
            cluster.connect().execute(f"DROP KEYSPACE IF EXISTS {self.keyspace}", timeout=_ADMIN_TIMEOUT_S)
        finally:
            cluster.shutdown()

    def _connect(self) -> MySQLdb.Connection:
        servers = self._servers
        return MySQLdb.connect(
            host=servers.mysql_host,
            port=servers.mysql_port,
            user=servers.mysql_user,
            password=servers.mysql_password,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(servers: Servers, *, lanes: int = 1, shards: int = 1) -> Iterator[Service]:
    """Give a service of its own for one run, removed afterwards whatever happens."""
    with tempfile.TemporaryDirectory(prefix="balance-bench-") as folder:
        made = Service(servers, Path(folder), lanes, shards)
        try:
            yield made
        finally:
            made.remove()


def server_pids(settings: Settings) -> dict[str, int]:
    """Return the process ids of the servers, as far as this checkout's native stack runs them."""
    used = (server for server in stack.Server if server is not stack.Server.MYSQL_2)  # all databases are on the first
    pids = {server.value: stack.pid(settings, server) for server in used}
    return {name: pid for name, pid in pids.items() if pid is not None}
