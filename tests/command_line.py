"""The command line in this process: every command there is, and what one answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from typer.testing import CliRunner

from processors.ops.cli.main import app

ROOT_COMMAND: Any = typer.main.get_command(app)


def every_command(words: tuple[str, ...] = (), command: Any = ROOT_COMMAND) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command and group with the words that are typed for it, modules imported."""
    yield words, command
    for word in getattr(command, "commands", {}):
        yield from every_command((*words, word), command.read(word))


def said_lines(*arguments: str) -> tuple[int, list[str]]:
    """Run a command, and return its exit status and the lines of its output."""
    ran = CliRunner().invoke(app, arguments, env={"COLUMNS": "2000", "TERM": "dumb"})
    return ran.exit_code, ran.output.splitlines()


def said(*arguments: str) -> tuple[int, str]:
    """Run a command, and return its exit status and output, on one line."""
    status, lines = said_lines(*arguments)
    return status, " ".join(" ".join(lines).split())
