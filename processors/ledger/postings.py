"""What a command does to accounts: whether each level allows it, and the change itself, booked twice.

The only place where balances, held amounts, sequences and system accounts change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from processors.ledger.addresses import at_levels, chain, level_of
from processors.ledger.book import Book
from processors.ledger.commands import AccountStatus, Policy
from processors.ledger.outcomes import PRECEDENCE, Contra, Posting, Reason
from processors.ledger.rejections import Rejection
from processors.ledger.rows import Account
from processors.ledger.rules import BALANCE_MINOR_MAX, BALANCE_MINOR_MIN

# H5: what an account's status refuses: payments and holds, and whatever else moves money. Capture, void and expiry are
# refused by none: the hold keeps the account open.
NEW_DEBITS = {AccountStatus.CLOSED: Reason.ACCOUNT_CLOSED, AccountStatus.FROZEN: Reason.ACCOUNT_FROZEN}
CLOSED_ONLY = {AccountStatus.CLOSED: Reason.ACCOUNT_CLOSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one kind of command does to each account that it concerns, for every minor unit of its amount.

    ``balance_sign`` and ``held_sign`` are -1, 0 or 1. ``refused_by`` is what statuses refuse. ``checks_funds`` says
    whether a CHECKED account must have the amount available, ``keeps_room`` whether room is kept for its return (T3).
    """

    contra: Contra
    balance_sign: int = 0
    held_sign: int = 0
    refused_by: dict[AccountStatus, Reason]
    checks_funds: bool = False
    keeps_room: bool = False


def accounts_of(book: Book, address: str, currency: str) -> list[Account]:
    """Return the accounts that exist on an address's chain, root first; none where the named one does not (H5)."""
    rows = book.accounts
    if rows[address, currency] is None:
        return []
    found = []
    for prefix in chain(address):
        account = rows[prefix, currency]
        if account is not None:
            found.append(account)
    return found


def accounts_at(book: Book, address: str, currency: str, levels: int) -> list[Account]:
    """Return the accounts of those levels of a chain that were touched before, root first (H1)."""
    found = []
    for prefix in at_levels(address, levels):
        account = book.accounts[prefix, currency]
        assert account is not None  # accounts are never deleted
        found.append(account)
    return found


def why_not(accounts: Sequence[Account], amount_minor: int, effect: Effect) -> Rejection | None:
    """Return the first reason, by precedence and not by level, why an effect cannot be had on all accounts; or None.

    With it comes the first account that has that reason.

    Source: rules H5 (status, policy and limit of each level), L15 (overflow).
    """
    found = []
    for account in accounts:
        reason = _why_not_on(account, amount_minor, effect)
        if reason is not None:
            found.append(Rejection(reason, account))
    return first_of(found) if found else None


def first_of(rejections: Iterable[Rejection | None]) -> Rejection | None:
    """Return the first of several rejections in order of precedence; None where there is none."""
    found = (rejection for rejection in rejections if rejection is not None)
    return min(found, key=lambda rejection: PRECEDENCE[rejection.reason], default=None)


def _why_not_on(account: Account, amount_minor: int, effect: Effect) -> Reason | None:
    if account.status in effect.refused_by:
        return effect.refused_by[account.status]
    balance, held = account.balance, account.held
    if (
        effect.checks_funds
        and account.policy is Policy.CHECKED
        and balance - held + account.overdraft_limit < amount_minor
    ):
        return Reason.INSUFFICIENT_FUNDS
    room = account.in_transit_minor if effect.balance_sign > 0 else 0  # what may still be returned keeps its place (T3)
    if effect.balance_sign and not fits(balance + room + effect.balance_sign * amount_minor):
        return Reason.BALANCE_OVERFLOW
    if effect.keeps_room and not fits(account.in_transit_minor + amount_minor):  # balances of -2**63 make it possible
        return Reason.BALANCE_OVERFLOW
    if effect.held_sign and not fits(held + effect.held_sign * amount_minor):
        return Reason.BALANCE_OVERFLOW
    return None


def fits(amount_minor: int) -> bool:
    """Say whether an account can hold an amount: 64 bits, signed (L15)."""
    return BALANCE_MINOR_MIN <= amount_minor <= BALANCE_MINOR_MAX


def post_all(book: Book, accounts: Sequence[Account], amount_minor: int, effect: Effect) -> tuple[Posting, ...]:
    """Have an effect on accounts that ``why_not`` found nothing against; one posting each, in the same order."""
    balance_change, held_change = effect.balance_sign * amount_minor, effect.held_sign * amount_minor
    return tuple([post(book, account, effect.contra, balance_change, held_change) for account in accounts])


def post(book: Book, account: Account, contra: Contra, balance_change: int, held_change: int) -> Posting:
    """Change one account, and the system account on the other side at its level; both sum to zero.

    Args:
        book: Notes which rows changed.
        account: Its sequence rises by one (H5): at least one of the changes is not zero.
        contra: NONE exactly where the balance does not change.
        balance_change: Minor units, signed.
        held_change: Minor units, signed.
    """
    account.balance += balance_change
    account.held += held_change
    account.sequence += 1
    changed = book.changed
    address, currency = account.address, account.currency
    changed.accounts[address, currency] = None
    if balance_change:
        key = (level_of(address), contra, currency)
        book.system[key] = book.system.get(key, 0) - balance_change  # L15: unbounded, so it never refuses
        changed.system[key] = None
    return Posting(
        address,
        contra,
        balance_change,
        held_change,
        account.balance,
        account.held,
        account.overdraft_limit,
        account.sequence,
    )


def shown(account: Account) -> Posting:
    """Return a posting that changes nothing, so that a result shows the account as it is."""
    return Posting(
        account.address, Contra.NONE, 0, 0, account.balance, account.held, account.overdraft_limit, account.sequence
    )


def count_open(book: Book, accounts: Sequence[Account], change: int) -> None:
    """Raise or lower how many open holds, refunds and transfers touch the accounts; the sequence stays (H5)."""
    for account in accounts:
        account.open_count += change
        book.changed.accounts[account.address, account.currency] = None


def mask_of(accounts: Sequence[Account]) -> int:
    """Return the bit mask of the accounts' levels; bit 0 is a root's (H1)."""
    mask = 0
    for account in accounts:
        mask |= 1 << account.address.count(":")
    return mask
