"""A lane that has work and does not move is heard of, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event, Thread

import pytest

from processors.lane.standstill import STANDSTILL_S, StandstillWatch, whereabouts
from processors.troubles import Troubles
from processors.workers.shard import HOLD_S
from tests.clock import Clock
from tests.waiting import eventually


@dataclass(slots=True)
class Lane:
    """A lane as it is seen: its offset, and whether something waits for it."""

    next_offset: int = 0
    has_work: bool = True
    whereabouts: str = "stores.lane_store.finish"

    @property
    def movement(self) -> tuple[object, ...]:
        return (self.next_offset,)


class Watched:
    """A watch whose poll thread comes round once a second."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.troubles = Troubles(self.clock)
        self.lanes: dict[int, Lane] = {3: Lane()}
        self._watch = StandstillWatch("s1", clock=self.clock, troubles=self.troubles)

    def pass_s(self, seconds: float, every_s: float = 1.0) -> None:
        for _ in range(int(seconds / every_s)):
            self.clock.now_s += every_s
            self._watch.look_if_due(self.lanes)

    @property
    def told(self) -> list[str]:
        assert all(each.loud for each in self.troubles.now())
        return [each.subject for each in self.troubles.now()]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_lane_that_has_work_and_does_not_move_is_told_of_until_it_moves(watched: Watched) -> None:
    watched.pass_s(STANDSTILL_S - 5)
    assert watched.told == []
    watched.pass_s(15)
    (told,) = watched.troubles.now()
    assert (told.process, told.fault, told.loud) == ("shard", "UnknownOutcome", True)
    assert told.subject == "progress of s1 lane 3"
    assert told.detail == "it has work and has not moved for 60 s; its thread is in stores.lane_store.finish"

    watched.pass_s(600)
    (still,) = watched.troubles.now()
    assert still.times > told.times
    watched.lanes[3].next_offset += 1
    watched.pass_s(5)
    assert watched.told == []


def test_a_lane_that_moves_now_and_then_is_not_told_of(watched: Watched) -> None:
    for _ in range(10):
        watched.pass_s(STANDSTILL_S - 10)
        watched.lanes[3].next_offset += 1

    assert watched.told == []


def test_a_lane_without_work_may_rest_for_as_long_as_it_likes(watched: Watched) -> None:
    watched.lanes[3].has_work = False
    watched.pass_s(10 * STANDSTILL_S)
    watched.lanes[3].has_work = True
    watched.pass_s(STANDSTILL_S - 5)

    assert watched.told == []


def test_other_lanes_that_move_hide_none_that_does_not(watched: Watched) -> None:
    watched.lanes[4] = Lane()
    for _ in range(20):
        watched.pass_s(10)
        watched.lanes[4].next_offset += 1

    assert watched.told == ["progress of s1 lane 3"]


def test_a_lane_that_was_given_away_stands_still_here_no_more(watched: Watched) -> None:
    watched.pass_s(2 * STANDSTILL_S)
    assert watched.told
    watched.lanes.clear()
    watched.pass_s(5)

    assert watched.told == []


def test_a_process_that_was_paused_says_nothing_of_its_lanes(watched: Watched) -> None:
    watched.pass_s(10)
    watched.pass_s(3_600, every_s=3_600)  # SIGSTOP, SIGCONT

    assert watched.told == []


def test_a_poll_thread_that_comes_round_seldom_notices_it_all_the_same(watched: Watched) -> None:
    watched.pass_s(2 * STANDSTILL_S, every_s=HOLD_S + 6)

    assert watched.told == ["progress of s1 lane 3"]


def test_whereabouts_name_the_innermost_function_of_ours() -> None:
    enough = Event()
    troubles = Troubles(clock=lambda: 0.0 if enough.wait() else 1.0)
    thread = Thread(target=troubles.now)
    thread.start()

    eventually(lambda: whereabouts(thread) == "troubles.Troubles.now", "it waits")

    enough.set()
    thread.join()
    assert whereabouts(thread) == "no function of this service"
