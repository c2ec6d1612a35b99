"""What `balance api token` prints, and that nobody gets a token that sees all by leaving a word out."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from processors.ops.api.tokens import hash_of
from tests.command_line import said_lines


@pytest.mark.parametrize(
    "words", [(), ("--all", "--below", "acme"), ("--all", "--operate"), ("--below", "acme", "--operate")], ids=str
)
def test_a_token_is_made_only_for_what_is_named(words: tuple[str, ...]) -> None:
    status, lines = said_lines("api", "token", "books", *words)

    assert status == 2
    assert "one of --below ADDRESS, --all and --operate" in " ".join(lines)
    assert not any(re.fullmatch(r"[\w-]{43}", line) for line in lines)


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        (("--all",), {"scope": "read"}),
        (("--operate",), {"scope": "operate"}),
        (("--below", "acme:vn"), {"scope": "partner", "below": "acme:vn"}),
    ],
    ids=str,
)
def test_a_token_has_the_scope_that_is_named(words: tuple[str, ...], scope: dict[str, Any]) -> None:
    status, (token, *lines) = said_lines("api", "token", "books", *words)

    told = tomllib.loads("\n".join(line for line in lines if line.startswith("[") or " = " in line))
    assert status == 0
    assert told == {"api": {"tokens": {"books": {"sha256": hash_of(token), **scope}}}}
