"""Books are proven after slices have left MySQL, too, and what is wrong is still found."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from processors.ids import slice_of
from processors.ledger.commands import Command, OpenAccount, Pay, PlaceHold, TopUp
from processors.lookup.statements import statement_of
from processors.ops import addresses
from processors.ops.assembly import proving
from processors.ops.looking_up import read_service
from processors.recovery.repair import Repair
from processors.stores.archive_rows import Collector
from processors.stores.archive_schema import open_archive
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.mysql import Session
from processors.stores.shard_upkeep import ShardUpkeep
from tests.archived import alter_change
from tests.chaos.lanes import HOUR_MS, SHARD, Shard, new_id, now_ms
from tests.servers import Place

OLD_MS = 3 * HOUR_MS


def an_old_morning(root: str, payments: int) -> list[Command]:
    """Return commands whose ids are hours old: their rows are in a slice of their own."""
    return [
        OpenAccount(command_id=new_id(OLD_MS), address=root, currency="USD"),
        TopUp(command_id=new_id(OLD_MS), address=root, currency="USD", amount_minor=100_000),
        PlaceHold(command_id=new_id(OLD_MS), address=root, currency="USD", amount_minor=500, expires_in_ms=HOUR_MS),
        *(Pay(command_id=new_id(OLD_MS), address=root, currency="USD", amount_minor=n + 1) for n in range(payments)),
    ]


def payments_of_today(root: str, payments: int) -> list[Command]:
    return [Pay(command_id=new_id(), address=root, currency="USD", amount_minor=3) for _ in range(payments)]


def wrong(shard: Shard, *, with_archive: bool = False) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Verify all of it; without the archive, where an account's rows begin is believed."""
    checks = proving.verify_shard(
        shard.settings, SHARD, on_progress=lambda _what, _rows: None, with_archive=with_archive, everything=True
    )
    names = ["lanes", "trial", "held", "balances", "rows", "columns", "system", "refunded", "each"]
    assert [check.name.split()[0] for check in checks] == [*names, *(["each", "statements"] if with_archive else [])]
    return {check.name.split()[0]: (check.wrong, check.details) for check in checks if check.wrong}


def archive_all(shard: Shard) -> None:
    """Have everything that was published archived."""
    collector = Collector()
    for partition, payloads in shard.results().items():
        for payload in payloads:
            collector.add(partition, payload)
    rows = collector.take()
    session = open_archive(addresses.cassandra_address(shard.settings), requests_max=8)
    try:
        writer = ArchiveWriter(session)
        writer.write(rows)
        writer.cover(rows)
    finally:
        session.close()


def drop_old(shard: Shard) -> None:
    """Remove the slices of old mornings, whose hour may have turned while ids were made."""
    old = slice_of(now_ms() - OLD_MS)
    upkeep = ShardUpkeep(addresses.mysql_address(shard.settings, SHARD))
    for number in (old - 1, old, old + 1):
        upkeep.drop_slice(number)
    upkeep.close()


def change(shard: Shard, statement: str) -> None:
    session = Session(addresses.mysql_address(shard.settings, SHARD), lane=False)
    session.execute(statement, "changing the database")
    session.commit()
    session.close()


@pytest.mark.rule("V4")
def test_an_account_whose_first_rows_have_left_is_opened_by_the_balance_before_its_first_remaining_row(
    fresh_place: Callable[..., Place],
) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))
    shard.write([*an_old_morning("acme", 20), *payments_of_today("acme", 20), *an_old_morning("gone", 5)])
    with shard.worker():
        shard.await_decided()
    assert wrong(shard) == {}

    drop_old(shard)
    assert wrong(shard) == {}

    change(shard, "UPDATE account SET balance = balance + 1 WHERE address = X'61636d65'")  # acme
    said = wrong(shard)
    assert {name: count for name, (count, _) in said.items()} == {"trial": 1, "balances": 1}
    assert "acme" in said["balances"][1][0]
    change(shard, "UPDATE account SET balance = balance - 1 WHERE address = X'61636d65'")

    a_row_between = "SELECT max(lane_offset) - 8 AS lane_offset FROM journal"
    change(shard, f"DELETE FROM journal WHERE lane_offset = (SELECT lane_offset FROM ({a_row_between}) AS found)")
    assert list(wrong(shard)) == ["balances"]  # a hole in the sequences, and no archive to fill it from


@pytest.mark.rule("V4")
def test_accounts_whose_rows_have_left_stand_where_the_archive_says(fresh_place: Callable[..., Place]) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))
    never = OpenAccount(command_id=new_id(OLD_MS), address="never", currency="USD")
    shard.write([*an_old_morning("acme", 3), *an_old_morning("bravo", 5), *an_old_morning("coral", 5), never])
    shard.write(payments_of_today("coral", 2))
    with shard.worker():
        shard.await_decided()
    archive_all(shard)
    drop_old(shard)
    assert wrong(shard, with_archive=True) == {}

    def take_and_give(amount_minor: int) -> None:
        for address, change_minor in (("acme", -amount_minor), ("bravo", amount_minor)):
            literal = address.encode().hex()
            change(shard, f"UPDATE account SET balance = balance + {change_minor} WHERE address = X'{literal}'")

    take_and_give(100)  # the trial balance does not see it
    said = wrong(shard, with_archive=True)
    assert {name: count for name, (count, _) in said.items()} == {"balances": 2}
    take_and_give(-100)

    session = open_archive(addresses.cassandra_address(shard.settings), requests_max=8)
    for address in ("bravo", "coral"):
        alter_change(session, address, 7, time.time_ns() // 1_000)
    session.close()
    said = wrong(shard, with_archive=True)  # an idle one's last change, a busy one's opening
    assert {name: count for name, (count, _) in said.items()} == {"statements": 2}


@pytest.mark.rule("V4")
def test_a_gap_that_left_is_filled_from_the_archive_though_the_sink_lags(fresh_place: Callable[..., Place]) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))
    old = an_old_morning("acme", 4)
    shard.write([*old[:5], *payments_of_today("acme", 2), *old[5:], *payments_of_today("acme", 2)])
    with shard.worker():
        shard.await_decided()
        archive_all(shard)
        drop_old(shard)
        shard.write(payments_of_today("acme", 1))
        shard.await_decided()

    assert wrong(shard, with_archive=True) == {}


@pytest.mark.rule("A6")
def test_a_change_that_the_archive_lost_is_named_and_one_command_brings_it_back(
    fresh_place: Callable[..., Place],
) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))
    shard.write([*an_old_morning("acme", 3), *payments_of_today("acme", 3)])
    with shard.worker():
        shard.await_decided()
    archive_all(shard)
    session = open_archive(addresses.cassandra_address(shard.settings), requests_max=8)
    alter_change(session, "acme", 6, time.time_ns() // 1_000)
    session.close()

    ((count, details),) = wrong(shard, with_archive=True).values()
    assert (count, details) == (
        1, ("acme USD: change 6 is not there; `balance archive repair` brings it back",)
    )  # fmt: skip
    with read_service(shard.settings) as service:
        found = statement_of(service, "acme", "USD")
    assert found is not None
    assert found.missing == (6,)

    def repaired(*, write: bool) -> Repair:
        return proving.repair_archive(shard.settings, SHARD, write=write, on_progress=lambda _what, _rows: None)

    assert (repaired(write=False).left, repaired(write=True).left, repaired(write=False).found) == (1, 0, 0)
    assert wrong(shard, with_archive=True) == {}
    with read_service(shard.settings) as service:
        found = statement_of(service, "acme", "USD")
    assert found is not None
    assert found.complete


def test_a_chunk_that_cannot_be_read_is_named(fresh_place: Callable[..., Place]) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))
    shard.write(an_old_morning("acme", 3))
    with shard.worker():
        shard.await_decided()
    archive_all(shard)
    session = open_archive(addresses.cassandra_address(shard.settings), requests_max=8)
    columns = "shard, lane, bucket, first_offset, last_offset, hash"
    ((*key, chunk),) = session.rows(session.prepare(f"SELECT {columns}, chunk FROM $journal"), ())
    session.note(
        f"INSERT INTO $journal ({columns}, chunk) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        (*key, chunk[1:], 2 * 10**15),
    )
    session.close()

    ((_, details),) = wrong(shard, with_archive=True).values()
    assert "the archived chunk of lane 0, offsets 0 to 5" in details[0]
