"""Transfers: within a tree in one step, and between two trees in legs, each of which is decided once (T1 to T5).

The sender's lane takes the money and remembers that it did, in a row of ``open_transfers``. The receiver's lane takes
the credit or refuses it. What it says ends the row: no other memory of a transfer is needed than that row and the
window's ids (T4).
"""

from __future__ import annotations

from collections.abc import Sequence

from processors.ids import derived_id, id_time_ms, root_of
from processors.ledger.book import Book
from processors.ledger.commands import Transfer, TransferCompleted, TransferCredit, TransferReturn
from processors.ledger.movements import transfer_within
from processors.ledger.outcomes import Contra, Outcome, Posting, Reason, RefusedBy, Status
from processors.ledger.postings import (
    NEW_DEBITS,
    Effect,
    accounts_at,
    accounts_of,
    count_open,
    fits,
    mask_of,
    post,
    shown,
    why_not,
)
from processors.ledger.rejections import no_account, refused_by, rejected
from processors.ledger.rows import Account, OpenTransfer, TransactionKey

BETWEEN_TREES_SINCE = 3  # of `Rules.release`
SEND = Effect(contra=Contra.TRANSIT, balance_sign=-1, refused_by=NEW_DEBITS, checks_funds=True, keeps_room=True)
# What comes from another tree is held up by a freeze: unlike a top-up it can be sent back.
CREDIT = Effect(contra=Contra.TRANSIT, balance_sign=1, refused_by=NEW_DEBITS)
_REASONS = {reason.value: reason for reason in Reason}


def credit_id(sender: str, transfer_id: bytes) -> bytes:
    """Return the id of a transfer's credit: of the transfer's time, so that window and slice follow from it (T5).

    It is marked as UUIDv8, so that no partner's command can have taken it.

    Args:
        sender: The sender's root, without which two senders' transfers of one id would have one credit (I1).
        transfer_id: A UUIDv7.
    """
    return transfer_id[:6] + derived_id("TRANSFER_CREDIT", _named(sender, transfer_id))[6:]


def end_id(type_name: str, sender: str, transfer_id: bytes) -> bytes:
    """Return the id of a TRANSFER_COMPLETED or a TRANSFER_RETURN (I7)."""
    return derived_id(type_name, _named(sender, transfer_id))


def _named(sender: str, transfer_id: bytes) -> bytes:
    return sender.encode() + b"\x00" + transfer_id


def transfer(book: Book, command: Transfer) -> Outcome:
    """Move an amount at once between two accounts of one tree, or send it on its way to another tree (T1).

    Between trees the whole chain of the payer pays, as for a payment, since the money leaves the tree.

    Returns:
        Within a tree as ``transfer_within`` says. Else OPEN, with a posting per level of the payer's chain, root first;
        or rejected with the first that applies on any level of UNKNOWN_ACCOUNT, ACCOUNT_CLOSED, ACCOUNT_FROZEN,
        INSUFFICIENT_FUNDS, BALANCE_OVERFLOW. Nothing is known of the receiver then.

    Source: docs/design.md, Money; rules T1, H1, H5.
    """
    root = root_of(command.address)
    if root_of(command.to_address) == root:
        return transfer_within(book, command)
    accounts, amount_minor = accounts_of(book, command.address, command.currency), command.amount_minor
    if not accounts:
        return no_account(command, command.address)
    rejection = why_not(accounts, amount_minor, SEND)
    if rejection is not None:
        return rejected(command, *rejection)
    levels = mask_of(accounts)
    row = OpenTransfer(command.address, command.currency, command.to_address, amount_minor, levels)
    key = (root, command.command_id)
    book.open_transfers[key] = row
    book.changed.open_transfers[key] = None
    postings = _post_chain(book, accounts, -amount_minor, Contra.SETTLEMENT)
    _count_in_transit(book, accounts, amount_minor, 1)
    return Outcome(Status.OPEN, Reason.NONE, command.command_id, amount_minor, postings, levels)


def transfer_credit(book: Book, command: TransferCredit, root: str, now_ms: int) -> Outcome | None:
    """Give the receiver the money of a transfer, once, or refuse it, so that it goes back (T2).

    Args:
        book: Holds the accounts of the receiver's chain, and the credit's first decision or that there is none.
        command: The service's own, signed.
        root: The record's key.
        now_ms: Lane time, ms since the epoch.

    Returns:
        ACCEPTED, with a posting per level; or REJECTED with the first that applies of TRANSFER_TOO_OLD (it cannot be
        known any more whether it was decided; no row), UNKNOWN_ACCOUNT, ACCOUNT_CLOSED, ACCOUNT_FROZEN and
        BALANCE_OVERFLOW. None where it was decided before, or is not the service's own about this receiver (I7).

    Source: rules T2, T5.
    """
    if not _is_a_credit(command, root):
        return None
    too_old = too_old_credit(book, command, root, now_ms)
    if too_old is not None or book.decisions[root, command.command_id] is not None:
        return too_old
    accounts, amount_minor = accounts_of(book, command.address, command.currency), command.amount_minor
    if not accounts:
        return _refused(command, Reason.UNKNOWN_ACCOUNT, RefusedBy(command.address, 0, 0))
    rejection = why_not(accounts, amount_minor, CREDIT)
    if rejection is not None:
        return _refused(command, rejection.reason, refused_by(rejection, amount_minor))
    postings = _post_chain(book, accounts, amount_minor, Contra.FUNDING)
    return Outcome(Status.ACCEPTED, Reason.NONE, command.transfer_id, amount_minor, postings, mask_of(accounts))


def too_old_credit(book: Book, command: TransferCredit, root: str, now_ms: int) -> Outcome | None:
    """Return the answer to a credit that is older than the window, which leaves no row; None of any other (T2)."""
    time_ms = id_time_ms(command.command_id)
    if not _is_a_credit(command, root) or time_ms is None or time_ms >= book.window_start_ms(root, now_ms):
        return None
    outcome = _refused(command, Reason.TRANSFER_TOO_OLD, None)
    outcome.journalled = False
    return outcome


def transfer_completed(book: Book, command: TransferCompleted, root: str, _now_ms: int) -> Outcome | None:
    """End an open transfer well: the receiver has the money (T3).

    Returns:
        COMPLETED, which shows the sender's accounts as they are; None where the transfer is not open (I7).
    """
    ended = _ended(book, command, "TRANSFER_COMPLETED", root)
    if ended is None:
        return None
    row, accounts = ended
    postings = tuple([shown(account) for account in accounts])
    return Outcome(Status.COMPLETED, Reason.NONE, command.transfer_id, row.amount_minor, postings, row.levels)


def transfer_return(book: Book, command: TransferReturn, root: str, _now_ms: int) -> Outcome | None:
    """End an open transfer by giving the money back to each level that paid, whatever its status or limit (T3).

    Its room was kept: no balance can overflow.

    Returns:
        RETURNED with the receiver's reason, NONE where this release does not know it; None where the transfer is not
        open (I7).
    """
    ended = _ended(book, command, "TRANSFER_RETURN", root)
    if ended is None:
        return None
    row, accounts = ended
    assert all(fits(account.balance + row.amount_minor) for account in accounts), "room was kept for it (T3)"
    postings = _post_chain(book, accounts, row.amount_minor, Contra.SETTLEMENT)
    reason = _REASONS.get(command.reason, Reason.NONE)
    return Outcome(Status.RETURNED, reason, command.transfer_id, row.amount_minor, postings, row.levels)


def _is_a_credit(command: TransferCredit, root: str) -> bool:
    """Say whether it is the service's own about just this transfer, under its receiver's key (T5)."""
    is_own = command.command_id == credit_id(root_of(command.from_address), command.transfer_id)
    return is_own and root_of(command.address) == root


def _refused(command: TransferCredit, reason: Reason, cause: RefusedBy | None) -> Outcome:
    return Outcome(Status.REJECTED, reason, command.transfer_id, amount_minor=command.amount_minor, refused_by=cause)


def _ended(
    book: Book, command: TransferCompleted | TransferReturn, type_name: str, root: str
) -> tuple[OpenTransfer, list[Account]] | None:
    """Delete the open row that a leg is about, and return it with the accounts that paid; None: silence (T3, T4)."""
    key: TransactionKey = (root, command.transfer_id)
    row = book.open_transfers[key]
    if row is None or (command.address, command.currency, command.to_address) != (
        row.address,
        row.currency,
        row.to_address,
    ):
        return None
    if command.command_id != end_id(type_name, root, command.transfer_id):
        return None
    book.open_transfers[key] = None
    book.changed.open_transfers[key] = None
    accounts = accounts_at(book, row.address, row.currency, row.levels)
    _count_in_transit(book, accounts, -row.amount_minor, -1)
    return row, accounts


def _count_in_transit(book: Book, accounts: Sequence[Account], change_minor: int, change: int) -> None:
    for account in accounts:
        account.in_transit_minor += change_minor
    count_open(book, accounts, change)


def _post_chain(book: Book, accounts: Sequence[Account], balance_change: int, parents: Contra) -> tuple[Posting, ...]:
    """Post to a chain, root first: the named account, which is the last, against ``@transit``, and its parents not."""
    named = len(accounts) - 1
    return tuple(
        [
            post(book, account, Contra.TRANSIT if place == named else parents, balance_change, 0)
            for place, account in enumerate(accounts)
        ]
    )
