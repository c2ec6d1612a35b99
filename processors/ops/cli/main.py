"""Puts the commands together, and turns faults into one clear line and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from processors.faults import Fault
from processors.ops.cli import (
    accounts,
    history,
    operating,
    payments,
    proving,
    results,
    ruling,
    sample,
    sending,
    setting_up,
    stack,
    starting,
)
from processors.ops.cli.terminal import notes, use_profile
from processors.ops.cli.wording import Words
from processors.ops.result_text import EXIT_FAULT

EPILOG = (
    "Exit status: 0 accepted, open or completed; 1 rejected or returned, or nothing found; 2 wrong usage; "
    "3 a fault, an UNKNOWN answer, or none in time."
)
_INTERRUPTED = 130  # as a shell says of a program that Ctrl-C ended

app = typer.Typer(
    name="balance",
    cls=Words,
    help="Payment balances on Kafka, MySQL and Cassandra. Amounts are typed as they are written: 12.50 USD.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def begin(
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="Settings: config/NAME.toml.", show_default="BALANCE_PROFILE, else local"),
    ] = None,
) -> None:
    """Payment balances on Kafka, MySQL and Cassandra."""
    use_profile(profile)


_ABOUT_MONEY = (sample, payments, sending, accounts, history, results)
_ABOUT_THE_SERVICE = (starting, stack, setting_up, operating, ruling, proving)
for part in (*_ABOUT_MONEY, *_ABOUT_THE_SERVICE):
    part.register(app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and exit; never a traceback for a fault: what went wrong, where, and what to do.

    Args:
        arguments: Instead of the process's own.
    """
    try:
        app(args=arguments, prog_name="balance")
    except Fault as fault:
        notes.print(f"balance: {fault}", style="red", soft_wrap=True)
        sys.exit(EXIT_FAULT)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    raise AssertionError("the application ends by exiting")
