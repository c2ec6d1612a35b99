"""What a lane brings to its records: the keys file as it is when it is asked for (W1)."""

from __future__ import annotations

import pytest

from processors.faults import Misconfigured
from processors.lane.gate import LaneGate
from processors.ledger.rules import Rules
from processors.wire.admission import Gate, admit
from processors.wire.signature import KeyRing, key_id_of

FIRST = KeyRing(signing="k1", keys={"k1": bytes(32)})
SECOND = KeyRing(signing="k2", keys={"k1": bytes(32), "k2": bytes([1]) * 32})


@pytest.mark.rule("W1")
def test_what_a_lane_sends_is_signed_by_the_key_that_signs_now() -> None:
    files: list[KeyRing | None] = [FIRST, SECOND, None]  # as the lane begins, then for each leg

    def make_gate() -> Gate:
        ring = files.pop(0)
        if ring is None:
            raise Misconfigured("the keys file cannot be read")
        return Gate(keyring=ring, lane=0, lanes=1)

    gate = LaneGate(make_gate, admit, {0: Rules(version=1)})

    assert key_id_of(gate.sign(b"acme", b"leg")) == "k2"
    assert key_id_of(gate.sign(b"acme", b"leg")) == "k1"  # what it last knew
