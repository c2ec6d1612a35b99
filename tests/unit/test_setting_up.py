"""With which rules a database begins that is made where a shard was before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from processors.ledger.rules import Rules
from processors.ops import setting_up
from processors.settings import load_settings

LOGGED, OF_THE_SETTINGS = Rules(version=1, window_ms=3 * 3_600_000), Rules(version=1)


@pytest.mark.rule("I6")
@pytest.mark.parametrize(
    ("directory", "begins"),
    [
        (SimpleNamespace(first_rules={"s1": LOGGED}), LOGGED),
        (SimpleNamespace(first_rules={}), OF_THE_SETTINGS),
        (None, OF_THE_SETTINGS),
    ],
    ids=["was here before", "of an earlier release", "new"],
)
def test_a_shard_that_was_here_before_begins_with_the_rules_with_which_its_log_does(
    monkeypatch: pytest.MonkeyPatch, directory: Any, begins: Rules
) -> None:
    entered: list[dict[int, Rules]] = []

    def migrate(_address: object, _row: object, rules: dict[int, Rules], *, now_ms: int) -> list[str]:
        del now_ms
        entered.append(rules)
        return []

    monkeypatch.setattr(setting_up, "find_directory", lambda _address: directory)
    monkeypatch.setattr(setting_up, "create_database", lambda _address: True)
    monkeypatch.setattr(setting_up, "known_shard", lambda _address: None)
    monkeypatch.setattr(setting_up, "first_rules", lambda _settings: OF_THE_SETTINGS)
    monkeypatch.setattr(setting_up, "migrate", migrate)
    monkeypatch.setattr(setting_up, "migrate_archive", lambda _address, **_options: [])

    setting_up._migrate(load_settings(environment={}), ["s1"], lambda _line: None)

    assert entered == [{0: begins}]
