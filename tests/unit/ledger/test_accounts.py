from __future__ import annotations

from dataclasses import replace

import pytest

from processors.ledger.commands import AccountStatus, Policy
from processors.ledger.outcomes import Contra, Outcome, Reason, Status
from processors.ledger.rows import Account
from tests.unit.ledger.build import get_balance, lane_with, open_account, pay, place_hold, posting, update_account
from tests.unit.ledger.lane import SerialLane

pytestmark = pytest.mark.rule("H5")


def test_an_account_begins_with_nothing_and_its_funds_are_checked() -> None:
    assert Account("acme", "USD") == Account(
        "acme",
        "USD",
        balance=0,
        held=0,
        overdraft_limit=0,
        policy=Policy.CHECKED,
        status=AccountStatus.ACTIVE,
        sequence=0,
        open_count=0,
        metadata=b"",
    )


def test_an_opened_account_shows_itself_and_no_sequence() -> None:
    lane = SerialLane()
    command = open_account(overdraft_limit=50, policy=Policy.UNCHECKED, address="acme:vn")

    assert lane.send(command) == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.command_id,
        amount_minor=0,
        postings=(posting("acme:vn", Contra.NONE, overdraft_limit=50, sequence=0),),
        levels=0b10,
        policy=Policy.UNCHECKED,
        account_status=AccountStatus.ACTIVE,
    )


def test_a_balance_read_shows_the_whole_chain_and_the_status_of_the_named_account() -> None:
    lane = lane_with("acme", "acme:vn:shop")
    lane.send(update_account(address="acme:vn:shop", policy=Policy.UNCHECKED, status=AccountStatus.FROZEN))
    command = get_balance(address="acme:vn:shop")

    assert lane.send(command) == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.command_id,
        amount_minor=0,
        postings=(
            posting("acme", Contra.NONE, balance=100),
            posting("acme:vn:shop", Contra.NONE, balance=100),
        ),
        levels=0b101,
        policy=Policy.UNCHECKED,
        account_status=AccountStatus.FROZEN,
    )


@pytest.mark.parametrize("left", [{"balance": 1}, {"balance": -1}, {"held": 1}, {"open_count": 1}], ids=str)
def test_an_account_on_which_anything_is_left_is_not_closed(left: dict[str, int]) -> None:
    lane = lane_with(balance=0)
    lane.rows.accounts["acme", "USD"] = replace(Account("acme", "USD"), **left)  # type: ignore[arg-type]
    lane.forget()

    answer = lane.send(update_account(status=AccountStatus.CLOSED))

    assert isinstance(answer, Outcome)
    assert answer.reason is Reason.ACCOUNT_NOT_EMPTY


def test_an_update_leaves_the_sequence_and_changes_only_what_it_names() -> None:
    lane = lane_with()
    before = replace(lane.rows.accounts["acme", "USD"])

    lane.send(update_account(overdraft_limit=0, status=AccountStatus.FROZEN))

    assert lane.rows.accounts["acme", "USD"] == replace(before, status=AccountStatus.FROZEN)


def test_a_limit_below_what_is_used_refuses_only_what_is_new() -> None:
    lane = lane_with(balance=0)
    lane.send(update_account(overdraft_limit=100))
    lane.send(pay(amount_minor=60))

    lowered = lane.send(update_account(overdraft_limit=10))
    new_debit = lane.send(place_hold(amount_minor=1))

    assert isinstance(lowered, Outcome)
    assert lowered.status is Status.ACCEPTED
    assert isinstance(new_debit, Outcome)
    assert new_debit.reason is Reason.INSUFFICIENT_FUNDS


@pytest.mark.parametrize(
    ("parent", "child", "reason"),
    [
        (AccountStatus.FROZEN, AccountStatus.CLOSED, Reason.ACCOUNT_CLOSED),
        (AccountStatus.CLOSED, AccountStatus.FROZEN, Reason.ACCOUNT_CLOSED),
        (AccountStatus.ACTIVE, AccountStatus.FROZEN, Reason.ACCOUNT_FROZEN),  # the parent has no funds
        (AccountStatus.FROZEN, AccountStatus.ACTIVE, Reason.ACCOUNT_FROZEN),  # the child has none
    ],
)
def test_the_first_reason_in_order_is_given_whichever_level_has_it(
    parent: AccountStatus, child: AccountStatus, reason: Reason
) -> None:
    lane = lane_with("acme", "acme:vn", balance=0)
    lane.send(update_account(address="acme", status=parent))
    lane.send(update_account(address="acme:vn", status=child))

    answer = lane.send(pay(address="acme:vn"))

    assert isinstance(answer, Outcome)
    assert answer.reason is reason
