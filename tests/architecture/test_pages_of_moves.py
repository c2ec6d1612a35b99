"""The pages name the stages of a move, the accounts of a lane and the modules to read, as they are in the code."""

from __future__ import annotations

import re

import pytest

import processors
from processors.ledger.outcomes import Contra
from processors.ops.stages import Stage
from tests.architecture.source_tree import ROOT

DESIGN, OPERATIONS, ACCOUNTING = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("design", "operations", "accounting")
)


def first_column(page: str, heading: str) -> list[str]:
    """Return the first column of the table under a row that begins with a heading."""
    (rows,) = re.findall(rf"^\| {heading} \|.*\n\|[ |-]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    return re.findall(r"^\| (\w+) \|", rows, re.MULTILINE)


def test_the_stages_of_a_move_are_those_of_the_code_in_their_order() -> None:
    assert first_column(OPERATIONS, "stage") == list(Stage)
    # What comes after the last one is told in the last row.
    assert [stage.upper() for stage in first_column(DESIGN, "stage")] == [*Stage][:-1]


@pytest.mark.parametrize("contra", [contra for contra in Contra if contra is not Contra.NONE])
def test_each_system_account_is_named_where_money_is_explained(contra: Contra) -> None:
    assert f"`@{contra.lower()}`" in DESIGN.split("## Money")[1].split("\n## ")[0]
    assert f"\n- `@{contra.lower()}`: " in ACCOUNTING


def test_every_module_that_the_reading_order_names_is_there() -> None:
    order = (processors.__doc__ or "").split("The order to read in:")[1]
    lost = []
    for step in re.split(r"^\d\. ", order, flags=re.MULTILINE)[1:]:
        names = re.findall(r"``([a-z_/]+)``", step)
        folders = [ROOT / "processors", *(path for name in names if (path := ROOT / "processors" / name).is_dir())]
        lost += [
            name
            for name in names
            if not any((folder / f"{name}.py").exists() or (folder / name).is_dir() for folder in folders)
        ]
    assert lost == []
