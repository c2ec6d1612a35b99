"""Several statements in one packet: each has its reply, and none that is missing passes for one without rows."""

from __future__ import annotations

from typing import Any

import MySQLdb
import pytest

from processors.faults import Misconfigured
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session

STATEMENTS = [("SELECT 1", "locking progress"), ("SELECT 2", "loading from journal")]


class Result:
    """One row."""

    def __init__(self, row: tuple[int, ...]) -> None:
        self._rows = [row]

    def fetch_row(self, _count: int, _how: int) -> list[tuple[int, ...]]:
        return self._rows


class DriverConnection:
    """Has replies to a packet, one after the other; as the driver does, it says -1 where there is none any more."""

    def __init__(self, replies: int, *, fails: bool = False) -> None:
        self._replies, self._at, self._fails = replies, 0, fails
        self.packets: list[bytes] = []

    def query(self, packet: bytes) -> None:
        self.packets.append(packet)
        self._at = 1

    def next_result(self) -> int:
        self._at += 1
        if self._fails and self._at > self._replies:
            raise MySQLdb.IntegrityError(1062, "Duplicate entry")
        return 0 if self._at <= self._replies else -1

    def store_result(self) -> Result | None:
        return Result((self._at,)) if self._at <= self._replies else None

    def affected_rows(self) -> int:
        return 1 if self._at <= self._replies else -1

    def close(self) -> None:
        self.packets.append(b"closed")


def session_with(address: MysqlAddress, replies: int, *, fails: bool = False) -> Session:
    session = Session.__new__(Session)
    connection: Any = DriverConnection(replies, fails=fails)
    session.address, session._connection, session._in_transaction = address, connection, False
    return session


@pytest.fixture
def address() -> MysqlAddress:
    return MysqlAddress(host="db", port=3306, user="u", password_file=None, database="d", ssl_mode="DISABLED")


@pytest.mark.rule("L1")
def test_each_statement_has_its_own_reply(address: MysqlAddress) -> None:
    assert [reply.rows for reply in session_with(address, 2).together(STATEMENTS)] == [[(1,)], [(2,)]]


@pytest.mark.rule("L1")
def test_a_reply_that_is_missing_does_not_pass_for_rows_that_do_not_exist(address: MysqlAddress) -> None:
    replies = session_with(address, 1).together(STATEMENTS)
    next(replies)

    with pytest.raises(Misconfigured, match="loading from journal: it has no reply"):
        next(replies)


@pytest.mark.rule("L1")
@pytest.mark.parametrize("fails", [True, False])
def test_who_is_given_up_with_replies_behind_rolls_back_also_where_one_of_them_is_an_error(
    address: MysqlAddress, *, fails: bool
) -> None:
    """A fenced worker's writes mostly fail: who came after him has decided the same records."""
    session = session_with(address, 2, fails=fails)
    next(session.together([*STATEMENTS, ("INSERT", "inserting journal rows")], begin=True))

    session.abandon()

    connection: Any = session._connection
    assert connection.packets[1:] == [b"ROLLBACK", b"closed"]
