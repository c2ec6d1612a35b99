"""What happened: a transaction by its id, and an account's statement; and accounts as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Annotated, NoReturn

import typer

from processors.ledger.book import Account, Hold, OpenRefund
from processors.ops import addresses, assembly
from processors.ops.cli.terminal import (
    Address,
    Currency,
    IdArgument,
    JsonOption,
    add_command,
    add_group,
    notes,
    page,
    print_json,
    print_table,
    read_day,
    settings,
)
from processors.ops.lookup import Lookup, Statement, Transaction
from processors.ops.money import show_amount, show_money
from processors.ops.result_text import (
    EXIT_FAULT,
    EXIT_REJECTED,
    account_as_json,
    explanation,
    headline,
    open_row_as_json,
    result_as_json,
    show_id,
    show_time,
    statement_row_as_json,
)
from processors.ops.undecided import LaneAhead, lanes_ahead, told_of
from processors.settings import Settings
from processors.stores.archive_reader import ArchiveReader, StatementRow
from processors.stores.archive_schema import open_archive
from processors.stores.cassandra import CassandraSession
from processors.stores.shard_reader import RANGE_ROWS, ShardReader, open_reader
from processors.streams.topics import Topics, shard_topic

_PANEL = "Looking"
_ACCOUNT_COLUMNS = ("account", "currency", "balance", "held", "available", "limit", "policy", "status")
_FIGURES = ("balance", "held", "available", "limit", "change", "held change")


def register(app: typer.Typer) -> None:
    """Add these commands; those about accounts are added by ``cli.accounts``."""
    add_group(app, "tx", "Look a transaction up.", {"get": get_transaction}, panel=_PANEL)
    add_command(app, statement, panel=_PANEL)


def get_transaction(*, transaction_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show every step of a transaction, from the store that has it by its age.

    Exit status 1 only where it is proven that it never was decided and never will be; 3 where it may still be.
    """
    ahead: list[LaneAhead] = []
    found = look_up(transaction_id)
    if not _is_known(found):
        ahead = _lanes_ahead(transaction_id)
        found = look_up(transaction_id)  # once more, after the lanes: what they decided meanwhile is there now
    if as_json:
        print_json(
            {
                "steps": [result_as_json(step) for step in found.steps],
                "open": [open_row_as_json(root, row) for root, row in found.open],
                "may_be_decided_by": [] if _is_known(found) else [asdict(each) for each in ahead],
            }
        )
    else:
        for step in found.steps:
            page.print(f"{show_time(step.lane_time_ms)}  {headline(step)}", soft_wrap=True)
            if explained := explanation(step):
                page.print(explained, soft_wrap=True)
        for root, row in found.open:
            page.print(open_line(root, row), soft_wrap=True)
    if not _is_known(found):
        _tell_unknown(transaction_id, ahead)


def _is_known(found: Transaction) -> bool:
    return bool(found.steps or found.open)


def _tell_unknown(transaction_id: bytes, ahead: list[LaneAhead]) -> NoReturn:
    if not ahead:
        notes.print(
            f"nobody knows {show_id(transaction_id)}: it was never decided, and never will be, since no lane decides "
            "an id that is older than its window, or no UUIDv7",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_REJECTED)
    for line in told_of(transaction_id, ahead):
        notes.print(line, style="red", soft_wrap=True)
    raise typer.Exit(EXIT_FAULT)


def _lanes_ahead(command_id: bytes) -> list[LaneAhead]:
    """Return every shard's lanes that could still decide an id."""
    chosen = settings()
    topics = Topics(addresses.kafka_address(chosen))
    found: list[LaneAhead] = []
    for shard in chosen.shards:
        now_ms = assembly.clock_ms()
        ends = {lane: topics.end(shard_topic(shard), lane) for lane in range(chosen.topics.lanes)}
        reader = open_reader(addresses.mysql_address(chosen, shard))
        try:
            found += lanes_ahead(
                command_id, shard, ends=ends, positions=reader.lane_positions(), rules=reader.rules(), now_ms=now_ms
            )
        finally:
            reader.close()
    return found


def look_up(transaction_id: bytes) -> Transaction:
    """Return what all shards and the archive know of an id."""
    chosen = settings()
    known = Transaction(steps=[], open=[])
    for shard in chosen.shards:
        with open_lookup(chosen, shard) as lookup:
            found = lookup.transaction(transaction_id)
        known.steps.extend(found.steps)
        known.open.extend(found.open)
    return known


def open_line(root: str, row: Hold | OpenRefund) -> str:
    """Say in one line what is still open of a transaction."""
    if isinstance(row, Hold):
        left = show_money(row.remaining_minor, row.currency)
        return f"open hold of {root} at {row.address}: {left} left, until {show_time(row.expires_at_ms)}"
    return (
        f"open refund of {root} at {row.address}: {show_money(row.amount_minor, row.currency)}, waits for the archive"
    )


def statement(
    *,
    address: Address,
    currency: Currency,
    from_day: Annotated[
        int | None,
        typer.Option("--since", parser=read_day, metavar="DAY", help="From this day on, UTC, such as 2026-11-23."),
    ] = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="Only so many, the newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print an account's changes, archived ones from Cassandra and the newest from MySQL; exit 1 if there is none."""
    chosen = settings()
    with open_lookup(chosen, chosen.home_shard) as lookup:
        found = lookup.statement(address, currency, from_day=from_day, last=last)
    if not found.rows and found.complete:
        _refuse_no_account(address, currency)
    if as_json:
        for row in found.rows:
            print_json(statement_row_as_json(row, currency))
    else:
        print_statement(f"{address} {currency}", found.rows, currency)
    if not found.complete:
        notes.print(what_is_missing(found), style="red", soft_wrap=True)
        raise typer.Exit(EXIT_FAULT)


def what_is_missing(found: Statement) -> str:
    """Say how many of a statement's changes are missing, why, and what brings them back."""
    count, first = len(found.missing), found.missing[0]
    told = f"1 change is missing, {first}: " if count == 1 else f"{count} changes are missing, the first is {first}: "
    if found.sink_behind:
        return told + "the sink is behind, by more than is looked through here; see `balance status`"
    return told + "it is not in the archive any more; `balance archive repair` brings back what MySQL has"


def print_statement(title: str, rows: list[StatementRow], currency: str) -> None:
    """Write an account's changes as a table."""
    columns = ("sequence", "time", "type", "change", "held change", "balance", "held", "available", "transaction")
    cells = (
        (
            row.sequence,
            show_time(row.lane_time_ms),
            row.type,
            show_amount(row.balance_change, currency),
            show_amount(row.held_change, currency),
            show_amount(row.balance, currency),
            show_amount(row.held, currency),
            show_amount(row.balance - row.held + row.overdraft_limit, currency),
            show_id(row.transaction_id),
        )
        for row in rows
    )
    print_table(title, columns, cells, right=(*_FIGURES, "sequence"))


def _refuse_no_account(address: str, currency: str | None = None) -> None:
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
        _refuse_no_account(address)
    _print_accounts(found, as_json=as_json)


def list_accounts(
    *,
    address: Annotated[str | None, typer.Argument(metavar="[ADDRESS]", help="This one and those below.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=RANGE_ROWS, help="At most so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List accounts in the order of their addresses."""
    found = accounts_below(address) if address else _first(limit)
    _print_accounts(found[:limit], as_json=as_json)


def accounts_below(address: str) -> list[Account]:
    """Return the accounts of an address and of those below it."""
    reader = _home_reader()
    try:
        return reader.accounts_below(address)
    finally:
        reader.close()


def _first(limit: int) -> list[Account]:
    reader = _home_reader()
    try:
        return list(islice(reader.accounts(), limit))
    finally:
        reader.close()


def _home_reader() -> ShardReader:
    chosen = settings()
    return open_reader(addresses.mysql_address(chosen, chosen.home_shard))


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
    print_table(title, _ACCOUNT_COLUMNS, rows, right=_FIGURES)


@contextmanager
def open_lookup(chosen: Settings, shard: str) -> Iterator[Lookup]:
    """Give a way to look things up in a shard and the archive, each connected when it is needed."""
    reader = open_reader(addresses.mysql_address(chosen, shard))
    sessions: list[CassandraSession] = []

    def archive() -> ArchiveReader:
        if not sessions:
            sessions.append(open_archive(addresses.cassandra_address(chosen), requests_max=1))
        return ArchiveReader(sessions[0])

    row = reader.check(shard)
    try:
        yield Lookup(reader, archive, lanes=row.lanes, results_partitions=row.results_partitions)
    finally:
        reader.close()
        for session in sessions:
            session.close()
