"""What git runs at each commit: programs of this checkout; and what the message must have."""

from __future__ import annotations

import pytest
import yaml

from devtools.commit_message import SUBJECT_CHARACTERS_MAX, what_is_missing
from tests.architecture.source_tree import ROOT

SUBJECT = "sink: a wrong login is waited out"
BODY = "It ended the process, which nobody restarts."
LONG = "sink: " + "x" * (SUBJECT_CHARACTERS_MAX - 6)
NO_BODY = "the body is missing: why, and how it was verified"


@pytest.mark.parametrize(
    "message",
    [
        f"{SUBJECT}\n\n{BODY}\n",
        f"{LONG}\n\n{BODY}",
        f"{SUBJECT}\n\n{BODY}\n# Please enter the commit message.\n#\tmodified: a\n",
        "fixup! sink: a wrong login is waited out\n",
        "Merge branch 'main'\n",
    ],
)
def test_a_message_with_a_subject_and_a_body_is_taken(message: str) -> None:
    assert what_is_missing(message) == []


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        (f"{LONG}x\n\n{BODY}", ["the subject has 61 characters, and may have 60"]),
        (f"Mend the sink\n\n{BODY}", ["the subject is not like `area: what it now does`: 'Mend the sink'"]),
        (f"{SUBJECT}\n{BODY}\n", ["an empty line is missing below the subject"]),
        (f"{SUBJECT}\n", [NO_BODY]),
        (f"{SUBJECT}\n\n# Please enter the commit message.\n", [NO_BODY]),
        (f"{SUBJECT}\n\n# ------------------------ >8 ------------------------\ndiff --git a b\n+text\n", [NO_BODY]),
        ("", ["the subject is not like `area: what it now does`: ''", NO_BODY]),
    ],
)
def test_a_message_that_lacks_something_is_answered_with_what(message: str, missing: list[str]) -> None:
    assert what_is_missing(message) == missing


def test_every_hook_is_a_program_of_this_checkout_and_nothing_is_fetched() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]

    assert [each["repo"] for each in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")


def test_the_hooks_run_all_that_lint_runs() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    commands = [line.strip("\t@").removesuffix(" .") for line in lint.splitlines()[1:]]

    assert len(commands) == len({".venv/bin/ruff check", ".venv/bin/ruff format --check", ".venv/bin/mypy"})
    assert [command for command in commands if f"entry: {command}" not in text] == []
