"""A lane's thread on parts that fail: it never ends without a word, and never says less than is so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest

from processors.faults import LaneStopped, Misconfigured, StopCode, Undecodable
from processors.telemetry import REGISTRY
from processors.wire.admission import admit
from processors.wire.signature import KeyRing
from processors.workers.lane import LaneParts
from processors.workers.lane_runner import LaneCondition, LaneLimits, LaneRunner
from tests.waiting import eventually


class Store:
    """Takes nothing over: each try ends in what the test says."""

    def __init__(self, fault: Exception, on_stop: Exception | None = None) -> None:
        self.fault, self.on_stop = fault, on_stop
        self.stops: list[tuple[StopCode, str]] = []
        self.tries = 0

    def take_over(self, _topic_id: bytes) -> None:
        self.tries += 1
        raise self.fault

    def stop(self, code: StopCode, detail: str) -> None:
        if self.on_stop is not None:
            raise self.on_stop
        self.stops.append((code, detail))

    def close(self) -> None:
        pass


Start = Callable[[Store], LaneRunner]


@pytest.fixture
def start() -> Iterator[Start]:
    runners: list[LaneRunner] = []

    def make(store: Store) -> LaneRunner:
        parts = SimpleNamespace(
            context=SimpleNamespace(lane=0), store=store, log=SimpleNamespace(topic_id=lambda: bytes(16))
        )
        runner = LaneRunner(
            "s1",
            0,
            lambda: cast("LaneParts", parts),
            LaneLimits(stopped_look_s=0.02),
            admit=partial(admit, keyring=KeyRing(signing="", keys={}), lane=0, lanes=1),
            on_taken=lambda: None,
        )
        runners.append(runner)
        return runner

    yield make
    for runner in runners:
        runner.end(drop=True)
        assert runner.join(5.0)


def stopped_by(code: StopCode) -> float | None:
    return REGISTRY.get_sample_value("balance_lane_stopped", {"shard": "s1", "lane": "0", "code": code.value})


@pytest.mark.parametrize("fault", [Misconfigured("a right is missing"), Undecodable("UNKNOWN_FINGERPRINT", "later")])
def test_what_waiting_does_not_mend_stops_the_lane(start: Start, fault: Exception) -> None:
    store = Store(fault)
    runner = start(store)

    eventually(lambda: store.stops, "the stop is noted")
    assert store.stops[0] == (StopCode.MISCONFIGURED, f"{type(fault).__name__}: {fault}")
    eventually(lambda: runner.condition is LaneCondition.STOPPED, "the lane is stopped")
    assert stopped_by(StopCode.MISCONFIGURED) == 1


@pytest.mark.rule("L11")
@pytest.mark.parametrize("on_stop", [Misconfigured("a right is missing"), AssertionError("MySQL error 9999")])
def test_a_stop_that_cannot_be_stored_is_a_stop_all_the_same(start: Start, on_stop: Exception) -> None:
    store = Store(AssertionError("a bug"), on_stop)
    runner = start(store)

    eventually(lambda: store.tries > 2, "it is tried again")  # the thread lives, and looks again
    eventually(lambda: runner.condition is LaneCondition.STOPPED, "the lane is stopped")
    assert stopped_by(StopCode.BUG) == 1


def test_a_stop_that_was_read_is_not_stored_again_over_an_operators_word(start: Start) -> None:
    store = Store(LaneStopped(StopCode.LOG_GAP, "offset 4", stored=True))
    start(store)

    eventually(lambda: store.tries > 2, "it is tried again")
    assert store.stops == []
    assert stopped_by(StopCode.LOG_GAP) == 1
