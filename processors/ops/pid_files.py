"""Start a server so that it outlives us, know it again by its pid file, and end it.

A pid alone is no name: the kernel gives it to another process later. The pid file therefore also holds the process's
start time and the machine's boot, and nothing is signalled that does not match all three.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from processors.faults import Misconfigured

POLL_MS = 20  # how often a state is looked at again while waiting
KILL_MS = 10_000  # SIGKILL takes effect at once, but the kernel may have pages to write first


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of ours. ``started`` in clock ticks since ``boot``; ``made_from`` hashes its command and files."""

    pid: int
    started: int
    boot: str
    made_from: str


def spawn(command: Sequence[str], *, log: Path, environment: Mapping[str, str], pid_file: Path, made_from: str) -> None:
    """Start ``command`` in a session of its own, so that it survives the caller, and write its pid file.

    Not subprocess.Popen: its object would have to live as long as the server, or it warns when collected.

    Args:
        command: The program's absolute path, and its arguments.
        log: Standard output and error are appended to it.
        environment: All of the process's variables.
        pid_file: Written before this returns.
        made_from: A hash of what the process was started from, to notice later that the settings changed.
    """
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o640),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(command[0], list(command), dict(environment), file_actions=actions, setsid=True)
    note(pid, pid_file, made_from=made_from)


def note(pid: int, pid_file: Path, *, made_from: str = "") -> None:
    """Write a process's pid file, by which ``find`` knows it again."""
    process = Process(pid=pid, started=_start_time(pid) or 0, boot=_boot(), made_from=made_from)
    new = pid_file.with_suffix(".new")
    new.write_text(json.dumps(asdict(process)), encoding="utf-8")
    new.rename(pid_file)


def find(pid_file: Path) -> Process | None:
    """Return the process of a pid file if it still runs; None if it ended, or never started.

    Raises:
        Misconfigured: The file is damaged.
    """
    try:
        process = Process(**json.loads(pid_file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise Misconfigured(
            f"{pid_file} is damaged; look for the server with ps, end it, and delete the file"
        ) from error
    return process if _runs(process) else None


def send(process: Process, number: signal.Signals) -> None:
    """Signal a process of ours; one that has ended meanwhile is left alone."""
    if _runs(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def end(process: Process, *, deadline_ms: int) -> bool:
    """Ask a process to end, and force it after ``deadline_ms``. Return whether it ended by itself."""
    send(process, signal.SIGTERM)
    if wait_until_gone(process, deadline_ms=deadline_ms):
        return True
    end_now(process)
    return False


def end_now(process: Process) -> None:
    """Kill a process (SIGKILL) and wait until the kernel has taken it away.

    Raises:
        Misconfigured: It is still there after KILL_MS.
    """
    send(process, signal.SIGKILL)
    if not wait_until_gone(process, deadline_ms=KILL_MS):
        raise Misconfigured(f"process {process.pid} does not end even by SIGKILL; its disk may be stuck")


def wait_until_gone(process: Process, *, deadline_ms: int) -> bool:
    """Wait for a process's end. Return False if it still runs after ``deadline_ms``."""
    deadline = time.monotonic() + deadline_ms / 1000
    while _runs(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_MS / 1000)
    return True


def _runs(process: Process) -> bool:
    with contextlib.suppress(ChildProcessError):  # not our child: an earlier call's, adopted by init
        os.waitpid(process.pid, os.WNOHANG)
    return process.boot == _boot() and _start_time(process.pid) == process.started


def _start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if there is none any more.

    A killed process's first thread may be a zombie while others still hold its ports: it is gone when all are.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # after the name, which may hold spaces: field 3 is the state
    state, threads, started = fields[0], int(fields[17]), int(fields[19])  # fields 3, 20, 22 of proc(5)
    return None if state in {"Z", "X"} and threads <= 1 else started


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
