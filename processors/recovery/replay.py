"""Rebuilds a lane of a shard from the shard's topic, into another database.

The replay decides the same records with the same core and the same tables, and publishes nothing. Nothing is read from
the shard's own database, which may be lost. It may be killed at any moment: the target's own ``progress`` says where to
go on. ``comparing`` proves the outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Protocol

from processors.faults import LaneStopped, Misconfigured, Retryable, StopCode
from processors.lane.committing import BatchStore, Committer
from processors.lane.decided import Decided
from processors.lane.deciding import Decider
from processors.lane.standing import LaneContext
from processors.lane.times import LaneTimes, by_first_offset, overrides_in
from processors.stores.rows import LaneState, Progress
from processors.wire.admission import Gate, admit
from processors.wire.records import Record
from processors.wire.signature import why_lacking

BATCH_RECORDS = 4_000  # L8


class ReplayStore(BatchStore, Protocol):
    """A lane's rows in the target database."""

    def take_over(self, topic_id: bytes) -> LaneState:
        """Become the lane's owner there, and return where it stands."""

    def close(self) -> None:
        """Give the connection back."""


class ShardTopic(Protocol):
    """The shard's topic, read without a consumer group."""

    def topic_id(self) -> bytes:
        """Return the topic's id as it is now."""

    def bounds(self, lane: int) -> tuple[int, int]:
        """Return a lane's first offset that is still there, and the one after its last."""

    def read(self, lane: int, from_offset: int, to_offset: int) -> Iterator[list[Record]]:
        """Yield the records of a stretch in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """How far a lane's replay is: offsets, and records a second since it began."""

    lane: int
    offset: int
    target: int
    records_per_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayParts:
    """What a replay of one shard works with."""

    topic: ShardTopic
    make_gate: Callable[[int], Gate]
    make_store: Callable[[int], ReplayStore]
    make_context: Callable[[int], LaneContext]
    clock_ms: Callable[[], int]
    book_accounts_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What is decided of a lane.

    Attributes:
        lane: Partition of the shard's topic.
        target: Offset to stop before.
        decided_below: Records before it were decided once: how far their time is ahead of this machine's clock is not
            asked again (I2).
        seals_show_published: Whether only the log's seals show up to where the lane's results were published, since
            the group has no offset (L4, M7).
    """

    lane: int
    target: int
    decided_below: int
    seals_show_published: bool


def replay_lane(parts: ReplayParts, stretch: Stretch, *, on_progress: Callable[[ReplayProgress], None]) -> Progress:
    """Decide a lane's records from where the target database stands up to where the stretch ends.

    Args:
        parts: The shard's topic and the target's tables.
        stretch: Which lane, and how far.
        on_progress: Told after each batch.

    Returns:
        The lane's progress in the target afterwards; above ``target`` where it was replayed further before.

    Raises:
        Misconfigured: The topic no longer reaches back to where the target stands, or is another one.
        LaneStopped: A record cannot be decided; the text says which and why.
    """
    try:
        return _decide_stretch(parts, stretch, on_progress)
    except _LaterError as later:  # what precedes the record is committed first; then it says why it cannot be decided
        _decide_stretch(parts, replace(stretch, target=later.offset), on_progress)
        return _decide_stretch(parts, stretch, on_progress)


class _LaterError(Exception):
    """A record that is not the first of its batch cannot be decided."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"offset {offset}")
        self.offset = offset


def _decide_stretch(parts: ReplayParts, stretch: Stretch, on_progress: Callable[[ReplayProgress], None]) -> Progress:
    lane, target = stretch.lane, stretch.target
    store = parts.make_store(lane)
    try:
        state = store.take_over(parts.topic.topic_id())
        _refuse_other_topic(parts, lane, state)
        first, began_s = state.progress.at.next_offset, time.monotonic()
        reached: list[Progress] = [state.progress]

        def committed(batch: Decided) -> None:
            reached.append(batch.write.progress)
            offset = batch.write.progress.at.next_offset
            rate = int((offset - first) / max(time.monotonic() - began_s, 0.001))
            on_progress(ReplayProgress(lane=lane, offset=offset, target=target, records_per_s=rate))

        gate = parts.make_gate(lane)
        _refuse_missing_keys(gate, state)
        decider = _decider(parts, stretch, state, gate)
        committer = Committer(
            store,
            decider,
            state,
            admit=lambda record, rules: admit(record, rules, gate),
            admit_parked=lambda record, rules: admit(record, rules, replace(gate, has_verified=True)),
            book_accounts_max=parts.book_accounts_max,
            publishes=False,
            seals_show_published=stretch.seals_show_published,
            on_committed=committed,
        )
        published = (state.progress.published_offset, state.progress.published_time_ms)
        for batch in chain(_batches(parts, lane, first, target), [[]]):
            _decide_all(committer, batch, published)
        return reached[-1]
    finally:
        store.close()


def _decide_all(committer: Committer, records: list[Record], published: tuple[int, int]) -> None:
    """Have all records taken, others before them where they must come first; without any, have all committed."""
    while records or not committer.idle:
        try:
            taken = committer.advance(records, published=published, check=_nothing)
        except Retryable as fault:
            if committer.cut_before is None:
                raise
            raise _LaterError(committer.cut_before) from fault
        if records and taken == len(records):
            return
        records = records[taken:]


def _refuse_missing_keys(gate: Gate, state: LaneState) -> None:
    lacking = why_lacking(gate.keyring, state.rules.keys)
    if lacking is not None:
        raise LaneStopped(StopCode.KEY_MISSING, lacking)


def _decider(parts: ReplayParts, stretch: Stretch, state: LaneState, gate: Gate) -> Decider:
    """Return a decider that knows the operators' time overrides before its first record (I2).

    It reads the log to its end, as the live lane does, since an override of a record before the target may stand
    behind the target.
    """
    lane, first = stretch.lane, state.progress.at.next_offset
    looked_ms = parts.clock_ms()
    _, end = parts.topic.bounds(lane)
    ahead = chain.from_iterable(parts.topic.read(lane, first, end))
    overrides = by_first_offset(overrides_in(ahead, state.rules, lambda record, rules: admit(record, rules, gate)))
    lane_times = LaneTimes(state.lane_times, overrides, next_offset=first, let_pass_below=stretch.decided_below)
    lane_times.looked_ms = looked_ms
    return Decider(parts.make_context(lane), state, lane_times, lacking=partial(why_lacking, gate.keyring))


def _refuse_other_topic(parts: ReplayParts, lane: int, state: LaneState) -> None:
    progress = state.progress
    first, _ = parts.topic.bounds(lane)
    if progress.topic_id != parts.topic.topic_id():
        raise Misconfigured(
            f"the target was replayed from the topic with id {progress.topic_id.hex()}; give an empty database"
        )
    if first > progress.at.next_offset:
        raise Misconfigured(
            f"lane {lane}: the topic begins at offset {first}, the target needs {progress.at.next_offset}: its "
            "retention has passed, and the shard can no longer be rebuilt from the topic alone"
        )


def _batches(parts: ReplayParts, lane: int, from_offset: int, to_offset: int) -> Iterator[list[Record]]:
    waiting: list[Record] = []
    for records in parts.topic.read(lane, from_offset, to_offset):
        waiting += records
        while len(waiting) >= BATCH_RECORDS:
            yield waiting[:BATCH_RECORDS]
            waiting = waiting[BATCH_RECORDS:]
    if waiting:
        yield waiting


def _nothing() -> None:
    """Check nothing: what was published is compared when all is decided (``comparing``)."""
