"""Accounts as they are now in MySQL: one address's, or all in the order of their addresses."""

from __future__ import annotations

from typing import Annotated

import typer

from processors.ledger.rows import Account
from processors.lookup import accounts
from processors.ops.cli.terminal import Address, JsonOption, notes, print_json, print_table, read_address, settings
from processors.ops.exits import EXIT_REJECTED
from processors.ops.looking_up import read_service
from processors.ops.money import show_amount
from processors.ops.result_text import account_as_json
from processors.stores.shard_reader import RANGE_ROWS

_COLUMNS = ("account", "currency", "balance", "held", "available", "limit", "policy", "status")
_FIGURES = ("balance", "held", "available", "limit")


def refuse_no_account(address: str, currency: str | None = None) -> None:
    """End with exit status 1 where an address has no account, and say how to find or open one."""
    if any(each.address == address and currency in {None, each.currency} for each in accounts_below(address)):
        return
    in_currency = "" if currency is None else f" in {currency}"
    notes.print(
        f"there is no account {address}{in_currency}: `balance account list` shows those that there are, "
        f"`balance account open {address} {currency or 'USD'}` opens one",
        soft_wrap=True,
    )
    raise typer.Exit(EXIT_REJECTED)


def show_account(*, address: Address, as_json: JsonOption = False) -> None:
    """Show the accounts of an address, each currency's; exit status 1 if there is none."""
    found = [account for account in accounts_below(address) if account.address == address]
    if not found:
        refuse_no_account(address)
    _print_accounts(found, as_json=as_json)


def list_accounts(
    *,
    address: Annotated[
        str | None, typer.Argument(parser=read_address, metavar="ADDRESS", help="This one and those below.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=RANGE_ROWS, help="How many at most.")] = 100,
    after: Annotated[
        str | None,
        typer.Option("--after", parser=read_address, metavar="ADDRESS", help="Only those that come after this one."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List accounts in the order of their addresses.

    Where there are more, standard error says how many, and what to type for the next ones.
    """
    with read_service(settings()) as service:
        found = accounts.accounts_page(service, address, after=after or "", rows_max=limit)
    _print_accounts(found.accounts, as_json=as_json)
    if found.more:
        there = f"{found.there:,}" if found.there is not None else f"more than {accounts.COUNT_MAX:,}"
        notes.print(
            f"{len(found.accounts):,} of {there} accounts; go on with --after {found.accounts[-1].address}",
            soft_wrap=True,
        )


def accounts_below(address: str) -> list[Account]:
    """Return the accounts of an address and of those below it, from the shard that owns its partner (M11)."""
    with read_service(settings()) as service:
        return accounts.accounts_below(service, address)


def _print_accounts(found: list[Account], *, as_json: bool) -> None:
    if as_json:
        for account in found:
            print_json(account_as_json(account))
    else:
        print_accounts("", found)


def print_accounts(title: str, found: list[Account]) -> None:
    """Write accounts as a table."""
    rows = (
        (
            account.address,
            account.currency,
            show_amount(account.balance, account.currency),
            show_amount(account.held, account.currency),
            show_amount(account.available, account.currency),
            show_amount(account.overdraft_limit, account.currency),
            account.policy,
            account.status,
        )
        for account in found
    )
    print_table(title, _COLUMNS, rows, right=_FIGURES)
