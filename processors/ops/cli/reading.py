"""The read API: run it, and make a token for somebody who asks it."""

from __future__ import annotations

from typing import Annotated

import typer

from processors.ledger.addresses import well_formed
from processors.ops.api.tokens import Scope, hash_of, make_token
from processors.ops.assembly import api
from processors.ops.cli.starting import Supervised
from processors.ops.cli.terminal import notes, settings
from processors.ops.running import run_process


def run_api(*, supervised: Supervised = None) -> None:
    """Run the read API until SIGTERM or Ctrl-C."""
    chosen = settings().changed(process="api")
    status = run_process(
        "api",
        chosen,
        lambda stopping: api.run(chosen, stopping),
        stop_deadline_ms=chosen.api.stop_deadline_ms,
        supervised=supervised,
    )
    raise typer.Exit(status)


def make_api_token(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, such as acme-bookkeeping.")],
    below: Annotated[
        str, typer.Option("--below", metavar="ADDRESS", help="A partner's token: only this address and those below.")
    ] = "",
    of_all: Annotated[bool, typer.Option("--all", help="Reads what partners see, of all partners.")] = False,
    operate: Annotated[
        bool, typer.Option("--operate", help="An operator's: all, and what only operators see.")
    ] = False,
) -> None:
    """Make a token of the read API: print it once, and what to write into the settings.

    One of --below, --all and --operate says what it is for.
    """
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise typer.BadParameter(f"{name!r} is no name of a token: letters, digits, - and _")
    if [bool(below), of_all, operate].count(True) != 1:
        raise typer.BadParameter("say what the token is for, with one of --below ADDRESS, --all and --operate")
    try:
        place = well_formed(below) if below else ""
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    token, scope = make_token(), Scope.PARTNER if place else Scope.OPERATE if operate else Scope.READ
    typer.echo(token)
    lines = [f"[api.tokens.{name}]", f'sha256 = "{hash_of(token)}"', f'scope = "{scope}"']
    if place:
        lines.append(f'below = "{place}"')
    notes.print("the token is above, and nowhere else; write this into the profile, and start the API again:")
    notes.print("\n".join(lines), soft_wrap=True)
