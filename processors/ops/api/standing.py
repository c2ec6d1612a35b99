"""How the service stands, for whoever asks over HTTP: asked of every server at most once in some seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from processors.lookup.archived import LaneArchived
from processors.ops.dead_letters import LettersPage
from processors.ops.status import ServiceStatus

# What is known may be so old; then it is asked anew, by one asker for all of them.
FRESH_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSeen:
    """What was known at ``seen_ms``, ms since the epoch; ``archived`` is None where a server that says so is silent.

    ``per_second`` is how many records lanes have decided a second since the look before; None at the first one.
    """

    status: ServiceStatus
    archived: list[LaneArchived] | None
    seen_ms: int
    per_second: int | None = None


class Observatory(Protocol):
    """What looks at the whole service: all of it besides partners' money."""

    def standing(self) -> ServiceSeen:
        """Return how the service stands."""

    def letters(self, before: Mapping[int, int], letters_max: int) -> LettersPage:
        """Return the latest dead letters, as ``dead_letters.letters_page`` does."""


class Observed:
    """Remembers for a moment how the service stands."""

    def __init__(
        self, look: Callable[[], ServiceSeen], letters: Callable[[Mapping[int, int], int], LettersPage]
    ) -> None:
        """Hold the ways to look.

        Args:
            look: Takes up to some seconds, where servers are silent.
            letters: As ``Observatory.letters``.
        """
        self._look = look
        self._letters = letters
        self._lock = threading.Lock()
        self._last: tuple[float, ServiceSeen] | None = None

    def standing(self) -> ServiceSeen:
        """Return how the service stands, or stood some seconds ago; whoever comes while it is asked waits for it."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > FRESH_S:
                found = self._look()
                if self._last is not None:
                    found = replace(found, per_second=_per_second(self._last[1], found))
                self._last = (time.monotonic(), found)
            return self._last[1]

    def letters(self, before: Mapping[int, int], letters_max: int) -> LettersPage:
        """Return the latest dead letters."""
        return self._letters(before, letters_max)


def _per_second(before: ServiceSeen, now: ServiceSeen) -> int:
    """Return how fast lanes went between two looks; of a lane that one of them lacks nothing is known."""
    began = {(lane.shard, lane.lane): lane.next_offset for lane in before.status.lanes}
    steps = [lane.next_offset - began.get((lane.shard, lane.lane), lane.next_offset) for lane in now.status.lanes]
    return max(0, sum(steps)) * 1_000 // max(1, now.seen_ms - before.seen_ms)
