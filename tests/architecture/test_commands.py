"""Every command that an error, a comment or a page tells somebody to type is one that there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from processors.ops.cli.wording import Words
from tests.architecture.source_tree import ROOT, Module, service, tools
from tests.command_line import ROOT_COMMAND

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIG = sorted((ROOT / "config").rglob("*.toml"))
# In backticks, after "type: ", or alone on a line of an example.
_TYPED = re.compile(r"`balance ([^`\n]+)`|type: balance ([a-z -]+)|^balance ([^\n#]+)", re.MULTILINE)


def named_in(text: str) -> list[str]:
    return ["".join(groups).strip() for groups in _TYPED.findall(text)]


def named_by(module: Module) -> list[str]:
    """Return the commands that a module's comments and strings name, also those broken over two literals."""
    strings = [node.value for node in module.nodes if isinstance(node, ast.Constant)]
    texts = [module.text, *(each for each in strings if isinstance(each, str))]
    return sorted({command for text in texts for command in named_in(text)})


def mistake_in(command: str) -> str:
    """Say what of a command line there is not; empty where all of it is."""
    place = ROOT_COMMAND
    for word in command.split():
        if word.startswith("--"):
            known = {name for each in place.params for name in each.opts} | {"--help"}
            if word.partition("=")[0] not in known:
                return f"balance {command}: no option {word}"
        elif isinstance(place, Words):
            if word not in place.commands:
                return f"balance {command}: no command {word}"
            place = place.read(word)
    return ""


def test_a_command_that_the_code_names_can_be_typed() -> None:
    mistakes = [
        f"{module.place}: {mistake}"
        for module in service() + tools()
        for command in named_by(module)
        if (mistake := mistake_in(command))
    ]

    assert not mistakes


@pytest.mark.parametrize("page", PAGES + CONFIG, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_that_a_page_names_can_be_typed(page: Path) -> None:
    commands = named_in(page.read_text(encoding="utf-8"))

    assert not [mistake for command in commands if (mistake := mistake_in(command))]


def test_a_command_that_there_is_not_is_found() -> None:
    assert mistake_in("directory forget") == "balance directory forget: no command forget"
    assert mistake_in("pay acme 1.00 USD --now") == "balance pay acme 1.00 USD --now: no option --now"
    assert mistake_in("lane release 0 17 TIME --shard s1") == ""
