"""The checker finds each kind of violation, on the shortest way, in a game that everybody can play in his head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.models.checker import Report, Step, check


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Someone walks on the numbers from 0 to 9, wants to get to 9, and may meet a wall, a swamp or a cliff."""

    moves: tuple[int, ...] = (1, 2)
    wall: int = -1  # no step leads away from here
    swamp: frozenset[int] = frozenset()  # one walks in circles here
    cliff: int = -1
    gust: int = -1  # the wind takes one from here to 9

    def initial(self) -> int:
        return 0

    def steps(self, place: int) -> Iterator[Step[int]]:
        if place in self.swamp:
            yield from (Step(f"wade to {other}", other) for other in sorted(self.swamp))
        elif place != self.wall:
            yield from (Step(f"walk to {place + move}", place + move) for move in self.moves if place + move <= 9)
        if place == self.gust:
            yield Step("fly to 9", 9, is_disruption=True)

    def violation(self, place: int) -> str:
        return "fell" if place == self.cliff else ""

    def is_done(self, place: int) -> bool:
        return place == 9


def test_nothing_is_found_where_nothing_is_wrong_and_every_state_is_counted() -> None:
    assert check(Walk()) == Report(states=10, steps=17)


def test_the_way_into_a_wrong_state_is_the_shortest() -> None:
    report = check(Walk(cliff=4))

    assert (report.violation, report.trace) == ("fell", ("walk to 2", "walk to 4"))


def test_a_state_without_a_step_is_a_deadlock_unless_all_is_done() -> None:
    report = check(Walk(wall=3))

    assert (report.violation, report.trace) == ("deadlock", ("walk to 1", "walk to 3"))


def test_a_disruption_does_not_count_as_a_way_out() -> None:
    assert check(Walk(wall=3, gust=3)).violation == "deadlock"


def test_walking_in_circles_for_ever_has_no_way_to_the_end() -> None:
    report = check(Walk(moves=(1, 3), swamp=frozenset({5, 6})))

    assert (report.violation, report.trace) == ("no way to the end", ("walk to 3", "walk to 6"))


def test_a_report_reads_as_numbered_steps() -> None:
    assert str(check(Walk(cliff=2))) == "fell, found after 4 states, 4 steps:\n  1. walk to 2"
