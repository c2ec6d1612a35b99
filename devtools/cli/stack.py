"""The native servers of this checkout: Kafka, MySQL and Cassandra below ``.stack``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from devtools import stack
from processors.ops.cli.terminal import JsonOption, print_json, print_table, say, settings
from processors.ops.exits import EXIT_FAULT, EXIT_GOOD
from processors.settings import SECURE_PROFILE, Settings, load_settings

SecureOption = Annotated[
    bool,
    typer.Option(
        "--secure", help="The secured servers: certificates, passwords, rights. The service's profile for them: secure."
    ),
]


def up(*, secure: SecureOption = False, as_json: JsonOption = False) -> None:
    """Start what does not run, and wait until it answers; the first time fetches the servers."""
    chosen = _settings(secure=secure)
    stack.up(chosen, say)
    if as_json:
        print_json(_servers(chosen))


def down(*, as_json: JsonOption = False) -> None:
    """Stop the servers, the secured ones too; their data stays."""
    for each in (_settings(secure=True), settings()):
        stack.down(each, say)
    if as_json:
        print_json(_servers(settings()))


def status(*, secure: SecureOption = False, as_json: JsonOption = False) -> None:
    """Show each server; exit status 3 unless all are ready."""
    servers = _servers(_settings(secure=secure))
    if as_json:
        print_json(servers)
    else:
        rows = [(each["server"], each["state"], each["address"], each["pid"] or "") for each in servers]
        print_table("", ("server", "state", "address", "pid"), rows)
    raise typer.Exit(EXIT_GOOD if all(each["state"] == "ready" for each in servers) else EXIT_FAULT)


def _settings(*, secure: bool) -> Settings:
    return load_settings(SECURE_PROFILE) if secure else settings()


def _servers(chosen: Settings) -> list[dict[str, Any]]:
    return [
        {
            "server": each.server,
            "state": "ready" if each.ready else "down",
            "address": each.address,
            "pid": each.pid,
            "log": str(each.log),
        }
        for each in stack.status(chosen)
    ]


def logs(
    *,
    server: Annotated[
        stack.Server, typer.Argument(metavar="SERVER", case_sensitive=False, help="kafka, mysql, mysql-2 or cassandra.")
    ],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000)] = 50,
    secure: SecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print the end of a server's log."""
    found = stack.logs(_settings(secure=secure), server, lines)
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(found))
