"""Accounts as they are now in MySQL: one address's, or all in the order of their addresses."""

from __future__ import annotations

from typing import Annotated

import typer

from processors.ids import root_of
from processors.ledger.rows import Account
from processors.ops import addresses
from processors.ops.cli.terminal import Address, JsonOption, notes, print_json, print_table, read_address, settings
from processors.ops.exits import EXIT_REJECTED
from processors.ops.money import show_amount
from processors.ops.owners import at_owner, owner_of
from processors.ops.result_text import account_as_json
from processors.stores.shard_reader import RANGE_ROWS, open_reader

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
    found, there = _page(address, after=after or "", rows_max=limit)
    more = there > 0
    _print_accounts(found, as_json=as_json)
    if more:
        notes.print(f"{len(found):,} of {there:,} accounts; go on with --after {found[-1].address}", soft_wrap=True)


def _page(below: str | None, *, after: str, rows_max: int) -> tuple[list[Account], int]:
    """Return the next accounts of all shards, and how many there are where these are not all; else 0."""
    found: list[Account] = []
    there, more = 0, False
    chosen = settings()
    for shard in chosen.shards if below is None else [owner_of(chosen, root_of(below))]:
        reader = open_reader(addresses.mysql_address(chosen, shard))
        try:
            page = reader.accounts_page(below, after=after, rows_max=rows_max)
            more = more or (bool(page) and bool(reader.accounts_page(below, after=page[-1].address, rows_max=1)))
            there += reader.count_accounts(below)
        finally:
            reader.close()
        found += page
    found.sort(key=lambda account: (account.address, account.currency))
    if len(found) > rows_max:
        last = found[rows_max - 1].address
        kept = [account for account in found if account.address <= last]
        more, found = more or len(kept) < len(found), kept
    return found, there if more else 0


def accounts_below(address: str) -> list[Account]:
    """Return the accounts of an address and of those below it, from the shard that owns its partner (M11)."""
    chosen = settings()

    def ask(owner: str) -> list[Account]:
        reader = open_reader(addresses.mysql_address(chosen, owner))
        try:
            return reader.accounts_below(address)
        finally:
            reader.close()

    return at_owner(chosen, root_of(address), ask)


def _print_accounts(accounts: list[Account], *, as_json: bool) -> None:
    if as_json:
        for account in accounts:
            print_json(account_as_json(account))
    else:
        print_accounts("", accounts)


def print_accounts(title: str, accounts: list[Account]) -> None:
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
        for account in accounts
    )
    print_table(title, _COLUMNS, rows, right=_FIGURES)
