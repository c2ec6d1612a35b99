"""A small explicit-state model checker: every reachable state of a protocol, and the shortest way to a violation.

A *model* is what a protocol may do: from which state it begins, which steps are possible in a state, which states must
never be, and in which everything is done. The checker visits each state that can be reached, breadth first, so that the
first violation it finds is one that takes the fewest steps. There are three kinds:

- a broken *invariant*, such as a command that was decided twice;
- a *deadlock*: a state in which no step is left and not everything is done;
- *no way to the end*: a state from which no series of steps leads to one where everything is done.

Steps are the protocol's own, or *disruptions*: crashes, takeovers, late copies, clocks. Disruptions may come at any
time and need not come at all. So a state that only another crash would mend is a deadlock.

States are immutable and hashable, and equal if nothing tells them apart. No state is left out for symmetry or for the
order of independent steps: there is nothing to prove about the checker but this page.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

# Ten times the largest model here; a model that grows past it has a counter that nothing bounds.
STATES_MAX = 1_000_000

State = TypeVar("State", bound=Hashable)


class Step(NamedTuple, Generic[State]):
    """One possible step: what it is in words, the state it leads to, whether it is a disruption."""

    says: str
    after: State
    is_disruption: bool = False


class Model(Protocol[State]):
    """What a protocol may do; see the module's docstring."""

    def initial(self) -> State:
        """Return the state in which everything begins."""

    def steps(self, state: State, /) -> Iterable[Step[State]]:
        """Return every step that is possible in a state."""

    def violation(self, state: State, /) -> str:
        """Return which invariant the state breaks, empty if none."""

    def is_done(self, state: State, /) -> bool:
        """Say whether everything is done: each command answered, nothing in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check found: ``violation`` is empty if nothing, ``trace`` the steps that lead there."""

    states: int
    steps: int
    violation: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the finding as numbered lines, for people."""
        size = f"{self.states:,} states, {self.steps:,} steps"
        if not self.violation:
            return f"nothing found in {size}"
        lines = [f"{number:3}. {says}" for number, says in enumerate(self.trace, 1)]
        return "\n".join([f"{self.violation}, found after {size}:", *lines])


class _Search(Generic[State]):
    """The states that were met, in order, and how each was come to first."""

    def __init__(self, first: State) -> None:
        self.numbers: dict[State, int] = {first: 0}
        self.found: list[State] = [first]
        self.come_from: list[tuple[int, str]] = [(-1, "")]
        # For each state, the states from which one of the protocol's own steps leads to it.
        self.before: list[list[int]] = [[]]
        self.steps = 0

    def meet(self, number: int, step: Step[State]) -> bool:
        """Note a step from a state; say whether it leads to a state not met yet."""
        self.steps += 1
        after = self.numbers.setdefault(step.after, len(self.found))
        is_new = after == len(self.found)
        if is_new:
            self.found.append(step.after)
            self.come_from.append((number, step.says))
            self.before.append([])
        if not step.is_disruption:
            self.before[after].append(number)
        return is_new

    def report(self, violation: str = "", number: int = 0) -> Report:
        """Return what was found, with the shortest way to a state."""
        trace: list[str] = []
        while violation and number > 0:
            number, says = self.come_from[number]
            trace.append(says)
        return Report(states=len(self.found), steps=self.steps, violation=violation, trace=tuple(reversed(trace)))


def check(model: Model[State]) -> Report:
    """Visit every reachable state of a model, and report the first violation on the shortest way to it.

    Raises:
        AssertionError: There are more than ``STATES_MAX`` states.
    """
    search = _Search(model.initial())
    done: list[int] = []
    number = 0
    while number < len(search.found):
        state = search.found[number]
        if violation := model.violation(state) or _visit(model, state, search, number):
            return search.report(violation, number)
        if model.is_done(state):
            done.append(number)
        number += 1
        assert number <= STATES_MAX, f"more than {STATES_MAX:,} states"
    return _way_to_the_end(search, done)


def _visit(model: Model[State], state: State, search: _Search[State], number: int) -> str:
    """Take every step of a state; return ``deadlock`` if none is the protocol's own and not everything is done."""
    is_moving = False
    for step in model.steps(state):
        search.meet(number, step)
        is_moving |= not step.is_disruption
    return "" if is_moving or model.is_done(state) else "deadlock"


def _way_to_the_end(search: _Search[State], done: list[int]) -> Report:
    """Go backwards from the states where everything is done; report the first state that this does not meet."""
    can_end = bytearray(len(search.found))
    waiting = list(done)
    while waiting:
        number = waiting.pop()
        if not can_end[number]:
            can_end[number] = 1
            waiting.extend(search.before[number])
    missing = can_end.find(0)
    return search.report() if missing < 0 else search.report("no way to the end", missing)
