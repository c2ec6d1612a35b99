"""What a refusal says of the account that is its cause."""

from __future__ import annotations

from processors.ledger.outcomes import Outcome, RefusedBy
from processors.ledger.rules import BALANCE_MINOR_MIN
from tests.unit.ledger.build import lane_with, pay


def test_what_was_available_and_missing_is_cut_to_64_bits() -> None:
    lane = lane_with(balance=0)
    account = lane.rows.accounts["acme", "USD"]
    account.balance, account.held = BALANCE_MINOR_MIN, 2**63 - 1
    lane.forget()

    answer = lane.send(pay(amount_minor=2**63 - 1))

    assert isinstance(answer, Outcome)
    assert answer.refused_by == RefusedBy("acme", -(2**63), 2**63 - 1)
