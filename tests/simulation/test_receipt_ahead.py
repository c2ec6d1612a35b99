"""A database goes back before a move that is over, and its group has no offset: what came after is in the log already.

That is the receipt, and perhaps the next hand-off. What lies before the seal may have to be answered once more.
"""

from __future__ import annotations

import pytest

from processors.ledger.commands import CommandType
from processors.stores.rows import PlacementState
from tests.simulation.two_shards import HOME, TwoShards


@pytest.mark.rule("L4")
@pytest.mark.rule("M7")
def test_ids_that_came_along_stay_until_what_they_answered_is_published_again(shards: TwoShards) -> None:
    source = shards.of["s2"]
    first = shards.pay(10)
    before = source.database.tables.backup()
    shards.move("s2")
    shards.send(first)
    shards.serve()
    shards.move("s1")
    shards.serve()
    source.database.restore(before)
    shards.broker.group("workers-s2").offsets.clear()
    source.begin_again()

    source.serve(publish=False)  # the seal and its receipt, of which nothing is published yet
    assert source.states == {"acme": (PlacementState.LEFT, 2, 0)}
    source.delete_what_left()
    source.begin_again()
    shards.serve()

    of_s2 = [result for result in shards.results() if result.shard == "s2" and result.type is CommandType.PAY]
    assert [(result.duplicate_of is not None, result.postings[0].balance) for result in of_s2] == [(True, 990)] * 2
    source.delete_what_left()
    assert source.states == {"acme": (PlacementState.AWAY, 2, 0)}


@pytest.mark.rule("L4")
@pytest.mark.rule("M7")
@pytest.mark.parametrize("left_with", ["acme", HOME])
def test_who_comes_back_does_so_once_the_seal_he_left_with_is_published_again(
    shards: TwoShards, left_with: str
) -> None:
    """He may have left with his bucket, and come back by himself: then it is the bucket's."""
    source = shards.of["s2"]
    first = shards.pay(10)
    before = source.database.tables.backup()
    shards.move("s2", key=left_with)
    shards.send(first)
    shards.serve()
    for to, key in (("s1", left_with), ("s2", "acme")):
        shards.move(to, key=key)
        shards.serve()
    generation = source.states["acme"][1]
    source.database.restore(before)
    shards.broker.group("workers-s2").offsets.clear()
    source.begin_again()

    waiting = source.consumer.poll(100, 0)[0][0]
    while waiting and not source.lane.awaits_publication:
        waiting = waiting[source.lane.turn(waiting) :]
    assert source.lane.awaits_publication
    assert source.states[left_with] == (PlacementState.LEFT, 2, 0)
    assert "acme" in {root for root, _ in source.database.tables.moved_ids}
    source.begin_again()  # as after a kill: nothing was published meanwhile
    shards.serve()

    of_s2 = [result for result in shards.results() if result.shard == "s2" and result.type is CommandType.PAY]
    assert [(result.duplicate_of is not None, result.postings[0].balance) for result in of_s2] == [(True, 990)] * 2
    assert source.states["acme"] == (PlacementState.OWNED, generation, 0)
