"""A database goes back before a move that is over, and its group has no offset: the receipt is in the log already."""

from __future__ import annotations

import pytest

from processors.ledger.commands import CommandType
from processors.stores.rows import PlacementState
from tests.simulation.two_shards import TwoShards


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
