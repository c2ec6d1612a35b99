"""A lane's thread on parts that fail: it never ends without a word, and never says less than is so."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from processors.faults import (
    LaneStopped,
    Misconfigured,
    Refused,
    Retryable,
    StopCode,
    Unavailable,
    Undecodable,
    UnknownOutcome,
)
from processors.lane.lane import LaneParts
from processors.lane.runner import LaneCondition, LaneLimits, LaneRunner
from processors.ledger.rules import RULES_RELEASE
from processors.metrics import REGISTRY
from processors.troubles import TROUBLES
from tests.waiting import eventually

BUG_AFTER_S = 0.1
BACKOFF_S = (0.02, 0.05, 0.1)
DEADLINE_S = 20.0


class Store:
    """Takes nothing over: each try ends in what the test says."""

    def __init__(self, fault: Exception, on_stop: Exception | None = None) -> None:
        self.fault, self.on_stop = fault, on_stop
        self.stops: list[tuple[StopCode, str]] = []
        self.others: Iterator[Exception | None] = itertools.repeat(None)
        self.tries = 0

    def take_over(self, _topic_id: bytes) -> None:
        self.tries += 1
        raise next(self.others) or self.fault

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

    TROUBLES.clear()

    def make(store: Store) -> LaneRunner:
        parts = SimpleNamespace(
            context=SimpleNamespace(lane=0, known_release=RULES_RELEASE),
            make_gate=lambda: None,
            make_sender=lambda: None,
            admit=None,
            store=store,
            clock_ms=lambda: 0,
            log=SimpleNamespace(topic_id=lambda: bytes(16)),
            courier=SimpleNamespace(close=lambda: None),
        )
        runner = LaneRunner(
            "s1",
            0,
            lambda: cast("LaneParts", parts),
            LaneLimits(stopped_look_s=0.02, bug_after_s=BUG_AFTER_S, backoff_s=BACKOFF_S),
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


def test_rows_that_only_a_later_release_can_read_stop_the_lane(start: Start) -> None:
    store = Store(Undecodable("UNKNOWN_FINGERPRINT", "later"))
    runner = start(store)

    eventually(lambda: store.stops, "the stop is noted", DEADLINE_S)
    assert store.stops[0] == (StopCode.UNKNOWN_VERSION, "Undecodable: UNKNOWN_FINGERPRINT: later")
    eventually(lambda: runner.condition is LaneCondition.STOPPED, "the lane is stopped", DEADLINE_S)
    assert stopped_by(StopCode.UNKNOWN_VERSION) == 1


FAULTS = [
    Refused("connecting: MySQL error 1045: Access denied"),
    Misconfigured("sync_binlog is 0, it must be 1"),
    Unavailable("an UPDATE: MySQL error 1105: the cluster is not ready"),
    Retryable("a statement: MySQL error 2026"),
    UnknownOutcome("committing: MySQL error 9001"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_of_a_server_is_waited_out_and_no_stop_is_stored(start: Start, fault: Exception) -> None:
    store = Store(fault)
    runner = start(store)

    eventually(lambda: store.tries > 3, "it is tried again", DEADLINE_S)
    assert store.stops == []
    assert runner.condition is LaneCondition.ASSIGNING
    assert any(each.detail == str(fault) for each in TROUBLES.now())


@pytest.mark.parametrize("fault", [AssertionError("2 rows, not 1"), LaneStopped(StopCode.BUG, "offset 4: KeyError: 7")])
def test_a_bug_is_called_one_only_after_it_repeated_for_long(start: Start, fault: Exception) -> None:
    store = Store(fault)
    runner = start(store)
    runner_began_s = time.monotonic()

    eventually(lambda: store.stops, "the stop is noted", DEADLINE_S)
    assert time.monotonic() - runner_began_s >= BUG_AFTER_S / 2
    assert store.tries > 2
    eventually(lambda: runner.condition is LaneCondition.STOPPED, "the lane is stopped", DEADLINE_S)


def test_what_looks_like_a_bug_while_a_server_is_in_trouble_is_none(start: Start) -> None:
    store = Store(AssertionError("2 rows, not 1"))
    store.others = itertools.cycle([None, Unavailable("the cluster is not ready")])
    start(store)

    eventually(lambda: store.tries > 4, "it is tried again", DEADLINE_S)
    assert store.stops == []


@pytest.mark.rule("L11")
@pytest.mark.parametrize("on_stop", [Refused("a right is missing"), AssertionError("MySQL error 1064")])
def test_a_stop_that_cannot_be_stored_is_a_stop_all_the_same(start: Start, on_stop: Exception) -> None:
    store = Store(AssertionError("a bug"), on_stop)
    runner = start(store)

    eventually(lambda: store.tries > 2, "it is tried again")  # the thread lives, and looks again
    eventually(lambda: runner.condition is LaneCondition.STOPPED, "the lane is stopped", DEADLINE_S)
    assert stopped_by(StopCode.BUG) == 1
    assert not runner.has_stopped  # so that the process does not end before the stop is stored
    (told,) = [each for each in TROUBLES.now() if each.detail.startswith("BUG")]
    assert (told.subject, told.loud) == ("s1 lane 0", True)
    assert f"not stored yet, since {type(on_stop).__name__}" in told.detail

    store.on_stop = None
    eventually(lambda: runner.has_stopped, "the stop is stored", DEADLINE_S)
    assert not any(each.loud for each in TROUBLES.now())


def test_a_stop_that_was_read_is_not_stored_again_over_an_operators_word(start: Start) -> None:
    store = Store(LaneStopped(StopCode.LOG_GAP, "offset 4", stored=True))
    start(store)

    eventually(lambda: store.tries > 2, "it is tried again")
    assert store.stops == []
    assert stopped_by(StopCode.LOG_GAP) == 1
