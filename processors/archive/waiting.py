"""How a process waits while Cassandra does not answer: payments go on, nothing is lost, an alarm tells how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from processors.faults import Fault, Unavailable
from processors.metrics import ARCHIVE_WAITING_SECONDS
from processors.telemetry import PULSE
from processors.troubles import TROUBLES

# A hiccup costs a fifth of a second; a node that starts is found within five, and is not hurried by those who wait.
FIRST_PAUSE_S = 0.2
PAUSE_MAX_S = 5.0

Found = TypeVar("Found")


class ArchiveWait:
    """Since when there is no answer, and how long to pause before asking again."""

    def __init__(self, process: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin as if Cassandra answered.

        Args:
            process: Who waits.
            clock: Seconds that never go back.
        """
        self._process = process
        self._clock = clock
        self._since_s: float | None = None
        self.pause_s = 0.0

    @property
    def waiting(self) -> bool:
        """Say whether the last request was not answered."""
        return self._since_s is not None

    def failed(self, fault: Fault) -> None:
        """Note that there was no answer."""
        now_s = self._clock()
        if self._since_s is None:
            self._since_s = now_s
        TROUBLES.met(self._process, fault, event="archive_silent")
        self.pause_s = min(max(2 * self.pause_s, FIRST_PAUSE_S), PAUSE_MAX_S)
        ARCHIVE_WAITING_SECONDS.set(now_s - self._since_s)

    def answered(self) -> None:
        """Note that there was an answer."""
        TROUBLES.over(self._process)
        self._since_s = None
        self.pause_s = 0.0
        ARCHIVE_WAITING_SECONDS.set(0)


def until_answered(process: str, ask: Callable[[], Found], stopping: threading.Event) -> Found | None:
    """Ask until Cassandra answers.

    Returns:
        The answer; None where the process was told to stop first.

    Raises:
        Fault: One that waiting does not mend.
    """
    wait = ArchiveWait(process)
    while not stopping.is_set():
        try:
            answer = ask()
        except Unavailable as silent:
            wait.failed(silent)
            PULSE.beat()
            stopping.wait(wait.pause_s)
        else:
            wait.answered()
            return answer
    return None
