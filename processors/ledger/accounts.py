"""Accounts themselves: opened, updated, and read in order with the writes."""

from __future__ import annotations

from processors.ledger.book import Book
from processors.ledger.commands import AccountStatus, GetBalance, OpenAccount, UpdateAccount
from processors.ledger.metadata import canonical_metadata
from processors.ledger.outcomes import Outcome, Posting, Reason, Status
from processors.ledger.postings import accounts_of, mask_of, shown
from processors.ledger.rejections import no_account, rejected
from processors.ledger.rows import Account


def open_account(book: Book, command: OpenAccount) -> Outcome:
    """Open an account, at any level: levels above it may have none. Rejected with ACCOUNT_EXISTS, closed ones too.

    Source: docs/design.md, Money; rule H5.
    """
    key = (command.address, command.currency)
    if book.accounts[key] is not None:
        return rejected(command, Reason.ACCOUNT_EXISTS)
    account = Account(
        command.address,
        command.currency,
        overdraft_limit=command.overdraft_limit,
        policy=command.policy,
        metadata=_canonical(command.metadata),
    )
    book.accounts[key] = account
    book.changed.accounts[key] = None
    return _with_account(command.command_id, account, (account,))


def update_account(book: Book, command: UpdateAccount) -> Outcome:
    """Set what the command names of limit, policy, status and metadata; its balance and sequence stay.

    A limit may be lowered below what is used: only new debits are refused then. CLOSED is final.

    Returns:
        Accepted; or rejected with the first that applies of UNKNOWN_ACCOUNT, ACCOUNT_CLOSED, ACCOUNT_NOT_EMPTY (to
        close it, balance, held amount and whatever is open must be zero).

    Source: rule H5.
    """
    account = book.accounts[command.address, command.currency]
    if account is None:
        return no_account(command, command.address)
    if account.status is AccountStatus.CLOSED:
        return rejected(command, Reason.ACCOUNT_CLOSED, account)
    if command.status is AccountStatus.CLOSED and (account.balance or account.held or account.open_count):
        return rejected(command, Reason.ACCOUNT_NOT_EMPTY)
    if command.overdraft_limit is not None:
        account.overdraft_limit = command.overdraft_limit
    if command.policy is not None:
        account.policy = command.policy
    if command.status is not None:
        account.status = command.status
    if command.metadata is not None:
        account.metadata = _canonical(command.metadata)
    book.changed.accounts[command.address, command.currency] = None
    return _with_account(command.command_id, account, (account,))


def get_balance(book: Book, command: GetBalance) -> Outcome:
    """Show every account of the chain as it is now, root first; rejected only with UNKNOWN_ACCOUNT."""
    accounts = accounts_of(book, command.address, command.currency)
    if not accounts:
        return no_account(command, command.address)
    return _with_account(command.command_id, accounts[-1], tuple(accounts))


def _with_account(command_id: bytes, named: Account, accounts: tuple[Account, ...]) -> Outcome:
    return Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        command_id,
        postings=_all_shown(accounts),
        levels=mask_of(accounts),
        policy=named.policy,
        account_status=named.status,
    )


def _all_shown(accounts: tuple[Account, ...]) -> tuple[Posting, ...]:
    return tuple([shown(account) for account in accounts])


def _canonical(metadata: bytes) -> bytes:
    canonical = canonical_metadata(metadata)
    assert canonical is not None  # else INVALID_METADATA
    return canonical
