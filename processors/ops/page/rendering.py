"""Templates as HTML that runs nothing: whatever is shown is escaped, and a policy forbids all that is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from processors.ops.api.sending import HEADERS
from processors.ops.api.tokens import Caller, Scope

FOLDER = Path(__file__).parent
HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
# No script at all, ours neither: a name that got past the escaping would still run nothing, send nothing, load nothing.
POLICY = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
PAGE_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_OPERATORS_PAGES = (("/dead-letters", "Dead letters"), ("/moves", "Moves"))
_TEMPLATES = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def rendered(template: str, here: str, caller: Caller | None, context: dict[str, Any]) -> bytes:
    """Return a page.

    Args:
        template: Its name.
        here: The path that was asked for.
        caller: Who asks; None: nobody who is known.
        context: What it shows.
    """
    words = {**context, "here": here, "caller": "" if caller is None else caller.name, "pages": _pages_of(caller)}
    return "".join(_TEMPLATES.get_template(template).generate(words)).encode()


def style() -> bytes:
    """Return the style sheet."""
    return (FOLDER / "page.css").read_bytes()


def _pages_of(caller: Caller | None) -> list[tuple[str, str]]:
    if caller is None:
        return []
    overview = [] if caller.scope is Scope.PARTNER else [("/", "Overview")]
    return [*overview, ("/partners", "Partners"), *(_OPERATORS_PAGES if caller.scope is Scope.OPERATE else ())]
