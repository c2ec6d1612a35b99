"""Every process of the service in the background: started so that they outlive the command, waited for, stopped."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from processors.faults import Unavailable
from processors.ops import local_service
from processors.ops.pid_files import Process, end, find, spawn
from processors.ops.supervisor import STOP_DEADLINE_S
from processors.settings import Settings

# Six interpreters that start at once on two busy cores are ready after some 10 s; a first rebalance takes some more.
READY_DEADLINE_S = 120.0
_LOOK_S = 0.1
# After the processes' own deadline, for the supervisor itself.
_GRACE_S = 5.0
_LAST_LINES = 8

Say = Callable[[str], None]


def start(settings: Settings, *, workers: int, say: Say) -> None:
    """Start every process under a supervisor that outlives this command, and wait until each is ready.

    Where they run already, only waits.

    Raises:
        Unavailable: The supervisor ended, or a process was not ready in time; the text says where to look.
    """
    place, log_file = local_service.log_folder(settings), _log_file(settings)
    running = find(local_service.pid_file(settings))
    if running is None:
        place.mkdir(parents=True, exist_ok=True)
        local_service.forget_last(settings)
        running = _spawn(settings, workers, log_file)
    else:
        say("the processes run already")
    _wait_until_ready(settings, workers, running, log_file)
    say(f"every process is ready; logs are in {place}")
    say("`balance status` shows how they do, `balance down` stops them")


def stop(settings: Settings, *, say: Say) -> bool:
    """Stop the supervisor that runs here, and with it every process; return whether there was one.

    Raises:
        Unavailable: It had to be killed; the processes end by themselves then.
    """
    running = find(local_service.pid_file(settings))
    if running is None:
        return False
    say("stopping the processes")
    if not end(running, deadline_ms=round((STOP_DEADLINE_S + _GRACE_S) * 1_000)):
        raise Unavailable(f"the supervisor did not end in time and was killed; its log is {_log_file(settings)}")
    return True


def _spawn(settings: Settings, workers: int, log_file: Path) -> Process:
    pid_file = local_service.pid_file(settings)
    command = [*local_service.command_line(settings), "up", "--workers", str(workers)]
    environment = {**os.environ, "BALANCE_ROOT": str(settings.root)}
    spawn(command, log=log_file, environment=environment, pid_file=pid_file, made_from="")
    running = find(pid_file)
    if running is None:
        raise Unavailable(f"the supervisor ended at once; the end of its log:\n{_last_words(log_file)}")
    return running


def _wait_until_ready(settings: Settings, workers: int, running: Process, log_file: Path) -> None:
    names = [program.name for program in local_service.programs(settings, workers=workers)]
    ends_s = time.monotonic() + READY_DEADLINE_S
    while waiting := [name for name in names if not _is_ready(settings, name)]:
        if find(local_service.pid_file(settings)) is None:
            raise Unavailable(
                f"process {running.pid}, the supervisor, ended; the end of its log:\n{_last_words(log_file)}"
            )
        if time.monotonic() > ends_s:
            raise Unavailable(
                f"not ready after {READY_DEADLINE_S:.0f} s: {', '.join(waiting)}; their logs are in "
                f"{local_service.log_folder(settings)}. They are tried on: `balance status` shows how they do, "
                "`balance down` stops them"
            )
        time.sleep(_LOOK_S)


def _is_ready(settings: Settings, name: str) -> bool:
    return bool(local_service.ask(settings, name, "readyz").get("ready"))


def _log_file(settings: Settings) -> Path:
    return local_service.log_folder(settings) / f"supervisor-{settings.instance}.log"


def _last_words(log_file: Path) -> str:
    with log_file.open(encoding="utf-8", errors="replace") as text:
        return "".join(deque(text, maxlen=_LAST_LINES)).rstrip()
