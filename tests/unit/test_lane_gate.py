"""What a lane brings to its records: the keys file as it is when it is asked for (W1)."""

from __future__ import annotations

import pytest

from processors.faults import Misconfigured
from processors.lane.gate import LaneGate
from processors.ledger.commands import RecallOriginal
from processors.ledger.rules import Rules
from processors.ledger.trust import TrustedKey, read_keys, write_keys
from processors.wire.admission import Gate, admit
from processors.wire.causes import Cause
from processors.wire.commands import encode_command
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, key_id_of, sign, trusted_keys
from tests.unit.wire import build

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


@pytest.mark.rule("M5")
@pytest.mark.rule("W1")
def test_a_key_that_ended_while_a_record_was_parked_does_not_make_it_wrong() -> None:
    """It was verified when it came; a leg that became a dead letter would leave its transfer open for good."""
    payload = encode_command(build.example(RecallOriginal))
    headers = [*build.routed(), (SIGNATURE_HEADER, sign(FIRST, b"acme", payload))]
    record = build.record(payload, headers)
    known = read_keys(trusted_keys(SECOND)) or {}
    keys = write_keys({name: TrustedKey(key.fingerprint, ended=name == "k1") for name, key in known.items()})
    rules = Rules(version=1, keys=keys, registry_ids="")
    gate = LaneGate(lambda: Gate(keyring=SECOND, lane=record.partition, lanes=build.LANES), admit, {0: rules})

    now = gate.admit(record, rules)
    parked = gate.admit_parked(record, rules)

    assert now.refusal is not None
    assert now.refusal.cause is Cause.BAD_SIGNATURE
    assert isinstance(parked.command, RecallOriginal)
