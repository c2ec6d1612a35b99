"""Marks, comments, docs/protocol.md and tests/rules.md agree on the rules."""

from __future__ import annotations

from tests.architecture import rules
from tests.architecture.source_tree import service, tools

DUE = rules.due()
LATER = rules.later()


def test_the_numbers_of_a_letter_have_no_hole() -> None:
    known = set(DUE) | LATER

    assert not set(DUE) & LATER
    for letter in {rule[0] for rule in known}:
        numbers = sorted(int(rule[1:]) for rule in known if rule[0] == letter)
        assert numbers == list(range(1, len(numbers) + 1)), letter


def test_the_list_of_rules_and_tests_is_up_to_date() -> None:
    assert rules.LIST.read_text(encoding="utf-8") == rules.page(), "type: python -m tests.architecture.rules"


def test_a_mark_names_a_rule_that_there_is() -> None:
    assert [each for each in rules.kept() if each.rule not in DUE and each.rule not in LATER] == []


def test_a_rule_has_a_test_of_the_code_itself() -> None:
    kept = {each.rule for each in rules.kept() if not each.file.startswith("models/")}

    assert set(DUE) - kept == set()


def test_a_comment_names_a_rule_that_there_is() -> None:
    strange = [
        f"{module.place}:{line} {rule}"
        for module in service() + tools()
        for line, rule in rules.named(module)
        if rule not in {*DUE, *LATER}
    ]

    assert not strange
