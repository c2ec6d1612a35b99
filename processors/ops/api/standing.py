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

# What is known is as good as new for so long; then servers are asked anew, once for all who want to know.
FRESH_S = 3.0
# Until then whoever asks gets what is known, at once, while it is asked anew; later he waits, as the first one does.
STALE_S = 30.0


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
        self,
        look: Callable[[], ServiceSeen],
        letters: Callable[[Mapping[int, int], int], LettersPage],
        *,
        fresh_s: float = FRESH_S,
    ) -> None:
        """Hold the ways to look.

        Args:
            look: Takes up to some seconds, where servers are silent.
            letters: As ``Observatory.letters``.
            fresh_s: For how long what was seen is as good as new.
        """
        self._fresh_s = fresh_s
        self._look = look
        self._letters = letters
        self._looking = threading.Lock()
        self._last: tuple[float, ServiceSeen] | None = None

    def standing(self) -> ServiceSeen:
        """Return how the service stands, or stood at most ``STALE_S`` ago, as ``seen_ms`` says."""
        age_s, seen = self._known()
        if seen is None or age_s > STALE_S:
            with self._looking:
                age_s, seen = self._known()  # whoever was first has looked for the others, too
                return seen if seen is not None and age_s <= self._fresh_s else self._look_again()
        if age_s > self._fresh_s and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look_behind, name="observed", daemon=True).start()
        return seen

    def _known(self) -> tuple[float, ServiceSeen | None]:
        return (0.0, None) if self._last is None else (time.monotonic() - self._last[0], self._last[1])

    def _look_behind(self) -> None:
        """Look in a thread of its own, which releases what its starter has taken."""
        try:
            self._look_again()
        finally:
            self._looking.release()

    def _look_again(self) -> ServiceSeen:
        found = self._look()
        if self._last is not None:
            found = replace(found, per_second=_per_second(self._last[1], found))
        self._last = (time.monotonic(), found)
        return found

    def letters(self, before: Mapping[int, int], letters_max: int) -> LettersPage:
        """Return the latest dead letters."""
        return self._letters(before, letters_max)


def _per_second(before: ServiceSeen, now: ServiceSeen) -> int:
    """Return how fast lanes went between two looks; of a lane that one of them lacks nothing is known."""
    began = {(lane.shard, lane.lane): lane.next_offset for lane in before.status.lanes}
    steps = [lane.next_offset - began.get((lane.shard, lane.lane), lane.next_offset) for lane in now.status.lanes]
    return max(0, sum(steps)) * 1_000 // max(1, now.seen_ms - before.seen_ms)
