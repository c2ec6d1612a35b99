"""How an open refund ends: by what the archive says about its original (H3, H4)."""

from __future__ import annotations

from typing import assert_never

from processors.faults import LaneStopped, StopCode
from processors.ids import derived_id, id_text, uuid7_time_ms
from processors.ledger.addresses import at_levels, level_of
from processors.ledger.book import Book
from processors.ledger.commands import Recalled, RecallOriginal
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.postings import accounts_at, count_open
from processors.ledger.refunds import Original, give_back, is_payment, why_not_given_back, why_not_refundable
from processors.ledger.rejections import Rejection, refused_by
from processors.ledger.rows import OpenRefund, TransactionKey


def recall_original(book: Book, command: RecallOriginal, root: str, now_ms: int) -> Outcome | None:
    """End an open refund: complete it, or reject it.

    Args:
        book: Holds the open refund, or knows that there is none.
        command: The service's own, signed. The ``original_*`` fields count where the original was FOUND.
        root: The record's key.
        now_ms: Lane time, ms since the epoch.

    Returns:
        COMPLETED; or REJECTED with the first that applies of ORIGINAL_TOO_OLD (the recall came a window after the
        refund period's end: what was given back may be forgotten), UNKNOWN_ORIGINAL, and what else rejects a refund.
        Either way the refund is no longer open. None where there is no such open refund (I7).

    Raises:
        LaneStopped: RECALLS_DISAGREE: the ledger knows that the archive is wrong (H3). Nothing is changed.

    Source: docs/design.md, Money; rules H3, H4, I7.
    """
    open_key = (root, command.refund_id)
    row = book.open_refunds[open_key]
    if row is None or not _is_about(command, row):
        return None
    key = (root, row.original_id)
    original = _recalled(command)
    rejection = _why_not_completed(book, row, original, key, now_ms)
    book.open_refunds[open_key] = None
    book.changed.open_refunds[open_key] = None
    count_open(book, accounts_at(book, row.address, row.currency, row.levels), -1)
    if rejection is not None:
        return Outcome(
            Status.REJECTED,
            rejection.reason,
            command.refund_id,
            amount_minor=row.amount_minor,
            related_id=row.original_id,
            refused_by=refused_by(rejection, row.amount_minor),
        )
    assert original is not None  # else UNKNOWN_ORIGINAL
    postings, remaining_minor = give_back(book, row, original, key)
    return Outcome(
        Status.COMPLETED,
        Reason.NONE,
        command.refund_id,
        row.amount_minor,
        postings,
        original.levels,
        related_id=row.original_id,
        remaining_minor=remaining_minor,
    )


def _is_about(command: RecallOriginal, row: OpenRefund) -> bool:
    """Say whether a recall is the service's own about just this open refund (I7)."""
    return (
        command.original_id == row.original_id
        and command.address == row.address
        and command.currency == row.currency
        and command.command_id == derived_id("RECALL_ORIGINAL", command.refund_id)
    )


def _why_not_completed(
    book: Book, row: OpenRefund, original: Original | None, key: TransactionKey, now_ms: int
) -> Rejection | None:
    original_time_ms = uuid7_time_ms(row.original_id)
    assert original_time_ms is not None  # else the refund was never opened
    if original_time_ms < book.recall_start_ms(key[0], now_ms):  # H3: its `refunded` row is not read, there or not
        return Rejection(Reason.ORIGINAL_TOO_OLD)
    _refuse_disagreement(book, row, original, key)
    return Rejection(Reason.UNKNOWN_ORIGINAL) if original is None else why_not_given_back(book, row, original, key)


def _recalled(command: RecallOriginal) -> Original | None:
    match command.recalled:
        case Recalled.NOT_FOUND:
            return None
        case Recalled.FOUND:
            return Original(
                type=command.original_type,
                accepted=command.original_accepted,
                address=command.original_address,
                currency=command.original_currency,
                amount_minor=command.original_amount_minor,
                levels=command.original_levels,
            )
        case _ as never:
            assert_never(never)


def _refuse_disagreement(book: Book, row: OpenRefund, original: Original | None, key: TransactionKey) -> None:
    """Stop where what was recalled cannot be, by what the ledger knows itself; before anything changes (H3)."""
    known = book.refunded[key]
    if known is not None:
        recalled_minor = original.amount_minor if original is not None and is_payment(original) else None
        if recalled_minor != known.amount_minor:
            raise _disagreement(row, "its amount was another one before")  # no amount: this is logged
    if original is None or why_not_refundable(row, original) is not None:  # the partner's mistake, not the archive's
        return
    if original.levels.bit_length() != level_of(row.address):
        raise _disagreement(row, f"levels {original.levels:b} do not end at {row.address}")
    for address in at_levels(row.address, original.levels):
        if book.accounts[address, row.currency] is None:
            raise _disagreement(row, f"it took from {address} in {row.currency}, where no account was ever opened")


def _disagreement(row: OpenRefund, detail: str) -> LaneStopped:
    return LaneStopped(StopCode.RECALLS_DISAGREE, f"original {id_text(row.original_id)}: {detail}")
