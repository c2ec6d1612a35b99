"""Signals, met by a thread of their own."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType


def on_signals(numbers: Iterable[signal.Signals], meet: Callable[[], None]) -> None:
    """Have a function called at each of some signals, in a thread of its own; for the main thread only.

    A handler runs in the main thread, between any two of its steps. Within ``wait`` of an event that thread holds the
    event's lock now and then, and a handler that set the event would wait for that lock for ever.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=meet, name="signal", daemon=True).start()

    for number in numbers:
        signal.signal(number, handle)
