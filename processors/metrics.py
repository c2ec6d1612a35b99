"""Metrics for Prometheus: every name that the service shows stands here, with the processes that show it.

Not for the pure layers. The only place that knows prometheus_client.
"""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from processors import faults

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry(auto_describe=True)  # of all of them

# By the kind of process: its page has these and no others'.
_KINDS = ("router", "shard", "expirer", "sink", "recaller", "remover", "auditor", "api")
_PAGES = {kind: CollectorRegistry(auto_describe=True) for kind in _KINDS}
# From one small commit (2 ms) to the stalls that wait_timeout and lock waits allow (5 s).
_SECONDS_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# A stage of a lane's batch: half a millisecond where nothing is in its way.
_STAGE_SECONDS_BUCKETS = (0.0005, 0.001, *_SECONDS_BUCKETS)
# As above, and what a lane takes that stands behind a backlog or waits for a server.
_RESULT_SECONDS_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
# A batch is 1 to 4,000 commands (L8).
_RECORDS_BUCKETS = (1, 4, 16, 64, 256, 1024, 2048, 4000)
_LANE = ("shard", "lane")
_READERS = ("router", "shard", "sink", "recaller")
_ARCHIVE = ("sink", "recaller", "remover")

Metric = TypeVar("Metric", bound=MetricWrapperBase)


def _shown(metric: Metric, *kinds: str) -> Metric:
    """Put a metric on the pages of these kinds of process."""
    for registry in (REGISTRY, *(_PAGES[kind] for kind in kinds)):
        registry.register(metric)
    return metric


def _counter(name: str, says: str, labels: tuple[str, ...], *kinds: str) -> Counter:
    return _shown(Counter(name, says, labels, registry=None), *kinds)


def _gauge(name: str, says: str, labels: tuple[str, ...], *kinds: str) -> Gauge:
    return _shown(Gauge(name, says, labels, registry=None), *kinds)


def _histogram(name: str, says: str, labels: tuple[str, ...], buckets: tuple[float, ...], *kinds: str) -> Histogram:
    return _shown(Histogram(name, says, labels, buckets=buckets, registry=None), *kinds)


# Router
ROUTED = _counter("balance_router_records_total", "Records forwarded to a lane", ("shard",), "router")
ROUTER_STUBS = _counter("balance_router_stubs_total", "Records too large to forward whole (W4)", (), "router")
ROUTER_MARKERS = _counter(
    "balance_router_markers_total", "Markers of moves: accepted, met_again or refused (R3, R5)", ("outcome",), "router"
)
ROUTER_DEAD_LETTERS = _counter("balance_router_dead_letters_total", "Records the router refused", ("cause",), "router")

# Read API
API_QUESTIONS = _counter(
    "balance_api_questions_total", "Questions answered, by path and code: OK, or the problem's", ("path", "code"), "api"
)

# Shard worker
LANE_RESULTS = _counter("balance_lane_results_total", "Results committed, by status", (*_LANE, "status"), "shard")
LANE_DEAD_LETTERS = _counter("balance_lane_dead_letters_total", "Records the lane could not read", _LANE, "shard")
LANE_REFUSALS = _counter(
    "balance_lane_refusals_total",
    "Commands rejected, or too old to be decided, by reason; an answer given again is not counted again",
    ("shard", "reason"),
    "shard",
)
RESULT_SECONDS = _histogram(
    "balance_lane_result_seconds",
    "From the broker's stamp of a record to its published result, of the first record of each publication",
    ("shard",),
    _RESULT_SECONDS_BUCKETS,
    "shard",
)
LANE_STAGE_SECONDS_NAME = "balance_lane_stage_seconds"
LANE_STAGE_SECONDS = _histogram(
    LANE_STAGE_SECONDS_NAME,
    "A batch's way through its lane: queued (until the lane takes it), transaction (MySQL), unpublished (until Kafka "
    "is free for it), publication (Kafka)",
    (*_LANE, "stage"),
    _STAGE_SECONDS_BUCKETS,
    "shard",
)
LANE_SILENCES = _counter(
    "balance_lane_silences_total",
    "Records that leave nothing: the router's redeliveries (L10), service records that find nothing to do (I7)",
    _LANE,
    "shard",
)
LANE_RETRIES = _counter("balance_lane_retries_total", "Batches thrown away and begun again", (*_LANE, "fault"), "shard")
LANE_BATCH_RECORDS = _histogram("balance_lane_batch_records", "Records of a batch", _LANE, _RECORDS_BUCKETS, "shard")
LANE_NEXT_OFFSET = _gauge("balance_lane_next_offset", "First record not decided (D)", _LANE, "shard")
LANE_PUBLISHED_OFFSET = _gauge("balance_lane_published_offset", "First record not published (P)", _LANE, "shard")
LANE_PARKED = _gauge(
    "balance_lane_parked_records", "Records that wait for a partner who is to move here", _LANE, "shard"
)
LANE_MOVES_AMISS = _counter(
    "balance_lane_moves_amiss_total", "What never happens to a move while router and lanes are whole", _LANE, "shard"
)
LANE_STOPPED = _gauge("balance_lane_stopped", "1 while the lane is stopped with this code", (*_LANE, "code"), "shard")

# Expirer
TICKS_SENT = _counter("balance_expirer_ticks_total", "TICK records written", ("shard",), "expirer")
EXPIRIES_SENT = _counter("balance_expirer_expiries_total", "EXPIRE_HOLD records written", ("shard",), "expirer")

# Sink, recaller, remover
SINK_ROWS = _counter("balance_sink_rows_total", "Journal rows durable in Cassandra", (), "sink")
SINK_WRITE_SECONDS = _histogram(
    "balance_sink_write_seconds", "One round of archive writes", (), _SECONDS_BUCKETS, "sink"
)
ARCHIVE_WAITING_SECONDS = _gauge(
    "balance_archive_waiting_seconds", "How long Cassandra has not answered; 0 while it does", (), *_ARCHIVE
)
RECALLS = _counter("balance_recaller_recalls_total", "RECALL_ORIGINAL sent", ("recalled",), "recaller")
RECALLS_WAITING = _gauge("balance_recaller_waiting", "Refunds that wait for coverage (H4)", (), "recaller")
RECALLS_UNDECIDED = _gauge(
    "balance_recaller_undecided", "Recalls sent that their lane has not answered yet", (), "recaller"
)
SLICES_REMOVED = _counter("balance_remover_slices_total", "Journal slices dropped", ("shard",), "remover")
SLICES_WAITING = _gauge(
    "balance_remover_slices_waiting", "Slices past their window that may not go yet", ("shard",), "remover"
)
JOURNAL_SLICES = _gauge(
    "balance_journal_slices", "Slices that the journal has; 1,000 are too many (A7)", ("shard",), "remover"
)
SLICES_LACKING = _gauge(
    "balance_journal_slices_lacking",
    "Slices that ids will need and that do not fit: lanes stop at them",
    ("shard",),
    "remover",
)
LAST_PROOF = _gauge(
    "balance_remover_proof_timestamp_seconds",
    "When the remover last had looked at every slice that may go; 0: not yet",
    ("shard",),
    "remover",
)
OPEN_TRANSFERS = _gauge(
    "balance_open_transfers",
    "Transfers of partners who live in the shard that have not ended, as of the remover's last look",
    ("shard",),
    "remover",
)
OLDEST_TRANSFER_SECONDS = _gauge(
    "balance_open_transfers_oldest_seconds",
    "How old the oldest of these is; 0 where there is none",
    ("shard",),
    "remover",
)
OLDEST_MOVE_SECONDS = _gauge(
    "balance_moves_oldest_seconds",
    "How long the oldest move away from the shard has waited for its target, as of the remover's last look; 0: none",
    ("shard",),
    "remover",
)
FINDINGS = _counter("balance_findings_total", "Findings raised", ("kind",), "remover")

# Auditor
AUDIT_PROVEN_UNTIL = _gauge(
    "balance_audit_proven_until_seconds",
    "Whatever was decided before this time is proven, seconds since the epoch; 0: not since the start",
    ("shard",),
    "auditor",
)
AUDIT_WRONG = _gauge("balance_audit_wrong", "What the last proof found to be wrong", ("shard",), "auditor")
AUDIT_INCOMPLETE = _gauge("balance_audit_incomplete", "What the last proof could not compare", ("shard",), "auditor")

# Every process
BUILD = _shown(
    Info("balance_build", "The release of this process, and of the newest rules it knows", registry=None), *_KINDS
)
TOPIC_PARTITIONS_UNUSED = _gauge(
    "balance_topic_partitions_unused",
    "Partitions of a topic above those the service uses; somebody raised its count",
    ("topic",),
    *_KINDS,
)
SERVER_UP = _gauge(
    "balance_server_up",
    "1 while a server answered this process last, 0 since it did not; none before it was asked",
    ("server",),
    *_KINDS,
)
LAG_RECORDS = _gauge(
    "balance_lag_records",
    "Records behind the last one that was taken, as of the last fetch; a lane's that is stopped is of when it stopped",
    ("topic", "partition"),
    *_READERS,
)
FAULTS = _counter("balance_faults_total", "Faults met, by class", ("process", "fault"), *_KINDS)


FAULT_NAMES = tuple(
    sorted(kind.__name__ for kind in vars(faults).values() if isinstance(kind, type) and issubclass(kind, faults.Fault))
)


def begin(kind: str, *, version: str, rules_release: int) -> None:
    """Show what a process shows from its start: its release, and every fault that it may count.

    Args:
        kind: ``router``, ``shard``, ...
        version: The package's.
        rules_release: The newest release of the rules that it knows.
    """
    BUILD.info({"version": version, "rules_release": str(rules_release)})
    for name in FAULT_NAMES:
        FAULTS.labels(kind, name)


def metrics_page(process: str) -> bytes:
    """Return what a process shows in Prometheus' text format, for ``/metrics``.

    Args:
        process: Its name: ``router``, ``shard-s1``.
    """
    return generate_latest(_PAGES[process.partition("-")[0]])


def means_of(page: str, name: str, label: str) -> dict[str, float]:
    """Return the means of a histogram on a process's page since that process began, over all its other labels.

    Args:
        page: In Prometheus' text format.
        name: The histogram's, without a suffix.
        label: By whose values the means are told.
    """
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples if family.name == name else ():
            totals = {f"{name}_sum": sums, f"{name}_count": counts}.get(sample.name)
            if totals is not None:
                value = sample.labels[label]
                totals[value] = totals.get(value, 0.0) + sample.value
    return {value: sums[value] / count for value, count in counts.items() if count}
