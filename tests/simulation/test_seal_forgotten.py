"""A replica takes over that lacks the seal, while the worker that decided it has still to hand it over (L1, P3)."""

from __future__ import annotations

import pytest

from processors.faults import Retryable
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Status
from processors.stores.rows import PlacementState
from tests.simulation.two_shards import TwoShards, outcomes


@pytest.mark.rule("L1")
@pytest.mark.rule("P3")
def test_a_database_that_has_forgotten_a_seal_keeps_its_lane_from_publishing_it(shards: TwoShards) -> None:
    source = shards.of["s1"]
    before = source.database.tables.backup()
    shards.move("s2")
    shards.pay(10)
    source.serve(publish=False)
    source.database.restore(before)

    with pytest.raises(Retryable, match="no seal of acme"):
        source.serve()
    source.begin_again()
    shards.serve()

    assert outcomes(shards)[2:] == [
        (CommandType.MOVE_PARTNER, Status.ACCEPTED, 0),
        (CommandType.PAY, Status.ACCEPTED, 990),
    ]
    assert shards.of["s2"].states == {"acme": (PlacementState.OWNED, 1, 0)}
    assert [shards.trial_balance(shard) for shard in shards.of] == [0, 0]
