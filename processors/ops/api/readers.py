"""A few readers of the service, each for one question at a time: what the API asks of databases is bounded."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from processors.faults import Fault
from processors.lookup.service import ServiceReader
from processors.ops.api.problems import BUSY, ProblemError, problem_of
from processors.telemetry import get_logger

# A person waits no longer; a statement of 10,000 changes takes half a second.
WAIT_S = 5.0
# A lane decides within milliseconds, a replica follows within some more; what takes longer is late.
POSITION_S = 3.0
_LOOK_S = 0.05
WAITING_MAX = 16  # of the server's 40 threads

T = TypeVar("T")


@contextmanager
def faults_told() -> Iterator[None]:
    """Say a store's fault to whoever asked, and in the log.

    Raises:
        ProblemError: There was one.
    """
    try:
        yield
    except Fault as fault:
        get_logger(__name__).warning("question_failed", fault=type(fault).__name__, detail=str(fault))
        raise problem_of(fault) from fault


class Readers:
    """Lends readers to threads; close it after use."""

    def __init__(self, make: Callable[[], ServiceReader], count: int) -> None:
        """Hold ``count`` readers, at least 1, of which none is connected yet."""
        self._all = [make() for _ in range(count)]
        self._may_wait = threading.BoundedSemaphore(WAITING_MAX)
        self._free: queue.SimpleQueue[ServiceReader] = queue.SimpleQueue()
        for reader in self._all:
            self._free.put(reader)

    def ask_when(
        self, is_time: Callable[[ServiceReader], bool], ask: Callable[[ServiceReader], T], *, wait_s: float = POSITION_S
    ) -> T | None:
        """Return the answer to a question once a condition holds, asked of one reader; None: it did not in time.

        Between two looks no reader is held, and at most ``WAITING_MAX`` wait: a thread each is all that others need.
        """
        ends_s, waits = time.monotonic() + wait_s, False
        try:
            while (answer := self._ask_if(is_time, ask)) is None:
                waits = waits or self._may_wait.acquire(blocking=False)
                if not waits or time.monotonic() > ends_s:
                    return None
                time.sleep(_LOOK_S)
            return answer
        finally:
            if waits:
                self._may_wait.release()

    def _ask_if(self, is_time: Callable[[ServiceReader], bool], ask: Callable[[ServiceReader], T]) -> T | None:
        with self.lent() as service:
            return ask(service) if is_time(service) else None

    @contextmanager
    def lent(self, *, wait_s: float = WAIT_S) -> Iterator[ServiceReader]:
        """Lend a reader for one question.

        Raises:
            ProblemError: None became free in time, or a store has a fault, which is in the log.
        """
        try:
            reader = self._free.get(timeout=wait_s)
        except queue.Empty:
            raise ProblemError(BUSY, f"no connection became free within {wait_s:g} s") from None
        try:
            with faults_told():
                yield reader
        finally:
            self._free.put(reader)

    def close(self) -> None:
        """Give all connections back."""
        for reader in self._all:
            reader.close()
