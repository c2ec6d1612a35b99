"""What each status and each policy means for money: one line each, so that a new one has to be decided."""

from __future__ import annotations

import pytest

from processors.ledger.commands import AccountStatus, Direction, Policy
from processors.ledger.holds import PLACE_HOLD
from processors.ledger.movements import ADJUST, ADJUST_OF_RELEASE_1, COLLECT, PAY, TOP_UP, TRANSFER_IN, TRANSFER_OUT
from processors.ledger.outcomes import Reason
from processors.ledger.postings import Effect, why_not
from processors.ledger.refunds import REFUND
from processors.ledger.rows import Account

DEBITS = [PAY, PLACE_HOLD, TRANSFER_OUT]
CREDITS = [TOP_UP, COLLECT, TRANSFER_IN, REFUND, *ADJUST.values()]

# What refuses a new debit, and what refuses everything else.
REFUSED: dict[AccountStatus, tuple[Reason | None, Reason | None]] = {
    AccountStatus.ACTIVE: (None, None),
    AccountStatus.FROZEN: (Reason.ACCOUNT_FROZEN, None),
    AccountStatus.CLOSED: (Reason.ACCOUNT_CLOSED, Reason.ACCOUNT_CLOSED),
}
# What is said where one minor unit too much is asked for.
BEYOND_FUNDS: dict[Policy, Reason | None] = {Policy.CHECKED: Reason.INSUFFICIENT_FUNDS, Policy.UNCHECKED: None}


def reason_on(account: Account, amount_minor: int, effect: Effect) -> Reason | None:
    rejection = why_not([account], amount_minor, effect)
    return None if rejection is None else rejection.reason


@pytest.mark.rule("H5")
@pytest.mark.parametrize("status", AccountStatus)
def test_each_status_says_what_it_refuses(status: AccountStatus) -> None:
    account = Account("acme", "USD", balance=100, status=status)
    of_debits, of_credits = REFUSED[status]

    assert {reason_on(account, 1, effect) for effect in DEBITS} == {of_debits}
    assert {reason_on(account, 1, effect) for effect in CREDITS} == {of_credits}


@pytest.mark.rule("H5")
@pytest.mark.parametrize("policy", Policy)
def test_each_policy_says_whether_funds_are_checked(policy: Policy) -> None:
    account = Account("acme", "USD", balance=100, held=40, overdraft_limit=20, policy=policy)

    assert {reason_on(account, 80, effect) for effect in DEBITS} == {None}
    assert {reason_on(account, 81, effect) for effect in DEBITS} == {BEYOND_FUNDS[policy]}
    assert {reason_on(account, 81, effect) for effect in CREDITS} == {None}


@pytest.mark.parametrize("effects", [ADJUST, ADJUST_OF_RELEASE_1], ids=["now", "release 1"])
def test_a_correction_has_an_effect_in_each_direction(effects: dict[Direction, Effect]) -> None:
    assert {direction: effect.balance_sign for direction, effect in effects.items()} == {
        Direction.CREDIT: 1,
        Direction.DEBIT: -1,
    }
    assert set(effects) == set(Direction)
