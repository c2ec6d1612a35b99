"""The legs of a transfer between trees: what each result has the service send to the other's log (T1, T2, T5).

A leg is a function of the result's bytes, which are in the journal: whoever answers again sends the same leg again.
"""

from __future__ import annotations

from collections.abc import Iterable

from processors.ids import root_of
from processors.ledger.commands import (
    CommandType,
    Transfer,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
)
from processors.ledger.outcomes import Status
from processors.ledger.transfers import credit_id, end_id
from processors.wire.result_format import Result, decode_result

Leg = TransferCredit | TransferCompleted | TransferReturn

SENDING = frozenset((Transfer, TransferCredit))
"""The commands whose results may have a leg follow."""


def leg_of(payload: bytes) -> Leg | None:
    """Return what is to be sent because of a result, or None.

    Args:
        payload: A result of any type.

    Returns:
        The credit, where a TRANSFER is OPEN; its end, where a TRANSFER_CREDIT was taken or refused. None of a
        repetition: its first answer was followed by the leg (T1).
    """
    return _leg_of(decode_result(payload))


def leg_again(root: str, transfer_id: bytes, steps: Iterable[Result]) -> Leg | None:
    """Return the leg that an open transfer waits for, as its lane sent it: for where it became a dead letter.

    Args:
        root: The sender's.
        transfer_id: The transfer's.
        steps: Every step of it that was decided, in any shard; a step that is missing here was never decided.

    Returns:
        The end, where the receiver's lane has decided the credit; else the credit. None where it never began.
    """
    firsts = [step for step in steps if step.duplicate_of is None]
    transfer = (CommandType.TRANSFER, root, transfer_id)
    sent = next((step for step in firsts if (step.type, step.root, step.command_id) == transfer), None)
    if sent is None:
        return None
    credit = (CommandType.TRANSFER_CREDIT, credit_id(root, transfer_id))
    credited = next((step for step in firsts if (step.type, step.command_id) == credit), None)
    return _leg_of(sent if credited is None else credited)


def _leg_of(result: Result) -> Leg | None:
    if result.duplicate_of is not None:
        return None
    if result.type is CommandType.TRANSFER and result.status is Status.OPEN:
        return _credit(result)
    if result.type is CommandType.TRANSFER_CREDIT:
        return _completed(result) if result.status is Status.ACCEPTED else _return(result)
    return None


def _credit(result: Result) -> TransferCredit:
    return TransferCredit(
        command_id=credit_id(result.root, result.command_id),
        address=result.to_address,
        currency=result.currency,
        from_address=result.address,
        transfer_id=result.command_id,
        amount_minor=result.amount_minor,
        metadata=result.metadata,
    )


def _completed(credit: Result) -> TransferCompleted:
    sender = credit.to_address
    return TransferCompleted(
        command_id=end_id("TRANSFER_COMPLETED", root_of(sender), credit.transaction_id),
        address=sender,
        currency=credit.currency,
        to_address=credit.address,
        transfer_id=credit.transaction_id,
    )


def _return(credit: Result) -> TransferReturn:
    sender = credit.to_address
    return TransferReturn(
        command_id=end_id("TRANSFER_RETURN", root_of(sender), credit.transaction_id),
        address=sender,
        currency=credit.currency,
        to_address=credit.address,
        transfer_id=credit.transaction_id,
        reason=credit.reason.value,
    )
