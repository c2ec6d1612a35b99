"""A process begins anew after a fault of a server, and ends for what it finds wrong at its start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from processors.faults import Fenced, Misconfigured, Refused, Retryable, Unavailable, UnknownOutcome
from processors.ops.running import BUG_AFTER_S, Persistence
from processors.telemetry import PULSE, Pulse


class Work:
    """Ends in what it is told to, one after the other, and then well."""

    def __init__(self, *ends: Exception, before: Callable[[], object] = lambda: None) -> None:
        self.ends, self.before, self.tries = list(ends), before, 0

    def __call__(self, _stopping: threading.Event) -> int:
        self.tries += 1
        self.before()
        if self.ends:
            raise self.ends.pop(0)
        return 0


def persistence(
    stopping: threading.Event, *, pulse: Pulse = PULSE, clock: Callable[[], float] = time.monotonic
) -> Persistence:
    """Wait as long as a test can."""
    return Persistence("router", stopping, pulse=pulse, clock=clock, backoff_s=(0.01, 0.02))


FAULTS = [
    Unavailable("a statement: MySQL error 9001"),
    Refused("connecting: MySQL error 1045"),
    Retryable("a deadlock"),
    UnknownOutcome("delivery to a topic"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_of_a_server_ends_no_process(fault: Exception) -> None:
    work = Work(fault, fault)

    assert persistence(threading.Event()).run(work) == 0
    assert work.tries == 3


def test_what_is_found_wrong_before_the_first_round_ends_the_process() -> None:
    work = Work(Misconfigured("there is no topic: run `balance init`"))

    with pytest.raises(Misconfigured):
        persistence(threading.Event(), pulse=Pulse()).run(work)


def test_what_is_found_wrong_later_ends_no_process() -> None:
    pulse = Pulse()
    work = Work(Misconfigured("topic t has 8 partitions"), before=pulse.beat)

    assert persistence(threading.Event(), pulse=pulse).run(work) == 0
    assert work.tries == 2


def test_another_process_under_the_same_name_ends_this_one() -> None:
    with pytest.raises(Fenced):
        persistence(threading.Event()).run(Work(Fenced("instance")))


def test_a_fault_after_the_word_to_stop_is_not_tried_again() -> None:
    stopping = threading.Event()
    work = Work(Unavailable("not acknowledged in time"), before=stopping.set)

    with pytest.raises(Unavailable):
        persistence(stopping).run(work)
    assert work.tries == 1


class Clock:
    """Moves on by some seconds with each look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += BUG_AFTER_S / 13
        return self.now_s


def test_a_bug_ends_the_process_only_after_it_repeated_for_minutes() -> None:
    work = Work(*[AssertionError("a bug")] * 100)

    with pytest.raises(AssertionError):
        persistence(threading.Event(), clock=Clock()).run(work)
    assert work.tries > 1


def test_the_wait_does_not_look_like_a_process_that_hangs() -> None:
    pulse = Pulse()
    pulse.beat()
    persistence(threading.Event(), pulse=pulse).run(Work(Unavailable("away")))

    assert pulse.silent_s < 5.0
