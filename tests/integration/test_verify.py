"""Books are proven after slices have left MySQL, too, and what is wrong is still found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processors.ids import slice_of
from processors.ledger.commands import Command, OpenAccount, Pay, PlaceHold, TopUp
from processors.ops import assembly, proving
from processors.stores.mysql import Session
from processors.stores.shard_upkeep import ShardUpkeep
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


def wrong(shard: Shard) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Verify against MySQL and the results alone: the archive plays no part in where an account's rows begin."""
    checks = proving.verify_shard(shard.settings, SHARD, on_progress=lambda _what, _rows: None, with_archive=False)
    assert [check.name.split()[0] for check in checks] == ["trial", "held", "balances", "each"]
    return {check.name.split()[0]: (check.wrong, check.details) for check in checks if not check.passed}


def change(shard: Shard, statement: str) -> None:
    session = Session(assembly.mysql_address(shard.settings, SHARD), lane=False)
    session.execute(statement, "changing the database")
    session.commit()
    session.close()


@pytest.mark.rule("V4")
def test_an_account_whose_first_rows_have_left_is_opened_by_the_balance_before_its_first_remaining_row(
    fresh_place: Callable[..., Place],
) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))
    old = slice_of(now_ms() - OLD_MS)
    shard.write([*an_old_morning("acme", 20), *payments_of_today("acme", 20), *an_old_morning("gone", 5)])
    with shard.worker():
        shard.await_decided()
    assert wrong(shard) == {}

    upkeep = ShardUpkeep(assembly.mysql_address(shard.settings, SHARD))
    for number in (old, old + 1):  # the hour may have turned while ids were made
        upkeep.drop_slice(number)
    upkeep.close()
    assert wrong(shard) == {}

    change(shard, "UPDATE account SET balance = balance + 1 WHERE address = X'61636d65'")  # acme
    said = wrong(shard)
    assert {name: count for name, (count, _) in said.items()} == {"trial": 1, "balances": 1}
    assert "acme" in said["balances"][1][0]
    change(shard, "UPDATE account SET balance = balance - 1 WHERE address = X'61636d65'")

    a_row_between = "SELECT max(lane_offset) - 8 AS lane_offset FROM journal"
    change(shard, f"DELETE FROM journal WHERE lane_offset = (SELECT lane_offset FROM ({a_row_between}) AS found)")
    assert list(wrong(shard)) == ["balances"]  # a hole in the sequences, and no archive to fill it from
