"""Logs as JSON lines, and the pulse of a process. Not for the pure layers. The only place that knows structlog."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

import structlog

# What a partner tells us in confidence, and what he is worth: never in a log line, whoever passes it by mistake.
_NEVER_LOGGED = frozenset(
    {
        "amount",
        "amount_minor",
        "available",
        "balance",
        "balance_change",
        "body",
        "explanation",
        "held",
        "held_change",
        "metadata",
        "overdraft_limit",
        "password",
        "payload",
        "remaining_minor",
        "secret",
        "signature",
    }
)


class Pulse:
    """Whether this process is at work: its main loop beats it, the health page reads it.

    Any thread may read. ``clock`` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_s: float | None = None
        self._stopping = False

    def beat(self) -> None:
        """Say that the main loop went round once more; the first beat says that the process is ready."""
        self._last_s = self._clock()

    def stop(self) -> None:
        """Say that the process takes on no more work."""
        self._stopping = True

    @property
    def has_begun(self) -> bool:
        """Say whether the main loop went round once."""
        return self._last_s is not None

    @property
    def silent_s(self) -> float:
        """Return the seconds since the last beat, 0 before the first."""
        return 0.0 if self._last_s is None else self._clock() - self._last_s

    @property
    def ready(self) -> bool:
        """Say whether the process has begun its work and has not been told to end it."""
        return self.has_begun and not self._stopping


PULSE = Pulse()


def configure_logging(
    process: str, *, level: str = "info", form: Literal["json", "console"] = "json", stream: TextIO | None = None
) -> None:
    """Make this process write one JSON object per line, its own events and its drivers' alike.

    Args:
        process: Name of the process, on every line: ``router``, ``shard-s1``, ...
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``json``, or ``console`` for a person who watches.
        stream: Where the lines go; standard error where None.

    Keys that may hold amounts, metadata or secrets are removed from every line, at every level.
    """

    def add_process(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = process
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_process,
        remove_confidential,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(sort_keys=True)
    if form == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=False, timestamp_key="time")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The driver tells of every reconnection at WARNING; its INFO is the topology, at every start.
    logging.getLogger("cassandra").setLevel(logging.WARNING)


def remove_confidential(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drop the keys that a log may never hold.

    >>> remove_confidential(None, "info", {"event": "decided", "amount_minor": 5})
    {'event': 'decided'}
    """
    for key in _NEVER_LOGGED.intersection(event):
        del event[key]
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose ``info("lane_assigned", shard=..., lane=...)`` writes one JSON line."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
