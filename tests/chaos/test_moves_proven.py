"""Shards that took part in moves are proven: their books balance, and a replay of each topic is equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from processors.ledger.commands import Command, CommandType, OpenAccount, Pay, PlaceHold, TopUp
from processors.ops import addresses
from processors.ops.assembly import proving, replaying
from processors.stores.mysql import Session
from processors.stores.shard_upkeep import ShardUpkeep
from tests.chaos.lanes import HOUR_MS, new_id
from tests.chaos.two_shards import SHARDS, TwoShardService
from tests.end_to_end.conftest import balance
from tests.servers import Place

ROOTS = ("acme", "stays-away", "never-moves")


@pytest.fixture(scope="module")
def service(fresh_two_shards: Callable[..., Place]) -> Iterator[TwoShardService]:
    """Two shards between which one partner went there and back, and another there; no process runs any more."""
    made = TwoShardService(fresh_two_shards(BALANCE_EXPIRER__TICK_MS="500"))
    with made.processes():
        made.send([command for root in ROOTS for command in a_beginning(root)])
        for key in ("acme", "stays-away", "acme"):
            made.send([each for root in ROOTS for each in payments(root)])
            made.move(key)
        made.send([each for root in ROOTS for each in payments(root)])
        made.await_answers()
    yield made
    made.close()


def a_beginning(root: str) -> list[Command]:
    return [
        OpenAccount(command_id=new_id(), address=root, currency="USD"),
        OpenAccount(command_id=new_id(), address=f"{root}:vn", currency="USD"),
        TopUp(command_id=new_id(), address=root, currency="USD", amount_minor=100_000),
        TopUp(command_id=new_id(), address=f"{root}:vn", currency="USD", amount_minor=100_000),
        PlaceHold(command_id=new_id(), address=f"{root}:vn", currency="USD", amount_minor=500, expires_in_ms=HOUR_MS),
    ]


def payments(root: str) -> list[Command]:
    return [Pay(command_id=new_id(), address=f"{root}:vn", currency="USD", amount_minor=n) for n in range(1, 6)]


def delete_what_left(service: TwoShardService, shard: str) -> None:
    """Delete frozen rows in the live database, as the remover does: a replay's still has them."""
    upkeep = ShardUpkeep(addresses.mysql_address(service.settings, shard))
    for left in upkeep.left_keys():
        assert upkeep.delete_left_rows(left) > 0
    upkeep.close()


@pytest.mark.rule("M2")
@pytest.mark.rule("V4")
@pytest.mark.parametrize("shard", SHARDS)
def test_a_shards_books_are_proven_after_moves(service: TwoShardService, shard: str) -> None:
    checks = proving.verify_shard(service.settings, shard, on_progress=lambda _what, _rows: None, with_archive=False)

    assert [(check.name, check.details) for check in checks if not check.passed] == []
    proven = {check.name.split()[0]: check.counted for check in checks}
    assert proven["balances"] == 2 * len(ROOTS) - 2 if shard == "s1" else 2


@pytest.mark.rule("M2")
@pytest.mark.rule("M4")
def test_what_left_one_shard_has_come_to_the_other_and_a_cent_that_has_not_is_told(service: TwoShardService) -> None:
    assert (proving.prove_moved(service.settings).counted, proving.prove_moved(service.settings).passed) == (1, True)

    session = Session(addresses.mysql_address(service.settings, "s2"), lane=False)
    one_more = "UPDATE system_account SET balance = balance + {} WHERE name = 'MOVED' AND level = 1 LIMIT 1"
    session.execute(one_more.format(1), "a cent too much")
    try:
        assert not proving.prove_moved(service.settings).passed
    finally:
        session.execute(one_more.format(-1), "as it was")
        session.close()


@pytest.mark.rule("M11")
def test_balances_and_history_are_those_of_the_owner_with_what_was_decided_before(service: TwoShardService) -> None:
    lines = balance(service.place, "account", "list", "--json").out.splitlines()
    listed = {(each["address"], each["balance"]) for each in map(json.loads, lines)}
    assert listed == {(address, "999.40") for root in ROOTS for address in (root, f"{root}:vn")}

    for root in ROOTS:
        shown = balance(service.place, "account", "show", f"{root}:vn", "--json")
        assert json.loads(shown.out)["balance"] == "999.40"
        told = balance(service.place, "statement", f"{root}:vn", "USD", "--json")
        sequences = [change["sequence"] for change in json.loads(told.out)["changes"]]
        assert (told.status, sequences) == (0, list(range(1, 23)))


@pytest.mark.rule("A8")
@pytest.mark.rule("M11")
def test_a_transaction_is_found_once_wherever_its_partner_went(service: TwoShardService) -> None:
    holds = [result for root in ROOTS for result in service.results()[root] if result.type is CommandType.PLACE_HOLD]
    assert holds
    for hold in holds:
        found = json.loads(balance(service.place, "tx", "get", str(UUID(bytes=hold.command_id)), "--json").out)
        assert (len(found["steps"]), len(found["open"])) == (1, 1)


@pytest.mark.rule("M7")
@pytest.mark.rule("L13")
@pytest.mark.parametrize("shard", SHARDS)
def test_a_shard_that_took_part_in_moves_is_replayed_equal(
    service: TwoShardService, shard: str, fresh_database: Callable[[], str]
) -> None:
    delete_what_left(service, shard)
    server = addresses.mysql_address(service.settings, "s1")
    dsn = f"mysql://{server.user}:{server.password}@{server.host}:{server.port}/{fresh_database()}"
    target = proving.target_address(service.settings, "s1", dsn)

    report = replaying.replay_shard(service.settings, shard, target, on_progress=lambda _at: None)
    assert (report.difference, report.not_compared) == (None, ())
