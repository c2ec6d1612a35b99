"""Rejections: outcomes like any other, which leave the book as it was (L11)."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Collect,
    GetBalance,
    OpenAccount,
    PartnersCommand,
    Pay,
    PlaceHold,
    Refund,
    TopUp,
    Transfer,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.outcomes import Outcome, Reason, RefusedBy, Status
from processors.ledger.rows import Account
from processors.ledger.rules import BALANCE_MINOR_MAX, BALANCE_MINOR_MIN


class Rejection(NamedTuple):
    """Why not, and the account that is the cause; None where no account is."""

    reason: Reason
    account: Account | None = None


def rejected(command: PartnersCommand, reason: Reason, account: Account | None = None) -> Outcome:
    """Return a partner's command rejected: nothing moved, with what it asked for and what it named.

    Args:
        command: Not changed.
        reason: Why.
        account: The cause, as it is; None where no account is.
    """
    amount_minor = _amount_asked_minor(command)
    return Outcome(
        Status.REJECTED,
        reason,
        command.command_id,
        amount_minor=amount_minor,
        related_id=_transaction_named(command),
        refused_by=refused_by(Rejection(reason, account), amount_minor),
    )


def no_account(command: PartnersCommand, address: str) -> Outcome:
    """Return a partner's command rejected because an address that it names has no account in its currency."""
    outcome = rejected(command, Reason.UNKNOWN_ACCOUNT)
    outcome.refused_by = RefusedBy(address, 0, 0)
    return outcome


def refused_by(rejection: Rejection, amount_minor: int) -> RefusedBy | None:
    """Return what a result says of the account that refused an amount; None where none did."""
    reason, account = rejection
    if account is None:
        return None
    missing_minor = amount_minor - account.available if reason is Reason.INSUFFICIENT_FUNDS else 0
    return RefusedBy(account.address, _cut(account.available), _cut(missing_minor))


def _cut(amount_minor: int) -> int:
    """Return the nearest integer of 64 bits."""
    return max(BALANCE_MINOR_MIN, min(amount_minor, BALANCE_MINOR_MAX))


def _amount_asked_minor(command: PartnersCommand) -> int:
    match command:
        case TopUp() | Collect() | Adjust() | Pay() | PlaceHold() | Refund() | Transfer():
            return command.amount_minor
        case CaptureHold():
            return command.amount_minor or 0
        case OpenAccount() | UpdateAccount() | VoidHold() | GetBalance():
            return 0
        case _ as never:
            assert_never(never)


def _transaction_named(command: PartnersCommand) -> bytes:
    match command:
        case CaptureHold() | VoidHold():
            return command.hold_id
        case Refund():
            return command.original_id
        case TopUp() | Collect() | Adjust() | Pay() | PlaceHold() | Transfer():
            return b""
        case OpenAccount() | UpdateAccount() | GetBalance():
            return b""
        case _ as never:
            assert_never(never)
