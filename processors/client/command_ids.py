"""Makes command ids: UUIDv7 that rise within a process."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from processors.ids import make_command_id

_RANDOM_BITS = 74  # of a UUIDv7, beside its time


class CommandIds:
    """Makes UUIDv7 ids that rise within the process, also within a millisecond; any thread may ask.

    Source: RFC 9562 section 6.2, method 2 (monotonic random).
    """

    def __init__(self, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._clock_ms = clock_ms
        self._lock = threading.Lock()
        self._time_ms = 0
        self._random = 0

    def next(self) -> bytes:
        """Return a new id, 16 bytes, above every earlier one."""
        with self._lock:
            now_ms = self._clock_ms()
            if now_ms > self._time_ms:
                self._time_ms, self._random = now_ms, secrets.randbits(_RANDOM_BITS - 1)
            else:
                self._random += 1 + secrets.randbits(32)
            if self._random >> _RANDOM_BITS:
                self._time_ms, self._random = self._time_ms + 1, secrets.randbits(_RANDOM_BITS - 1)
            # 12 bits lie before the variant, 62 behind it, so that ids sort as the bits do.
            high, low = self._random >> 62, self._random & (1 << 62) - 1
            return make_command_id(self._time_ms, high.to_bytes(2, "big") + low.to_bytes(8, "big"))
