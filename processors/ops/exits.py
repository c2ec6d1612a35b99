"""The exit statuses of commands and processes."""

from __future__ import annotations

from typing import assert_never

from processors.ledger.outcomes import Status
from processors.ops.crashes import EXIT_FAULT

__all__ = ["EXIT_FAULT", "EXIT_GOOD", "EXIT_REJECTED", "exit_status"]

EXIT_GOOD = 0  # accepted, open or completed
EXIT_REJECTED = 1  # rejected or returned; 2 is wrong usage, which typer says


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
