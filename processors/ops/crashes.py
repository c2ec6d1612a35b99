"""How the command line ends where it has no answer: with what went wrong, and never with Python's own exit status 1.

Imports nothing else of the service, so that it is there whatever cannot be imported.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import NoReturn

EXIT_FAULT = 3  # a fault, UNKNOWN, or no answer in time; or a crash, of which nobody knows what was done
_OWN = ("processors", "devtools")


def end_unanswered(trouble: BaseException) -> NoReturn:
    """Say what went wrong, and exit with ``EXIT_FAULT``.

    An uncaught exception would exit with 1, as Python does; of a command that means "no", and of `balance tx get` that
    a payment never was decided, so that a script would pay again.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads standard error, or there is none
        sys.stderr.write(_said_of(trouble))
        sys.stderr.flush()
    sys.exit(EXIT_FAULT)


def _said_of(trouble: BaseException) -> str:
    if isinstance(trouble, ModuleNotFoundError) and not str(trouble.name).startswith(_OWN):
        return (
            f"balance: the command line needs {trouble.name}, which the client does not bring: "
            "pip install 'CHECKOUT[service]' or 'WHEEL[service]'\n"
        )
    told = "".join(traceback.format_exception(trouble))
    return f"{told}balance: ended by what is told above, without an answer; what it was to do may be done or not\n"
