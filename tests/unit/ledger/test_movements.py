"""The whole answer of each movement, adjustments of frozen accounts, and what a rejection says of its cause."""

from __future__ import annotations

import pytest

from processors.ledger.commands import AccountStatus, Adjust, Collect, Command, Direction, TopUp
from processors.ledger.decide import Verdict
from processors.ledger.outcomes import Contra, Outcome, Reason, RefusedBy, Status
from processors.ledger.rows import SystemKey
from processors.ledger.rules import BALANCE_MINOR_MIN, Rules
from tests.unit.ledger.build import adjust, collect, lane_with, pay, posting, top_up, transfer, update_account
from tests.unit.ledger.lane import SerialLane


def adjusted_when_frozen(direction: Direction, release: int) -> Outcome:
    lane = lane_with(rules=Rules(version=1, release=release))
    lane.send(update_account(status=AccountStatus.FROZEN))
    answer = lane.send(adjust(direction=direction, amount_minor=1_000))
    assert isinstance(answer, Outcome)
    return answer


def decided(lane: SerialLane, command: Command) -> tuple[Verdict, dict[SystemKey, int]]:
    """Return the answer, and by how much it changed which system accounts."""
    before = dict(lane.system)
    answer = lane.send(command)
    changes = {key: balance - before.get(key, 0) for key, balance in lane.system.items()}
    return answer, {key: change for key, change in changes.items() if change}


@pytest.mark.parametrize(
    ("command", "contra", "change"),
    [
        (top_up(address="acme:vn", amount_minor=7), Contra.FUNDING, 7),
        (collect(address="acme:vn", amount_minor=7), Contra.SETTLEMENT, 7),
        (adjust(address="acme:vn", amount_minor=7, direction=Direction.CREDIT), Contra.ADJUSTMENT, 7),
        (adjust(address="acme:vn", amount_minor=7, direction=Direction.DEBIT), Contra.ADJUSTMENT, -7),
    ],
    ids=["top-up", "collection", "credit", "debit"],
)
@pytest.mark.parametrize("release", [1, 2])
def test_money_in_and_a_correction_concern_the_named_account_alone(
    command: TopUp | Collect | Adjust, contra: Contra, change: int, release: int
) -> None:
    lane = lane_with("acme", "acme:vn", rules=Rules(version=1, release=release))
    answer, system = decided(lane, command)

    assert answer == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.command_id,
        7,
        (posting("acme:vn", contra, balance_change=change, balance=100 + change, sequence=2),),
        levels=0b10,
    )
    assert system == {(2, contra, "USD"): -change}


@pytest.mark.rule("H1")
def test_a_payment_is_taken_on_every_level_that_has_an_account() -> None:
    lane = lane_with("acme", "acme:vn:shop")
    command = pay(address="acme:vn:shop", amount_minor=7)

    answer, system = decided(lane, command)

    assert answer == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.command_id,
        7,
        (
            posting("acme", balance_change=-7, balance=93, sequence=2),
            posting("acme:vn:shop", balance_change=-7, balance=93, sequence=2),
        ),
        levels=0b101,
    )
    assert system == {(1, Contra.SETTLEMENT, "USD"): 7, (3, Contra.SETTLEMENT, "USD"): 7}


@pytest.mark.parametrize("payee", ["acme:vn", "acme:vn:shop"])
def test_a_transfer_moves_money_between_two_accounts_and_names_the_payers_level(payee: str) -> None:
    lane = lane_with("acme", payee)
    command = transfer(address="acme", to_address=payee, amount_minor=7)
    answer, system = decided(lane, command)

    assert answer == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.command_id,
        7,
        (
            posting("acme", Contra.TRANSIT, balance_change=-7, balance=93, sequence=2),
            posting(payee, Contra.TRANSIT, balance_change=7, balance=107, sequence=2),
        ),
        levels=0b1,
    )
    assert system == {(1, Contra.TRANSIT, "USD"): 7, (payee.count(":") + 1, Contra.TRANSIT, "USD"): -7}


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
