"""How the service is doing is told as far as servers answer; one that does not costs seconds, and its own row only."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from processors.faults import WAITING_FOR_A_TIME, StopCode, Unavailable, next_step
from processors.ops.backlog import RouterStatus
from processors.ops.cli.operating import print_status
from processors.ops.side_by_side import Asked
from processors.ops.status import ServerStatus, ServiceStatus
from processors.ops.supervisor import ChildState, Condition


def status(**parts: Any) -> ServiceStatus:
    nothing: dict[str, Any] = {
        "servers": [],
        "processes": [],
        "ports": {},
        "troubles": {},
        "router": RouterStatus(waiting=0, members=1),
        "lanes": [],
        "shards": [],
        "sink": [],
        "raised": [],
        "unknown_shards": [],
    }
    return ServiceStatus(**nothing | parts)


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
    found = status(servers=[ServerStatus(server="Kafka", fault=fault)])

    assert found.good is good


def test_a_shard_that_the_settings_here_do_not_know_is_to_be_looked_at() -> None:
    assert not status(unknown_shards=["s3"]).good


@pytest.mark.parametrize("code", WAITING_FOR_A_TIME)
def test_the_next_step_of_a_lane_that_waits_for_times_names_all_of_them(code: StopCode) -> None:
    told = next_step(code, shard="s1", lane=3, offset=17)

    assert "balance lane release --shard s1 3 17 TIME (--all TIME where several records wait)" in told


def test_nothing_runs_here_is_said_where_the_processes_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(status())

    assert "none was started on this machine by `balance up`" in capsys.readouterr().out


def test_each_process_is_shown_with_its_port(capsys: pytest.CaptureFixture[str]) -> None:
    router = ChildState(
        name="router", condition=Condition.RUNNING, restarts=0, failing=False, last_end="", log="router.log"
    )
    print_status(status(processes=[router], ports={"router": 40_123}))

    said = capsys.readouterr().out
    (row,) = [line for line in said.splitlines() if "40123" in line]
    assert "router" in row
    assert "/metrics" in said
    assert "none was started" not in said


@pytest.mark.parametrize(
    ("router", "said", "warned"),
    [
        (RouterStatus(waiting=3, members=0), "3 records of balance.commands wait, and no router is there", True),
        (RouterStatus(waiting=0, members=0), "0 records of balance.commands wait to be forwarded", False),
        (RouterStatus(waiting=3, members=2), "wait to be forwarded; routers in their group: 2", False),
        (RouterStatus(fault="no right"), "what waits is unknown: no right", False),
        (RouterStatus(), "what waits is unknown", False),
    ],
)
def test_what_waits_for_the_router_is_told_and_no_fault(
    capsys: pytest.CaptureFixture[str], router: RouterStatus, said: str, warned: bool
) -> None:
    found = status(router=router)
    print_status(found)

    assert said in capsys.readouterr().out
    assert (found.good, router.stands_still) == (True, warned)
