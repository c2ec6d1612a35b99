"""A lane's threads: they feed it, publish what it committed, and deal with its faults.

The poll thread (``shard``) puts records into the intake; the lane's own thread admits them (decode, signature, guard),
decides them and builds SQL; the store's thread waits for MySQL; the publish thread waits for Kafka. Between them are
bounded queues. Only one of them runs Python for long at any moment, which is why a shard scales by processes and not
by threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from processors.faults import Fault, Fenced, LaneStopped, Retryable, StopCode, Undecodable, UnknownOutcome, next_step
from processors.lane.intake import BatchLimits, Intake
from processors.lane.lane import Lane, LaneParts
from processors.lane.metrics import begin_counting
from processors.lane.publishing import PublishStage
from processors.lane.standstill import STANDSTILL_S, whereabouts
from processors.metrics import LANE_NEXT_OFFSET, LANE_PARKED, LANE_PUBLISHED_OFFSET, LANE_RETRIES, LANE_STOPPED
from processors.troubles import TROUBLES
from processors.wire.records import Record

# Batches decided and committed but not yet published: enough that MySQL never waits for one slow Kafka transaction,
# and few enough that what must be answered again after a crash is read in a second.
UNPUBLISHED_BATCHES_MAX = 4
# A publication ends within its own deadline and that of its abort, 25 s (``streams.publisher``), if the client keeps
# them. It was seen to keep none: librdkafka waits without end for the answer to the group's offsets, after passwords
# were changed. Then the lane begins anew, and its next producer fences the one that hangs (L5).
PUBLISH_STEP_MAX_S = 45.0
BACKOFF_S = (0.1, 0.3, 1.0, 2.0, 5.0)
WELL_AFTER_S = 30.0  # a lane that ran this long was well: its next fault begins a new count
# What looks like a bug may be a server's: a proxy's answer to one statement, a replica with other rows for a moment. A
# failover takes a minute at most; what repeats for three, with nothing else going wrong meanwhile, is a bug.
BUG_AFTER_S = 180.0
STOPPED_LOOK_S = 2.0  # how often a stopped lane looks whether an operator let it go on
FENCED_WAIT_S = 5.0  # longer than a consumer that woke up needs to learn that it lost its lanes (heartbeats: 2 s)
IDLE_WAIT_S = 0.5


class LaneCondition(StrEnum):
    """What a lane is doing."""

    ASSIGNING = "ASSIGNING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    DROPPED = "DROPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits(BatchLimits):
    """Bounds of one lane's work; see docs/design.md, A lane."""

    unpublished_batches_max: int = UNPUBLISHED_BATCHES_MAX
    publish_step_max_s: float = PUBLISH_STEP_MAX_S
    stop_deadline_s: float = 10.0
    stopped_look_s: float = STOPPED_LOOK_S
    bug_after_s: float = BUG_AFTER_S
    backoff_s: tuple[float, ...] = BACKOFF_S
    standstill_s: float = STANDSTILL_S


class PublishThread:
    """Runs a publish stage until it is closed or a fault ends it; one per assignment."""

    def __init__(self, stage: PublishStage, name: str, on_change: Callable[[], None], step_max_s: float) -> None:
        """Start at once; ``on_change`` is told after each transaction and at the end.

        A step that takes longer than ``step_max_s`` is a fault: whether it ends is unknown.
        """
        self._stage = stage
        self._on_change = on_change
        self._step_max_s = step_max_s
        self._step_began_s: float | None = None
        self._fault: Exception | None = None
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._busy = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def fault(self) -> Exception | None:
        """Return why nothing is published any more; None while all is well."""
        began_s = self._step_began_s
        if self._fault is None and began_s is not None and time.monotonic() - began_s > self._step_max_s:
            return UnknownOutcome(f"a publication has not ended within {self._step_max_s:g} s")
        return self._fault

    @property
    def published(self) -> int:
        """Return P, as far as this owner knows."""
        return self._stage.published[0]

    @property
    def drained(self) -> bool:
        """Say whether everything offered is published."""
        return not self._busy and self._stage.waiting == 0

    def wake(self) -> None:
        """Say that a batch was offered."""
        self._busy = True
        self._wanted.set()

    def close(self, deadline_s: float) -> None:
        """End the thread; what waits stays unpublished and is answered again by the next owner."""
        self._closing.set()
        self._wanted.set()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wanted.wait()
                self._wanted.clear()
                while not self._closing.is_set() and self._step():
                    self._tell()
                self._busy = self._stage.waiting > 0
                self._tell()
        except Exception as fault:  # noqa: BLE001 - raised again in the lane's thread, which decides
            self._fault = fault
            self._tell()

    def _tell(self) -> None:
        """Tell of a change; nobody wants to know it of a thread that was left behind and wakes much later."""
        if not self._closing.is_set():
            self._on_change()

    def _step(self) -> bool:
        self._step_began_s = time.monotonic()
        try:
            return self._stage.step()
        finally:
            self._step_began_s = None


class LaneRunner:
    """A lane's thread: assigns it, feeds it, and deals with its faults."""

    def __init__(
        self,
        shard: str,
        lane_number: int,
        make_parts: Callable[[], LaneParts],
        limits: LaneLimits,
        *,
        on_taken: Callable[[], None],
        on_fault: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the lane's thread.

        Args:
            shard: The shard's id, for logs and metrics.
            lane_number: The partition.
            make_parts: Connects what the lane works with; called in the lane's thread (L12).
            limits: Bounds.
            on_taken: Told whenever the lane took records from its intake.
            on_fault: Told of each fault: what the lane worked with is left behind.
        """
        self.lane_number = lane_number
        self._labels = (shard, str(lane_number))
        self._on_fault = on_fault
        self.intake = Intake(limits, on_taken)
        self.condition = LaneCondition.ASSIGNING
        self._stopped_by: StopCode | None = None
        self.paused = False
        self._make_parts = make_parts
        self._limits = limits
        self._ending = threading.Event()
        self._dropping = False
        self._trouble: Fault | None = None
        self._failures = 0
        self._faults_met = 0
        self._taken = 0  # records, of the intake's
        self._in_hand = False  # records that are not committed yet
        self._bug_since_s: float | None = None
        self._decided_to = 0  # D, as last known
        self._failed_at = -1  # the D at which the last fault was met
        self._unstored: LaneStopped | None = None
        self._running_since_s = time.monotonic()
        self._published = threading.Event()
        self._publishing: PublishThread | None = None
        self._parts: LaneParts | None = None
        self._subject = f"{shard} lane {lane_number}"
        begin_counting(shard, lane_number)
        self._thread = threading.Thread(target=self._run, name=f"lane-{lane_number}", daemon=True)
        self._thread.start()

    @property
    def has_stopped(self) -> bool:
        """Say whether the lane does nothing more, and the database says why to whoever asks."""
        stored = self.condition is LaneCondition.STOPPED and self._unstored is None
        return stored or self.condition is LaneCondition.DROPPED

    @property
    def has_work(self) -> bool:
        """Say whether something waits for the lane, which is neither stopped nor gone; an assignment is work."""
        if self.condition is not LaneCondition.RUNNING:
            return self.condition is LaneCondition.ASSIGNING
        publishing = self._publishing
        return len(self.intake) > 0 or self._in_hand or (publishing is not None and not publishing.drained)

    @property
    def movement(self) -> tuple[object, ...]:
        """Return a value that differs from the last one whenever the lane has moved or has met a fault."""
        publishing = self._publishing
        published = None if publishing is None else publishing.published
        return self.condition, self._faults_met, self._taken, self._decided_to, published

    @property
    def whereabouts(self) -> str:
        """Say in which function of ours the lane's thread is."""
        return whereabouts(self._thread)

    def end(self, *, drop: bool) -> None:
        """Ask the lane to end: after publishing what it decided, or at once where it was revoked (``drop``)."""
        self._dropping = self._dropping or drop
        self._ending.set()
        self.intake.wake()
        self._published.set()

    def interrupt(self, trouble: Fault) -> None:
        """Have the lane's thread meet a fault that the poll thread saw."""
        self._trouble = trouble
        self.intake.wake()

    def join(self, deadline_s: float) -> bool:
        """Wait for the end; False where the deadline passed first."""
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        lane: Lane | None = None
        while not self._ending.is_set():
            try:
                if lane is None:
                    self._parts = self._make_parts()
                    lane = Lane(self._parts)
                self._enter(LaneCondition.ASSIGNING)
                lane.assign()
                self._enter(LaneCondition.RUNNING)
                self._running_since_s = time.monotonic()
                self._serve(lane)
            except Exception as fault:  # noqa: BLE001 - L11: whatever it is, the lane says so, and begins anew or stops
                self._faults_met += 1
                self._on_fault()
                self._ending.wait(self._meet(fault))
            finally:
                self._close_publishing()
        if lane is not None:
            lane.close()
        if self._parts is not None:
            self._parts.store.close()
        self._enter(LaneCondition.DROPPED)
        TROUBLES.over("shard", subject=self._subject)  # the next owner's to tell
        for gauge in (LANE_NEXT_OFFSET, LANE_PARKED, LANE_PUBLISHED_OFFSET):  # the next owner's to tell
            gauge.remove(*self._labels)

    def _serve(self, lane: Lane) -> None:
        """Feed the lane until it is to end; then publish what it decided, within the deadline."""
        publishing = self._publishing = PublishThread(
            lane.publishing,
            f"publish-{self.lane_number}",
            partial(self._note_published, lane.publishing),
            self._limits.publish_step_max_s,
        )
        self._note_published(lane.publishing)
        self._decided_to, self._in_hand = lane.next_offset, False
        while not self._ending.is_set():
            self._await_room(lane, publishing)
            idle, intake = lane.idle, self.intake
            records = intake.take(IDLE_WAIT_S) if idle else intake.take_while(lambda: lane.writes_parts)
            self._turn(lane, publishing, records)
            self._note_well(lane)
        if self._dropping:
            return
        deadline = time.monotonic() + self._limits.stop_deadline_s
        while not lane.idle:
            self._turn(lane, publishing, [])
        while not publishing.drained and publishing.fault is None and time.monotonic() < deadline:
            self._published.wait(0.1)
            self._published.clear()

    def _note_well(self, lane: Lane) -> None:
        """Forget what went wrong, once the lane got past it and published that, or ran for long."""
        ran_s = time.monotonic() - self._running_since_s
        if self._failed_at < 0 or (lane.publishing.published[0] <= self._failed_at and ran_s < WELL_AFTER_S):
            return
        self._failures, self._failed_at, self._bug_since_s, self._unstored = 0, -1, None, None
        TROUBLES.over("shard", subject=self._subject)

    def _turn(self, lane: Lane, publishing: PublishThread, records: list[Record]) -> None:
        if publishing.fault is not None:
            raise publishing.fault
        if not records and lane.idle and self._trouble is None:
            return
        self._in_hand = True
        began_s = time.monotonic()
        try:
            if self._trouble is not None:
                lane.settle()
                trouble, self._trouble = self._trouble, None
                raise trouble
            taken = lane.turn(records)
        finally:
            publishing.wake()
        self._decided_to = lane.next_offset
        self._taken += taken
        if taken and self._parts is not None:
            self._parts.stages.taken(records[taken - 1].offset + 1, began_s, self.intake.waited_s)
        self._in_hand = not lane.idle
        LANE_NEXT_OFFSET.labels(*self._labels).set(lane.next_offset)
        LANE_PARKED.labels(*self._labels).set(lane.parked_records)
        if taken < len(records):
            self.intake.give_back(records[taken:])
        if lane.awaits_publication:
            self._published.wait(IDLE_WAIT_S)
            self._published.clear()

    def _await_room(self, lane: Lane, publishing: PublishThread) -> None:
        while lane.publishing.waiting >= self._limits.unpublished_batches_max and not self._ending.is_set():
            if publishing.fault is not None:
                raise publishing.fault
            self._published.wait(IDLE_WAIT_S)
            self._published.clear()

    def _note_published(self, stage: PublishStage) -> None:
        """Told by the publish thread, and at the beginning."""
        LANE_PUBLISHED_OFFSET.labels(*self._labels).set(stage.published[0])
        self._published.set()

    # ------------------------------------------------------------------ what goes wrong

    def _meet(self, fault: Exception) -> float:
        """Stop the lane, or have it begin anew; return how many seconds to wait before that.

        Once a stop is stored, nobody publishes for the lane until an operator lets it go on. So whatever is committed
        is published before the stop is stored. Where that fails the lane begins anew: it answers the committed records
        again, and then meets the record that stops it once more.
        """
        stop = why_stopped(fault)
        unpublished = None if stop is None else self._drain_publishing()
        if unpublished is not None:
            fault, stop = unpublished, why_stopped(unpublished)
        self._failed_at = max(self._failed_at, self._decided_to)
        if stop is None or not self._has_repeated(stop):
            return self._begin_anew(fault, is_bug=stop is not None)
        self._stop(stop)
        return self._limits.stopped_look_s

    def _has_repeated(self, stop: LaneStopped) -> bool:
        """Say whether a stop may be one: what the log says at once, a bug after it repeated for long."""
        if stop.code is not StopCode.BUG or stop.stored:
            return True
        now_s = time.monotonic()
        if self._bug_since_s is None:
            self._bug_since_s = now_s
        return now_s - self._bug_since_s >= self._limits.bug_after_s

    def _begin_anew(self, fault: Exception, *, is_bug: bool) -> float:
        LANE_RETRIES.labels(*self._labels, type(fault).__name__).inc()
        if is_bug:
            TROUBLES.met("shard", fault, subject=self._subject, event="lane_bug", loud=True)
        else:
            self._bug_since_s = None  # something else goes wrong, too: the bug may be its doing
            TROUBLES.met("shard", fault, subject=self._subject, event="lane_fault")
        if self._unstored is not None:
            self._tell_unstored(self._unstored, fault)
        if isinstance(fault, Fenced):
            # Another worker took the lane over. If the group gave it away, the consumer says so meanwhile and this
            # runner is ended; if not, the other one is the zombie, and the lane is ours to take back.
            return FENCED_WAIT_S
        if time.monotonic() - self._running_since_s > WELL_AFTER_S:
            self._failures = 0
        self._failures += 1
        return self._limits.backoff_s[min(self._failures, len(self._limits.backoff_s)) - 1]

    def _stop(self, stop: LaneStopped) -> None:
        """Store why the lane stopped, unless that is where it was read."""
        self._unstored = None if stop.stored else self._not_stored(stop)
        if self._unstored is None:
            TROUBLES.met(
                "shard",
                stop,
                subject=self._subject,
                event="lane_stopped",
                loud=False,
                as_error=True,
                advice=self._advice(stop),
            )
        self._enter(LaneCondition.STOPPED, stop.code)

    def _not_stored(self, stop: LaneStopped) -> LaneStopped | None:
        """Store a stop; return it where that did not succeed, so that it is told of until the next look stores it."""
        try:
            if self._parts is not None:
                self._parts.store.stop(stop.code, stop.detail)
                TROUBLES.over("shard", subject=self._subject)
                return None
        except Exception as fault:  # noqa: BLE001 - told, and stored at the next look; the lane does not go on
            self._tell_unstored(stop, fault)
        return stop

    def _tell_unstored(self, stop: LaneStopped, fault: Exception) -> None:
        """Have everybody hear of a stop that the database does not know of."""
        told = LaneStopped(stop.code, f"{stop.detail} (not stored yet, since {type(fault).__name__}: {fault})")
        advice = self._advice(stop)
        TROUBLES.met("shard", told, subject=self._subject, event="lane_stopped", loud=True, advice=advice)

    def _advice(self, stop: LaneStopped) -> str:
        offset = stop.next_offset if stop.stored else self._decided_to
        return next_step(stop.code, shard=self._labels[0], lane=self.lane_number, offset=offset)

    def _drain_publishing(self) -> Exception | None:
        """Wait until what is committed is published; return why it is not."""
        deadline = time.monotonic() + self._limits.stop_deadline_s
        publishing = self._publishing
        while publishing is not None and not publishing.drained and publishing.fault is None:
            if time.monotonic() > deadline:
                return Retryable(f"what is committed is not published within {self._limits.stop_deadline_s:g} s")
            self._published.wait(0.1)
            self._published.clear()
        return None if publishing is None else publishing.fault

    def _close_publishing(self) -> None:
        if self._publishing is not None:
            self._publishing.close(self._limits.stop_deadline_s)
            self._publishing = None

    def _enter(self, condition: LaneCondition, stopped_by: StopCode | None = None) -> None:
        """Change the lane's condition; what it was stopped by is known until it runs, stops otherwise, or is gone."""
        self.condition = condition
        if condition is LaneCondition.ASSIGNING or self._stopped_by is stopped_by:
            return
        if self._stopped_by is not None:
            LANE_STOPPED.labels(*self._labels, self._stopped_by).set(0)
        if stopped_by is not None:
            LANE_STOPPED.labels(*self._labels, stopped_by).set(1)
        self._stopped_by = stopped_by


def why_stopped(fault: Exception) -> LaneStopped | None:
    """Say whether a fault stops its lane, and by which code; None where the lane begins anew.

    A fault of a server never does, whatever it is: it is waited out. What stops a lane is in its log; a bug, which the
    same record would meet again; and rows that only a later release can read.
    """
    if isinstance(fault, LaneStopped):
        return fault
    if isinstance(fault, Undecodable):
        return LaneStopped(StopCode.UNKNOWN_VERSION, f"{type(fault).__name__}: {fault}")
    if isinstance(fault, Fault):
        return None
    return LaneStopped(StopCode.BUG, f"{type(fault).__name__}: {fault}")
