"""What a model offers to check: scenarios in which nothing may be found, and flaws that must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.models.checker import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One rule, or a part of one, taken out: what is done instead, and a check that meets the consequence."""

    says: str
    check: Callable[[], Report]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What a model offers.

    ``sound`` has the scenarios by name. ``flaws`` are named by the rule and, where it has several parts, the part.
    ``spare`` are those that a rule forbids as well, and with which nothing was found: a second line of defence.
    """

    sound: Mapping[str, Callable[[], Report]]
    flaws: Mapping[str, Flaw]
    spare: Mapping[str, Flaw]

    def flaws_of(self, rule: str) -> dict[str, Flaw]:
        """Return the flaws of a rule (``M4``), or the one of that name (``M4 once``)."""
        every = {**self.flaws, **self.spare}
        return {name: flaw for name, flaw in every.items() if rule in (name, name.partition(" ")[0])}
