"""The legs of a transfer between trees: what each result has the service send to the other's log (T1, T2, T5).

A leg is a function of the result's bytes, which are in the journal: whoever answers again sends the same leg again.
"""

from __future__ import annotations

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
    result = decode_result(payload)
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
