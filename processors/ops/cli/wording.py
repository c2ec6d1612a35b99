"""How the command line speaks of itself: groups, commands, and what belongs to each option, in words of the field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import typer
import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup

from processors.ops.cli.checkout import TOOLS, tool
from processors.ops.cli.command_entries import Command, Group
from processors.ops.money import AmountError, parse_money

AMOUNT = "AMOUNT"
_TOLD_MAX = 8  # words in an answer to a mistyped one: those of every group, in a few lines; not the first level's 34
_ID = re.compile(r"[0-9a-f-]{8,}")  # an id, or its beginning: no command is named so
_SIGNED = re.compile(r"-[\d.,]", re.ASCII)
_WORD_OF_TYPE = {int: "NUMBER", str: "TEXT"}


class Unread(TyperCommand):
    """A command of which only the name and the sentence are known; its module is not imported yet."""

    def __init__(self, word: str, command: Command, panel: str | None) -> None:
        super().__init__(word, help=command.says, rich_help_panel=panel)
        self._described = command

    def read(self) -> TyperCommand:
        """Import the command's module, and return it whole."""
        maker = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        carry_out = function_of(self._described)
        decorate = maker.command(
            self.name,
            cls=TypedCommand,
            help=_unbroken(carry_out.__doc__ or ""),
            epilog=examples_text(self._described.examples),
            rich_help_panel=self.rich_help_panel,
        )
        decorate(carry_out)
        made = typer.main.get_command(maker)
        assert isinstance(made, TyperCommand)
        return made


class Words(TyperGroup):
    """Words below a command: another one is answered with those that there are, as they are typed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names, and import it; ``ctx`` is the driver's own context."""
        if args and args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"`{ctx.command_path}` knows no {args[0]!r}: {self._meant(ctx.command_path, args[0])}")
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else self.read(name), rest

    def _meant(self, typed: str, word: str) -> str:
        """Say what may be typed instead of a word: what is like it, else all that there is if that is not too much."""
        near = difflib.get_close_matches(word.lower(), self.commands)
        if near:
            return f"did you mean {' or '.join(f'`{typed} {each}`' for each in near)}?"
        if len(self.commands) > _TOLD_MAX:
            return f"`{typed} --help` shows what there is"
        known = [f"{typed} {each}" for each in self.commands]
        if len(known) == 1 or _ID.fullmatch(word):  # it was meant for one of them
            known = [f"{each} {word}" for each in known]
        return f"type {' or '.join(f'`{each}`' for each in known)}"

    def read(self, word: str) -> TyperCommand | Words:
        """Return what a word names, imported."""
        found: Any = self.commands[word]
        return found.read() if isinstance(found, Unread) else found

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, each with a word for what belongs there."""
        return [_in_words(param) for param in super().get_params(ctx)]


def function_of(command: Command) -> Callable[..., Any]:
    """Import what carries a command out.

    Raises:
        Misconfigured: It is a development tool, and this is no checkout.
    """
    module, _, function = command.place.partition(":")
    folder, _, name = module.partition(".")
    found: Callable[..., Any] = getattr(
        tool(name) if folder == TOOLS else import_module(f"{__package__}.{module}"), function
    )
    return found


def _unbroken(docstring: str) -> str:
    """Return a docstring with each paragraph on one line, to be broken where the terminal ends."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))


def words_of(table: Mapping[str, Command | Group], panel: str | None = None) -> dict[str, Any]:
    """Return the words of a table; below a group's its commands.

    Args:
        table: By the words.
        panel: The heading in the help of the level above.
    """
    return {word: _word(word, entry, panel) for word, entry in table.items()}


def _word(word: str, entry: Command | Group, panel: str | None) -> Unread | Words:
    if isinstance(entry, Command):
        return Unread(word, entry, panel)
    examples = [command.examples[0] for command in entry.words.values()]
    below = Words(name=word, help=entry.says, epilog=examples_text(examples), no_args_is_help=True)
    below.rich_help_panel = panel
    below.commands.update(words_of(entry.words))
    return below


def examples_text(examples: Iterable[str]) -> str:
    """Return what help shows below the options."""
    return "\n".join(("Examples:", *examples))


class TypedCommand(TyperCommand):
    """A command; one that takes an amount answers a sign before it reads it as an option that there is not."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return arguments and options, each with a word for what belongs there."""
        return [_in_words(param) for param in super().get_params(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what was typed; ``ctx`` is the driver's own context."""
        if any(param.metavar == AMOUNT for param in self.params):
            _refuse_sign(ctx.fail, args)
        return super().parse_args(ctx, args)


def _refuse_sign(fail: Callable[[str], Any], args: list[str]) -> None:
    """Answer ``-5 USD`` as an amount with a sign, where it is no option's value."""
    for place, text in enumerate(args):
        if text == "--":
            return
        if _SIGNED.match(text) and not (place and args[place - 1].startswith("-")):
            try:
                parse_money(" ".join([text, *args[place + 1 : place + 2]]))
            except AmountError as error:
                fail(str(error))


def _in_words(param: Any) -> Any:
    """Have the help name what belongs to an option; the driver names Python's types (``<list[str]>``, ``<int range>``).

    What an argument is called says already what belongs there.
    """
    kind = param.type_descriptor
    if kind.is_choice:
        word = "|".join(str(choice) for choice in kind.choices or ())
    elif isinstance(param, TyperArgument) or kind.annotation is bool:
        word = ""
    else:
        word = "FILE" if kind.is_path else _WORD_OF_TYPE.get(kind.annotation, "TEXT")
    param.display_type = lambda _ctx: word
    return param
