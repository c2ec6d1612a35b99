"""What is typed after ``python -m devtools.stack``."""

from __future__ import annotations

import pytest

from devtools.stack import Server
from devtools.stack.__main__ import read_arguments


def read(*arguments: str) -> tuple[str, bool, list[str]]:
    chosen = read_arguments(arguments)
    return chosen.action, chosen.secure, chosen.rest


@pytest.mark.parametrize("action", ["up", "down", "status", "logs"])
def test_the_secured_servers_may_be_named_before_or_after_the_action(action: str) -> None:
    assert read(action) == (action, False, [])
    assert read(action, "--secure") == read("--secure", action) == (action, True, [])


def test_after_with_everything_is_the_commands_own() -> None:
    command = ["program", "--secure", "-n", "2", "--", "up"]

    assert read("with", *command) == ("with", False, command)
    assert read("--secure", "with", *command) == ("with", True, command)


def test_logs_takes_servers() -> None:
    assert read("logs", "kafka", "mysql", "--secure") == ("logs", True, [Server.KAFKA, Server.MYSQL])


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "mysql"],
        ["down", "everything"],
        ["status", "kafka"],
        ["up", "--secured-by-me"],
        ["logs", "postgres"],
        ["with"],
        ["start"],
        [],
    ],
)
def test_words_that_mean_nothing_are_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_arguments(arguments)

    assert ended.value.code == 2
    assert "usage: python -m devtools.stack" in capsys.readouterr().err
