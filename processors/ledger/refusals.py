"""How a "no" is written down: a value like any other answer (L11: the book is left as it was)."""

from __future__ import annotations

from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Collect,
    Command,
    Pay,
    PlaceHold,
    Refund,
    TopUp,
    Transfer,
    VoidHold,
)
from processors.ledger.outcomes import Outcome, Reason, Status


def refused(command: Command, reason: Reason) -> Outcome:
    """Return a partner's command rejected: nothing moved, with what it asked for and what it named."""
    return Outcome(
        Status.REJECTED,
        reason,
        command.command_id,
        amount_minor=_amount_asked_minor(command),
        related_id=_transaction_named(command),
    )


def _amount_asked_minor(command: Command) -> int:
    match command:
        case TopUp() | Collect() | Adjust() | Pay() | PlaceHold() | Refund() | Transfer():
            return command.amount_minor
        case CaptureHold():
            return command.amount_minor or 0
        case _:
            return 0


def _transaction_named(command: Command) -> bytes:
    match command:
        case CaptureHold() | VoidHold():
            return command.hold_id
        case Refund():
            return command.original_id
        case _:
            return b""
