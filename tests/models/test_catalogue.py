"""Models, their tests and docs/protocol.md speak of the same mutations."""

from __future__ import annotations

import re

import pytest

from tests.architecture.source_tree import ROOT
from tests.models.__main__ import MODELS
from tests.models.catalogue import Catalogue

PAGE = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
# In brackets: `R3`, `M4 once`; behind the name of a model, for it alone, up to the next semicolon.
_BRACKETS = re.compile(r"\[([^][]*`[^][]*)\](?!\()")
_MUTATION = re.compile(r"`([A-Z]\d+[a-z ]*)`")


def mutations_on_the_page() -> set[tuple[str, str]]:
    found = set()
    for brackets in _BRACKETS.findall(PAGE):
        for part in brackets.split(";"):
            named = re.search(r"\*(\w+)\*", part)
            found |= {
                (named[1] if named else "moves", mutation) for mutation in _MUTATION.findall(" ".join(part.split()))
            }
    return found


def test_the_page_names_every_mutation_that_can_be_tried_and_no_other() -> None:
    there = {
        (model, mutation)
        for model, catalogue in MODELS.items()
        for mutation in {**catalogue.mutations, **catalogue.redundant}
    }

    assert mutations_on_the_page() == there


@pytest.mark.parametrize("catalogue", MODELS.values(), ids=MODELS)
def test_every_mutation_is_noticed_and_no_redundant_one(catalogue: Catalogue) -> None:
    assert [name for name, mutation in catalogue.mutations.items() if not mutation.check().violation] == []
    assert not set(catalogue.mutations) & set(catalogue.redundant)


def test_a_rule_is_all_its_parts() -> None:
    assert {"M4 generation", "M4 once"} < set(MODELS["moves"].mutations_of("M4"))
    assert list(MODELS["moves"].mutations_of("M4 once")) == ["M4 once"]
    assert MODELS["moves"].mutations_of("M99") == {}
