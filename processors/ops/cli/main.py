"""Puts the commands together, and turns faults into one clear line and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from processors import compiled
from processors.faults import Fault
from processors.ops.cli.commands import COMMANDS
from processors.ops.cli.profile import use_profile
from processors.ops.cli.wording import Words, examples_text, words_of
from processors.ops.crashes import end_unanswered
from processors.ops.exits import EXIT_FAULT
from processors.version import VERSION

EXIT_STATUS = (
    "Exit status: 0 accepted, open or completed; 1 rejected or returned, or nothing found; 2 wrong usage; "
    "3 a fault, an UNKNOWN answer, or none in time."
)
_EXAMPLES = (
    "balance account open acme USD",
    "balance topup acme 100.00 USD",
    "balance pay acme 12.50 USD",
    "balance status",
)
# What typer says itself. It says 1, too: of a question answered with no, and where nobody reads what is printed.
_WRONG_USAGE = 2
_INTERRUPTED = 130  # as a shell says of a program that Ctrl-C ended


class _Balance(Words):
    """The first level: every command of the table."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for panel, words in COMMANDS.items():
            self.commands.update(words_of(words, panel))


app = typer.Typer(
    name="balance",
    cls=_Balance,
    help="Payment balances on Kafka, MySQL and Cassandra. Amounts are typed as they are written: 12.50 USD.",
    epilog=f"{examples_text(_EXAMPLES)}\n\n{EXIT_STATUS}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"balance {VERSION}, {compiled.told()}")
        raise typer.Exit


@app.callback()
def begin(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            help="Settings: config/NAME.toml.",
            show_default="BALANCE_PROFILE, else local",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Payment balances on Kafka, MySQL and Cassandra."""
    use_profile(profile)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and exit; never a traceback for a fault: what went wrong, where, and what to do.

    Exit status 1 is a command's own "no" (``EXIT_REJECTED``) and nothing else: a script pays again upon it.

    Args:
        arguments: Instead of the process's own.
    """
    try:
        status = _status_of(arguments)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except BaseException as trouble:  # noqa: BLE001 - whatever it is, the exit status would be 1
        end_unanswered(trouble)
    sys.exit(status)


def _status_of(arguments: Sequence[str] | None) -> int:
    try:
        app(args=arguments, prog_name="balance")
    except Fault as fault:
        typer.secho(f"balance: {fault}", fg="red", err=True)
        return EXIT_FAULT
    except SystemExit as ended:
        if isinstance(ended.__context__, typer.Exit) and isinstance(ended.code, int):
            return ended.code  # a command's own
        return _WRONG_USAGE if ended.code == _WRONG_USAGE else EXIT_FAULT
    raise AssertionError("the application ends by exiting")
