"""Every rejection and every command, told as a story that a partner or an auditor can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import CommandType, MovePartner
from processors.ledger.outcomes import Reason
from tests.golden.language import Story, lines_of

SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.stem)
def test_a_story_comes_true(scenario: Path) -> None:
    story = Story()
    for number, line in lines_of(scenario.read_text(encoding="utf-8")):
        try:
            story.tell(line)
        except (AssertionError, KeyError, ValueError) as wrong:
            pytest.fail(f"{scenario.name}:{number}: {line}\n{type(wrong).__name__}: {wrong}")


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.NONE])
def test_each_reason_has_a_scenario_of_its_name(reason: Reason) -> None:
    text = (Path(__file__).parent / f"{reason.lower()}.txt").read_text(encoding="utf-8")

    assert any(reason in line.partition("->")[2].split() for _, line in lines_of(text))


# The ledger has nothing of a move but its refusal: the lane itself seals (tests/simulation/test_moves.py).
@pytest.mark.parametrize("kind", [TYPE_OF[kind] for kind in TYPE_OF if kind is not MovePartner])
def test_each_command_has_a_scenario_of_its_name(kind: CommandType) -> None:
    assert (Path(__file__).parent / f"{kind.lower()}.txt").exists()
