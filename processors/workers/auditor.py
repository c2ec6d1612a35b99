"""Proves a shard's books all the time, at a bounded cost, and says up to when everything is proven.

Each round goes on from where the last one ended (V5), and rests between its steps, so that it takes no more than a
share of a core. What is wrong, or could not be compared, stands in metrics and in the log; the next round finds it
again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from processors.faults import Fault, Misconfigured
from processors.metrics import AUDIT_INCOMPLETE, AUDIT_PROVEN_UNTIL, AUDIT_WRONG
from processors.telemetry import PULSE, get_logger
from processors.troubles import TROUBLES

log = get_logger(__name__)

WORKED_MIN_S = 0.05  # between two rests: shorter ones would be mostly waking up
PULSE_EVERY_S = 5.0
DETAILS_LOGGED = 3  # of a check, in a line of the log; `balance verify` has more


class AuditedCheck(Protocol):
    """What came of one check (``recovery.checks.Check``)."""

    @property
    def name(self) -> str:
        """Return what was proven."""

    @property
    def wrong(self) -> int:
        """Return how much is wrong."""

    @property
    def details(self) -> tuple[str, ...]:
        """Return some of it."""

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Return what could not be compared."""


Prove = Callable[[Callable[[str, int], None]], Sequence[AuditedCheck]]


class BrokenOffError(Exception):
    """The process is to stop: the round ends where it is, and what it kept counts."""


class Pace:
    """Keeps what a round takes below a share of a core, by resting after each step."""

    def __init__(
        self,
        stopping: threading.Event,
        *,
        load_percent: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to work now.

        Args:
            stopping: Set to break off.
            load_percent: Of the time that is worked, 1 to 100; the rest is rested.
            clock: Seconds that never go back.
        """
        self._stopping = stopping
        self._rest_for_each = (100 - load_percent) / load_percent
        self._clock = clock
        self._since_s = clock()

    def step(self, _what: str, _rows: int) -> None:
        """Rest as long as the work since the last rest asks for.

        Raises:
            BrokenOffError: The process is to stop.
        """
        worked_s = self._clock() - self._since_s
        if worked_s >= WORKED_MIN_S:
            PULSE.beat()
            rest(worked_s * self._rest_for_each, self._stopping)
            self._since_s = self._clock()
        if self._stopping.is_set():
            raise BrokenOffError


def audit(shard: str, prove: Prove, pace: Pace, *, now_ms: int) -> None:
    """Prove what is not proven yet, once, and tell what came of it.

    Args:
        shard: Its id.
        prove: Does it, told whom to tell after each step.
        pace: Rests between the steps.
        now_ms: Wall clock: what was decided before is proven, where nothing is wrong and all could be compared.
    """
    checks = prove(pace.step)
    wrong, incomplete = sum(each.wrong for each in checks), sum(len(each.incomplete) for each in checks)
    AUDIT_WRONG.labels(shard).set(wrong)
    AUDIT_INCOMPLETE.labels(shard).set(incomplete)
    for each in checks:
        if each.wrong:
            found = list(each.details[:DETAILS_LOGGED])
            log.error("audit_found", shard=shard, check=each.name, wrong=each.wrong, found=found)
        if each.incomplete:
            log.warning("audit_incomplete", shard=shard, check=each.name, lacks=list(each.incomplete))
    if not wrong and not incomplete:
        AUDIT_PROVEN_UNTIL.labels(shard).set(now_ms / 1_000)


def run(shard: str, prove: Prove, stopping: threading.Event, *, interval_ms: int, load_percent: int) -> None:
    """Audit a shard until told to stop; a server that is away is waited for.

    Args:
        shard: Its id.
        prove: Proves once.
        stopping: Set to end, in the midst of a round, too.
        interval_ms: From the end of a round to the next.
        load_percent: The share of the time that a round works, 1 to 100.

    Raises:
        Misconfigured: The database is not of this release, or is another shard's.
    """
    for metric in (AUDIT_WRONG, AUDIT_INCOMPLETE, AUDIT_PROVEN_UNTIL):
        metric.labels(shard)
    while not stopping.is_set():
        try:
            audit(shard, prove, Pace(stopping, load_percent=load_percent), now_ms=time.time_ns() // 1_000_000)
            TROUBLES.over("auditor")
        except BrokenOffError:
            return
        except Misconfigured:
            raise
        except Fault as fault:  # of reading, whatever it is: the next round begins anew
            TROUBLES.met("auditor", fault, event="audit_waits")
        rest(interval_ms / 1_000, stopping)


def rest(seconds: float, stopping: threading.Event) -> None:
    """Wait, with a pulse that does not look like a process that hangs."""
    ends_s = time.monotonic() + seconds
    while (left_s := ends_s - time.monotonic()) > 0 and not stopping.is_set():
        PULSE.beat()
        stopping.wait(min(left_s, PULSE_EVERY_S))
