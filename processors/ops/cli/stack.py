"""The native servers of this checkout: Kafka, MySQL and Cassandra below ``.stack``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from processors.ops import stack
from processors.ops.cli.terminal import Commands, JsonOption, add_group, notes, print_json, print_table, settings
from processors.ops.result_text import EXIT_FAULT, EXIT_GOOD


def register(app: typer.Typer) -> None:
    """Add these commands."""
    servers: Commands = {"up": up, "down": down, "status": status, "logs": logs}
    add_group(app, "stack", "Kafka, MySQL and Cassandra of this checkout.", servers, panel="Processes")


def up(*, as_json: JsonOption = False) -> None:
    """Start what does not run, and wait until it answers; the first time fetches the servers."""
    stack.up(settings(), say)
    if as_json:
        print_json(_servers())


def down(*, as_json: JsonOption = False) -> None:
    """Stop the servers; their data stays."""
    stack.down(settings(), say)
    if as_json:
        print_json(_servers())


def status(*, as_json: JsonOption = False) -> None:
    """Show each server; exit status 3 unless all are ready."""
    servers = _servers()
    if as_json:
        print_json(servers)
    else:
        rows = [(each["server"], each["state"], each["address"], each["pid"] or "") for each in servers]
        print_table("", ("server", "state", "address", "pid"), rows)
    raise typer.Exit(EXIT_GOOD if all(each["state"] == "ready" for each in servers) else EXIT_FAULT)


def _servers() -> list[dict[str, Any]]:
    return [
        {
            "server": each.server,
            "state": "ready" if each.ready else "down",
            "address": each.address,
            "pid": each.pid,
            "log": str(each.log),
        }
        for each in stack.status(settings())
    ]


def logs(
    *,
    server: Annotated[stack.Server, typer.Argument(case_sensitive=False)],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """Print the end of a server's log."""
    found = stack.logs(settings(), server, lines)
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(found))


def say(line: str) -> None:
    """Tell of progress on standard error."""
    notes.print(line, soft_wrap=True)
