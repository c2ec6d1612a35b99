"""Which servers, settings and errors the service meets, and what it makes of them (L7)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import MySQLdb
import pytest

from processors.faults import Fault, LaneStopped, Misconfigured, Refused, Retryable, Unavailable, UnknownOutcome
from processors.stores import mysql
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Phase, Reconnecting, Session, fault_of
from processors.stores.mysql_settings import SQL_MODE, check_server
from tests.integration.mysql_shard import address_of
from tests.servers import Servers

THREE_TO_THE_14TH = ", ".join(f"thing AS t{number}" for number in range(14))  # rows: some seconds' work


@pytest.fixture(scope="module")
def address(servers: Servers, fresh_database: Callable[[], str]) -> MysqlAddress:
    address = address_of(servers, fresh_database())
    session = Session(address, lane=False)
    session.execute("CREATE TABLE thing (id INT PRIMARY KEY, small TINYINT NOT NULL) ENGINE = InnoDB", "making a table")
    session.execute("INSERT INTO thing VALUES (1, 1), (2, 2), (3, 3)", "filling it")
    session.close()
    return address


def error_of(address: MysqlAddress, *statements: str) -> BaseException:
    session = Session(address, lane=True)
    run = session.query if statements[-1].startswith("SELECT") else session.execute
    try:
        for statement in statements[:-1]:
            session.execute(statement, "preparing")
        with pytest.raises(BaseException) as raised:  # noqa: PT011 - which one it is, is what the tests look at
            run(statements[-1], "a statement")
    finally:
        session.close()
    return raised.value


@pytest.mark.rule("L7")
def test_a_lanes_connection_has_every_option_spelled_out(address: MysqlAddress) -> None:
    session = Session(address, lane=True)
    (row,) = session.query(
        "SELECT @@transaction_isolation, @@wait_timeout, @@innodb_lock_wait_timeout, @@lock_wait_timeout, "
        "@@autocommit, @@time_zone, @@character_set_client",
        "looking",
    )
    ((mode,),) = session.query("SELECT @@sql_mode", "looking")

    assert row == ("READ-COMMITTED", 20, 5, 5, 1, "+00:00", "utf8mb4")
    assert "STRICT_ALL_TABLES" in mode


@pytest.mark.rule("L7")
def test_a_matched_row_counts_whether_it_changes_or_not(address: MysqlAddress) -> None:
    session = Session(address, lane=True)
    session.execute("REPLACE INTO thing VALUES (1, 1)", "inserting")

    assert session.execute("UPDATE thing SET small = 1 WHERE id = 1", "updating") == 1


@pytest.mark.rule("L7")
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("transaction_isolation = 'REPEATABLE-READ'", "transaction_isolation is REPEATABLE-READ"),
        ("sql_mode = 'NO_ENGINE_SUBSTITUTION'", "STRICT_ALL_TABLES"),
    ],
)
def test_a_session_that_decides_otherwise_is_refused(address: MysqlAddress, setting: str, named: str) -> None:
    session = Session(address, lane=True)
    session.execute(f"SET SESSION {setting}", "spoiling the session")

    with pytest.raises(Misconfigured, match=named):
        check_server(session, lane=True)


class Settings:
    """Answers ``check_server``'s question with other settings: a server that loses commits is not to be had here."""

    def __init__(self, **changed: Any) -> None:
        self.address = "a server"
        self._row = {
            "version": "9.7.4",
            "flush_log": 1,
            "sync_binlog": 1,
            "isolation": "READ-COMMITTED",
            "sql_mode": SQL_MODE,
            "packet": 1 << 28,
        } | changed

    def query(self, _sql: str, _what: str) -> list[tuple[Any, ...]]:
        return [tuple(self._row.values())]


@pytest.mark.rule("L7")
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"flush_log": 2}, "innodb_flush_log_at_trx_commit is 2, it must be 1"),
        ({"sync_binlog": 0}, "sync_binlog is 0, it must be 1"),
        ({"packet": 4 << 20}, "max_allowed_packet is 4194304, it must be 16777216"),
        ({"version": "8.0.18"}, "the server is 8.0.18"),
        ({"version": "11.4.2-MariaDB"}, "the server is 11.4.2-MariaDB"),
    ],
)
def test_a_server_that_could_lose_a_commit_is_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        check_server(Settings(**changed), lane=True)  # type: ignore[arg-type]


def test_a_reader_does_not_ask_for_what_only_a_lane_needs() -> None:
    check_server(Settings(flush_log=2, packet=1), lane=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"port": 1}, Unavailable),
        ({"host": "no-such-host.invalid"}, Unavailable),
        ({"password": "wrong"}, Refused),
        ({"database": "balance_no_such_database"}, Misconfigured),
        ({"ssl_mode": "VERIFY_CA", "ssl_ca_file": "/no/such/file"}, Refused),
        ({"password_file": Path("/no/such/file")}, Misconfigured),
    ],
)
def test_what_a_failed_connection_means(address: MysqlAddress, changed: dict[str, Any], kind: type[Fault]) -> None:
    with pytest.raises(kind):
        Session(replace(address, **changed), lane=True)


@pytest.mark.rule("L7")
def test_tls_is_used_where_it_is_asked_for_and_not_where_it_is_not(address: MysqlAddress) -> None:
    ciphers = [
        Session(replace(address, ssl_mode=mode), lane=True).query("SHOW STATUS LIKE 'Ssl_cipher'", "looking")[0][1]
        for mode in ("DISABLED", "REQUIRED")
    ]

    assert ciphers[0] == ""
    assert ciphers[1] != ""


@pytest.mark.parametrize(
    ("statements", "kind"),
    [
        (["SELECT * FROM no_such_table"], Misconfigured),
        (["SELECT no_such_column FROM thing"], Misconfigured),
        (["CREATE USER nobody"], Refused),
        (["SET SESSION transaction_read_only = 1", "INSERT INTO thing VALUES (8, 8)"], Unavailable),
        (["SET SESSION max_execution_time = 1", f"SELECT COUNT(*) FROM {THREE_TO_THE_14TH}"], Retryable),
        (["SELECT * FORM thing"], AssertionError),
        (["INSERT INTO thing VALUES (9, 1000)"], AssertionError),
        (["INSERT INTO thing VALUES (9, NULL)"], AssertionError),
        (["REPLACE INTO thing VALUES (9, 1)", "INSERT INTO thing VALUES (9, 1)"], AssertionError),
    ],
)
def test_what_a_failed_statement_means(address: MysqlAddress, statements: list[str], kind: type[BaseException]) -> None:
    assert type(error_of(address, *statements)) is kind


def test_a_fault_does_not_quote_the_statement(address: MysqlAddress) -> None:
    told = error_of(address, "SELECT 'confidential' FORM thing")

    assert "confidential" not in str(told)
    assert "1064" in str(told)


def test_an_answer_that_does_not_come_in_time_is_a_lost_connection(address: MysqlAddress) -> None:
    session = Session(replace(address, read_timeout_s=4), lane=True)

    with pytest.raises(Retryable, match="2013"):
        session.query("SELECT SLEEP(20)", "sleeping")


@pytest.mark.rule("L6")
@pytest.mark.parametrize("number", [0, 1030, 1180, 1205, 1213, 1290, 1526, 2006, 2013, 3100, 4031, 9999])
def test_after_commit_was_sent_every_error_leaves_the_outcome_unknown(number: int) -> None:
    fault = fault_of(MySQLdb.OperationalError(number, "text"), Phase.COMMIT_SENT, "committing")

    assert type(fault) is UnknownOutcome


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1205, mysql.LockWaitTimeout),
        (1213, Retryable),
        (2006, Retryable),
        (2013, Retryable),
        (4031, Retryable),
        (2026, Retryable),
        (1045, Refused),
        (1142, Refused),
        (3955, Refused),
        (1290, Unavailable),
        (1114, Unavailable),
        (1040, Unavailable),
        (1146, Misconfigured),
        (1153, Misconfigured),
        (1526, LaneStopped),
        (1062, AssertionError),
        (1064, AssertionError),
        (9999, Unavailable),
    ],
)
def test_before_commit_an_errors_number_says_what_to_do(number: int, kind: type[BaseException]) -> None:
    assert type(fault_of(MySQLdb.OperationalError(number, "text"), Phase.BEFORE_COMMIT, "a statement")) is kind


# Of proxies and clusters, on whatever statement; what they are about passes, or somebody mends it.
OF_CLUSTERS = [
    *(9001, 9002, 9003, 9006, 9008),  # ProxySQL's
    *(1047, 1105, 1129, 1135, 1184, 1194, 1195, 1290, 1815, 1835, 1836, 1862, 1874, 1877, 1878, 1881),
    *(3098, 3170, 3955),
]


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.BEFORE_COMMIT])
@pytest.mark.parametrize("number", OF_CLUSTERS)
def test_what_proxies_and_clusters_answer_is_waited_out_with_their_words(number: int, phase: Phase) -> None:
    fault = fault_of(MySQLdb.OperationalError(number, "the cluster is not ready"), phase, "a statement")

    assert isinstance(fault, Unavailable)
    assert str(fault) == f"a statement: MySQL error {number}: the cluster is not ready"


@pytest.mark.parametrize("number", sorted({*OF_CLUSTERS, *mysql.BUGS, 9999}))
def test_while_connecting_no_error_is_a_bug_of_ours(number: int) -> None:
    assert isinstance(fault_of(MySQLdb.OperationalError(number, "text"), Phase.CONNECTING, "connecting"), Unavailable)


@pytest.mark.parametrize("phase", [Phase.BEFORE_COMMIT, Phase.COMMIT_SENT])
def test_a_servers_words_are_told_without_what_they_quote(phase: Phase) -> None:
    fault = fault_of(MySQLdb.OperationalError(9999, "Incorrect value: '12500' for \"acme\""), phase, "a statement")

    assert str(fault) == "a statement: MySQL error 9999: Incorrect value: '...' for '...'"


@pytest.mark.parametrize(
    ("shard", "next_step"),
    [
        ("", "create it: CREATE DATABASE balance_nowhere"),
        ("s1", "of a new shard `balance init` makes it; any other is restored from its backup"),
    ],
)
def test_a_database_that_is_not_there_is_told_with_who_makes_it(
    address: MysqlAddress, shard: str, next_step: str
) -> None:
    with pytest.raises(Misconfigured, match="1049") as told:
        Session(replace(address, database="balance_nowhere", shard=shard), lane=False)

    assert str(told.value).endswith(f"Unknown database 'balance_nowhere': {next_step}")


def test_a_connection_that_is_refused_is_told_with_what_to_look_at(address: MysqlAddress) -> None:
    with socket.socket() as silent:  # bound, but listening to nobody
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}") as told:
            Session(replace(address, host="127.0.0.1", port=port), lane=False)

    assert "'127.0.0.1'" in str(told.value)  # of the library's own words, too
    assert str(told.value).endswith(": is MySQL running, at this host and port?")


@pytest.mark.parametrize("number", [2002, 2003, 2005])
def test_a_server_that_is_not_reached_is_told_with_its_host(number: int) -> None:
    said = "Can't connect to server on 'mysql-1' (110)"
    fault = fault_of(MySQLdb.OperationalError(number, said), Phase.CONNECTING, "connecting to s1 at mysql-1:3306")

    assert isinstance(fault, Unavailable)
    assert str(fault) == f"connecting to s1 at mysql-1:3306: MySQL error {number}: {said}"


@pytest.mark.parametrize("host", ["localhost", ""])
def test_a_host_that_means_a_socket_is_refused(address: MysqlAddress, host: str) -> None:
    with pytest.raises(Misconfigured, match=r"127\.0\.0\.1"):
        replace(address, host=host)


def test_a_password_is_read_at_each_connect(address: MysqlAddress, tmp_path: Path) -> None:
    file = tmp_path / "password"
    rotated = replace(address, password="", password_file=file)
    file.write_text("of yesterday\n")
    with pytest.raises(Refused):
        Session(rotated, lane=True)

    file.write_text(address.password + "\n")

    Session(rotated, lane=True).close()


def test_each_error_number_means_one_thing() -> None:
    tables = [
        mysql.LOST,
        mysql.AGAIN,
        mysql.REFUSED,
        mysql.WRONG,
        mysql.BUGS,
        {mysql.MISSING_PARTITION},
        {mysql.LOCK_WAIT},
    ]

    assert sum(len(table) for table in tables) == len(frozenset().union(*tables))


def test_a_reader_has_a_new_connection_after_a_fault(address: MysqlAddress) -> None:
    reader = Reconnecting(address)
    number = reader.ask(lambda session: session.query("SELECT CONNECTION_ID()", "looking"))[0][0]
    assert reader.ask(lambda session: session.query("SELECT CONNECTION_ID()", "looking")) == [(number,)]

    with pytest.raises(Misconfigured):
        reader.ask(lambda session: session.query("SELECT * FROM no_such_table", "looking"))

    assert reader.ask(lambda session: session.query("SELECT CONNECTION_ID()", "looking"))[0][0] != number
    reader.close()
