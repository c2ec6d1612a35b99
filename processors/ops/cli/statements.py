"""An account's statement of a period: opening balance, changes, closing balance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Annotated, NoReturn

import typer

from processors.lookup.statements import ROWS_DEFAULT, ROWS_MAX, Part, Statement, statement_of
from processors.lookup.times import show_time
from processors.ops.cli.looking import refuse_no_account
from processors.ops.cli.terminal import (
    Address,
    Currency,
    JsonOption,
    notes,
    page,
    print_json,
    print_table,
    read_border,
    read_zone,
    settings,
)
from processors.ops.durations import PeriodBorder
from processors.ops.exits import EXIT_FAULT, EXIT_REJECTED
from processors.ops.looking_up import read_service
from processors.ops.money import show_amount
from processors.ops.result_text import show_id
from processors.ops.statement_text import (
    StatementHead,
    available,
    period_of,
    statement_as_csv,
    statement_as_json,
    what_is_wrong,
)
from processors.wire.statement_chunk import StatementRow

_COLUMNS = 132  # of the widest usual row: an id, a time with its offset, and amounts of ten digits
_FIGURES = ("balance", "held", "available", "change", "held change")


def statement(
    *,
    address: Address,
    currency: Currency,
    begins: Annotated[
        PeriodBorder | None,
        typer.Option(
            "--from", "--since", parser=read_border, metavar="DAY", help="From this day or time on: 2026-11-23."
        ),
    ] = None,
    ends: Annotated[
        PeriodBorder | None,
        typer.Option("--until", parser=read_border, metavar="DAY", help="Until this day or time begins: 2026-12-01."),
    ] = None,
    zone: Annotated[
        tzinfo, typer.Option("--tz", parser=read_zone, metavar="ZONE", help="Whose days: Europe/Vienna.")
    ] = UTC,
    limit: Annotated[int, typer.Option("--limit", min=1, max=ROWS_MAX, help="How many at most.")] = ROWS_DEFAULT,
    after: Annotated[int, typer.Option("--after", help="Only those after this sequence.")] = 0,
    last: Annotated[
        int | None, typer.Option("--last", "-n", min=1, max=ROWS_MAX, help="Only so many, the newest.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print an account's opening balance, its changes and its closing balance; exit 1 if it never changed.

    Of all that there is, or of a period; archived changes come from Cassandra, and the newest from MySQL. Where there
    are more, standard error says how many, and what to type for the next ones. Exit status 3 if a change is missing.
    """
    _refuse_both(as_csv and as_json, "--csv", "--json")
    _refuse_both(last is not None and after != 0, "--last", "--after")
    try:
        head = StatementHead(address=address, currency=currency, period=period_of(begins, ends, zone), zone=zone)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    part = Part(after=after, rows_max=last or limit, newest=last is not None)
    with read_service(settings()) as service:
        found = statement_of(service, address, currency, period=head.period, part=part)
    if found is None or found.is_of_nothing:
        _refuse_no_change(address, currency)
    if as_json:
        print_json(statement_as_json(found, head))
    elif as_csv:
        typer.echo(statement_as_csv(found, head), nl=False)
    else:
        _print_statement(found, head)
    _tell_of_the_rest(found)


def _tell_of_the_rest(found: Statement) -> None:
    if found.next_after is not None:
        shown = f"{found.before + len(found.rows):,} of {found.count:,} changes"
        notes.print(f"{shown}; go on with --after {found.next_after}", soft_wrap=True)
    if wrong := what_is_wrong(found):
        notes.print(wrong, style="red", soft_wrap=True)
        raise typer.Exit(EXIT_FAULT)


def _refuse_both(given: bool, one: str, other: str) -> None:
    if given:
        raise typer.BadParameter(f"{one} and {other} exclude each other: give one of them")


def _refuse_no_change(address: str, currency: str) -> NoReturn:
    refuse_no_account(address, currency)
    notes.print(f"nothing has changed {address} in {currency} yet", soft_wrap=True)
    raise typer.Exit(EXIT_REJECTED)


def _print_statement(found: Statement, head: StatementHead) -> None:
    period = [f"from {head.begins}" if head.begins else "", f"until {head.ends}" if head.ends else ""]
    page.print(" ".join([f"{head.address} {head.currency}", *filter(None, period)]), soft_wrap=True)
    page.print(_border_line("opening", found.opening, found.opening_held, head.currency), soft_wrap=True)
    print_changes(found.rows, head)
    page.print(_border_line("closing", found.closing, found.closing_held, head.currency), soft_wrap=True)


def print_changes(rows: Sequence[StatementRow], head: StatementHead) -> None:
    """Write changes as a table; on a terminal that has no room for it in two lines each."""
    if rows:
        (_print_narrow if page.width < _COLUMNS else _print_wide)(rows, head)


def _border_line(name: str, balance: int, held: int, currency: str) -> str:
    return f"{name} balance {show_amount(balance, currency)}  held {show_amount(held, currency)}"


def _print_wide(rows: Sequence[StatementRow], head: StatementHead) -> None:
    columns = ("sequence", "time", "type", "change", "held change", "balance", "held", "available", "transaction")
    cells = (
        (
            row.sequence,
            show_time(row.lane_time_ms, head.zone),
            row.type,
            show_amount(row.balance_change, head.currency),
            show_amount(row.held_change, head.currency),
            show_amount(row.balance, head.currency),
            show_amount(row.held, head.currency),
            show_amount(available(row), head.currency),
            show_id(row.transaction_id),
        )
        for row in rows
    )
    print_table("", columns, cells, right=(*_FIGURES, "sequence"))


def _print_narrow(rows: Sequence[StatementRow], head: StatementHead) -> None:
    currency = head.currency
    for row in rows:
        change, balance = show_amount(row.balance_change, currency), show_amount(row.balance, currency)
        time = show_time(row.lane_time_ms, head.zone)
        page.print(f"{row.sequence:>8}  {time}  {row.type}  {change}  balance {balance}")
        held, changed = show_amount(row.held, currency), show_amount(row.held_change, currency)
        page.print(f"{'':8}  {show_id(row.transaction_id)}  held {held} ({changed})", soft_wrap=True)
