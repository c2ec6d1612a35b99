"""One session with Cassandra: its options spelled out, its requests bounded, its errors told as faults."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    DriverException,
    RequestValidationException,
    Unauthorized,
    UnresolvableContactPoints,
    UnsupportedOperation,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.connection import ConnectionException
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, RetryPolicy, TokenAwarePolicy
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import ErrorMessage
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement, SimpleStatement, tuple_factory

from processors.faults import Fault, Misconfigured, Refused, Unavailable
from processors.metrics import SERVER_UP
from processors.stores.addresses import CassandraAddress

PROTOCOL_VERSION = 5  # Cassandra 4.0 and later
CONNECT_TIMEOUT_S = 5.0
# Above the server's own timeouts (2 to 5 s by default, 10 s on the native stack), so that it says what happened.
REQUEST_TIMEOUT_S = 12.0
# A node that was away is asked again every second, for ever: the archive waits, payments do not.
RECONNECT_S = 1.0
# Five times a request's deadline: a session that had no answer for so long is built anew, lest the driver be stuck.
SILENCE_S = 60.0
SCHEMA_AGREEMENT_S = 30
REQUESTS_MAX = 32  # on the way at once, unless the settings say otherwise; 32 of 30 KiB fill a node's write stage

# The login or its certificate; a right, of which a GRANT takes two seconds to be known everywhere.
_REFUSED = (AuthenticationFailed, Unauthorized)
_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"  # the driver makes another exception of ssl's, and keeps its text
# Waiting does not mend it.
_WRONG = (RequestValidationException, UnsupportedOperation, UnresolvableContactPoints)
# What may come back when a server is away, busy or restarting.
_AWAY = (DriverException, NoHostAvailable, ConnectionException, NoConnectionsAvailable, ErrorMessage, OSError)


class OnceOnTheNextHost(RetryPolicy):  # type: ignore[misc]
    """Try once more, on another node: every request of ours may be repeated. Then the caller decides (waits)."""

    def on_read_timeout(self, *_arguments: Any, **options: Any) -> tuple[int, None]:
        """Answer a read that too few replicas answered in time."""
        return self._once(options)

    def on_write_timeout(self, *_arguments: Any, **options: Any) -> tuple[int, None]:
        """Answer a write that too few replicas acknowledged in time; rows carry their version, so it may repeat."""
        return self._once(options)

    def on_unavailable(self, *_arguments: Any, **options: Any) -> tuple[int, None]:
        """Answer a node that sees too few replicas alive."""
        return self._once(options)

    def on_request_error(self, *_arguments: Any, **options: Any) -> tuple[int, None]:
        """Answer a lost connection or an overloaded node."""
        return self._once(options)

    def _once(self, options: Mapping[str, Any]) -> tuple[int, None]:
        return (self.RETRY_NEXT_HOST if options["retry_num"] == 0 else self.RETHROW), None


BoundRow = tuple[PreparedStatement, list[bytes]]
"""A statement and its values in Cassandra's binary form, in the order of its question marks.

Binding them here instead of in the driver takes half the time, 6 µs instead of 12 for a row of seven columns: the
driver makes a description of each column for each value.
"""


Meanwhile = Callable[[], bool]
"""A little work to do instead of waiting; False: there is none left."""


def nothing() -> bool:
    """Have no work to do instead of waiting."""
    return False


class CassandraSession:
    """A pool of connections for one keyspace. ``write`` and ``read_each`` keep at most ``requests_max`` on the way.

    For one thread; close it after use.
    """

    def __init__(
        self,
        address: CassandraAddress,
        *,
        keyspace: str | None,
        requests_max: int = REQUESTS_MAX,
        silence_s: float = SILENCE_S,
    ) -> None:
        """Connect.

        Args:
            address: The cluster.
            keyspace: Which to use; None before it is made.
            requests_max: At least 1.
            silence_s: Without an answer for so long, the connections are made anew.

        Raises:
            Refused: The login, or its certificate.
            Unavailable: No node answers.
            Misconfigured: There is no such keyspace.
        """
        self._address = address
        self._requests_max = requests_max
        self._silence_s = silence_s
        self._keyspace: str | None = None
        self._prepared: dict[str, PreparedStatement] = {}
        self._ended = False  # the driver will not connect again by itself
        self._answered_s = time.monotonic()
        self._cluster, self._session = _connected(address)
        try:
            if keyspace is not None:
                self.use(keyspace)
        except BaseException:
            self._cluster.shutdown()
            raise

    def prepare(self, cql: str, *, page_rows: int | None = None) -> PreparedStatement:
        """Return a statement, prepared once.

        Args:
            cql: Its text, the same at each call; ``$`` before a table's name stands for the keyspace, which the server
                wants named in whatever is prepared.
            page_rows: For a SELECT: how many rows come at once.

        Raises:
            Misconfigured: The schema lacks what it names.
        """
        known = self._prepared.get(cql)
        if known is None:
            with self._asking("preparing a statement (a missing table: run `balance migrate`)"):
                known = self._session.prepare(self._named(cql))
            known.is_idempotent = True
            known.fetch_size = page_rows
            self._prepared[cql] = known
        return known

    def rows(self, statement: PreparedStatement, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that a SELECT finds at LOCAL_QUORUM, page by page.

        Raises:
            Unavailable: A page did not come.
        """
        with self._asking("read from Cassandra"):
            yield from self._session.execute(statement.bind(values))

    def read_each(self, wanted: Iterable[tuple[PreparedStatement, Sequence[Any]]]) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of several SELECTs, in their order, with some on the way at once.

        Raises:
            Unavailable: One was not answered.
        """
        waiting = []
        with self._asking("reads from Cassandra"):
            for statement, values in wanted:
                waiting.append(self._session.execute_async(statement.bind(values)))
                if len(waiting) == self._requests_max:
                    yield list(waiting.pop(0).result())
            for future in waiting:
                yield list(future.result())

    def write(self, groups: Iterable[Sequence[BoundRow]], meanwhile: Meanwhile = nothing) -> None:
        """Write everything, in no particular order, and return once all of it is acknowledged by a LOCAL_QUORUM.

        Args:
            groups: Each becomes one request, an unlogged batch: rows of one partition, or of several on the same nodes.
                A row alone goes as it is.
            meanwhile: Called while as much is on the way as may be, so that this process and Cassandra work at once
                without another thread to share the interpreter with.

        Raises:
            Unavailable: Something was not; the rest may or may not be written. Write all of it again.
            Misconfigured: The server refuses a statement.
        """
        on_the_way = _OnTheWay(self._requests_max)
        with self._asking("write to Cassandra"):
            for group in groups:
                on_the_way.enter(meanwhile)
                future = self._session.execute_async(_bound(*group[0]) if len(group) == 1 else _batch(group))
                future.add_callbacks(on_the_way.done, on_the_way.failed)
            on_the_way.finish(meanwhile)

    def execute(self, cql: str) -> None:
        """Execute one statement of the schema and wait until all nodes agree on it.

        Raises:
            Misconfigured: The server refuses it.
            Unavailable: It was not done, or nobody knows.
        """
        with self._asking("change of Cassandra's schema"):
            self._session.execute(SimpleStatement(cql, keyspace=self._keyspace), timeout=SCHEMA_AGREEMENT_S)

    def note(self, cql: str, values: Sequence[Any]) -> None:
        """Execute one small write.

        Raises:
            Unavailable: It was not acknowledged.
        """
        with self._asking("write to Cassandra"):
            self._session.execute(self.prepare(cql).bind(values))

    def use(self, keyspace: str) -> None:
        """Have names mean those of a keyspace.

        Raises:
            Misconfigured: There is no such keyspace, or it keeps fewer copies than the address wants: what a quorum of
                fewer acknowledges is lost with fewer nodes.
        """
        found = self._cluster.metadata.keyspaces.get(keyspace)
        if found is None:
            raise Misconfigured(f"Cassandra has no keyspace {keyspace}: run `balance migrate`")
        center, wanted = self._address.local_dc, self._address.replication_factor
        copies = copies_in(found.replication_strategy, center)
        if copies < wanted:
            everywhere = copies_everywhere(found.replication_strategy) | {center: copies + 1}
            factors = ", ".join(f"'{each}': {factor}" for each, factor in everywhere.items())
            raise Misconfigured(
                f"keyspace {keyspace} keeps {copies} copies in {center}, the settings want {wanted} "
                f"(cassandra.replication_factor): stop sink, recaller and remover, ALTER KEYSPACE {keyspace} WITH "
                f"replication = {{'class': 'NetworkTopologyStrategy', {factors}}}, `nodetool repair --full {keyspace}` "
                "on each node, and so on, one copy more at a time: a quorum of nodes that have nothing yet would find "
                "nothing; then start them"
            )
        self._keyspace = keyspace

    def replicas(self, partition_key: Sequence[bytes]) -> tuple[str, ...]:
        """Return which nodes hold a partition; empty where there is but one node, or it is not known yet.

        Args:
            partition_key: Its columns, each in Cassandra's binary form.
        """
        metadata = self._cluster.metadata
        if len(metadata.all_hosts()) <= 1:
            return ()
        parts = (len(part).to_bytes(2, "big") + part + b"\x00" for part in partition_key)
        key = partition_key[0] if len(partition_key) == 1 else b"".join(parts)
        return tuple(sorted(str(host.endpoint) for host in metadata.get_replicas(self._keyspace, key)))

    def close(self) -> None:
        """Give the connections back."""
        self._cluster.shutdown()

    def _named(self, cql: str) -> str:
        return cql.replace("$", f"{self._keyspace}.")

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Ask on a session that can answer, and note whether it does.

        After one refused login the driver never asks that node again; it then says that there is no node, and gives no
        reason. So such a session is closed, and so is one that had no answer for ``silence_s``, whatever the cause. The
        next session reads the password as it is then, and its fault says what is wrong.
        """
        if self._ended:
            self._begin_anew()
        try:
            with _told(doing):
                yield
        except Unavailable as fault:
            silent_s = time.monotonic() - self._answered_s
            self._ended = is_without_reason(fault.__cause__) or silent_s > self._silence_s
            SERVER_UP.labels("cassandra").set(0)
            raise
        self._answered_s = time.monotonic()
        SERVER_UP.labels("cassandra").set(1)

    def _begin_anew(self) -> None:
        cluster, session = _connected(self._address)
        try:
            with _told("preparing statements anew"):
                for cql in self._prepared:  # the same ids as before: whoever holds a statement may go on with it
                    session.prepare(self._named(cql))
        except BaseException:
            cluster.shutdown()
            raise
        before, self._cluster, self._session = self._cluster, cluster, session
        self._ended = False
        self._answered_s = time.monotonic()
        before.shutdown()


class _OnTheWay:
    """Counts requests that are not answered yet; tells of the first that failed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = threading.Semaphore(most)
        self._failure: BaseException | None = None

    def enter(self, meanwhile: Meanwhile) -> None:
        """Wait for a place, at work if there is any."""
        while not self._places.acquire(blocking=False):
            if not meanwhile():
                self._wait()
                break
        if self._failure is not None:
            raise self._failure

    def _wait(self) -> None:
        # The driver answers each request within its timeout, so twice that means it never will.
        if not self._places.acquire(timeout=2 * REQUEST_TIMEOUT_S):
            raise Unavailable(f"no request to Cassandra was answered within {2 * REQUEST_TIMEOUT_S} s")

    def done(self, _rows: object) -> None:
        self._places.release()

    def failed(self, failure: BaseException) -> None:
        self._failure = self._failure or failure
        self._places.release()

    def finish(self, meanwhile: Meanwhile) -> None:
        for _ in range(self._most):
            self.enter(meanwhile)


def _batch(rows: Sequence[BoundRow]) -> BatchStatement:
    batch = BatchStatement(BatchType.UNLOGGED)
    batch.is_idempotent = True
    for statement, values in rows:
        batch.add(_bound(statement, values))
    return batch


def _bound(statement: PreparedStatement, values: list[bytes]) -> BoundStatement:
    bound = BoundStatement(statement)  # idempotent as its statement is
    bound.values = values
    return bound


def copies_in(strategy: Any, center: str) -> int:
    """Return how many copies of a row a keyspace keeps in a data center.

    Args:
        strategy: The driver's; one that knows no data centers says how many there are in all.
        center: Its name.
    """
    if hasattr(strategy, "dc_replication_factors"):
        return copies_everywhere(strategy).get(center, 0)
    return int(getattr(strategy, "replication_factor", 0))


def copies_everywhere(strategy: Any) -> dict[str, int]:
    """Return how many copies of a row a keyspace keeps, by data center; none where the strategy knows no centers."""
    return dict(getattr(strategy, "dc_replication_factors", None) or {})


def is_without_reason(error: BaseException | None) -> bool:
    """Say whether a driver's error names no node that was asked: there is none that it still tries."""
    return isinstance(error, NoConnectionsAvailable) or (isinstance(error, NoHostAvailable) and not error.errors)


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turn the driver's exceptions into faults."""
    try:
        yield
    except _AWAY as error:
        raise fault_of(error, doing) from error


def fault_of(error: Exception, doing: str) -> Fault:
    """Return the fault that an exception of the driver is, by what the caller must do next.

    Args:
        error: One of the driver's.
        doing: What was tried, for the text.
    """
    causes: list[Any] = [error]
    if isinstance(error, NoHostAvailable):
        # A session that reached no node has their addresses here instead of what happened at each.
        causes = list(error.errors.values()) if isinstance(error.errors, dict) else []
    text = f"{doing}: {type(error).__name__}: {error}"
    if causes and all(isinstance(cause, _REFUSED) or _CERTIFICATE in str(cause) for cause in causes):
        return Refused(text)
    if causes and all(isinstance(cause, _WRONG) for cause in causes):
        return Misconfigured(text)
    return Unavailable(text)


def _connected(address: CassandraAddress) -> tuple[Cluster, Session]:
    """Return a new pool of connections and its session.

    Raises:
        Refused: The login, or its certificate.
        Unavailable: No node answers.
    """
    cluster = _cluster(address)
    try:
        with _told("connection to Cassandra"):
            session = cluster.connect()
    except BaseException:
        cluster.shutdown()
        SERVER_UP.labels("cassandra").set(0)
        raise
    SERVER_UP.labels("cassandra").set(1)
    # Each write says its version itself (A2); a clock must not get into it by omission.
    session.use_client_timestamp = False
    return cluster, session


def _cluster(address: CassandraAddress) -> Cluster:
    profile = ExecutionProfile(
        # Straight to a node that holds the partition.
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=address.local_dc)),
        retry_policy=OnceOnTheNextHost(),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=REQUEST_TIMEOUT_S,
        row_factory=tuple_factory,
        speculative_execution_policy=None,
    )
    return Cluster(
        contact_points=list(address.hosts),
        port=address.port,
        protocol_version=PROTOCOL_VERSION,
        compression=False,
        auth_provider=PlainTextAuthProvider(address.username, address.read_password()) if address.username else None,
        ssl_context=ssl.create_default_context(cafile=address.tls_ca_file) if address.tls_ca_file else None,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_S, max_attempts=None),
        connect_timeout=CONNECT_TIMEOUT_S,
        control_connection_timeout=CONNECT_TIMEOUT_S,
        idle_heartbeat_interval=10,
        idle_heartbeat_timeout=10,
        executor_threads=2,
        max_schema_agreement_wait=SCHEMA_AGREEMENT_S,
        # Which replicas hold what is needed to group rows (docs/design.md, The archive); it comes from both.
        schema_metadata_enabled=True,
        token_metadata_enabled=True,
        metrics_enabled=False,
        monitor_reporting_enabled=False,
        application_name="balance",
    )
