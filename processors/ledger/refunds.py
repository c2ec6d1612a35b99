"""Giving back part or all of a payment or capture (H3, H4)."""

from __future__ import annotations

from dataclasses import dataclass

from processors.ids import root_of, uuid7_time_ms
from processors.ledger.book import Book
from processors.ledger.commands import AccountStatus, CommandType, Refund
from processors.ledger.outcomes import Contra, Outcome, Posting, Reason, Status
from processors.ledger.postings import (
    CLOSED_ONLY,
    Effect,
    accounts_at,
    accounts_of,
    count_open,
    mask_of,
    post_all,
    why_not,
)
from processors.ledger.rejections import Rejection, no_account, rejected
from processors.ledger.rows import Account, Decision, OpenRefund, Refunded, TransactionKey

REFUND = Effect(contra=Contra.SETTLEMENT, balance_sign=1, refused_by=CLOSED_ONLY)
REFUNDABLE = {CommandType.PAY.value, CommandType.CAPTURE_HOLD.value}  # H3: a hold's own id is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """What a refund refers to, as the journal or the archive has it; the rules are the same for both.

    ``type`` is a ``CommandType``'s name; ``levels`` the bit mask of the levels it took from (H1).
    """

    type: str
    accepted: bool
    address: str
    currency: str
    amount_minor: int
    levels: int


def refund(book: Book, command: Refund, now_ms: int) -> Outcome:
    """Give back part or all of an original, to exactly the levels it took from.

    What is looked up is decided by the original's age: one within the window is looked up in the journal, an older one
    never, even if its row is still there; the refund then stays open until the original is recalled.

    Args:
        book: Holds the original's decision where the journal has it, and what was given back of it so far.
        command: Valid; ``original_id`` 16 bytes that may be anything.
        now_ms: Lane time, ms since the epoch.

    Returns:
        Accepted, with what is left to refund; OPEN where the original is older than the window; or rejected with the
        first that applies of UNKNOWN_ACCOUNT, ORIGINAL_TOO_OLD, UNKNOWN_ORIGINAL, ORIGINAL_NOT_REFUNDABLE,
        ORIGINAL_MISMATCH, REFUND_ABOVE_ORIGINAL, ACCOUNT_CLOSED, BALANCE_OVERFLOW.

    Source: docs/design.md, Money; rules H1, H3, H4, H5.
    """
    named = book.accounts[command.address, command.currency]
    if named is None:
        return no_account(command, command.address)
    original_time_ms = uuid7_time_ms(command.original_id)
    if original_time_ms is None:
        return rejected(command, Reason.UNKNOWN_ORIGINAL)
    root = root_of(command.address)
    if original_time_ms < book.refund_start_ms(root, now_ms):  # H3
        return rejected(command, Reason.ORIGINAL_TOO_OLD)
    if original_time_ms < book.window_start_ms(root, now_ms):  # H4
        return _left_open(book, command, named)
    key = (root, command.original_id)
    decision = book.decisions[key]
    if decision is None:
        return rejected(command, Reason.UNKNOWN_ORIGINAL)
    original = _decided(decision)
    rejection = why_not_given_back(book, command, original, key)
    if rejection is not None:
        return rejected(command, *rejection)
    postings, remaining_minor = give_back(book, command, original, key)
    return Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.command_id,
        command.amount_minor,
        postings,
        original.levels,
        related_id=command.original_id,
        remaining_minor=remaining_minor,
    )


def why_not_given_back(
    book: Book, asked: Refund | OpenRefund, original: Original, key: TransactionKey
) -> Rejection | None:
    """Return the first reason why an original cannot be given back by a refund's amount, or None.

    Args:
        book: Holds the original's accounts and its ``refunded`` row, if it has one.
        asked: The refund, asked for now or open since.
        original: As it was found.
        key: The original's root and id.
    """
    reason = why_not_refundable(asked, original)
    if reason is not None:
        return Rejection(reason)
    known = book.refunded[key]
    refunded_minor = 0 if known is None else known.refunded_minor
    if refunded_minor + asked.amount_minor > original.amount_minor:
        return Rejection(Reason.REFUND_ABOVE_ORIGINAL)
    return why_not(accounts_at(book, asked.address, asked.currency, original.levels), asked.amount_minor, REFUND)


def why_not_refundable(asked: Refund | OpenRefund, original: Original) -> Reason | None:
    """Return why an original can never be refunded by a refund of this address and currency, or None (H3)."""
    if not is_payment(original):
        return Reason.ORIGINAL_NOT_REFUNDABLE
    if original.address != asked.address or original.currency != asked.currency:
        return Reason.ORIGINAL_MISMATCH
    return None


def is_payment(original: Original) -> bool:
    """Say whether an original took money, so that it can be given back by a refund that names it rightly (H3)."""
    return original.type in REFUNDABLE and original.accepted


def give_back(
    book: Book, asked: Refund | OpenRefund, original: Original, key: TransactionKey
) -> tuple[tuple[Posting, ...], int]:
    """Credit an original's levels; ``why_not_given_back`` found nothing against it.

    Returns:
        One posting per level, root first, and what is left of the original to refund, in minor units.
    """
    known = book.refunded[key]
    if known is None:
        known = book.refunded[key] = Refunded(original.amount_minor, 0)
    assert known.amount_minor == original.amount_minor  # a recall that disagrees stopped the lane before (H3)
    known.refunded_minor += asked.amount_minor
    book.changed.refunded[key] = None
    accounts = accounts_at(book, asked.address, asked.currency, original.levels)
    return post_all(book, accounts, asked.amount_minor, REFUND), known.amount_minor - known.refunded_minor


def _left_open(book: Book, command: Refund, named: Account) -> Outcome:
    """Keep the refund until its original is recalled; the accounts that it may credit stay open meanwhile (H4, H5)."""
    if named.status is AccountStatus.CLOSED:  # the original took from it, whatever else the archive says
        return rejected(command, Reason.ACCOUNT_CLOSED, named)
    chain_accounts = accounts_of(book, command.address, command.currency)
    # A closed parent counts nothing open, for ever; if the original took from it, the recall is refused.
    accounts = [account for account in chain_accounts if account.status is not AccountStatus.CLOSED]
    levels = mask_of(accounts)
    key = (root_of(command.address), command.command_id)
    book.open_refunds[key] = OpenRefund(
        command.address, command.currency, command.original_id, command.amount_minor, levels
    )
    book.changed.open_refunds[key] = None
    count_open(book, accounts, 1)
    return Outcome(
        Status.OPEN,
        Reason.NONE,
        command.command_id,
        command.amount_minor,
        levels=levels,
        related_id=command.original_id,
    )


def _decided(decision: Decision) -> Original:
    return Original(
        type=decision.type.value,
        accepted=decision.status is Status.ACCEPTED,
        address=decision.address,
        currency=decision.currency,
        amount_minor=decision.amount_minor,
        levels=decision.levels,
    )
