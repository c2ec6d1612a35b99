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
from processors.ops.stages import Stage
from processors.ops.status import BetweenStatus, ServerStatus, ServiceStatus, ShardStatus
from processors.ops.supervisor import ChildState, Condition
from processors.ops.under_way import MoveStatus
from processors.stores.shard_reader import Counts


def status(**parts: Any) -> ServiceStatus:
    nothing: dict[str, Any] = {
        "servers": [],
        "processes": [],
        "ports": {},
        "troubles": {},
        "router": RouterStatus(waiting=0, members=1),
        "lanes": [],
        "shards": [],
        "moves": [],
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


def shard_status(shard: str, **parts: Any) -> ShardStatus:
    counts = Counts(journal_rows=0, slices=1, open_holds=0, open_refunds=0, open_transfers=0)
    return ShardStatus(shard=shard, counts=counts, findings=[], **parts)


def between(shard: str, amount_minor: int) -> BetweenStatus:
    return BetweenStatus(shard=shard, account="moved", currency="USD", amount_minor=amount_minor)


def move(**parts: Any) -> MoveStatus:
    values: dict[str, Any] = {
        "placement_key": "acme",
        "generation": 3,
        "source": "s1",
        "target": "s2",
        "stage": Stage.SEALED,
        "begun_ms": time.time_ns() // 1_000_000,
        "parts": 4,
        "parked": 17,
    }
    return MoveStatus(**values | parts)


def test_a_move_is_told_with_where_it_goes_its_stage_and_its_age(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(status(moves=[move(begun_ms=time.time_ns() // 1_000_000 - 30_500)]))

    said = capsys.readouterr().out
    (row,) = [line.split() for line in said.splitlines() if line.startswith("acme ")]
    assert row[:6] == ["acme", "3", "s1", "to", "s2", "SEALED"]
    assert row[-3:] == ["30s", "4", "17"]
    assert "waits for" not in said


def test_a_move_that_should_be_over_is_told_with_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(status(moves=[move(begun_ms=1), move(placement_key="other", stage=None, begun_ms=1)]))

    said = capsys.readouterr().out
    assert "acme waits for a worker of s1: `balance status`, `balance shard show s1`" in said
    assert "other waits for s1 does not answer, so it is not known" in said


def test_where_nothing_moves_and_no_money_is_on_its_way_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(status())
    quiet = capsys.readouterr().out
    print_status(status(moves=None, servers=[ServerStatus(server="Kafka", fault="no answer")]))
    silent = capsys.readouterr().out

    assert ("moves under way: none" in quiet, "money on its way: none" in quiet) == (True, True)
    assert ("moves under way: unknown" in silent, "money on its way: unknown" in silent) == (True, True)


def test_what_is_between_the_shards_is_told_as_their_sum_and_only_if_all_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settled = status(
        shards=[shard_status("s1", between=[between("s1", 500)]), shard_status("s2", between=[between("s2", -500)])]
    )
    on_its_way = status(shards=[shard_status("s1", between=[between("s1", 500)]), shard_status("s2")])
    silent = status(
        shards=[shard_status("s1", between=[between("s1", 500)])],
        servers=[ServerStatus(server="MySQL of s2", fault="no answer")],
    )

    assert [each.between for each in (settled, on_its_way, silent)] == [{}, {("moved", "USD"): 500}, {}]
    print_status(on_its_way)
    assert "money on its way with partners who move: 5.00 USD (@moved)" in capsys.readouterr().out


def test_where_a_batch_spends_its_time_is_shown_of_workers_that_had_any(capsys: pytest.CaptureFixture[str]) -> None:
    way = {"queued": 1.5, "transaction": 6.25, "unpublished": 2.0, "publication": 5.5}

    print_status(status())
    before = capsys.readouterr().out
    print_status(status(stages_ms={"shard-s1": way}))
    shown = capsys.readouterr().out

    assert "a batch's way" not in before
    assert [str(each) for each in way.values()] == shown[shown.index("shard-s1") :].split()[1:5]
