"""How far a lane is, and whether a record may come next: the same log, without a gap, at a known time. No I/O."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from processors.faults import LaneStopped, StopCode
from processors.ledger.commands import SetLaneTime
from processors.stores.rows import SourceKey, SourcePosition
from processors.wire.admission import admit
from processors.wire.commands import type_of_payload
from processors.wire.positions import GroupPosition
from processors.wire.records import Record
from processors.wire.results import LaneIdentity
from processors.wire.route import Route
from processors.wire.signature import KeyRing

_NO_STAMP = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneContext:
    """What is fixed for a lane while it is owned.

    ``clock_ahead_max_ms`` is how far a record's broker time may be ahead of this machine's clock (I2).
    """

    identity: LaneIdentity
    lanes: int
    results_topic: str
    results_partitions: int
    dead_letters_topic: str
    clock_ahead_max_ms: int = 60_000

    @property
    def lane(self) -> int:
        """Return the lane's number."""
        return self.identity.lane


@dataclass(slots=True)
class Standing:
    """How far a lane has decided. ``digest`` is chained over the result bytes of the journal's rows (L13)."""

    next_offset: int
    leader_epoch: int
    lane_time_ms: int
    version_us: int
    digest: bytes
    sources: dict[SourceKey, SourcePosition]

    def position(self, context: LaneContext) -> GroupPosition:
        """Return what the group commit says once everything so far is published (L4)."""
        return GroupPosition(
            next_offset=self.next_offset,
            topic_id=context.identity.incarnation,
            lane=context.lane,
            lane_time_ms=self.lane_time_ms,
            digest=self.digest,
            leader_epoch=self.leader_epoch,
        )


def meet(
    standing: Standing,
    record: Record,
    *,
    context: LaneContext,
    lane_times: Mapping[int, int],
    clock_ms: Callable[[], int],
) -> None:
    """Step over one record: prove that it is the next of the same log, and take its time.

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
    time_ms = lane_times.get(offset)
    if time_ms is not None:
        if record.append_time:  # the word never moves time on further than the broker did
            time_ms = min(time_ms, record.timestamp_ms)
    else:
        if not record.append_time:  # I2
            raise LaneStopped(StopCode.TIMESTAMP_TYPE, f"offset {offset} carries its producer's time, not the broker's")
        time_ms = record.timestamp_ms
        if time_ms > standing.lane_time_ms and time_ms - clock_ms() > context.clock_ahead_max_ms:  # I2
            raise LaneStopped(
                StopCode.CLOCK_AHEAD, f"offset {offset} has broker time {time_ms} ms, {time_ms - clock_ms()} ms ahead"
            )
    standing.next_offset = offset + 1
    standing.leader_epoch = record.leader_epoch
    standing.lane_time_ms = max(standing.lane_time_ms, time_ms)


def is_redelivery(standing: Standing, route: Route) -> bool:
    """Say whether the router sent this ingress record before, and remember it where not (L10).

    Raises:
        LaneStopped: INGRESS_WENT_BACK: a known ingress offset with a later leader epoch.
    """
    key = (route.ingress_epoch, route.ingress_partition)
    met = standing.sources.get(key)
    if met is not None and route.ingress_offset <= met.offset:
        if route.ingress_leader_epoch > met.leader_epoch:
            raise LaneStopped(
                StopCode.INGRESS_WENT_BACK,
                f"ingress partition {route.ingress_partition} offset {route.ingress_offset} came again with "
                f"leader epoch {route.ingress_leader_epoch}, after {met.offset} with {met.leader_epoch}",
            )
        return True
    standing.sources[key] = SourcePosition(offset=route.ingress_offset, leader_epoch=route.ingress_leader_epoch)
    return False


def times_told(records: Iterable[Record], *, keyring: KeyRing, lane: int, lanes: int) -> dict[int, int]:
    """Return the operator's word on the times of records of a lane: offset -> ms; the first word on each counts (I2).

    For reading ahead: only records that could be SET_LANE_TIME are decoded, and only signed ones count. A record that
    bears the broker's time, and no later one than the word that came after it, had the right stamp: it may have been
    decided by that before the word came, so the word counts for nothing.

    Args:
        records: Of the lane, in order, from one that is not decided on.
        keyring: Of the operators' keys.
        lane: The lane.
        lanes: How many the shard has.
    """
    times: dict[int, int] = {}
    stamps = array("q")  # ms, of each offset from `first` on; the largest where it is the producer's, or unknown
    first = None
    for record in records:
        if first is None:
            first = record.offset
        stamps.extend([_NO_STAMP] * (record.offset - first - len(stamps)))
        stamps.append(record.timestamp_ms if record.append_time else _NO_STAMP)
        if record.value is None or type_of_payload(record.value) != "SET_LANE_TIME":
            continue
        told = admit(record, keyring=keyring, lane=lane, lanes=lanes).command
        if isinstance(told, SetLaneTime) and not _was_right(stamps, told.lane_offset - first, record.timestamp_ms):
            times.setdefault(told.lane_offset, told.time_ms)
    return times


def _was_right(stamps: array[int], place: int, word_ms: int) -> bool:
    return 0 <= place < len(stamps) and stamps[place] <= word_ms


def chain_digest(digest: bytes, result: bytes) -> bytes:
    """Return the lane's digest after one more journal row: SHA-256 of the last digest and the row's result (L13)."""
    return hashlib.sha256(digest + result).digest()
