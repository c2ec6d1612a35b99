"""A signal is met whatever its thread is doing."""

from __future__ import annotations

import signal
import threading

from processors.ops.signals import on_signals


def test_a_signal_sets_an_event_whose_lock_the_main_thread_holds() -> None:
    told = threading.Event()
    before = signal.getsignal(signal.SIGUSR1)
    on_signals([signal.SIGUSR1], told.set)
    try:
        with vars(told)["_cond"]:  # as for a moment within ``wait``
            signal.raise_signal(signal.SIGUSR1)
        assert told.wait(10)
    finally:
        signal.signal(signal.SIGUSR1, before)
