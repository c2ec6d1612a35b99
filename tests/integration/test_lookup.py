"""Looking up what is in MySQL, in the archive, or on its way between them (A8)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from processors.ledger.commands import CommandType
from processors.ledger.rows import Account, Hold
from processors.lookup.history import STRETCH_OFFSETS, TAIL_OFFSETS_MAX, Lookup
from processors.lookup.statements import ALWAYS, DAY_MS, Part, Period, Statement, read_statement
from processors.ops.statement_text import what_is_missing
from processors.routing.buckets import partition_of
from processors.stores.archive_reader import ArchiveReader
from processors.stores.mysql import Reconnecting
from processors.stores.rows import JournalRow
from processors.stores.shard_reader import ShardReader, open_reader
from processors.wire.results import Result, decode_result
from tests.archived import alter_change, journal_row_of, session_of
from tests.integration.mysql_shard import (
    SHARD,
    TOPIC_ID,
    clock_ms,
)
from tests.integration.shard_and_archive import LANE, ROOT, Stores

HOUR_MS = 3_600_000


def pay(stores: Stores, count: int = 1) -> list[Result]:
    return [stores.ledger.pay(ROOT, incarnation=TOPIC_ID) for _ in range(count)]


def statement(lookup: Lookup, *, period: Period = ALWAYS, part: Part | None = None) -> Statement:
    found = read_statement(lookup, ROOT, "USD", period=period, part=part)
    assert found is not None
    assert found.adds_up or not found.complete
    return found


@pytest.mark.rule("A8")
def test_a_recent_transaction_needs_mysql_alone(stores: Stores) -> None:
    (paid,) = pay(stores)
    stores.in_mysql([paid])
    with stores.lookup(archive_answers=False) as lookup:
        assert lookup.transaction(paid.command_id).steps == [paid]


@pytest.mark.rule("A8")
def test_a_transaction_is_found_before_during_and_after_its_removal(stores: Stores) -> None:
    paid = pay(stores, 3)
    stores.in_mysql(paid)
    with stores.lookup() as lookup:
        assert lookup.transaction(paid[1].command_id).steps == [paid[1]]
        stores.archived(paid)
        assert lookup.transaction(paid[1].command_id).steps == [paid[1]]
        stores.removed()
        assert lookup.transaction(paid[1].command_id).steps == [paid[1]]


@pytest.mark.rule("A8")
def test_an_old_holds_steps_come_from_both_stores_once(stores: Stores) -> None:
    stores.ledger.time_ms -= 5 * HOUR_MS
    held = stores.ledger.pay(ROOT, incarnation=TOPIC_ID, type=CommandType.PLACE_HOLD)
    stores.ledger.time_ms += 5 * HOUR_MS
    captures = [
        stores.ledger.pay(
            ROOT,
            incarnation=TOPIC_ID,
            type=CommandType.CAPTURE_HOLD,
            transaction_id=held.command_id,
            related_id=held.command_id,
        )
        for _ in range(2)
    ]
    stores.in_mysql(captures)
    stores.archived([held, captures[0]])
    with stores.lookup() as lookup:
        assert lookup.transaction(held.command_id).steps == [held, *captures]


def test_what_is_open_is_read_from_mysql(stores: Stores) -> None:
    (held,) = pay(stores)
    hold = Hold(ROOT, "USD", 100, 60, 1, clock_ms() + HOUR_MS)
    payload = next(each for each in stores.ledger.results if decode_result(each).command_id == held.command_id)
    stores.lane.write(
        1,
        journal=[journal_row_of(payload)],
        holds=[((ROOT, held.command_id), hold, False)],
        opened=[Account(ROOT, "USD")],
    )
    with stores.lookup() as lookup:
        assert lookup.transaction(held.command_id).open == [(ROOT, hold)]


def test_an_id_that_nobody_knows_has_no_steps(stores: Stores) -> None:
    (paid,) = pay(stores)
    with stores.lookup() as lookup:
        assert lookup.transaction(paid.command_id).steps == []


@pytest.mark.rule("A8")
@pytest.mark.parametrize("archived", [0, 2, 5])
def test_a_statement_is_whole_however_far_the_sink_is(stores: Stores, archived: int) -> None:
    paid = pay(stores, 5)
    stores.in_mysql(paid)
    stores.archived(paid[:archived])
    with stores.lookup() as lookup:
        found = statement(lookup)
        assert [row.sequence for row in found.rows] == [1, 2, 3, 4, 5]
        assert [row.balance for row in found.rows] == [each.postings[0].balance for each in paid]
        assert found.complete
        assert [row.sequence for row in statement(lookup, part=Part(rows_max=2, newest=True)).rows] == [4, 5]


def test_a_statement_is_looked_for_by_its_account_however_much_of_others_waits_for_the_sink(stores: Stores) -> None:
    others = [name for name in (f"p{number}" for number in range(100)) if partition_of(name, SHARD.lanes) == LANE]
    paid = []
    for number in range(2_000):
        if number % 900 == 0:
            stores.ledger.offset += 3 * STRETCH_OFFSETS // 2
            paid += pay(stores)
        stores.ledger.pay(others[number % len(others)], incarnation=TOPIC_ID)
    stores.lane.write(
        stores.ledger.offset,
        journal=[journal_row_of(payload) for payload in stores.ledger.results],
        opened=[Account(ROOT, "USD", sequence=len(paid))],
    )
    with stores.lookup() as lookup:
        found = statement(lookup)
        assert [row.sequence for row in found.rows] == [1, 2, 3]
        assert found.complete
        reader = open_reader(stores.mysql)
        whole = range(stores.ledger.offset)
        assert len(reader.rows_that_name(ROOT, LANE, whole, numbers=reader.slices())) == 3


def test_a_statement_says_that_the_sink_is_behind_where_it_is(stores: Stores) -> None:
    paid = pay(stores, 5)
    stores.in_mysql(paid)
    stores.archived(paid[:2])
    stores.sql(f"UPDATE progress SET next_offset = {5 + TAIL_OFFSETS_MAX} WHERE lane = {LANE}")
    with stores.lookup() as lookup:
        found = statement(lookup)
    assert (found.missing, found.sink_behind) == ((3, 4, 5), True)
    assert what_is_missing(found).startswith("3 changes are missing, the first is 3: the sink is behind")


@pytest.mark.parametrize("lost", [1, 3, 5])
def test_a_statement_says_which_changes_the_archive_lost(stores: Stores, lost: int) -> None:
    paid = pay(stores, 5)
    stores.in_mysql(paid)
    stores.archived(paid)
    with session_of(stores.archive) as session:
        alter_change(session, ROOT, lost, 10**16)
    stores.removed()
    with stores.lookup() as lookup:
        found = statement(lookup)
    assert (found.missing, found.sink_behind) == ((lost,), False)
    assert what_is_missing(found).startswith(f"1 change is missing, {lost}: it is not in the archive any more")


@pytest.mark.rule("A8")
def test_a_change_that_moves_while_its_statement_is_read_is_there(stores: Stores) -> None:
    paid = pay(stores, 5)
    stores.in_mysql(paid)
    stores.archived(paid[:2])

    class Moving(ShardReader):
        """The shard: all that waits is archived, and has left, when it is looked for here."""

        def rows_that_name(self, *args: Any, **more: Any) -> list[JournalRow]:
            stores.archived(paid)
            stores.removed()
            return super().rows_that_name(*args, **more)

    reader = Moving(Reconnecting(stores.mysql))
    with session_of(stores.archive) as session:
        lookup = Lookup(reader, lambda: ArchiveReader(session), lanes=SHARD.lanes, results_partitions=4)
        found = statement(lookup)
    assert [row.sequence for row in found.rows] == [1, 2, 3, 4, 5]
    assert found.complete


def test_a_statement_begins_at_a_day(stores: Stores) -> None:
    stores.ledger.time_ms -= 2 * DAY_MS
    old = pay(stores, 2)
    stores.ledger.time_ms += 2 * DAY_MS
    new = pay(stores, 2)
    stores.in_mysql(new)
    stores.archived([*old, *new])
    today = time.time_ns() // 1_000_000 // DAY_MS
    with stores.lookup() as lookup:

        def since(day: int) -> list[int]:
            return [row.sequence for row in statement(lookup, period=Period(from_ms=day * DAY_MS)).rows]

        assert (since(today - 1), since(today - 3), since(today + 1)) == ([3, 4], [1, 2, 3, 4], [])
