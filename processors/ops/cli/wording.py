"""How the command line speaks of itself: groups, commands, and what belongs to each option, in words of the field."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

from processors.ops.money import AmountError, parse_money

AMOUNT = "AMOUNT"
_SIGNED = re.compile(r"-[\d.,]", re.ASCII)
_WORD_OF_TYPE = {int: "NUMBER", str: "TEXT"}


class Words(TyperGroup):
    """Words below a command: another one is answered with those that there are, as they are typed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names; ``ctx`` is the driver's own context."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            known = [f"`{ctx.command_path} {word}`" for word in self.commands]
            if len(known) == 1:
                known = [f"{known[0][:-1]} {args[0]}`"]  # the word was meant for the only one that there is
            ctx.fail(f"`{ctx.command_path}` knows no {args[0]!r}: type {' or '.join(known)}")
        return super().resolve_command(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, each with a word for what belongs there."""
        return [_in_words(param) for param in super().get_params(ctx)]


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
