"""The exit statuses of commands and processes."""

from __future__ import annotations

from typing import assert_never

from processors.ledger.outcomes import Status

EXIT_GOOD = 0  # accepted, open or completed
EXIT_REJECTED = 1  # rejected or returned; 2 is wrong usage, which typer says
EXIT_FAULT = 3  # a fault, UNKNOWN, or no answer in time


def exit_status(status: Status) -> int:
    """Return the exit status that a result's status stands for."""
    match status:
        case Status.ACCEPTED | Status.OPEN | Status.COMPLETED:
            return EXIT_GOOD
        case Status.REJECTED | Status.RETURNED:
            return EXIT_REJECTED
        case Status.UNKNOWN:
            return EXIT_FAULT
        case _ as never:
            assert_never(never)


def lacking(missing: ModuleNotFoundError) -> str:
    """Return what to install where a package is missing that the client alone does not bring.

    Raises:
        ModuleNotFoundError: It is one of our own.
    """
    if str(missing.name).startswith(("processors", "devtools")):
        raise missing
    return (
        f"the command line needs {missing.name}, which the client does not bring: "
        "pip install 'CHECKOUT[service]' or 'WHEEL[service]'"
    )
