"""Notices a lane that has records to decide and does not move on, although no fault is known that keeps it waiting.

A call of a driver may keep no deadline and never return: librdkafka was seen to wait without end for the answer to a
group's offsets. The lane's own thread, which hangs in that call, cannot tell. The poll thread can, since it waits
for no lane; and where the poll thread hangs, ``/healthz`` says so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Thread
from typing import Protocol

from processors.faults import UnknownOutcome
from processors.troubles import TROUBLES, Troubles

# Longer than a lane is silent by itself: its row is waited for 35 s, and it meets a publication that hangs after 45 s,
# or 10 s later where it is just stopping.
STANDSTILL_S = 60.0
# How much of the limit passes between two looks: 5 s, often enough that the trouble stays one of now (``QUIET_S``).
_LOOKS = 12
# A poll thread comes round within 10 s, whatever it waits for. What passes beyond this many looks, the whole process
# stood still (SIGSTOP, a machine that was suspended), and no lane could move.
_LOOKS_AT_ONCE_MAX = 3


class Moving(Protocol):
    """A lane, as the poll thread sees it (``lane.runner``)."""

    @property
    def has_work(self) -> bool:
        """Say whether something waits for the lane, which is neither stopped nor gone."""

    @property
    def movement(self) -> tuple[object, ...]:
        """Return a value that differs from the last one whenever the lane has moved or has met a fault of its own."""

    @property
    def whereabouts(self) -> str:
        """Say in which function of ours the lane's thread is."""


@dataclass(slots=True)
class _Seen:
    movement: tuple[object, ...]
    still_s: float = 0.0
    told: bool = False


class StandstillWatch:
    """Looks at lanes now and then; for one thread, which must not be a lane's."""

    def __init__(
        self,
        shard: str,
        limit_s: float = STANDSTILL_S,
        *,
        clock: Callable[[], float] = time.monotonic,
        troubles: Troubles = TROUBLES,
    ) -> None:
        """Begin without a look.

        Args:
            shard: The shard's id.
            limit_s: A lane that has work and does not move for so long is told of.
            clock: Seconds that never go back.
            troubles: Where it is told.
        """
        self._shard = shard
        self._limit_s = limit_s
        self._look_s = limit_s / _LOOKS
        self._clock = clock
        self._troubles = troubles
        self._seen: dict[int, _Seen] = {}
        self._looked_s = clock()

    def look_if_due(self, lanes: Mapping[int, Moving]) -> None:
        """Look at the lanes that this process has now, unless that was just done."""
        passed_s = self._clock() - self._looked_s
        if passed_s < self._look_s:
            return
        self._looked_s += passed_s
        for lane in [lane for lane in self._seen if lane not in lanes]:
            self._forget(lane)
        for lane, runner in lanes.items():
            self._look(lane, runner, min(passed_s, self._look_s * _LOOKS_AT_ONCE_MAX))

    def _look(self, lane: int, runner: Moving, passed_s: float) -> None:
        movement, seen = runner.movement, self._seen.get(lane)
        if not runner.has_work or seen is None or seen.movement != movement:
            self._forget(lane)
            self._seen[lane] = _Seen(movement)
            return
        seen.still_s += passed_s
        if seen.still_s >= self._limit_s:
            seen.told = True
            text = f"it has work and has not moved for {self._limit_s:g} s; its thread is in {runner.whereabouts}"
            self._troubles.met(
                "shard",
                UnknownOutcome(text),
                subject=self._subject(lane),
                event="lane_stands_still",
                loud=True,
                advice="if it does not end, start this worker again: nothing is lost or decided twice",
            )

    def _forget(self, lane: int) -> None:
        seen = self._seen.pop(lane, None)
        if seen is not None and seen.told:
            self._troubles.over("shard", subject=self._subject(lane))

    def _subject(self, lane: int) -> str:
        return f"progress of {self._shard} lane {lane}"


def whereabouts(thread: Thread) -> str:
    """Return the innermost function of this service that a thread is in, by module and name.

    For people: it may have gone on by the time it is read.
    """
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and not str(frame.f_globals.get("__name__")).startswith(f"{__name__.partition('.')[0]}."):
        frame = frame.f_back
    if frame is None:
        return "no function of this service"
    return f"{str(frame.f_globals['__name__']).partition('.')[2]}.{frame.f_code.co_qualname}"
