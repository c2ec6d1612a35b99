"""How the auditor rests between its steps, and what it tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from processors.metrics import metrics_page
from processors.recovery.checks import Check
from processors.workers.auditor import BrokenOffError, Pace, audit


@dataclass(slots=True)
class Clock:
    """A clock that goes on only where work is done."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class Resting(threading.Event):
    """Never waits, but says for how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked_s.append(timeout or 0.0)
        return True


@pytest.mark.parametrize(("load_percent", "rests_s"), [(10, 0.45), (50, 0.05)])
def test_it_rests_as_its_share_of_the_time_asks_for(load_percent: int, rests_s: float) -> None:
    clock, stopping = Clock(), Resting()
    pace = Pace(stopping, load_percent=load_percent, clock=clock)
    pace.step("lane 0", 1)  # nothing was worked yet
    assert stopping.asked_s == []
    clock.now_s += 0.05
    pace.step("lane 0", 2)
    assert stopping.asked_s[0] == pytest.approx(rests_s, abs=0.01)


def test_a_round_is_broken_off_when_the_process_is_to_stop() -> None:
    stopping = threading.Event()
    pace = Pace(stopping, load_percent=100)
    pace.step("lane 0", 1)
    stopping.set()
    with pytest.raises(BrokenOffError):
        pace.step("lane 0", 2)


def proving(*checks: Check) -> Callable[[Callable[[str, int], None]], Sequence[Check]]:
    return lambda _step: checks


def test_what_it_finds_stands_in_its_metrics_until_a_round_is_clean() -> None:
    pace = Pace(threading.Event(), load_percent=100)
    good = Check(name="balances", counted=3, wrong=0, details=())
    bad = Check(name="columns", counted=3, wrong=2, details=("offset 1", "offset 2"))
    lacks = Check(name="results", counted=3, wrong=0, details=(), incomplete=("lane 0",))
    for now_ms, checks, wrong, incomplete, until in (
        (1_000, (good,), 0, 0, 1.0),
        (2_000, (good, bad, lacks), 2, 1, 1.0),
        (3_000, (good, lacks), 0, 1, 1.0),
        (4_000, (good,), 0, 0, 4.0),
    ):
        audit("s-audited", proving(*checks), pace, now_ms=now_ms)
        page = metrics_page("auditor-s1").decode()
        assert f'balance_audit_wrong{{shard="s-audited"}} {wrong}.0' in page
        assert f'balance_audit_incomplete{{shard="s-audited"}} {incomplete}.0' in page
        assert f'balance_audit_proven_until_seconds{{shard="s-audited"}} {until}' in page
