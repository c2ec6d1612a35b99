"""Adjustments of frozen accounts, and what a refusal says of the account that is its cause."""

from __future__ import annotations

import pytest

from processors.ledger.commands import AccountStatus, Direction
from processors.ledger.outcomes import Outcome, Reason, RefusedBy, Status
from processors.ledger.rules import BALANCE_MINOR_MIN, Rules
from tests.unit.ledger.build import adjust, lane_with, pay, update_account


def adjusted_when_frozen(direction: Direction, release: int) -> Outcome:
    lane = lane_with(rules=Rules(version=1, release=release))
    lane.send(update_account(status=AccountStatus.FROZEN))
    answer = lane.send(adjust(direction=direction, amount_minor=1_000))
    assert isinstance(answer, Outcome)
    return answer


@pytest.mark.rule("H5")
@pytest.mark.parametrize("direction", Direction)
def test_an_operators_correction_passes_a_freeze_in_both_directions(direction: Direction) -> None:
    assert adjusted_when_frozen(direction, release=2).status is Status.ACCEPTED


@pytest.mark.rule("I6")
def test_a_lane_at_release_1_of_the_rules_refuses_a_debit_of_a_frozen_account_as_it_did() -> None:
    assert adjusted_when_frozen(Direction.DEBIT, release=1).reason is Reason.ACCOUNT_FROZEN
    assert adjusted_when_frozen(Direction.CREDIT, release=1).status is Status.ACCEPTED


def test_what_was_available_and_missing_is_cut_to_64_bits() -> None:
    lane = lane_with(balance=0)
    account = lane.rows.accounts["acme", "USD"]
    account.balance, account.held = BALANCE_MINOR_MIN, 2**63 - 1
    lane.forget()

    answer = lane.send(pay(amount_minor=2**63 - 1))

    assert isinstance(answer, Outcome)
    assert answer.refused_by == RefusedBy("acme", -(2**63), 2**63 - 1)
