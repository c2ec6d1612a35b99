"""Asks servers at the same time, so that one that is silent costs a person seconds and not the others' answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from processors.faults import Fault, Unavailable

T = TypeVar("T")


class Asked(Generic[T]):
    """A question on its way, in a thread of its own; one that is never answered ends with the process."""

    def __init__(self, question: Callable[[], T]) -> None:
        """Ask.

        Args:
            question: May raise a ``Fault``; whatever it opens, its answer holds or it closes.
        """
        self._question = question
        self._answer: T | None = None
        self._raised: BaseException | None = None
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def answer(self, ends_s: float) -> T | Fault:
        """Return the answer, or why there is none.

        Args:
            ends_s: Wait no longer than until this moment of the monotonic clock.
        """
        self._thread.join(max(0.0, ends_s - time.monotonic()))
        if self._thread.is_alive():
            return Unavailable("no answer in time")
        if isinstance(self._raised, Fault):
            return self._raised
        if self._raised is not None:
            raise self._raised
        return self._answer  # type: ignore[return-value] # None only where T has it: the question has returned

    def _ask(self) -> None:
        try:
            self._answer = self._question()
        except BaseException as raised:  # noqa: BLE001 - told, or raised, by `answer`
            self._raised = raised
