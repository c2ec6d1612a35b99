"""Sends one command, waits for its result and shows it; the result's status is the exit status."""

from __future__ import annotations

import time
from collections.abc import Callable

import typer

from processors.ledger.commands import Command
from processors.ledger.outcomes import Status
from processors.ops.cli.history import look_up
from processors.ops.cli.terminal import open_client, page, print_json, print_table
from processors.ops.money import show_amount
from processors.ops.result_text import exit_status, explanation, headline, result_as_json
from processors.wire.results import Result


def ask(
    make: Callable[[bytes], Command],
    command_id: bytes | None,
    *,
    within_s: int,
    as_json: bool,
    until_final: bool = False,
) -> None:
    """Send what ``make`` builds for the id, show its result, and end with its exit status.

    Args:
        make: Gets the command's id.
        command_id: The operator's own, to repeat a command; a new one where None.
        within_s: Seconds to wait for the result, connecting included.
        as_json: Print one JSON object instead of a table.
        until_final: Wait on while the result is OPEN; of one that was OPEN before, show what became of it.

    Raises:
        NoAnswer: There was none in time; the text names the id to repeat with.
    """
    ends_s = time.monotonic() + within_s
    with open_client(within_s=within_s) as client:
        command = make(command_id or client.new_id())
        left_ms = max(0, int((ends_s - time.monotonic()) * 1_000))
        result = client.send(command, until_final=until_final, deadline_ms=left_ms)
    if until_final:
        result = newest_of(result)
    show_result(result, as_json=as_json)
    raise typer.Exit(exit_status(result.status))


def newest_of(result: Result) -> Result:
    """Return the end of a transaction whose OPEN answer was repeated, from the stores; the answer if it is open still.

    Its end may have been published before anybody listened, so it cannot be waited for.
    """
    if result.status is not Status.OPEN or result.duplicate_of is None:
        return result
    steps = look_up(result.transaction_id).steps
    ends = [step for step in steps if step.root == result.root and step.status is not Status.OPEN]
    return ends[-1] if ends else result


def show_result(result: Result, *, as_json: bool) -> None:
    """Print a result: a line that says how it ended, and what each level holds afterwards."""
    if as_json:
        print_json(result_as_json(result))
        return
    page.print(headline(result), soft_wrap=True)
    if explained := explanation(result):
        page.print(explained, soft_wrap=True)
    if result.postings:
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
