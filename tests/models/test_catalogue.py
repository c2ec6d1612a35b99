"""Models, their tests and docs/protocol.md speak of the same flaws."""

from __future__ import annotations

import re

import pytest

from tests.architecture.source_tree import ROOT
from tests.models.__main__ import MODELS
from tests.models.catalogue import Catalogue

LATER = "### Moves and transfers (modelled, not yet built)"
PAGE = (ROOT / "docs/protocol.md").read_text(encoding="utf-8").partition(LATER)[2]
# In brackets: `R3`, `M4 once`; behind the name of a model, for it alone, up to the next semicolon.
_BRACKETS = re.compile(r"\[((?:[^][]|\n)*`[^][]*)\](?!\()")
_FLAW = re.compile(r"`([A-Z]\d+[a-z ]*)`")


def flaws_on_the_page() -> set[tuple[str, str]]:
    found = set()
    for brackets in _BRACKETS.findall(PAGE):
        for part in brackets.split(";"):
            named = re.search(r"\*(\w+)\*", part)
            found |= {(named[1] if named else "moves", flaw) for flaw in _FLAW.findall(" ".join(part.split()))}
    return found


def test_the_page_names_every_flaw_that_can_be_tried_and_no_other() -> None:
    there = {(model, flaw) for model, catalogue in MODELS.items() for flaw in {**catalogue.flaws, **catalogue.spare}}

    assert flaws_on_the_page() == there


@pytest.mark.parametrize("catalogue", MODELS.values(), ids=MODELS)
def test_every_flaw_is_noticed_and_no_spare_one(catalogue: Catalogue) -> None:
    assert [name for name, flaw in catalogue.flaws.items() if not flaw.check().trouble] == []
    assert not set(catalogue.flaws) & set(catalogue.spare)


def test_a_rule_is_all_its_parts() -> None:
    assert {"M4 generation", "M4 once"} < set(MODELS["moves"].flaws_of("M4"))
    assert list(MODELS["moves"].flaws_of("M4 once")) == ["M4 once"]
    assert MODELS["moves"].flaws_of("M99") == {}
