"""What the table of commands is made of: a command, and a word with others below it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command: ``says`` is the first paragraph of its function's docstring.

    ``place`` is ``module:function``; a module of this folder, or of a package that is named before it.
    """

    place: str
    says: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A word with others below it."""

    says: str
    words: dict[str, Command]


def command(place: str, says: str, *examples: str) -> Command:
    """Return a command, with some lines that one may type."""
    return Command(place, says, examples)
