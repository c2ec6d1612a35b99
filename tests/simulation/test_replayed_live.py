"""A shard whose database is lost is decided again from its log and goes live: what it answers, and what it must not."""

from __future__ import annotations

import pytest

from processors.ledger.commands import OpenAccount
from processors.routing.buckets import placement_key_of
from processors.stores.rows import PlacementState
from tests.simulation.test_parts_amiss import parts_of, send_other_parts
from tests.simulation.two_shards import HOME, TwoShards

HOUR_MS = 3_600_000
NEIGHBOUR = next(root for number in range(10**6) if placement_key_of(root := f"root-{number}") == HOME)


@pytest.mark.rule("M7")
@pytest.mark.rule("V2")
@pytest.mark.parametrize("left_with", ["acme", HOME])
def test_a_replayed_shard_that_goes_live_without_an_offset_answers_no_repetition_otherwise(
    shards: TwoShards, left_with: str
) -> None:
    """It has no rows of a stay that ended, so it answers nothing from before that stay's seal again."""
    source = shards.of["s2"]
    first = shards.pay(10)
    shards.move("s2", key=left_with)
    shards.send(first)
    shards.serve()
    shards.move("s1", key=left_with)
    shards.serve()
    shards.clock.advance(7 * HOUR_MS)  # past the window: the first payment's id does not come along again
    shards.serve()
    shards.pay(1)
    shards.serve()
    shards.move("s2", key="acme")
    shards.serve()
    published = [result for result in shards.results() if result.shard == "s2"]

    shards.broker.group("workers-s2").offsets.clear()
    source.database.restore(source.replayed())
    source.begin_again()
    shards.serve()

    again = [result for result in shards.results() if result.shard == "s2"][len(published) :]
    assert [result for result in again if result not in published] == []
    assert source.states["acme"][0] is PlacementState.OWNED


@pytest.mark.rule("L4")
@pytest.mark.rule("M4")
@pytest.mark.rule("V2")
@pytest.mark.parametrize("has_offset", [True, False])
def test_parts_that_were_thrown_away_say_nothing_of_what_a_lost_shard_had_published(
    shards: TwoShards, has_offset: bool
) -> None:
    target, group = shards.of["s2"], shards.broker.group("workers-s2")
    shards.open(1_000)
    for number in range(8):
        shards.send(OpenAccount(command_id=shards.new_id(), address=f"acme:shop-{number}", currency="USD"))
    shards.move("s2", key=NEIGHBOUR)
    shards.send(OpenAccount(command_id=shards.new_id(), address=NEIGHBOUR, currency="USD"))
    shards.serve()
    # The shard is away from here on.
    paid = [shards.pay(1, NEIGHBOUR) for _ in range(5)]
    shards.move("s2")
    shards.of["s1"].serve(publish=False)
    send_other_parts(shards)  # by a source that was restored
    paid += [shards.pay(1, NEIGHBOUR) for _ in range(3)]
    for _ in range(2):  # those of its rows as they are, which are thrown away; and once more
        for record in parts_of(shards):
            shards.broker.write(record)
    paid += [shards.pay(1, NEIGHBOUR) for _ in range(2)]
    if not has_offset:
        group.offsets.clear()

    target.database.restore(target.replayed())
    target.begin_again()
    shards.serve()

    answered = [result.command_id for result in shards.results()]
    assert {command.command_id for command in paid} <= set(answered)
    assert target.states["acme"][0] is PlacementState.OWNED
