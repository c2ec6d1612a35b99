"""The table of commands is true: each function is there, says the same, and each example can be typed."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processors import compiled
from processors.ops.cli.command_entries import Command, Group
from processors.ops.cli.commands import COMMANDS
from processors.ops.cli.wording import function_of
from processors.version import VERSION
from tests.command_line import ROOT_COMMAND, every_command, said

# The words for what belongs to an option or argument, whichever command takes it.
METAVARS = {
    "ADDRESS", "AMOUNT", "CURRENCY", "DAY", "DIR", "DIRECTION", "DSN", "FILE", "ID", "JSON", "KEY_ID", "LANE", "NAME",
    "NAME=NUMBER", "NUMBER", "OFFSET[-LAST]", "PARTITION/OFFSET", "ROOT", "SECONDS", "SERVER", "SHARD", "SHARES",
    "SPAN", "STATUS", "TEXT", "TIME", "TO_ADDRESS", "ZONE",
}  # fmt: skip
WIDTH = 78  # of what fits at 80 columns inside the help's margins
SCRIPT = """
import sys
from processors.ops.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
DRIVERS = {"cassandra", "confluent_kafka", "fastavro", "MySQLdb", "pydantic_settings"}


def entries(table: dict[str, Any], words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    for word, entry in table.items():
        if isinstance(entry, Group):
            yield from entries(entry.words, (*words, word))
        else:
            yield (*words, word), entry


TABLE = [each for panel in COMMANDS.values() for each in entries(panel)]


def typed(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value) if isinstance(value, str) else ""


def loaded_by(*arguments: str) -> set[str]:
    """Return the modules that a command line imports, run in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stderr.split())


@pytest.mark.parametrize(("words", "command"), TABLE, ids=typed)
def test_a_command_says_in_the_table_what_its_function_says(words: tuple[str, ...], command: Command) -> None:
    docstring = function_of(command).__doc__

    assert words
    assert docstring
    assert " ".join(docstring.split("\n\n")[0].split()) == command.says


@pytest.mark.parametrize(
    ("words", "example"),
    [(words, example) for words, command in TABLE for example in command.examples],
    ids=typed,
)
def test_an_example_can_be_typed_and_fits_a_terminal(words: tuple[str, ...], example: str, tmp_path: Path) -> None:
    (tmp_path / "commands.jsonl").touch()
    given = shlex.split(example.rpartition(" | ")[2])

    assert tuple(given[: len(words) + 1]) == ("balance", *words)
    assert len(example) <= WIDTH
    command = ROOT_COMMAND
    context = command.make_context("balance", given[1:2], resilient_parsing=True)
    for word in words:
        command = command.read(word)
    with contextlib.chdir(tmp_path):
        command.make_context(" ".join(words), given[len(words) + 1 :], parent=context)


@pytest.mark.parametrize(("words", "command"), [*every_command()], ids=typed)
def test_help_shows_examples_and_names_what_belongs_there_with_one_set_of_words(
    words: tuple[str, ...], command: Any
) -> None:
    status, page = said(*words, "--help")

    assert status == 0
    assert "Examples:" in page
    for param in command.get_params(ROOT_COMMAND.make_context("balance", ["-h"], resilient_parsing=True)):
        shown = param.metavar or param.display_type(None)
        assert not shown or "|" in shown or shown in METAVARS, f"{param.opts}: {shown}"


@pytest.mark.parametrize("arguments", [(), ("account",)], ids=" ".join)
def test_help_of_words_imports_no_driver_and_no_settings(arguments: tuple[str, ...]) -> None:
    assert not loaded_by(*arguments, "--help") & DRIVERS


def test_a_payment_imports_no_database_no_worker_and_no_archive() -> None:
    loaded = loaded_by("pay", "--help")

    assert not loaded & {"MySQLdb", "cassandra"}
    assert not [name for name in loaded if name.startswith("processors.workers")]


def test_the_version_is_told_and_whether_compiled_modules_run() -> None:
    assert said("--version") == (0, f"balance {VERSION}, {compiled.told()}")
