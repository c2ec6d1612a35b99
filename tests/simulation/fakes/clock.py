"""Simulated time."""

from __future__ import annotations

# 2025-06-15T15:06:40Z; what it is does not matter.
START_MS = 1_750_000_000_000


class Clock:
    """The true time, ms since the epoch; ``broker_ahead_ms`` is how far the brokers' clocks are off."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.broker_ahead_ms = 0

    def read(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> None:
        self.now_ms += ms
