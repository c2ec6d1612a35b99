"""Lanes worked on side by side, in real processes: what they tell, and what becomes of them when one fails."""

from __future__ import annotations

import os
import signal
import time

import pytest

from processors.faults import LaneStopped, Misconfigured, StopCode, Unavailable
from processors.ops.lane_processes import LaneWork, Tell, work_side_by_side

FOREVER_S = 600.0


def count(lane: int, tell: Tell) -> None:
    for number in range(3):
        tell((lane, number, os.getpid()))


def stop(lane: int, tell: Tell) -> None:
    tell((lane, 0, os.getpid()))
    raise LaneStopped(StopCode.LOG_GAP, "offset 7 is missing")


def refuse(lane: int, tell: Tell) -> None:
    del tell
    raise Misconfigured(f"{lane} is no lane of mine")


def be_killed(lane: int, tell: Tell) -> None:
    del lane, tell
    os.kill(os.getpid(), signal.SIGKILL)


def go_on(lane: int, tell: Tell) -> None:
    tell((lane, 0, os.getpid()))
    time.sleep(FOREVER_S)


def works(*of_lanes: object) -> list[LaneWork]:
    return [LaneWork(lane=lane, work=work, arguments=(lane,)) for lane, work in enumerate(of_lanes)]  # type: ignore[arg-type]


@pytest.mark.parametrize("processes_max", [1, 2])
def test_each_lane_is_worked_on_in_a_process_of_its_own_and_all_that_they_tell_comes(processes_max: int) -> None:
    told: list[tuple[int, int, int]] = []
    work_side_by_side(works(count, count, count), processes_max=processes_max, tell=told.append)

    assert sorted((lane, number) for lane, number, _ in told) == [
        (lane, each) for lane in range(3) for each in range(3)
    ]
    assert len({pid for _, _, pid in told} | {os.getpid()}) == 4


@pytest.mark.parametrize("processes_max", [1, 2])
def test_a_lane_that_stops_is_told_with_its_code_once_the_others_are_done(processes_max: int) -> None:
    told: list[tuple[int, int, int]] = []
    with pytest.raises(LaneStopped, match="lane 0: offset 7 is missing; the other 2 lanes went on") as stopped:
        work_side_by_side(works(stop, count, count), processes_max=processes_max, tell=told.append)

    assert stopped.value.code is StopCode.LOG_GAP
    assert [number for lane, number, _ in sorted(told) if lane] == [0, 1, 2, 0, 1, 2]


def test_of_several_lanes_that_stop_each_is_told() -> None:
    with pytest.raises(LaneStopped) as stopped:
        work_side_by_side(works(stop, stop), processes_max=2, tell=lambda _told: None)
    assert sorted(stopped.value.detail.split("; ")) == [f"lane {lane}: offset 7 is missing" for lane in (0, 1)]


def test_another_fault_of_a_lane_ends_the_others() -> None:
    told: list[tuple[int, int, int]] = []
    with pytest.raises(Misconfigured, match="1 is no lane of mine"):
        work_side_by_side(works(go_on, refuse), processes_max=2, tell=told.append)
    for _, _, pid in told:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_fault_of_a_lane_is_raised_here_as_what_it_is() -> None:
    with pytest.raises(Misconfigured, match="0 is no lane of mine"):
        work_side_by_side(works(refuse), processes_max=1, tell=lambda _told: None)


def test_a_process_that_is_killed_is_told() -> None:
    with pytest.raises(Unavailable, match="the process of lane 0 ended with -9"):
        work_side_by_side(works(be_killed), processes_max=1, tell=lambda _told: None)
