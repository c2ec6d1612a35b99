"""The native servers of this checkout: Kafka, MySQL and Cassandra below ``.stack``."""

from __future__ import annotations

from typing import Annotated

import typer

from processors.ops import stack
from processors.ops.cli.terminal import JsonOption, notes, print_json, print_table, settings
from processors.ops.result_text import EXIT_FAULT, EXIT_GOOD


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Kafka, MySQL and Cassandra of this checkout.", no_args_is_help=True)
    for command in (up, down, status, logs):
        group.command()(command)
    app.add_typer(group, name="stack", rich_help_panel="Processes")


def up() -> None:
    """Start what does not run, and wait until it answers; the first time fetches the servers."""
    stack.up(settings(), say)


def down() -> None:
    """Stop the servers; their data stays."""
    stack.down(settings(), say)


def status(as_json: JsonOption = False) -> None:
    """Show each server; exit status 3 unless all are ready."""
    servers = stack.status(settings())
    if as_json:
        print_json(
            [
                {
                    "server": each.server,
                    "pid": each.pid,
                    "ready": each.ready,
                    "address": each.address,
                    "log": str(each.log),
                }
                for each in servers
            ]
        )
    else:
        rows = [(each.server, "ready" if each.ready else "down", each.address, each.pid or "") for each in servers]
        print_table("", ("server", "state", "address", "pid"), rows)
    raise typer.Exit(EXIT_GOOD if all(each.ready for each in servers) else EXIT_FAULT)


def logs(
    server: Annotated[stack.Server, typer.Argument(case_sensitive=False)],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000)] = 50,
) -> None:
    """Print the end of a server's log."""
    for line in stack.logs(settings(), server, lines):
        typer.echo(line)


def say(line: str) -> None:
    """Tell of progress on standard error."""
    notes.print(line, markup=False)
