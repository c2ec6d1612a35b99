"""Connections to a shard's MySQL: every option spelled out, every error of the driver told as a fault."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

import MySQLdb
from MySQLdb.constants import CLIENT

from processors.faults import (
    Fault,
    LaneStopped,
    Misconfigured,
    Refused,
    Retryable,
    StopCode,
    Unavailable,
    UnknownOutcome,
)
from processors.metrics import SERVER_UP
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql_settings import SQL_MODE, check_server

T = TypeVar("T")
Row = tuple[Any, ...]

WAIT_TIMEOUT_S = 20  # L7: how long the server keeps the locks of a lane that fell silent
READER_WAIT_TIMEOUT_S = 600  # of the others, which hold no lock while they are silent
LOCK_WAIT_TIMEOUT_S = 5  # L7
CONNECT_TIMEOUT_S = 5
# A lane waits this long for one answer: a lock (5 s), 4 MiB of rows and their sync on a busy disk. Longer than
# `wait_timeout`, so that a server which lost us has let go of our locks before we give up on it.
LANE_READ_TIMEOUT_S = 30
# Others read ranges of some thousand rows and drop partitions.
READ_TIMEOUT_S = 60
STREAMED_ROWS = 1_000  # half a megabyte of journal


class Phase(Enum):
    """How far a transaction was when something went wrong."""

    CONNECTING = auto()
    BEFORE_COMMIT = auto()
    COMMIT_SENT = auto()


class LockWaitTimeout(Retryable):
    """A lock was not given in time. The server keeps the transaction open: roll it back."""


# The server, or the way to it, is gone; what it was doing is rolled back if it was not committed.
LOST = frozenset(
    {
        0,  # the driver: the connection is closed
        1053,  # server shutdown in progress
        1077,  # normal shutdown
        1079,  # shutdown complete
        1152,  # aborted connection
        1158,  # network read error
        1159,  # network read interrupted
        1160,  # network write error
        1161,  # network write interrupted
        1927,  # connection was killed
        2006,  # server has gone away
        2013,  # lost connection during query, and the driver's read timeout
        2014,  # commands out of sync: a reply got lost
        2026,  # the same as 2013, where the connection has TLS
        2027,  # malformed packet
        2055,  # lost connection, system error
        3169,  # session was killed
        4031,  # disconnected for inactivity: wait_timeout
    }
)
# The client's library did not reach the server: its words quote the host, and there is no row that it could quote.
UNREACHED = frozenset(
    {
        2002,  # no connection; with MariaDB's library over TCP, too
        2003,  # no connection over TCP
        2005,  # unknown host
    }
)
# Nothing was changed, or it is about to be rolled back; the same again may work.
AGAIN = frozenset(
    {
        1206,  # lock table full
        1213,  # deadlock: the server rolled back
        1317,  # query interrupted
        1412,  # table definition has changed: the transaction reads a partition that was added after its snapshot
        1613,  # XA rolled back: took too long
        1614,  # XA rolled back: deadlock
        3024,  # max_execution_time
        3572,  # NOWAIT
    }
)
# Somebody must look, since the server says no; or a cluster is just changing, a password, a certificate.
REFUSED = frozenset(
    {
        1044,  # no right to the database
        1045,  # wrong user or password: it may have been changed, and the file is read again
        1129,  # host blocked after errors of connections
        1130,  # host not allowed
        1142,  # no right to the table
        1143,  # no right to the column
        1227,  # a right is missing
        1698,  # wrong user
        1820,  # the password has expired
        1862,  # the password has expired, and this client cannot change it
        2059,  # authentication plugin
        2061,  # authentication plugin
        3118,  # account locked
        3159,  # the server insists on TLS
        3955,  # locked after too many wrong logins
    }
)
# An operator must change something before a process can start. (What runs already waits all the same.)
WRONG = frozenset(
    {
        1049,  # no such database
        1054,  # no such column: schemas/mysql is not applied
        1146,  # no such table
        1153,  # packet above max_allowed_packet
        1193,  # no such variable: not the server we know
        1231,  # a variable refuses our value
    }
)
# What only a statement of ours can cause. The server's text is left out: it quotes rows.
BUGS = frozenset(
    {
        1048,  # NULL where none may be
        1062,  # duplicate key
        1064,  # syntax
        1065,  # empty statement
        1136,  # column count
        1149,  # syntax
        1264,  # out of range
        1265,  # data truncated
        1292,  # a value that is none
        1364,  # no default
        1366,  # a value that does not fit
        1367,  # a value that is none
        1406,  # too long
        1451,  # a foreign key
        1452,  # a foreign key
        1690,  # out of range, computed
        3819,  # a check constraint
    }
)
DUPLICATE_KEY = 1062
MISSING_PARTITION = 1526
LOCK_WAIT = 1205  # of rows and of metadata
TLS = 2026
TEXT_MAX = 200  # of what the server says
_QUOTED = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"|`[^`]*`")  # the apostrophe of "can't" opens no quotation


def fault_of(error: Exception, phase: Phase, what: str, *, next_step: str = "") -> Fault | AssertionError:
    """Return what the caller must do about the driver's error.

    Any number that is not known is waited out: servers, clusters and proxies have some of their own, for what passes;
    and nothing was changed, since what a transaction had written is rolled back.

    Args:
        error: As the driver raised it; its first argument is MySQL's error number.
        phase: Once COMMIT was sent, no answer but "done" tells whether it is done (L6).
        what: The statement in words. The server's own text goes with it, without what could quote rows.
        next_step: What somebody does about it, after the server's text; empty where that says it.

    Returns:
        Retryable, UnknownOutcome, Unavailable, Refused or Misconfigured; LaneStopped for a slice without a partition
        (A7); an AssertionError for what only a bug can cause.

    Source: docs/decisions, "A fault is waited out, a stop is for the log".
    """
    number = error.args[0] if error.args and isinstance(error.args[0], int) else -1
    if number in LOST or phase is Phase.CONNECTING:
        SERVER_UP.labels("mysql").set(0)
    text = f"{what}: MySQL error {number}"
    if phase is Phase.COMMIT_SENT:
        return UnknownOutcome(f"{text}: {_said_openly(error)}")
    if number == MISSING_PARTITION:
        return LaneStopped(StopCode.MISSING_SLICE, f"{text}: the journal has no partition for an id's hour")
    if number == LOCK_WAIT:
        return LockWaitTimeout(text)
    if number in REFUSED or (number == TLS and phase is Phase.CONNECTING):
        return Refused(f"{text}: {_said(error)}")
    if number in LOST:
        return (Unavailable if phase is Phase.CONNECTING else Retryable)(f"{text}: {_said(error)}")
    if number in AGAIN:
        return Retryable(text)
    if number in WRONG:
        return Misconfigured(f"{text}: {_said(error)}{next_step}")
    if number == DUPLICATE_KEY and phase is Phase.BEFORE_COMMIT:  # which key, without its values
        return AssertionError(f"{text}: {_said(error).rpartition(' for ')[2]}")
    if number in BUGS and phase is Phase.BEFORE_COMMIT:  # while connecting no statement of ours can be wrong yet
        return AssertionError(text)
    said = _said(error) if number in UNREACHED else _said_openly(error)
    return Unavailable(f"{text}: {said}{next_step}")


def _next_step(error: Exception, address: MysqlAddress) -> str:
    """Say what somebody does about a connection that was not made, where the server's text alone does not."""
    match error.args[:1]:
        case (1049,) if address.shard:
            return ": of a new shard `balance init` makes it; any other is restored from its backup"
        case (1049,):
            return f": create it: CREATE DATABASE {address.database}"
        case (2002 | 2003,):  # the library cannot reach it, or is refused
            return ": is MySQL running, at this host and port?"
        case _:
            return ""


def _said(error: Exception) -> str:
    return str(error.args[1])[:TEXT_MAX] if len(error.args) > 1 else ""


def _said_openly(error: Exception) -> str:
    """Return the server's text without what it quotes.

    >>> _said_openly(MySQLdb.OperationalError(9001, "Max connect timeout reached for 'acme' after 10000ms"))
    "Max connect timeout reached for '...' after 10000ms"
    >>> _said_openly(MySQLdb.OperationalError(9001, "Can't route 'acme' (115)"))
    "Can't route '...' (115)"
    """
    return _QUOTED.sub("'...'", _said(error))


@dataclass(frozen=True, slots=True)
class Reply:
    """What a statement was answered: how many rows it inserted, matched, deleted or found, and those it found."""

    count: int
    rows: list[Row]


class Session:
    """One connection. Used by one thread at a time; no transaction unless ``begin``; after a fault: close it."""

    def __init__(self, address: MysqlAddress, *, lane: bool) -> None:
        """Connect, and set everything that matters for the session (L7).

        Args:
            address: The database.
            lane: A lane's connection: short timeouts, and a server that would lose a commit is refused.

        Raises:
            Unavailable: No answer within ``CONNECT_TIMEOUT_S``, or the server is not taking connections.
            Refused: The server does not let us in.
            Misconfigured: The server's settings are wrong, or the connection is not encrypted though it must be; the
                text says which.
        """
        self.address = address
        self._in_transaction = False
        timeout_s = address.read_timeout_s or (LANE_READ_TIMEOUT_S if lane else READ_TIMEOUT_S)
        try:
            self._connection = MySQLdb.connect(
                host=address.host,
                port=address.port,
                user=address.user,
                password=address.read_password(),
                database=address.database,
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=timeout_s,
                write_timeout=timeout_s,
                # `compress` is not named: the driver compresses whatever its value is, False too (tried)
                charset="utf8mb4",
                use_unicode=True,
                autocommit=True,  # a transaction is always begun and ended in words
                client_flag=CLIENT.FOUND_ROWS,  # L7: an UPDATE counts the rows it matched, changed or not
                multi_statements=lane,  # `together`: every value in a lane's statements is an integer or hexadecimal
                local_infile=0,
                ssl_mode=address.ssl_mode,
                **({"ssl": {"ca": address.ssl_ca_file}} if address.ssl_ca_file else {}),
            )
        except MySQLdb.MySQLError as error:
            next_step = _next_step(error, address)
            raise fault_of(error, Phase.CONNECTING, f"connecting to {address}", next_step=next_step) from error
        try:
            self._refuse_clear_text()
            self._set_session(timeout_s, lane=lane)
            if lane:
                self._refuse_single_statements()
            check_server(self, lane=lane)
            SERVER_UP.labels("mysql").set(1)
        except BaseException:
            self.close()
            raise

    def _refuse_clear_text(self) -> None:
        """Refuse a connection that is not encrypted though it must be, before any statement of ours goes over it.

        (Tried: with REQUIRED, MariaDB's library connects in clear text to a server that offers no TLS.)
        """
        if self.address.ssl_mode == "DISABLED":
            return
        ((_, cipher),) = self.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'", "asking whether there is TLS")
        if not cipher:
            raise Misconfigured(
                f"{self.address}: ssl_mode is {self.address.ssl_mode}, and the server offers no TLS: the connection is "
                "not encrypted. Give the server a certificate, or find out who is in between"
            )

    def _refuse_single_statements(self) -> None:
        """Refuse a way to the server that takes no two statements in one packet, before any batch is met by it."""
        try:
            replies = list(
                self.together([("SELECT 1", "trying two statements in one packet"), ("SELECT 2", "the second of two")])
            )
            assert [reply.rows for reply in replies] == [[(1,)], [(2,)]], "the replies are others"
        except AssertionError as refused:  # a syntax error, to whoever takes both for one
            raise Misconfigured(
                f"{self.address}: what is between this worker and MySQL does not let several statements pass in one "
                f"packet: {refused}. Allow them there, or let the worker connect to MySQL itself"
            ) from refused

    def _set_session(self, timeout_s: int, *, lane: bool) -> None:
        self.execute(
            "SET SESSION transaction_isolation = 'READ-COMMITTED'"
            f", sql_mode = '{SQL_MODE}'"
            f", wait_timeout = {WAIT_TIMEOUT_S if lane else READER_WAIT_TIMEOUT_S}"
            f", innodb_lock_wait_timeout = {LOCK_WAIT_TIMEOUT_S}"
            f", lock_wait_timeout = {LOCK_WAIT_TIMEOUT_S}"  # of metadata: a statement behind partition DDL (A7)
            f", net_read_timeout = {timeout_s}, net_write_timeout = {timeout_s}"
            ", max_execution_time = 0"
            ", information_schema_stats_expiry = 0"  # row counts as they are, not as they were yesterday
            ", time_zone = '+00:00'"
            ", unique_checks = 1, foreign_key_checks = 1",
            "setting the session",
        )

    def query(self, sql: str, what: str) -> list[Row]:
        """Return a SELECT's rows, all of them: the statement bounds how many there can be."""
        try:
            self._connection.query(sql.encode())
            result = self._connection.store_result()
            # Read here and not later: a result belongs to its connection, and to the thread that uses it.
            return list(result.fetch_row(0, 0))
        except MySQLdb.MySQLError as error:
            raise fault_of(error, Phase.BEFORE_COMMIT, f"{self.address}: {what}") from error

    def stream(self, sql: str, what: str) -> Iterator[Row]:
        """Yield a SELECT's rows as they come, STREAMED_ROWS in memory at once; nothing else is asked before its end."""
        try:
            self._connection.query(sql.encode())
            result = self._connection.use_result()
            while rows := result.fetch_row(STREAMED_ROWS, 0):
                yield from rows
        except MySQLdb.MySQLError as error:
            raise fault_of(error, Phase.BEFORE_COMMIT, f"{self.address}: {what}") from error

    def execute(self, sql: str, what: str) -> int:
        """Run a statement that returns no rows, and return how many rows it inserted, matched or deleted."""
        try:
            self._connection.query(sql.encode())
            return int(self._connection.affected_rows())
        except MySQLdb.MySQLError as error:
            raise fault_of(error, Phase.BEFORE_COMMIT, f"{self.address}: {what}") from error

    def together(self, statements: Sequence[tuple[str, str]], *, begin: bool = False) -> Iterator[Reply]:
        """Run several statements in one round trip, and yield each one's reply in their order.

        A round trip takes longer than a small statement, and on a busy machine as long as two threads wait for a core.
        Take every reply, or close the session: the server runs them all, up to the first that fails.

        Args:
            statements: Each one's SQL, and what it is in words; together below ``mysql_settings.PACKET_BYTES_MIN``.
                None ends with a semicolon.
            begin: Begin a transaction before the first.

        Raises:
            Misconfigured: There are fewer replies than statements: a reply that is missing must not pass for one
                without rows.
            Fault, AssertionError: Of the first that failed; those after it did not run.
        """
        if begin:
            statements = [("START TRANSACTION", "beginning a transaction"), *statements]
            self._in_transaction = True
        text = ";".join(sql for sql, _ in statements).encode()
        for number, (_, what) in enumerate(statements):
            try:
                if not number:
                    self._connection.query(text)
                elif self._connection.next_result() < 0:  # the driver says so, and raises nothing
                    raise Misconfigured(f"{self.address}: {what}: it has no reply, though those before it have one")
                result = self._connection.store_result()
                rows = [] if result is None else list(result.fetch_row(0, 0))
                reply = Reply(int(self._connection.affected_rows()), rows)
            except MySQLdb.MySQLError as error:
                raise fault_of(error, Phase.BEFORE_COMMIT, f"{self.address}: {what}") from error
            if number or not begin:
                yield reply

    def begin(self, *, consistent_snapshot: bool = False) -> None:
        """Begin a transaction; with ``consistent_snapshot`` one that only reads, all of it as of now."""
        snapshot = " WITH CONSISTENT SNAPSHOT, READ ONLY" if consistent_snapshot else ""
        self.execute(f"START TRANSACTION{snapshot}", "beginning a transaction")
        self._in_transaction = True

    def commit(self) -> None:
        """Commit.

        Raises:
            UnknownOutcome: Any answer but "done", or none: read the state again before anything else (L6).
        """
        try:
            self._connection.query(b"COMMIT")
        except MySQLdb.MySQLError as error:
            raise fault_of(error, Phase.COMMIT_SENT, f"{self.address}: committing") from error
        self._in_transaction = False

    def abandon(self) -> None:
        """Give the connection up, whatever state it is in: what was not committed is rolled back.

        ROLLBACK is sent first, so that locks are gone when this returns; where it cannot be, closing does the same,
        or the server does after ``wait_timeout``.
        """
        if self._in_transaction:
            self._take_the_rest()
            try:
                self._connection.query(b"ROLLBACK")
            except MySQLdb.MySQLError:
                self._in_transaction = False  # the connection is gone, and with it the transaction
        self.close()

    def _take_the_rest(self) -> None:
        """Take the replies that nobody took: nothing is sent before them. One that is an error is the last."""
        try:
            while self._connection.next_result() >= 0:
                self._connection.store_result()
        except MySQLdb.MySQLError:
            return

    def close(self) -> None:
        """Close the connection; once is enough."""
        try:
            self._connection.close()
        except MySQLdb.MySQLError:
            return  # it was closed already


class Reconnecting:
    """A reader's connection: made when it is needed, made anew after a fault or a long silence. For one thread."""

    def __init__(self, address: MysqlAddress, *, lane: bool = False) -> None:
        """Nothing is connected yet; ``lane`` as for ``Session``: who locks what lanes need falls silent as briefly."""
        self._address = address
        self._lane = lane
        self._idle_max_s = (WAIT_TIMEOUT_S if lane else READER_WAIT_TIMEOUT_S) / 2
        self._session: Session | None = None
        self._used_s = 0.0

    def ask(self, question: Callable[[Session], T]) -> T:
        """Return the question's answer; a fault is the caller's, and the next question has a new connection."""
        if self._session is not None and time.monotonic() - self._used_s > self._idle_max_s:
            self.close()
        if self._session is None:
            self._session = Session(self._address, lane=self._lane)
        try:
            answer = question(self._session)
        except BaseException:
            self._session.abandon()
            self._session = None
            raise
        self._used_s = time.monotonic()
        return answer

    def close(self) -> None:
        """Give the connection back."""
        if self._session is not None:
            self._session.close()
            self._session = None


class OneSession:
    """A session that is not made anew: whatever is read over it is of one server, which does not go back meanwhile."""

    def __init__(self, session: Session) -> None:
        """Ask over a session."""
        self._session = session

    def ask(self, question: Callable[[Session], T]) -> T:
        """Return the question's answer."""
        return question(self._session)

    def close(self) -> None:
        """Give the connection back, and with it what it holds."""
        self._session.abandon()
