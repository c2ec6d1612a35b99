"""How tests wait for what another thread, process or server does."""

from __future__ import annotations

import time
from collections.abc import Callable

# Longer than a busy machine takes to bring back any server or process.
DEADLINE_S = 120.0
# Short against what is waited for; long enough that asking a server, or the command line, leaves it time to work.
_PAUSE_S = 0.05


def eventually(
    is_so: Callable[[], object],
    what: str,
    deadline_s: float = DEADLINE_S,
    instead: Callable[[], object] = lambda: "",
) -> None:
    """Wait until something is so, and fail at the deadline, saying what was waited for and what is so ``instead``."""
    ends_s = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < ends_s, f"not within {deadline_s} s: {what} {instead()}"
        time.sleep(_PAUSE_S)
