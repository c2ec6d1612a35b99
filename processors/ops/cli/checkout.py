"""The only way from the service to the development tools: commands that a checkout has, and an installation has not."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from processors.faults import Misconfigured

TOOLS = "devtools"
CHECKOUT = Path(__file__).parents[3]  # what holds processors/; of an installation, where its packages lie


def tool(name: str, *, checkout: Path = CHECKOUT) -> ModuleType:
    """Import a module of the development tools; nothing else of that name, which a package from outside has, too.

    Args:
        name: Dotted, below ``devtools``.
        checkout: The folder in which ``devtools`` lies. It is put on the path, where the installed command is not.

    Raises:
        Misconfigured: It is not there: this is an installation, or an image.
    """
    file = checkout.joinpath(TOOLS, *name.split(".")).with_suffix(".py")
    if not file.is_file():
        raise Misconfigured(
            f"this command is a development tool: it belongs to a checkout (its folder {TOOLS}/), and is not installed "
            f"in {checkout}. Type it in a checkout; `balance up` runs the service on servers that you have"
        )
    if sys.path[:1] != [str(checkout)]:  # before any other folder that has a package of that name
        sys.path.insert(0, str(checkout))
    return import_module(f"{TOOLS}.{name}")
