"""What is decided one after the other has its results encoded together, and each is still its record's."""

from __future__ import annotations

import pytest

from processors.faults import LaneStopped, Retryable, StopCode
from processors.lane.decided import UndecidedError
from processors.lane.lane import Lane
from processors.ledger.book import Rows
from processors.ledger.commands import Pay, Transfer
from processors.stores.rows import PlacementState
from processors.wire.admission import Gate, admit
from processors.wire.records import OutRecord
from processors.wire.signature import KeyRing
from tests.bench import stages
from tests.simulation.two_shards import TwoShards


@pytest.mark.rule("L11")
def test_a_result_that_cannot_be_encoded_names_its_own_record() -> None:
    log, decider = stages.Log(), stages.Lane().decider
    gate = Gate(keyring=KeyRing(signing="k1", keys={"k1": bytes(32)}), lane=0, lanes=1)
    records = [*log.openings(["p0"]), *log.payments(["p0"], 3)]
    admissions = [admit(record, decider.book.rules, gate) for record in records]
    spoilt = admissions[3].command
    assert isinstance(spoilt, Pay)
    spoilt.command_id = b"not 16 bytes"
    needs = decider.needs_of(admissions)
    decider.book.add(decider.book.missing(needs), Rows())

    with pytest.raises(UndecidedError) as raised:
        decider.decide(admissions, needs, published=(0, 0))

    assert raised.value.offset == records[3].offset


class LaneWithoutLegs(Lane):
    """Cannot make what it is to send because of a result."""

    def _legs(self, _result: bytes) -> list[OutRecord]:
        raise KeyError("a bug")


@pytest.fixture
def shards() -> TwoShards:
    """Return two shards of such lanes, with an account of acme's on s1."""
    made = TwoShards(lane=LaneWithoutLegs)
    made.open(1_000)
    made.serve()
    return made


def send_money(shards: TwoShards) -> None:
    shards.send(
        Transfer(command_id=shards.new_id(), address="acme", currency="USD", to_address="other", amount_minor=1)
    )


@pytest.mark.rule("L11")
@pytest.mark.rule("P2")
def test_a_leg_that_cannot_be_made_names_its_own_record(shards: TwoShards) -> None:
    """So that what precedes it is committed first, and the lane stops at it."""
    source = shards.of["s1"]
    for _ in range(3):
        shards.pay(1)
    spoilt_at = shards.broker.log(source.topic, 0).next_offset
    send_money(shards)
    shards.pay(1)

    with pytest.raises(Retryable, match=f"offset {spoilt_at} cannot be decided; what precedes it comes first"):
        source.serve()


@pytest.mark.rule("L11")
@pytest.mark.rule("M5")
def test_a_parked_record_that_cannot_be_decided_stops_the_lane_at_what_unparks_it(shards: TwoShards) -> None:
    source, target = shards.of["s1"], shards.of["s2"]
    shards.move("s2")
    send_money(shards)
    target.serve()  # it is parked
    source.serve()

    with pytest.raises(LaneStopped) as stopped:
        target.serve()

    assert stopped.value.code is StopCode.BUG
    assert target.states["acme"] == (PlacementState.ARRIVING, 1, 1)
