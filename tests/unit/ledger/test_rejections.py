"""What a rejection says, and what it leaves empty."""

from __future__ import annotations

from typing import get_args

import pytest

from processors.ledger.commands import PartnersCommand
from processors.ledger.outcomes import Outcome, Reason, RefusedBy, Status
from processors.ledger.rejections import no_account, rejected
from processors.ledger.rows import Account
from tests.unit.ledger import build

HOLD = build.place_hold(amount_minor=30)
REFUND = build.refund(amount_minor=5)

# What each command asks for, in minor units, and the transaction that it names.
ASKED: list[tuple[PartnersCommand, int, bytes]] = [
    (build.open_account(overdraft_limit=7), 0, b""),
    (build.update_account(overdraft_limit=7), 0, b""),
    (build.top_up(amount_minor=3), 3, b""),
    (build.collect(amount_minor=4), 4, b""),
    (build.adjust(amount_minor=6), 6, b""),
    (build.pay(amount_minor=8), 8, b""),
    (HOLD, 30, b""),
    (build.capture_hold(HOLD, amount_minor=9), 9, HOLD.command_id),
    (build.capture_hold(HOLD, amount_minor=None), 0, HOLD.command_id),
    (build.void_hold(HOLD), 0, HOLD.command_id),
    (REFUND, 5, REFUND.original_id),
    (build.transfer(amount_minor=2), 2, b""),
    (build.get_balance(), 0, b""),
]


@pytest.mark.parametrize(("command", "amount_minor", "named"), ASKED, ids=lambda value: type(value).__name__)
def test_a_refusal_says_what_was_asked_for_and_named_and_nothing_else(
    command: PartnersCommand, amount_minor: int, named: bytes
) -> None:
    assert rejected(command, Reason.INVALID_METADATA) == Outcome(
        Status.REJECTED,
        Reason.INVALID_METADATA,
        command.command_id,
        amount_minor=amount_minor,
        postings=(),
        levels=0,
        related_id=named,
        remaining_minor=0,
        expires_at_ms=0,
        policy=None,
        account_status=None,
        journalled=True,
        refused_by=None,
    )


def test_every_command_of_a_partner_is_among_them() -> None:
    assert {type(command) for command, _, _ in ASKED} == set(get_args(PartnersCommand))


def test_an_account_that_there_is_not_has_nothing_and_lacks_nothing() -> None:
    assert no_account(build.pay(), "acme").refused_by == RefusedBy("acme", 0, 0)


@pytest.mark.parametrize(("reason", "missing_minor"), [(Reason.INSUFFICIENT_FUNDS, 30), (Reason.ACCOUNT_FROZEN, 0)])
def test_the_account_that_refuses_says_what_is_available_and_what_it_lacks(reason: Reason, missing_minor: int) -> None:
    account = Account("acme", "USD", balance=60, held=10, overdraft_limit=20)

    assert rejected(build.pay(amount_minor=100), reason, account).refused_by == RefusedBy("acme", 70, missing_minor)
