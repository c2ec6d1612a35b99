"""Many commands at once: JSON lines in, results as JSON lines out."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, TextIO

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from processors.client import NoAnswer
from processors.ledger.commands import Command
from processors.ops.cli.history import newest_of
from processors.ops.cli.terminal import notes, open_client, print_json
from processors.ops.command_text import CommandTextError, command_from_json
from processors.ops.exits import EXIT_FAULT, EXIT_GOOD, exit_status
from processors.ops.result_text import result_as_json, show_id
from processors.wire.commands import encode_command

# Longer than for one command: thousands wait for their turn.
WITHIN_S = 60
_STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True)
class _Lines:
    """What is read, more than once, and what it is called."""

    name: str
    text: TextIO


def _readable(name: str) -> Path:
    file = Path(name)
    if file != _STANDARD_INPUT and not (file.is_file() and os.access(file, os.R_OK)):
        raise typer.BadParameter(f"{name} is no file that can be read: name one of JSON lines, or - for standard input")
    return file


def send(
    file: Annotated[
        Path,
        typer.Argument(
            parser=_readable,
            metavar="FILE",
            help="JSON lines, one command each; - is standard input.",
            show_default=False,
        ),
    ],
    until_final: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for what follows a result that is OPEN.")
    ] = False,
    within_s: Annotated[
        int, typer.Option("--within", metavar="SECONDS", min=1, max=3_600, help="How long to wait for each result.")
    ] = WITHIN_S,
    as_json: Annotated[  # noqa: ARG001 - for programs that give it to every command
        bool, typer.Option("--json", help="Taken for granted here: the answers are JSON lines in any case.")
    ] = True,
) -> None:
    """Send a file of commands and print each result as a JSON line, in the order of the file.

    A line is {"type": "PAY", "address": "acme:vn", "amount": "12.50 USD", "command_id": "...", "metadata": {...}},
    with the command's own fields. Give each line its command_id: then the same file can be sent again safely. The
    whole file is checked before anything is sent. The exit status is the worst of the results'.
    """
    with _whole(file) as lines:
        worst = _sent(lines, until_final=until_final, within_s=within_s)
    raise typer.Exit(worst)


@contextmanager
def _whole(file: Path) -> Iterator[_Lines]:
    """Give the lines of a file, or of standard input, which is read to its end first: they are read twice."""
    if file != _STANDARD_INPUT:
        with file.open(encoding="utf-8") as lines:
            yield _Lines(str(file), lines)
        return
    with TemporaryFile("w+", encoding="utf-8") as kept:
        shutil.copyfileobj(sys.stdin, kept)
        yield _Lines("standard input", kept)


def _sent(lines: _Lines, *, until_final: bool, within_s: int) -> int:
    """Send the commands, print each result, and return the worst one's exit status."""
    count = sum(1 for _ in _commands(lines, lambda: bytes(16)))
    worst = EXIT_GOOD
    with open_client(within_s=within_s) as client, progress_bar() as bar:
        task = bar.add_task("commands", total=count)
        for command, answer in client.exchange(_commands(lines, client.new_id), until_final=until_final):
            if isinstance(answer, NoAnswer):
                print_json({"command_id": show_id(command.command_id), "status": "", "error": str(answer)})
                worst = max(worst, EXIT_FAULT)
            else:
                result = newest_of(answer) if until_final else answer
                print_json(result_as_json(result))
                worst = max(worst, exit_status(result.status))
            bar.advance(task)
    return worst


def _commands(lines: _Lines, make_id: Callable[[], bytes]) -> Iterator[Command]:
    lines.text.seek(0)
    for number, line in enumerate(lines.text, 1):
        if line.strip():
            yield _command(lines.name, number, line, make_id)


def _command(name: str, number: int, line: str, make_id: Callable[[], bytes]) -> Command:
    try:
        values: Any = json.loads(line)
        if not isinstance(values, dict):
            raise CommandTextError("a line is one JSON object")
        command = command_from_json(values, make_id)
        encode_command(command)  # half of a surrogate pair, an id of a wrong length: found before anything is sent
    except ValueError as error:
        raise typer.BadParameter(f"{name}, line {number}: {error}") from None
    return command


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """Show the rate once there is one."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


def progress_bar() -> Progress:
    """Return a bar on standard error with count, rate and time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=notes,
    )
