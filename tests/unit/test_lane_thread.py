"""A transaction of the SQL thread: whatever goes wrong in it is told to the lane's thread, which waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

import pytest

from processors.faults import LaneStopped, Unavailable
from processors.stores.lane_sql import Load
from processors.stores.lane_thread import TOGETHER_BYTES_MAX, SqlTransaction
from processors.stores.mysql import Reply, Row, Session
from processors.stores.packing import compress
from processors.stores.rows import Progress
from processors.stores.table_sql import SqlStatement
from processors.wire.journal_chunk import encode_chunk
from processors.wire.positions import LANE_START

FENCE = Progress(
    lane=0, topic_id=bytes(16), owner_epoch=1, at=LANE_START, version_us=0, published_offset=0, published_time_ms=0
)
WRITES = [SqlStatement(what=f"writing {number}", sql=f"UPDATE {number}", rows=1) for number in range(3)]


class BrokenSession:
    """Neither begins a transaction nor lets itself be given up."""

    def __init__(self, fault: Exception) -> None:
        self._fault = fault

    def together(self, _statements: object, *, begin: bool) -> None:
        assert begin
        raise self._fault

    def abandon(self) -> None:
        raise MemoryError


@pytest.mark.parametrize(("fault", "told"), [(Unavailable("away"), Unavailable), (KeyError("a bug"), LaneStopped)])
def test_a_fault_is_told_though_the_connection_cannot_even_be_given_up(fault: Exception, told: type[Exception]) -> None:
    transaction = SqlTransaction(0, FENCE, [Load(table=None, sql="SELECT 1")])

    transaction.run(cast("Session", BrokenSession(fault)))

    for waited_for in (transaction.loaded, transaction.done):
        assert isinstance(waited_for.exception(0), told)


class CountingSession:
    """Answers that the fence holds, and that each write changed a row; notes what goes in one round trip."""

    def __init__(self) -> None:
        self.trips: list[list[str]] = []

    def together(self, statements: list[tuple[str, str]], *, begin: bool = False) -> Iterator[Reply]:
        self.trips.append([what for _, what in statements])
        fence = (FENCE.at.next_offset, FENCE.at.digest, FENCE.owner_epoch)
        for number in range(len(statements)):
            yield Reply(1, [fence] if begin and not number else [])

    def commit(self) -> None:
        self.trips.append(["committing"])


@pytest.mark.parametrize(
    ("loads", "trips"),
    [
        ([], [["locking progress", "writing 0", "writing 1", "writing 2"], ["committing"]]),
        (
            [Load(table=None, sql="SELECT 1")],
            [
                ["locking progress", "loading from journal"],
                ["writing 0", "writing 1", "writing 2"],
                ["committing"],
            ],
        ),
    ],
    ids=["nothing to load", "rows to load"],
)
def test_a_small_batch_takes_as_few_round_trips_as_can_be(loads: list[Load], trips: list[list[str]]) -> None:
    session = CountingSession()
    transaction = SqlTransaction(0, FENCE, loads)
    transaction.write(WRITES)

    transaction.run(cast("Session", session))

    assert transaction.done.exception(0) is None
    assert session.trips == trips


class KnownIdSession(CountingSession):
    """Has decided one of the ids that are looked for, at offset 7, beside another record."""

    def together(self, statements: list[tuple[str, str]], *, begin: bool = False) -> Iterator[Reply]:
        for number, reply in enumerate(super().together(statements, begin=begin)):
            yield Reply(1, [(b"acme", bytes(16), 5, 0, 7, 0)]) if begin and number else reply

    def query(self, _sql: str, what: str) -> list[Row]:
        self.trips.append([what])
        return [(5, 0, 0, 6, 0, compress(encode_chunk([(6, 0, b"another"), (7, 0, b"the result")])))]


def test_a_known_id_takes_one_round_trip_more_for_its_result() -> None:
    session = KnownIdSession()
    transaction = SqlTransaction(0, FENCE, [Load(table=None, sql="SELECT 1")])
    transaction.write(WRITES)

    transaction.run(cast("Session", session))

    assert session.trips[:2] == [["locking progress", "loading from journal"], ["reading journal chunks"]]
    assert transaction.loaded.result(0).results == {(5, 0, 7, 0): b"the result"}
    assert transaction.done.exception(0) is None


def test_large_statements_go_by_themselves() -> None:
    session = CountingSession()
    transaction = SqlTransaction(0, FENCE, [Load(table=None, sql="SELECT 1")])
    transaction.write([large("first"), large("second"), *WRITES])

    transaction.run(cast("Session", session))

    assert session.trips[1:] == [["first"], ["second"], ["writing 0", "writing 1", "writing 2"], ["committing"]]


def large(name: str) -> SqlStatement:
    return SqlStatement(what=name, sql="x" * TOGETHER_BYTES_MAX, rows=1)


class WaitedForSession(CountingSession):
    """Says when it was asked to write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = threading.Event()

    def together(self, statements: list[tuple[str, str]], *, begin: bool = False) -> Iterator[Reply]:
        self.writes.set()
        return super().together(statements, begin=begin)


def test_a_packet_is_executed_while_the_next_is_made() -> None:
    session = WaitedForSession()
    transaction = SqlTransaction(0, FENCE, [])

    def made() -> Iterator[SqlStatement]:
        yield large("first")
        yield large("second")  # with it the first is a packet
        assert session.writes.wait(60)
        yield large("third")

    thread = threading.Thread(target=lambda: transaction.run(cast("Session", session)))
    thread.start()
    transaction.write(made())
    thread.join(60)

    assert transaction.done.exception(0) is None
    assert session.trips == [["locking progress", "first"], ["second"], ["third"], ["committing"]]


def test_of_a_batch_that_cannot_be_made_nothing_is_committed_though_a_part_was_executed() -> None:
    session = CountingSession()
    transaction = SqlTransaction(0, FENCE, [])

    def made() -> Iterator[SqlStatement]:
        yield large("first")
        yield large("second")
        raise ValueError("it cannot be made")

    with pytest.raises(ValueError, match="it cannot be made"):
        transaction.write(made())
    transaction.run(cast("Session", session))

    assert session.trips == [["locking progress", "first"]]
    assert isinstance(transaction.done.exception(0), LaneStopped)


class InterruptedSession(CountingSession):
    """Is interrupted when it is to send the second statement, once."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = False

    def together(self, statements: list[tuple[str, str]], *, begin: bool = False) -> Iterator[Reply]:
        if not self.interrupted and [what for _, what in statements] == ["second"]:
            self.interrupted = True
            raise KeyboardInterrupt
        return super().together(statements, begin=begin)


@pytest.mark.rule("L8")
@pytest.mark.parametrize("loads", [[], [Load(table=None, sql="SELECT 1")]], ids=["nothing to load", "rows to load"])
def test_a_transaction_that_was_interrupted_does_not_go_on_behind_what_was_not_sent(loads: list[Load]) -> None:
    session = InterruptedSession()
    transaction = SqlTransaction(0, FENCE, loads)
    transaction.open(cast("Session", session))
    transaction.write([large("first"), large("second"), large("third")])

    with pytest.raises(KeyboardInterrupt):
        transaction.end(cast("Session", session))
    transaction.roll_back()  # as whoever lets go of the connection does
    transaction.end(cast("Session", session))

    sent = [what for trip in session.trips for what in trip]
    assert "third" not in sent
    assert "committing" not in sent
    assert isinstance(transaction.done.exception(0), LaneStopped)


@pytest.mark.rule("L1")
@pytest.mark.rule("L8")
def test_large_loads_go_by_themselves_behind_the_fence() -> None:
    session = CountingSession()
    loads = [Load(table=None, sql="x" * (TOGETHER_BYTES_MAX - 1)) for _ in range(3)]
    transaction = SqlTransaction(0, FENCE, loads)
    transaction.write([])

    transaction.run(cast("Session", session))

    loading = "loading from journal"
    assert session.trips == [["locking progress", loading], [loading], [loading], ["committing"]]
    assert [load for load, _ in transaction.loaded.result(0).rows] == loads


@pytest.mark.rule("L8")
def test_a_count_that_is_not_expected_is_a_bug_and_nothing_is_committed() -> None:
    session = CountingSession()
    transaction = SqlTransaction(0, FENCE, [])
    transaction.write([*WRITES, SqlStatement(what="a fourth", sql="UPDATE 4", rows=2)])

    transaction.run(cast("Session", session))

    assert isinstance(transaction.done.exception(0), LaneStopped)
    assert ["committing"] not in session.trips
