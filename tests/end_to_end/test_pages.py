"""What README and docs/accounting.md show of the command line is what it answers, but for ids and times."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Running

ROOT = Path(__file__).parents[2]
LEFT_OUT = "...\n"
_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_KEY = re.compile(r"\bk\d+-[0-9a-f]{8}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def typed(page: str) -> list[tuple[str, str]]:
    """Return what a page types after ``balance``, and what it shows of the answer: ``...`` where it leaves it out."""
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = "".join(re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    return re.findall(r"^\$ balance ([^\n]+)\n((?:(?!\$ ).*\n)*)", shown, re.MULTILINE)


@pytest.mark.parametrize(("page", "root"), [("README.md", "readme"), ("docs/accounting.md", "books")])
def test_a_page_shows_what_the_command_line_answers(running: Running, page: str, root: str) -> None:
    ids: dict[str, str] = {}  # by the page's
    commands = typed(page)
    assert len(commands) > 5

    for command, answer in commands:
        words = shlex.split(_ID.sub(lambda found: ids[found[0]], command).replace("acme", root))
        said = running.balance(*words)
        assert said.status == (1 if answer.startswith("REJECTED") else 0), said.err
        if answer != LEFT_OUT:
            told = said.out + said.err
            ids.update(zip(_ID.findall(answer), _ID.findall(told), strict=True))
            assert sorted(lines_of(told.replace(root, "acme"))) == sorted(lines_of(answer)), command


def lines_of(text: str) -> list[list[str]]:
    """Return the words of each line, however wide the columns are, with ids, keys and times alike.

    What is an answer and what a note come in two streams, so their order is not compared.
    """
    return [_TIME.sub("TIME", _KEY.sub("KEY", _ID.sub("ID", line))).split() for line in text.splitlines()]
