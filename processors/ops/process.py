"""What every process of the service shares: its log, its health page, its signals, and the deadline for its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from processors.faults import Fault
from processors.ops.health import SILENT_MAX_S, HealthServer
from processors.ops.result_text import EXIT_FAULT
from processors.ops.supervisor import end_with_parent
from processors.settings import Settings
from processors.telemetry import PULSE, configure_logging, get_logger

# After the stop deadline, for closing connections, before the process is ended whatever it does.
_LAST_GRACE_S = 5.0


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
        The process's exit status: ``work``'s, or 3 after a fault that it could not deal with, which is in the log.

    Raises:
        Misconfigured: The health port is taken.
    """
    configure_logging(name, level=settings.log_level, form=settings.log_format)
    log = get_logger(__name__)
    stopping = threading.Event()
    _stop_when_told(stopping, stop_deadline_ms / 1_000 + _LAST_GRACE_S, supervised=supervised is not None)
    with HealthServer(
        settings.health.host, settings.health.port, process=name, silent_max_s=SILENT_MAX_S + rests_ms / 1_000
    ) as health:
        if supervised is not None:
            supervised.write_text(str(health.port), encoding="utf-8")
        log.info("process_started", pid=os.getpid(), health_port=health.port, instance=settings.instance)
        try:
            status = work(stopping)
        except Fault as fault:
            log.error("process_failed", fault=type(fault).__name__, detail=str(fault))  # noqa: TRY400 - a fault says all
            status = EXIT_FAULT
    log.info("process_ended", status=status)
    return status


def _stop_when_told(stopping: threading.Event, deadline_s: float, *, supervised: bool) -> None:
    """Set an event at SIGTERM, SIGINT, or the supervisor's end; and end the process itself if it does not in time."""

    def stop() -> None:
        if not stopping.is_set():
            PULSE.stop()
            stopping.set()
            _end_after(deadline_s)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if supervised:
        end_with_parent(stop)


def _end_after(seconds: float) -> None:
    def end() -> None:
        get_logger(__name__).error("stop_deadline_passed", seconds=seconds)
        os._exit(EXIT_FAULT)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
