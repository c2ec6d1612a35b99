"""A bucket is handed over while a root that had left it elsewhere comes to the same shard by itself (M3, M6)."""

from __future__ import annotations

import pytest

from processors.ids import derived_id
from processors.ledger.commands import ExpireHold, OpenAccount, Pay, PlaceHold, TopUp
from processors.stores.rows import PlacementState
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord
from tests.simulation.two_shards import HOME, TWIN, TwoShards

BALANCE = 7_000
HOLD_MS = 10_000
ACCOUNTS = 90  # more than are read at once, and than go in the parts before the first acknowledgement
OWNED, ARRIVING = PlacementState.OWNED, PlacementState.ARRIVING


def lives_in_bucket(shards: TwoShards, root: str, *, shops: int = 0) -> None:
    """Give a root an account, a hold that ends, and some accounts below."""
    shards.send(OpenAccount(command_id=shards.new_id(), address=root, currency="USD"))
    shards.send(TopUp(command_id=shards.new_id(), address=root, currency="USD", amount_minor=BALANCE))
    for number in range(shops):
        shards.send(OpenAccount(command_id=shards.new_id(), address=f"{root}:shop-{number:03}", currency="USD"))


def leaves_its_bucket(shards: TwoShards, root: str) -> None:
    """Have the bucket go to s2, a root of it from there to s3 by itself, and the bucket back to s1."""
    for to, key in (("s2", HOME), ("s3", root), ("s1", HOME)):
        shards.move(to, key=key)
        shards.serve(rounds=10)
        for shard in shards.of.values():
            shard.delete_what_left()
    assert shards.of["s1"].states == {HOME: (OWNED, 2, 0)}


def comes_while_bucket_is_read(shards: TwoShards, root: str, to: str) -> None:
    """Send the bucket from s1 to another shard, and the root from s3 to s1 once some of the bucket has arrived."""
    source = shards.of["s1"]
    shards.move(to, key=HOME)
    source.serve(publish=False)
    while HOME not in shards.of[to].states or shards.of[to].states[HOME][0] is not ARRIVING:
        source.lane.publishing.step()
        shards.of[to].serve()
    shards.move("s1", key=root)
    shards.of["s3"].serve()
    source.serve(publish=False)
    assert source.states[root][0] in {ARRIVING, OWNED}


@pytest.mark.rule("M3")
def test_a_new_owner_of_the_source_sends_the_same_parts_whoever_came_meanwhile() -> None:
    shards = TwoShards(names=("s1", "s2", "s3"))
    for root in ("acme", TWIN):
        lives_in_bucket(shards, root, shops=ACCOUNTS)
        for _ in range(ACCOUNTS):
            shards.send(Pay(command_id=shards.new_id(), address=root, currency="USD", amount_minor=1))
    shards.serve()
    leaves_its_bucket(shards, "acme")
    comes_while_bucket_is_read(shards, "acme", "s2")

    shards.of["s1"].begin_again()
    shards.serve(rounds=12)

    assert shards.dead_letters() == 0
    assert shards.of["s2"].states[HOME][0] is OWNED


@pytest.mark.rule("M6")
@pytest.mark.parametrize("root", ["acme", TWIN])
def test_a_root_that_comes_meanwhile_is_in_one_place(root: str) -> None:
    """Its account is read before the other's many, or behind them: before or after it came."""
    shards = TwoShards(names=("s1", "s2", "s3", "s4"))
    lives_in_bucket(shards, root)
    lives_in_bucket(shards, TWIN if root == "acme" else "acme", shops=ACCOUNTS)
    hold = PlaceHold(command_id=shards.new_id(), address=root, currency="USD", amount_minor=5, expires_in_ms=HOLD_MS)
    shards.send(hold)
    shards.serve()
    leaves_its_bucket(shards, root)
    comes_while_bucket_is_read(shards, root, "s4")

    shards.serve(rounds=12)

    states = shards.of["s1"].states[root][0], shards.of["s4"].states[HOME][0]
    assert states == (OWNED, OWNED)
    for shard in shards.of.values():
        shard.delete_what_left()
    accounts, holds = (
        [name for name, shard in shards.of.items() for key in getattr(shard.database.tables, table) if key[0] == root]
        for table in ("accounts", "holds")
    )
    assert (accounts, holds) == (["s1"], ["s1"])
    shards.clock.now_ms += 2 * HOLD_MS
    expiry = ExpireHold(
        command_id=derived_id("EXPIRE_HOLD", hold.command_id), address=root, currency="USD", hold_id=hold.command_id
    )
    for shard in shards.of.values():  # each shard's expirer would ask for what it has
        shard.tick()
        shards.broker.write(OutRecord(shard.topic, 0, root.encode(), encode_command(expiry), []))
    shards.serve()
    assert shards.of["s1"].database.tables.accounts[root, "USD"].held == 0
