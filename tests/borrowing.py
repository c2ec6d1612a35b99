"""Native servers that tests start where none runs, and stop when nobody uses them any more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock

from devtools import stack
from processors.settings import Settings


@contextmanager
def borrowed(settings: Settings, servers: Sequence[stack.Server]) -> Iterator[None]:
    """Have some servers for a while, together with other sessions and workers of pytest-xdist.

    Who is the last to leave stops them, if it was a test that started them; unless KEEP=1, as for the plain stack.
    """
    folder = settings.stack.directory
    folder.mkdir(parents=True, exist_ok=True)
    name = "all" if len(servers) > 1 else servers[0]
    ours = folder / f"{name}-started-by-tests"
    with (folder / f"{name}-borrowers").open("w") as borrowers, (folder / f"{name}-borrowing").open("w") as borrowing:
        flock(borrowing, LOCK_EX)
        if all(stack.pid(settings, server) is None for server in servers):
            ours.touch()
        flock(borrowers, LOCK_SH)
        flock(borrowing, LOCK_UN)
        for server in servers:
            stack.start(settings, server)
        yield
        flock(borrowing, LOCK_EX)
        try:
            flock(borrowers, LOCK_EX | LOCK_NB)
        except BlockingIOError:  # somebody else is at work
            return
        if ours.exists() and os.environ.get("KEEP") != "1":
            for server in servers:
                stack.stop(settings, server)
            ours.unlink()
