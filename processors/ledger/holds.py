"""The life of a reservation: placed, captured in parts, voided or expired (H1, H2)."""

from __future__ import annotations

from processors.ids import derived_id, root_of
from processors.ledger.book import Book
from processors.ledger.commands import CaptureHold, ExpireHold, PlaceHold, VoidHold
from processors.ledger.outcomes import Contra, Outcome, Posting, Reason, Status
from processors.ledger.postings import (
    NEW_DEBITS,
    Effect,
    accounts_at,
    accounts_of,
    count_open,
    fits,
    mask_of,
    post,
    post_all,
    why_not,
)
from processors.ledger.rejections import no_account, rejected
from processors.ledger.rows import Hold

PLACE_HOLD = Effect(contra=Contra.NONE, held_sign=1, refused_by=NEW_DEBITS, checks_funds=True)


def place_hold(book: Book, command: PlaceHold, now_ms: int) -> Outcome:
    """Reserve part of an account's available balance, on every level of its chain.

    A hold lowers what is available and leaves the balance alone, so that a capture can never fail for want of funds.

    Args:
        book: Holds every account of the chain that exists.
        command: Valid; ``amount_minor`` 1 to AMOUNT_MINOR_MAX, ``expires_in_ms`` 1 to the longest hold.
        now_ms: Lane time, ms since the epoch, UTC. The hold is expired from ``now_ms + expires_in_ms`` on.

    Returns:
        Accepted with one posting per level, root first; or rejected with the first that applies, on any level, of
        UNKNOWN_ACCOUNT, ACCOUNT_CLOSED, ACCOUNT_FROZEN, INSUFFICIENT_FUNDS, BALANCE_OVERFLOW.

    Source: docs/design.md, Money; rules H1, H5.
    """
    accounts = accounts_of(book, command.address, command.currency)
    if not accounts:
        return no_account(command, command.address)
    amount_minor = command.amount_minor
    rejection = why_not(accounts, amount_minor, PLACE_HOLD)
    if rejection is not None:
        return rejected(command, *rejection)
    levels = mask_of(accounts)
    expires_at_ms = now_ms + command.expires_in_ms
    key = (root_of(command.address), command.command_id)
    book.holds[key] = Hold(command.address, command.currency, amount_minor, amount_minor, levels, expires_at_ms)
    book.changed.holds[key] = None
    count_open(book, accounts, 1)
    return Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.command_id,
        amount_minor,
        post_all(book, accounts, amount_minor, PLACE_HOLD),
        levels,
        remaining_minor=amount_minor,
        expires_at_ms=expires_at_ms,
    )


def capture_hold(book: Book, command: CaptureHold, now_ms: int) -> Outcome:
    """Take all or part of a hold, from exactly the levels it was placed on, frozen ones too.

    Args:
        book: Holds the hold, or knows that there is none.
        command: Valid; ``amount_minor`` None takes all that is left. ``final`` frees the rest; a capture that is not
            final leaves the hold open with what remains, unless nothing does.
        now_ms: Lane time: from the hold's expiry on it is HOLD_EXPIRED, seen by the expirer or not (H2); one that was
            freed then is UNKNOWN_HOLD when a window has passed since.

    Returns:
        Accepted, one posting per level of the hold; or rejected with the first that applies of UNKNOWN_ACCOUNT,
        UNKNOWN_HOLD, HOLD_MISMATCH, HOLD_EXPIRED, CAPTURE_ABOVE_HOLD, BALANCE_OVERFLOW.

    Source: docs/design.md, Money; rules H1, H2, H5.
    """
    hold = _open_hold(book, command, now_ms)
    if isinstance(hold, Outcome):
        return hold
    amount_minor = hold.remaining_minor if command.amount_minor is None else command.amount_minor
    if amount_minor > hold.remaining_minor:
        return rejected(command, Reason.CAPTURE_ABOVE_HOLD)
    accounts = accounts_at(book, hold.address, hold.currency, hold.levels)
    for account in accounts:
        if not fits(account.balance - amount_minor):
            return rejected(command, Reason.BALANCE_OVERFLOW, account)
    freed_minor = hold.remaining_minor if command.final else amount_minor
    postings = _free(book, command, hold, freed_minor, captured_minor=amount_minor)
    return Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.hold_id,
        amount_minor,
        postings,
        hold.levels,
        related_id=command.hold_id,
        remaining_minor=hold.remaining_minor,
    )


def void_hold(book: Book, command: VoidHold, now_ms: int) -> Outcome:
    """Free all that is left of a hold; refused as a capture is, but for amounts."""
    hold = _open_hold(book, command, now_ms)
    if isinstance(hold, Outcome):
        return hold
    return _freed(book, command, hold)


def expire_hold(book: Book, command: ExpireHold, root: str, now_ms: int) -> Outcome | None:
    """Free what is left of a hold whose time has come; None where there is nothing to do (I7).

    That is: no such open hold, or before its time, or a record that is not the service's own about just that hold.
    The row stays, with nothing left in it: a late capture is told what became of the hold (H2).
    """
    hold = book.holds[root, command.hold_id]
    if hold is None or hold.remaining_minor == 0:
        return None
    if now_ms < hold.expires_at_ms or not _is_about(command, hold):  # H2
        return None
    if command.command_id != derived_id("EXPIRE_HOLD", command.hold_id):  # I7: else its row might meet another's
        return None
    return _freed(book, command, hold)


def _open_hold(book: Book, command: CaptureHold | VoidHold, now_ms: int) -> Hold | Outcome:
    """Return the hold that a command ends, or its rejection."""
    if book.accounts[command.address, command.currency] is None:
        return no_account(command, command.address)
    hold = book.holds[root_of(command.address), command.hold_id]
    if hold is None or _is_forgotten(book, hold, now_ms):
        return rejected(command, Reason.UNKNOWN_HOLD)
    if not _is_about(command, hold):
        return rejected(command, Reason.HOLD_MISMATCH)
    if now_ms >= hold.expires_at_ms:  # H2
        return rejected(command, Reason.HOLD_EXPIRED)
    return hold


def _is_forgotten(book: Book, hold: Hold, now_ms: int) -> bool:
    """Say whether a hold expired so long ago that its row is not read, there or not: the remover may have come (H2)."""
    return hold.remaining_minor == 0 and hold.expires_at_ms < book.rules.window_start_ms(now_ms)


def _is_about(command: CaptureHold | VoidHold | ExpireHold, hold: Hold) -> bool:
    return command.address == hold.address and command.currency == hold.currency


def _freed(book: Book, command: VoidHold | ExpireHold, hold: Hold) -> Outcome:
    amount_minor = hold.remaining_minor
    postings = _free(book, command, hold, amount_minor, captured_minor=0)
    return Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command.hold_id,
        amount_minor,
        postings,
        hold.levels,
        related_id=command.hold_id,
    )


def _free(
    book: Book, command: CaptureHold | VoidHold | ExpireHold, hold: Hold, freed_minor: int, *, captured_minor: int
) -> tuple[Posting, ...]:
    """Lower the held amount, and the balance by what was captured.

    A hold of which nothing is left is no longer open: its row goes, unless it expired (H2).
    """
    accounts = accounts_at(book, hold.address, hold.currency, hold.levels)
    key = (root_of(hold.address), command.hold_id)
    hold.remaining_minor -= freed_minor
    book.changed.holds[key] = None
    if hold.remaining_minor == 0:
        if not isinstance(command, ExpireHold):
            book.holds[key] = None
        count_open(book, accounts, -1)
    contra = Contra.SETTLEMENT if captured_minor else Contra.NONE
    return tuple([post(book, account, contra, -captured_minor, -freed_minor) for account in accounts])
