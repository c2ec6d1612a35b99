"""What Prometheus is told of a lane: results by status, refusals by reason, dead letters, silences, and how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from processors.lane.decided import Decided
from processors.lane.stages import LaneStage, StageClock
from processors.ledger.outcomes import Reason, Status
from processors.metrics import (
    FAULT_NAMES,
    LANE_BATCH_RECORDS,
    LANE_DEAD_LETTERS,
    LANE_MOVES_AMISS,
    LANE_REFUSALS,
    LANE_RESULTS,
    LANE_RETRIES,
    LANE_SILENCES,
    LANE_STAGE_SECONDS,
    RESULT_SECONDS,
)
from processors.wire.results import STATUS_HEADER, LaneIdentity


def count_batch(identity: LaneIdentity, batch: Decided) -> None:
    """Count a batch that is committed: by the headers that its results carry anyway, 0.3 µs a result."""
    lane = (identity.shard, str(identity.lane))
    statuses = Counter(value for record in batch.out for name, value in record.headers if name == STATUS_HEADER)
    for status, results in statuses.items():
        LANE_RESULTS.labels(*lane, status.decode()).inc(results)
    LANE_DEAD_LETTERS.labels(*lane).inc(len(batch.out) - statuses.total())
    LANE_SILENCES.labels(*lane).inc(batch.silent)
    count_moves_amiss(identity, batch.alarms)
    for reason, times in batch.reasons.items():
        LANE_REFUSALS.labels(identity.shard, reason).inc(times)


def count_moves_amiss(identity: LaneIdentity, alarms: list[str]) -> None:
    """Count what an operator must look at."""
    LANE_MOVES_AMISS.labels(identity.shard, str(identity.lane)).inc(len(alarms))


def begin_counting(shard: str, lane: int) -> None:
    """Show every counter of a lane from its start: an alarm on a rise then fires on the first of a kind, too."""
    for status in Status:
        LANE_RESULTS.labels(shard, str(lane), status)
    for counter in (LANE_DEAD_LETTERS, LANE_SILENCES, LANE_MOVES_AMISS):
        counter.labels(shard, str(lane))
    for name in FAULT_NAMES:
        LANE_RETRIES.labels(shard, str(lane), name)
    for reason in Reason:
        if reason is not Reason.NONE:
            LANE_REFUSALS.labels(shard, reason)


def publications(shard: str, lane: int, clock_ms: Callable[[], int]) -> Callable[[int, int], None]:
    """Return what a lane tells of each publication: how many records, and the broker's stamp of the first one's source.

    A stamp of 0 is not measured: what is answered again after a restart was perhaps answered before.
    """
    observe_records = LANE_BATCH_RECORDS.labels(shard, str(lane)).observe
    observe_seconds = RESULT_SECONDS.labels(shard).observe

    def observe(records: int, stamped_ms: int) -> None:
        observe_records(records)
        if stamped_ms:
            observe_seconds(max(0, clock_ms() - stamped_ms) / 1_000)

    return observe


def stage_clock(shard: str, lane: int) -> StageClock:
    """Return what tells Prometheus how long each stage of a lane's batches takes."""
    observe = {stage: LANE_STAGE_SECONDS.labels(shard, str(lane), stage).observe for stage in LaneStage}
    return StageClock(lambda stage, seconds: observe[stage](seconds))
