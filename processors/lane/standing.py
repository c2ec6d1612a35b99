"""How far a lane has decided, and what its next record must be: of the same log, the next offset, of a known time.

No I/O.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from processors.faults import LaneStopped, StopCode
from processors.lane.times import LaneTimes
from processors.ledger.rules import RULES_RELEASE
from processors.stores.rows import IngressKey, IngressPosition
from processors.wire.positions import GroupPosition, LanePoint
from processors.wire.records import Record
from processors.wire.results import LaneIdentity
from processors.wire.route import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneContext:
    """What is fixed for a lane while it is owned.

    ``clock_ahead_max_ms`` is how far a record's broker time may be ahead of this machine's clock (I2),
    ``commands_partitions`` how many partitions the service uses of `balance.commands` (W3),
    ``known_release`` the newest release of the rules whose meaning this process knows (I6).
    """

    identity: LaneIdentity
    lanes: int
    results_topic: str
    results_partitions: int
    dead_letters_topic: str
    commands_topic: str
    commands_partitions: int
    clock_ahead_max_ms: int = 60_000
    known_release: int = RULES_RELEASE

    @property
    def lane(self) -> int:
        """Return the lane's number."""
        return self.identity.lane


@dataclass(slots=True)
class Standing:
    """How far a lane has decided: the parts of a ``LanePoint``, changed in place, since each record moves them all."""

    next_offset: int
    leader_epoch: int
    lane_time_ms: int
    version_us: int
    digest: bytes
    ingress: dict[IngressKey, IngressPosition]

    @property
    def at(self) -> LanePoint:
        """Return the point up to which the lane has decided."""
        return LanePoint(
            next_offset=self.next_offset,
            lane_time_ms=self.lane_time_ms,
            digest=self.digest,
            leader_epoch=self.leader_epoch,
        )

    def position(self, context: LaneContext) -> GroupPosition:
        """Return what the group commit says once everything so far is published (L4)."""
        return GroupPosition(topic_id=context.identity.incarnation, lane=context.lane, at=self.at)


def standing_at(at: LanePoint, *, version_us: int, ingress: dict[IngressKey, IngressPosition]) -> Standing:
    """Return the standing of a lane that has decided up to a point.

    Args:
        at: The point.
        version_us: Of the last journal row before it (A2).
        ingress: The ingress positions there; copied.
    """
    return Standing(
        next_offset=at.next_offset,
        leader_epoch=at.leader_epoch,
        lane_time_ms=at.lane_time_ms,
        version_us=version_us,
        digest=at.digest,
        ingress=dict(ingress),
    )


def meet(
    standing: Standing,
    record: Record,
    *,
    context: LaneContext,
    lane_times: LaneTimes,
    release: int,
) -> None:
    """Step over one record: prove that it is the next of the same log, and take its time.

    Args:
        standing: Before the record; changed in place.
        record: The next one.
        context: The lane's.
        lane_times: What is known of records' times beside their stamps.
        release: Of the lane's rules in force.

    Raises:
        LaneStopped: LOG_GAP (L2), LOG_REWRITTEN (L3), TIMESTAMP_TYPE or CLOCK_AHEAD (I2). The standing is unchanged
        then.
    """
    offset = record.offset
    if offset != standing.next_offset:  # L2
        raise LaneStopped(
            StopCode.LOG_GAP,
            f"the record after offset {standing.next_offset - 1} has offset {offset} in {record.topic}",
        )
    if record.leader_epoch < standing.leader_epoch:  # L3
        raise LaneStopped(
            StopCode.LOG_REWRITTEN,
            f"offset {offset} has leader epoch {record.leader_epoch}, the one before it {standing.leader_epoch}",
        )
    time_ms = lane_times.time_of(record, release)
    if time_ms is None:
        time_ms = record.timestamp_ms
        if not record.append_time:  # I2
            raise LaneStopped(StopCode.TIMESTAMP_TYPE, f"offset {offset} carries its producer's time, not the broker's")
        if offset >= lane_times.let_pass_below:
            _refuse_early(standing, record, context=context, lane_times=lane_times, release=release)
    standing.next_offset = offset + 1
    standing.leader_epoch = record.leader_epoch
    standing.lane_time_ms = max(standing.lane_time_ms, time_ms)


def _refuse_early(
    standing: Standing, record: Record, *, context: LaneContext, lane_times: LaneTimes, release: int
) -> None:
    """Stop the lane before a record whose stamp is too far ahead: an operator may still give it another time (I2)."""
    offset, time_ms = record.offset, record.timestamp_ms
    if lane_times.waits(record, release):
        raise LaneStopped(StopCode.CLOCK_AHEAD, f"offset {offset} waits for an operator's word on its time")
    ahead_ms = time_ms - lane_times.looked_ms
    if time_ms > standing.lane_time_ms and ahead_ms > context.clock_ahead_max_ms:
        raise LaneStopped(StopCode.CLOCK_AHEAD, f"offset {offset} has broker time {time_ms} ms, {ahead_ms} ms ahead")


def is_redelivery(standing: Standing, route: Route) -> bool:
    """Say whether the router sent this ingress record before, and remember it where not (L10).

    Raises:
        LaneStopped: INGRESS_WENT_BACK: a known ingress offset with a later leader epoch.
    """
    key = (route.ingress_epoch, route.ingress_partition)
    met = standing.ingress.get(key)
    if met is not None and route.ingress_offset <= met.offset:
        if route.ingress_leader_epoch > met.leader_epoch:
            raise LaneStopped(
                StopCode.INGRESS_WENT_BACK,
                f"ingress partition {route.ingress_partition} offset {route.ingress_offset} came again with "
                f"leader epoch {route.ingress_leader_epoch}, after {met.offset} with {met.leader_epoch}",
            )
        return True
    standing.ingress[key] = IngressPosition(route.ingress_offset, route.ingress_leader_epoch)
    return False


def chain_digest(digest: bytes, result: bytes) -> bytes:
    """Return the lane's digest after one more journal row: SHA-256 of the last digest and the row's result (L13)."""
    return hashlib.sha256(digest + result).digest()
