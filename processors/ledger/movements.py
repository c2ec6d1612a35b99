"""Money in, out, and between accounts of a tree: TOP_UP, COLLECT, ADJUST, PAY and TRANSFER."""

from __future__ import annotations

from collections.abc import Sequence

from processors.ledger.book import Book
from processors.ledger.commands import Adjust, Collect, Direction, Pay, TopUp, Transfer
from processors.ledger.outcomes import Contra, Outcome, Reason, Status
from processors.ledger.postings import (
    CLOSED_ONLY,
    NEW_DEBITS,
    Effect,
    accounts_of,
    first_of,
    mask_of,
    post_all,
    why_not,
)
from processors.ledger.rejections import no_account, rejected
from processors.ledger.rows import Account

# Which system account stands against it, its sign, what refuses it, who checks funds (docs/design.md, Money; H5).
TOP_UP = Effect(contra=Contra.FUNDING, balance_sign=1, refused_by=CLOSED_ONLY)
COLLECT = Effect(contra=Contra.SETTLEMENT, balance_sign=1, refused_by=CLOSED_ONLY)
# An operator's correction passes a freeze, which is where corrections are made; before release 2 a debit did not (I6).
ADJUST = {
    Direction.CREDIT: Effect(contra=Contra.ADJUSTMENT, balance_sign=1, refused_by=CLOSED_ONLY),
    Direction.DEBIT: Effect(contra=Contra.ADJUSTMENT, balance_sign=-1, refused_by=CLOSED_ONLY),
}
ADJUST_OF_RELEASE_1 = {
    **ADJUST,
    Direction.DEBIT: Effect(contra=Contra.ADJUSTMENT, balance_sign=-1, refused_by=NEW_DEBITS),
}
_ADJUST_PASSES_A_FREEZE_SINCE = 2  # of `Rules.release`
PAY = Effect(contra=Contra.SETTLEMENT, balance_sign=-1, refused_by=NEW_DEBITS, checks_funds=True)
TRANSFER_OUT = Effect(contra=Contra.TRANSIT, balance_sign=-1, refused_by=NEW_DEBITS, checks_funds=True)
TRANSFER_IN = Effect(contra=Contra.TRANSIT, balance_sign=1, refused_by=CLOSED_ONLY)


def top_up(book: Book, command: TopUp) -> Outcome:
    """Take money in on the named account alone: UNKNOWN_ACCOUNT, ACCOUNT_CLOSED or BALANCE_OVERFLOW may refuse it."""
    return _move(book, command, _named(book, command), TOP_UP)


def collect(book: Book, command: Collect) -> Outcome:
    """Book money collected for the partner on the named account alone; refused as a top-up is."""
    return _move(book, command, _named(book, command), COLLECT)


def adjust(book: Book, command: Adjust) -> Outcome:
    """Correct the named account alone, whatever is available, frozen or not; refused as a top-up is (H5)."""
    effects = ADJUST if book.rules.release >= _ADJUST_PASSES_A_FREEZE_SINCE else ADJUST_OF_RELEASE_1
    return _move(book, command, _named(book, command), effects[command.direction])


def pay(book: Book, command: Pay) -> Outcome:
    """Check and take an amount on every level of the chain that has an account, all or nothing.

    Args:
        book: Holds every account of the chain.
        command: Valid; ``amount_minor`` 1 to AMOUNT_MINOR_MAX.

    Returns:
        Accepted with one posting per level, root first; or rejected with the first that applies, on any level, of
        UNKNOWN_ACCOUNT, ACCOUNT_CLOSED, ACCOUNT_FROZEN, INSUFFICIENT_FUNDS, BALANCE_OVERFLOW.

    Source: docs/design.md, Money; rules H1, H5.
    """
    return _move(book, command, accounts_of(book, command.address, command.currency), PAY)


def transfer_within(book: Book, command: Transfer) -> Outcome:
    """Move an amount between exactly the two named accounts of one tree, each against ``@transit`` of its level.

    Returns:
        Accepted with two postings, the payer's first; or rejected with the first that applies to either of
        UNKNOWN_ACCOUNT, ACCOUNT_CLOSED, ACCOUNT_FROZEN (the payer), INSUFFICIENT_FUNDS, BALANCE_OVERFLOW.

    Source: docs/design.md, Money; rule H5.
    """
    payer = book.accounts[command.address, command.currency]
    payee = book.accounts[command.to_address, command.currency]
    if payer is None or payee is None:
        return no_account(command, command.address if payer is None else command.to_address)
    amount_minor = command.amount_minor
    legs = (((payer,), TRANSFER_OUT), ((payee,), TRANSFER_IN))
    rejection = first_of(why_not(accounts, amount_minor, effect) for accounts, effect in legs)
    if rejection is not None:
        return rejected(command, *rejection)
    postings = [post_all(book, accounts, amount_minor, effect) for accounts, effect in legs]
    return Outcome(
        Status.ACCEPTED, Reason.NONE, command.command_id, amount_minor, (*postings[0], *postings[1]), mask_of((payer,))
    )


def _named(book: Book, command: TopUp | Collect | Adjust) -> tuple[Account, ...]:
    account = book.accounts[command.address, command.currency]
    return () if account is None else (account,)


def _move(book: Book, command: TopUp | Collect | Adjust | Pay, accounts: Sequence[Account], effect: Effect) -> Outcome:
    if not accounts:
        return no_account(command, command.address)
    amount_minor = command.amount_minor
    rejection = why_not(accounts, amount_minor, effect)
    if rejection is not None:
        return rejected(command, *rejection)
    postings = post_all(book, accounts, amount_minor, effect)
    return Outcome(Status.ACCEPTED, Reason.NONE, command.command_id, amount_minor, postings, mask_of(accounts))
