"""What a proof found: a check for each kind, with how many rows were looked at, how many are wrong, and a sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

DETAILS_MAX = 10  # findings named per check; the count is of all

Verdict = Literal["proven", "wrong", "INCOMPLETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was proven or refuted.

    ``counted`` says over how many rows, ``details`` are some of what was wrong, ``incomplete`` is what could not be
    compared, each a sentence.
    """

    name: str
    counted: int
    wrong: int
    details: tuple[str, ...]
    incomplete: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Say whether all was compared, and nothing was wrong."""
        return self.verdict == "proven"

    @property
    def verdict(self) -> Verdict:
        """Say in a word what came of it; where something is wrong, that it is not complete comes second."""
        if self.wrong:
            return "wrong"
        return "INCOMPLETE" if self.incomplete else "proven"


@dataclass(slots=True)
class Tally:
    """Counts what a check looked at and what it found."""

    name: str
    counted: int = 0
    wrong: int = 0
    details: list[str] = field(default_factory=list)
    incomplete: set[str] = field(default_factory=set)

    def refute(self, told: str) -> None:
        """Count one thing that is wrong, and keep what is told of it while it is among the first."""
        self.wrong += 1
        if len(self.details) < DETAILS_MAX:
            self.details.append(told)

    def lacks(self, told: str) -> None:
        """Note what could not be compared."""
        self.incomplete.add(told)

    def check(self) -> Check:
        """Return what came of it, so that the same findings print the same."""
        return Check(
            name=self.name,
            counted=self.counted,
            wrong=self.wrong,
            details=tuple(sorted(self.details)),
            incomplete=tuple(sorted(self.incomplete)),
        )
