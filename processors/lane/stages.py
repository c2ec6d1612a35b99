"""How long each batch of a lane takes from stage to stage, from its intake to its published results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum


class LaneStage(StrEnum):
    """What a batch waits for or goes through, in this order; the value is a metric's label."""

    QUEUED = "queued"  # its first record is read, and waits for the lane
    TRANSACTION = "transaction"  # rows loaded, decided, written and committed in MySQL
    UNPUBLISHED = "unpublished"  # committed, and waits for the publication before its own
    PUBLICATION = "publication"  # the Kafka transaction that makes its results visible


class StageClock:
    """Tells each stage's seconds of a lane's batches, as they are told of by their offsets.

    The lane's thread tells what is taken and committed, the publish thread what is published. What is answered again is
    never committed here, and what a restored database decides again is never published: neither is measured there.
    """

    def __init__(
        self,
        observe: Callable[[LaneStage, float], None] = lambda _stage, _seconds: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing under way.

        Args:
            observe: Told each stage's seconds, once a batch.
            clock_s: Never goes back.
        """
        self._observe = observe
        self._clock_s = clock_s
        self._taken: deque[tuple[int, float]] = deque()  # the offset after a take, and when it was
        self._committed: deque[tuple[int, float]] = deque()  # the offset after a batch, and when it was durable

    def begin(self) -> None:
        """Forget what was under way: the lane is assigned anew."""
        self._taken.clear()
        self._committed.clear()

    def taken(self, next_offset: int, taken_s: float, queued_s: float) -> None:
        """Note that records up to below an offset were taken at some time; the first of them had waited for so long."""
        self._observe(LaneStage.QUEUED, queued_s)
        self._taken.append((next_offset, taken_s))

    def committed(self, next_offset: int) -> None:
        """Note that a batch is durable; several may come of one take."""
        now_s = self._clock_s()
        since_s = self._taken[0][1] if self._taken else None
        while self._taken and self._taken[0][0] <= next_offset:
            since_s = self._taken.popleft()[1]
        if since_s is not None:
            self._observe(LaneStage.TRANSACTION, now_s - since_s)
        self._committed.append((next_offset, now_s))

    def now_s(self) -> float:
        """Return when a publication begins, for ``published``."""
        return self._clock_s()

    def published(self, next_offset: int, began_s: float) -> None:
        """Note that everything up to an offset is visible, by a publication that began at some time."""
        now_s = self._clock_s()
        while self._committed and self._committed[0][0] <= next_offset:
            committed_s = self._committed.popleft()[1]
            self._observe(LaneStage.UNPUBLISHED, max(0.0, began_s - committed_s))
            self._observe(LaneStage.PUBLICATION, now_s - began_s)
