"""What a model offers to check: scenarios in which nothing may be found, and mutations, in which something must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.models.checker import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One rule, or a part of one, taken out: what is done instead, and a check that meets the consequence."""

    says: str
    check: Callable[[], Report]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What a model offers.

    ``scenarios`` are by name. ``mutations`` are named by the rule and, where it has several parts, the part.
    ``redundant`` are mutations that a rule forbids and that do no harm: the rule is a second line of defence there.
    """

    scenarios: Mapping[str, Callable[[], Report]]
    mutations: Mapping[str, Mutation]
    redundant: Mapping[str, Mutation]

    def mutations_of(self, rule: str) -> dict[str, Mutation]:
        """Return the mutations of a rule (``M4``), or the one of that name (``M4 once``)."""
        every = {**self.mutations, **self.redundant}
        return {name: mutation for name, mutation in every.items() if rule in (name, name.partition(" ")[0])}
