"""What every process of the service shares: its log, its health page, its signals, and the deadline for its end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from processors.faults import Fault, Fenced, Misconfigured, Refused
from processors.ledger.rules import RULES_RELEASE
from processors.metrics import begin
from processors.ops.exits import EXIT_FAULT
from processors.ops.health import SILENT_MAX_S, HealthServer
from processors.ops.signals import on_signals
from processors.ops.supervisor import end_with_parent
from processors.settings import Settings
from processors.streams.login_refusal import LOGIN_REFUSAL
from processors.telemetry import PULSE, Pulse, configure_logging, get_logger
from processors.troubles import TROUBLES
from processors.version import VERSION

# After the stop deadline, for closing connections, before the process is ended whatever it does.
_LAST_GRACE_S = 5.0
# A crash is met at once; a server's restart within some seconds, without hurrying it.
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
# A loop that ran for so long was well: its next fault begins a new count.
WELL_AFTER_S = 30.0
# As a lane's (lane.runner): what repeats for so long, with nothing else going wrong meanwhile, is a bug.
BUG_AFTER_S = 180.0
_PULSE_S = 5.0
_LOGIN = "login to Kafka"  # what a refusal of one is about


def run_process(
    name: str,
    settings: Settings,
    work: Callable[[threading.Event], int],
    *,
    stop_deadline_ms: int,
    rests_ms: int = 0,
    supervised: Path | None = None,
) -> int:
    """Run one process of the service until it ends or is told to stop (SIGTERM, SIGINT).

    Args:
        name: On every log line and health answer.
        settings: Say where it logs and answers probes.
        work: The process's loop; ends soon after its event is set, having finished and published its batch.
        stop_deadline_ms: From the signal to the end; a process that hangs beyond it and a short grace ends itself,
            which is as safe as any crash.
        rests_ms: How long the loop rests on purpose between two looks; it hangs when it is silent for much longer.
        supervised: Under a supervisor: standard input is its life line, and the health port is noted in this file.

    Returns:
        The process's exit status: ``work``'s, or 3 after a fault that ends it, which is in the log.

    Raises:
        Misconfigured: The health port is taken.
        Exception: A bug, which repeated for ``BUG_AFTER_S``.
    """
    configure_logging(name, level=settings.log_level, form=settings.log_format)
    log = get_logger(__name__)
    kind = name.partition("-")[0]
    begin(kind, version=VERSION, rules_release=RULES_RELEASE)
    LOGIN_REFUSAL.tell = partial(_tell_of_login, kind)
    stopping = threading.Event()
    _stop_when_told(stopping, stop_deadline_ms / 1_000 + _LAST_GRACE_S, supervised=supervised is not None)
    with HealthServer(
        settings.health.host, settings.health.port, process=name, silent_max_s=SILENT_MAX_S + rests_ms / 1_000
    ) as health:
        if supervised is not None:
            supervised.write_text(str(health.port), encoding="utf-8")
        log.info("process_started", pid=os.getpid(), health_port=health.port, instance=settings.instance)
        try:
            status = Persistence(kind, stopping).run(work)
        except Fault as fault:
            log.error("process_failed", fault=type(fault).__name__, detail=str(fault))  # noqa: TRY400 - a fault says all
            status = EXIT_FAULT
    log.info("process_ended", status=status)
    return status


def _tell_of_login(process: str, refused: Refused | None) -> None:
    if refused is None:
        TROUBLES.over(process, subject=_LOGIN)
    else:
        TROUBLES.met(process, refused, subject=_LOGIN, event="login_refused")


class Persistence:
    """Has a process's work begin anew after a fault, as often as it takes: a server's fault ends no process.

    Two do. A setting, a schema or a topic that is found wrong before the first round: whoever starts the process sees
    it at once. And another process under this one's ``instance``: both would take turns for ever (L12).
    """

    def __init__(
        self,
        process: str,
        stopping: threading.Event,
        *,
        pulse: Pulse = PULSE,
        clock: Callable[[], float] = time.monotonic,
        backoff_s: tuple[float, ...] = BACKOFF_S,
    ) -> None:
        """Begin without a failure.

        Args:
            process: As in the metric ``balance_faults_total``.
            stopping: Set to end; a fault after that is raised.
            pulse: The process's; beaten while it waits, so that it does not look as if it hung.
            clock: Seconds that never go back.
            backoff_s: How long it waits after the first fault in a row, the second, ...; the last one from there on.
        """
        self._process = process
        self._stopping = stopping
        self._pulse = pulse
        self._clock = clock
        self._backoff_s = backoff_s
        self._failures = 0
        self._bug_since_s: float | None = None

    def run(self, work: Callable[[threading.Event], int]) -> int:
        """Return the status of the first work that ends by itself.

        Raises:
            Misconfigured: Before the first round.
            Fenced: At any time.
            Exception: A bug that repeated for ``BUG_AFTER_S``; whatever was met after ``stopping``.
        """
        while True:
            began_s = self._clock()
            try:
                return work(self._stopping)
            except Exception as fault:
                if self._ends(fault) or self._stopping.is_set():
                    raise
                self._wait(fault, self._clock() - began_s)

    def _ends(self, fault: Exception) -> bool:
        if isinstance(fault, Fenced) or (isinstance(fault, Misconfigured) and not self._pulse.has_begun):
            return True
        if isinstance(fault, Fault):
            self._bug_since_s = None  # something else goes wrong, too: the bug may be its doing
            return False
        now_s = self._clock()
        if self._bug_since_s is None:
            self._bug_since_s = now_s
        return now_s - self._bug_since_s > BUG_AFTER_S

    def _wait(self, fault: Exception, ran_s: float) -> None:
        if ran_s > WELL_AFTER_S:
            self._failures, self._bug_since_s = 0, None
        TROUBLES.met(self._process, fault)
        ends_s = time.monotonic() + self._backoff_s[min(self._failures, len(self._backoff_s) - 1)]
        self._failures += 1
        while (left_s := ends_s - time.monotonic()) > 0 and not self._stopping.is_set():
            if self._pulse.has_begun:
                self._pulse.beat()
            self._stopping.wait(min(left_s, _PULSE_S))


def _stop_when_told(stopping: threading.Event, deadline_s: float, *, supervised: bool) -> None:
    """Set an event at SIGTERM, SIGINT, or the supervisor's end; and end the process itself if it does not in time."""

    def stop() -> None:
        if not stopping.is_set():
            PULSE.stop()
            stopping.set()
            _end_after(deadline_s)

    on_signals((signal.SIGTERM, signal.SIGINT), stop)
    if supervised:
        end_with_parent(stop)


def _end_after(seconds: float) -> None:
    def end() -> None:
        get_logger(__name__).error("stop_deadline_passed", seconds=seconds)
        os._exit(EXIT_FAULT)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
