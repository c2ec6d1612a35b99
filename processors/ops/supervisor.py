"""Runs the service's processes as children: starts them, starts them again, ends them, and leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from processors.faults import Fault
from processors.ops.signals import on_signals
from processors.telemetry import get_logger

# A crash is met at once, one that repeats is not met 100 times a second. For some two minutes, which a server's restart
# takes, a process is never away for more than 10 s; then it is tried each minute, for ever: an operator may mend its
# cause at any time, and the other processes must not end because of it.
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 30.0, 60.0)
# A process that has run this long is well; its next crash begins a new count.
WELL_AFTER_S = 30.0
# Half a minute of nothing but crashes: somebody must look.
FAILING_AFTER = 6
# Above every process's own deadline after SIGTERM (settings: at most 30 s), so that SIGKILL meets only what hangs.
STOP_DEADLINE_S = 40.0
# How often children are looked at; a crashed one is back within this and its backoff.
_LOOK_S = 0.1
# A log that reached this size is set aside at the next start: two of them a process at most.
_LOG_BYTES_MAX = 16 * 1024 * 1024
# Of a log's end, for what a process said last: its last traceback, or some hundred lines.
_LOOKED_BACK_BYTES = 64 * 1024
_ERROR_TEXT_MAX = 500


class Condition(StrEnum):
    """What a supervised process is doing."""

    RUNNING = "running"
    WAITING = "waiting"  # crashed, will be started again
    STOPPED = "stopped"


class KeepsFailing(Fault):
    """A process ended again and again; the text names it, how it ended, and its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildState:
    """A process as the supervisor sees it. ``restarts`` are in a row; ``failing``: so many that somebody must look."""

    name: str
    condition: Condition
    restarts: int
    failing: bool
    last_end: str  # in words; empty where it never ended
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process to run: its name, its whole command line, and what its environment has besides ours."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """One program under supervision. Its standard input is our life line: it ends when we do, however we end."""

    def __init__(self, program: Program, log_folder: Path, clock: Callable[[], float]) -> None:
        self.program = program
        self.log_file = log_folder / f"{program.name}.log"
        self.restarts = 0  # in a row, without being well between
        self.condition = Condition.STOPPED
        self._last_end = ""
        self._log_begin = 0  # of the present run, in bytes
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._next_start_s = 0.0

    @property
    def pid(self) -> int | None:
        """Return the process's id while it runs."""
        return self._process.pid if self._process is not None and self.condition is Condition.RUNNING else None

    @property
    def state(self) -> ChildState:
        """Return what is to be known of it."""
        return ChildState(
            name=self.program.name,
            condition=self.condition,
            restarts=self.restarts,
            failing=self.restarts >= FAILING_AFTER,
            last_end=self._last_end,
            log=str(self.log_file),
        )

    def start(self) -> None:
        """Start the program in a process group of its own, so that Ctrl-C in a terminal meets the supervisor only."""
        _set_aside(self.log_file)
        with self.log_file.open("ab") as log:
            self._log_begin = log.tell()
            self._process = subprocess.Popen(
                list(self.program.command),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.program.environment},
                process_group=0,
            )
        self._started_s = self._clock()
        self.condition = Condition.RUNNING

    def look(self) -> None:
        """Notice an end or that it is well again, and start it again when the backoff is over."""
        now_s = self._clock()
        if self.condition is Condition.WAITING and now_s >= self._next_start_s:
            self.start()
        elif self.condition is Condition.RUNNING and self._process is not None:
            if now_s - self._started_s >= WELL_AFTER_S:
                self.restarts = 0
            if self._process.poll() is not None:
                self._ended(self._process.returncode)

    def _ended(self, status: int) -> None:
        self._close_input()
        self._last_end = f"{_in_words(status)}{_last_error(self.log_file, self._log_begin)}"
        wait_s = BACKOFF_S[min(self.restarts, len(BACKOFF_S) - 1)]
        self.restarts += 1
        log = get_logger(__name__)
        tell = log.error if self.state.failing else log.warning
        tell("process_ended", name=self.program.name, status=self._last_end, in_a_row=self.restarts, again_in_s=wait_s)
        self._next_start_s = self._clock() + wait_s
        self.condition = Condition.WAITING

    def terminate(self) -> None:
        """Ask the process to finish its batch, publish and stop."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def end(self, deadline_s: float) -> bool:
        """Wait for the process until ``deadline_s`` on our clock, then kill it; say whether it ended by itself."""
        by_itself = True
        if self._process is not None:
            try:
                self._process.wait(timeout=max(0.0, deadline_s - self._clock()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                by_itself = False
            self._close_input()
        self.condition = Condition.STOPPED
        return by_itself

    def _close_input(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


class Supervisor:
    """Holds children until it is told to stop. Not for threads: one loop looks at all of them."""

    def __init__(
        self,
        programs: Sequence[Program],
        log_folder: Path,
        *,
        state_file: Path | None = None,
        stop_deadline_s: float = STOP_DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            programs: Started in this order, asked to stop in the opposite one.
            log_folder: Gets one file a process, made where it is missing.
            state_file: Holds every process's state, for ``read_states``.
            stop_deadline_s: From SIGTERM to SIGKILL.
            clock: Seconds that never go back.
        """
        log_folder.mkdir(parents=True, exist_ok=True)
        self.children = [Child(program, log_folder, clock) for program in programs]
        self._stop_deadline_s = stop_deadline_s
        self._clock = clock
        self._stop = threading.Event()
        self._state_file = state_file
        self._noted: list[ChildState] = []

    def start(self) -> None:
        """Start every process."""
        for child in self.children:
            child.start()

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT end ``watch``; for the main thread only."""
        on_signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self.stop)

    def stop(self) -> None:
        """End ``watch``; any thread may call it."""
        self._stop.set()

    def look(self) -> None:
        """Meet whatever ended since the last look, and note it where others read it."""
        for child in self.children:
            child.look()
        states = [child.state for child in self.children]
        if states != self._noted and self._state_file is not None:
            _write_states(self._state_file, states)
        self._noted = states

    def insist(self) -> None:
        """Look, for a caller who needs all of them.

        Raises:
            KeepsFailing: One of them is beyond help; the others still run, ``close`` ends them.
        """
        self.look()
        for state in self.failing():
            raise KeepsFailing(
                f"{state.name} ended {times(state.restarts)} in a row, the last time with {state.last_end}; its log is "
                f"{state.log}"
            )

    def failing(self) -> list[ChildState]:
        """Return the processes that end again and again."""
        return [child.state for child in self.children if child.state.failing]

    def watch(self, show: Callable[[str], None]) -> None:
        """Keep the children running until ``stop``, each for itself: one that fails is tried on, the others go on.

        Args:
            show: Gets the status line whenever it changes.
        """
        shown = ""
        while not self._stop.is_set():
            self.look()
            if (line := self.status_line()) != shown:
                show(line)
                shown = line
            self._stop.wait(_LOOK_S)

    def status_line(self) -> str:
        """Return every process's condition, in one line."""
        return "  ".join(_in_line(child.state) for child in self.children)

    def close(self) -> list[str]:
        """End every process within the deadline, and return the names of those that had to be killed."""
        for child in reversed(self.children):
            child.terminate()
        deadline_s = self._clock() + self._stop_deadline_s
        return [child.program.name for child in reversed(self.children) if not child.end(deadline_s)]


def read_states(file: Path) -> list[ChildState]:
    """Return what a running supervisor noted last; nothing where it has not looked yet."""
    if not file.exists():
        return []
    found = json.loads(file.read_text(encoding="utf-8"))
    return [ChildState(**{**each, "condition": Condition(each["condition"])}) for each in found]


def _write_states(file: Path, states: list[ChildState]) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps([asdict(state) for state in states]), encoding="utf-8")
    new.replace(file)  # whoever reads meets the one or the other


def _in_line(state: ChildState) -> str:
    words = f"{state.name} {state.condition}"
    if state.failing:
        return f"{words} (failing: {state.restarts} restarts, {state.last_end}, see {state.log})"
    return words + (f" (restart {state.restarts})" if state.restarts else "")


def end_with_parent(stop: Callable[[], None]) -> None:
    """In a child: call ``stop`` when standard input ends, which is when the supervisor is gone, SIGKILL included.

    A thread waits for it; a pipe, other than a signal at the parent's death, is the same on every system.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        stop()

    threading.Thread(target=wait, name="life-line", daemon=True).start()


def _set_aside(log_file: Path) -> None:
    if log_file.exists() and log_file.stat().st_size > _LOG_BYTES_MAX:
        log_file.replace(log_file.with_suffix(".log.1"))


def _last_error(log_file: Path, begin: int) -> str:
    """Return what a process that ended said last of what went wrong, from its log; empty where it said nothing."""
    with log_file.open("rb") as log:
        log.seek(max(begin, log_file.stat().st_size - _LOOKED_BACK_BYTES))
        lines = log.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        said = _error_in(line)
        if said:
            return f": {said}"[:_ERROR_TEXT_MAX]
    return ""


def _error_in(line: str) -> str:
    """Return the error that a log line tells of: ours, or the last line of a traceback.

    >>> _error_in('{"level": "error", "event": "process_failed", "fault": "Misconfigured", "detail": "no topic t"}')
    'Misconfigured: no topic t'
    >>> _error_in('AssertionError: 2 rows, not 1')
    'AssertionError: 2 rows, not 1'
    >>> _error_in('{"level": "info", "event": "process_ended"}')
    ''
    """
    try:
        said = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(said, dict) or said.get("level") not in {"error", "critical"}:
        return ""
    return f"{said.get('fault', said.get('event'))}: {said.get('detail', '')}".removesuffix(": ")


def times(count: int) -> str:
    """Say how often.

    >>> times(1), times(2)
    ('once', '2 times')
    """
    return "once" if count == 1 else f"{count} times"


def _in_words(status: int) -> str:
    """Say how a process ended.

    >>> _in_words(-9)
    'SIGKILL'
    >>> _in_words(3)
    'exit status 3'
    """
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
