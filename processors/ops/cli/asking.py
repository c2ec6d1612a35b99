"""Sends one command, waits for its result and shows it; the result's status is the exit status."""

from __future__ import annotations

import time
from collections.abc import Callable

import typer

from processors.ledger.commands import Command
from processors.ops.cli.terminal import open_client, page, print_json, print_table
from processors.ops.exits import exit_status
from processors.ops.money import show_amount
from processors.ops.result_text import explanation, headline, result_as_json
from processors.wire.results import Result


def ask(
    make: Callable[[bytes], Command],
    command_id: bytes | None,
    *,
    within_s: int,
    as_json: bool,
    end_of: Callable[[Result], Result] | None = None,
) -> None:
    """Send what ``make`` builds for the id, show its result, and end with its exit status.

    Args:
        make: Gets the command's id.
        command_id: The operator's own, to repeat a command; a new one where None.
        within_s: Seconds to wait for the result, connecting included.
        as_json: Print one JSON object instead of a table.
        end_of: Wait on while the result is OPEN, and show what this makes of the last one.

    Raises:
        NoAnswer: There was none in time; the text names the id to repeat with.
    """
    ends_s = time.monotonic() + within_s
    with open_client(within_s=within_s) as client:
        command = make(command_id or client.new_id())
        left_ms = max(0, int((ends_s - time.monotonic()) * 1_000))
        result = client.send(command, until_final=end_of is not None, deadline_ms=left_ms)
    if end_of is not None:
        result = end_of(result)
    show_result(result, as_json=as_json)
    raise typer.Exit(exit_status(result.status))


def show_result(result: Result, *, as_json: bool) -> None:
    """Print a result: a line that says how it ended, and what each level holds afterwards."""
    if as_json:
        print_json(result_as_json(result))
        return
    page.print(headline(result), soft_wrap=True)
    if explained := explanation(result):
        page.print(explained, soft_wrap=True)
    if result.duplicate_of is not None and result.postings:
        page.print(
            f"the balances below are those of when it was first decided; `balance balance {result.address} "
            f"{result.currency}` reads today's",
            soft_wrap=True,
        )
    print_postings(result)


def print_postings(result: Result) -> None:
    """Write what each level holds after a result; nothing where none was touched."""
    if not result.postings:
        return
    columns = ("account", "change", "balance", "held", "available", "limit")
    rows = [
        (
            posting.address,
            show_amount(posting.balance_change, result.currency),
            show_amount(posting.balance, result.currency),
            show_amount(posting.held, result.currency),
            show_amount(posting.balance - posting.held + posting.overdraft_limit, result.currency),
            show_amount(posting.overdraft_limit, result.currency),
        )
        for posting in result.postings
    ]
    print_table("", columns, rows, right=columns[1:])
