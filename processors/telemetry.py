"""Logs as JSON lines and metrics for Prometheus: every name the service shows to its operators stands here.

Not for the pure layers. The only place that knows structlog and prometheus_client.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry(auto_describe=True)

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
# From one small commit (2 ms) to the stalls that wait_timeout and lock waits allow (5 s).
_SECONDS_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# A batch is 1 to 4,000 commands (L8).
_RECORDS_BUCKETS = (1, 4, 16, 64, 256, 1024, 2048, 4000)
_LANE = ("shard", "lane")

# Router
ROUTED = Counter("balance_router_records_total", "Records forwarded to a lane", ("shard",), registry=REGISTRY)
ROUTER_STUBS = Counter("balance_router_stubs_total", "Records too large to forward whole (W4)", registry=REGISTRY)
ROUTER_DEAD_LETTERS = Counter(
    "balance_router_dead_letters_total", "Records the router refused", ("cause",), registry=REGISTRY
)

# Shard worker
LANE_RESULTS = Counter(
    "balance_lane_results_total", "Results published, by status", (*_LANE, "status"), registry=REGISTRY
)
LANE_DEAD_LETTERS = Counter(
    "balance_lane_dead_letters_total", "Records the lane could not read", _LANE, registry=REGISTRY
)
LANE_SILENCES = Counter(
    "balance_lane_silences_total",
    "Records that leave nothing: the router's redeliveries (L10), service records that find nothing to do (I7)",
    _LANE,
    registry=REGISTRY,
)
LANE_RETRIES = Counter(
    "balance_lane_retries_total", "Batches thrown away and begun again", (*_LANE, "fault"), registry=REGISTRY
)
LANE_BATCH_RECORDS = Histogram(
    "balance_lane_batch_records", "Records of a batch", _LANE, buckets=_RECORDS_BUCKETS, registry=REGISTRY
)
LANE_NEXT_OFFSET = Gauge("balance_lane_next_offset", "First record not decided (D)", _LANE, registry=REGISTRY)
LANE_PUBLISHED_OFFSET = Gauge(
    "balance_lane_published_offset", "First record not published (P)", _LANE, registry=REGISTRY
)
LANE_STOPPED = Gauge(
    "balance_lane_stopped", "1 while the lane is stopped with this code", (*_LANE, "code"), registry=REGISTRY
)

# Expirer
TICKS_SENT = Counter("balance_expirer_ticks_total", "TICK records written", ("shard",), registry=REGISTRY)
EXPIRIES_SENT = Counter("balance_expirer_expiries_total", "EXPIRE_HOLD records written", ("shard",), registry=REGISTRY)

# Sink, recaller, remover
SINK_ROWS = Counter("balance_sink_rows_total", "Journal rows durable in Cassandra", registry=REGISTRY)
SINK_WRITE_SECONDS = Histogram(
    "balance_sink_write_seconds", "One round of archive writes", buckets=_SECONDS_BUCKETS, registry=REGISTRY
)
ARCHIVE_WAITING_SECONDS = Gauge(
    "balance_archive_waiting_seconds", "How long Cassandra has not answered; 0 while it does", registry=REGISTRY
)
RECALLS = Counter("balance_recaller_recalls_total", "RECALL_ORIGINAL sent", ("recalled",), registry=REGISTRY)
RECALLS_WAITING = Gauge("balance_recaller_waiting", "Refunds that wait for coverage (H4)", registry=REGISTRY)
RECALLS_UNDECIDED = Gauge(
    "balance_recaller_undecided", "Recalls sent that their lane has not answered yet", registry=REGISTRY
)
SLICES_REMOVED = Counter("balance_remover_slices_total", "Journal slices dropped", ("shard",), registry=REGISTRY)
SLICES_WAITING = Gauge(
    "balance_remover_slices_waiting", "Slices past their window that may not go yet", ("shard",), registry=REGISTRY
)
JOURNAL_SLICES = Gauge(
    "balance_journal_slices", "Slices that the journal has; 1,000 are too many (A7)", ("shard",), registry=REGISTRY
)
SLICES_LACKING = Gauge(
    "balance_journal_slices_lacking",
    "Slices that ids will need and that do not fit: lanes stop at them",
    ("shard",),
    registry=REGISTRY,
)
FINDINGS = Counter("balance_findings_total", "Findings raised", ("kind",), registry=REGISTRY)

# Every process
TOPIC_PARTITIONS_UNUSED = Gauge(
    "balance_topic_partitions_unused",
    "Partitions of a topic above those the service uses; somebody raised its count",
    ("topic",),
    registry=REGISTRY,
)
FAULTS = Counter("balance_faults_total", "Faults met, by class", ("process", "fault"), registry=REGISTRY)


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


def metrics_page() -> bytes:
    """Return every metric in Prometheus' text format, for ``/metrics``."""
    return generate_latest(REGISTRY)
