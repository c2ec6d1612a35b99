"""How the service is doing is told as far as servers answer; one that does not costs seconds, and its own row only."""

from __future__ import annotations

import threading
import time

import pytest

from processors.faults import WAITING_FOR_A_TIME, StopCode, Unavailable, next_step
from processors.ops.side_by_side import Asked
from processors.ops.status import ServerStatus, ServiceStatus


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def test_an_answer_and_a_fault_are_told() -> None:
    def silent() -> int:
        raise Unavailable("nobody listens")

    answered, failed = Asked(lambda: 17), Asked(silent)

    assert answered.answer(soon()) == 17
    fault = failed.answer(soon())
    assert isinstance(fault, Unavailable)
    assert str(fault) == "nobody listens"


def test_a_server_that_says_nothing_is_a_fault_when_its_time_is_over() -> None:
    never = threading.Event()

    assert isinstance(Asked(never.wait).answer(soon(0.05)), Unavailable)
    never.set()


def test_questions_are_asked_at_the_same_time() -> None:
    both = threading.Barrier(2)
    asked = [Asked(lambda: both.wait(30)), Asked(lambda: both.wait(30))]

    assert {each.answer(soon()) for each in asked} == {0, 1}


def test_a_bug_in_a_question_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Asked(lambda: 1 // 0).answer(soon())


@pytest.mark.parametrize(("fault", "good"), [("", True), ("no answer in time", False)])
def test_a_server_that_does_not_answer_is_a_fault_of_the_service(fault: str, good: bool) -> None:
    found = ServiceStatus(
        servers=[ServerStatus(server="Kafka", fault=fault)],
        processes=[],
        troubles={},
        lanes=[],
        shards=[],
        sink=[],
        raised=[],
    )

    assert found.good is good


@pytest.mark.parametrize("code", WAITING_FOR_A_TIME)
def test_the_next_step_of_a_lane_that_waits_for_times_names_all_of_them(code: StopCode) -> None:
    told = next_step(code, shard="s1", lane=3, offset=17)

    assert "balance lane release --shard s1 3 17 TIME (--all TIME where several records wait)" in told
