"""The shard worker: one process and one consumer, which runs the lanes it is assigned (docs/design.md, A lane)."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from processors.faults import Fault, LaneStopped, Retryable
from processors.lane.lane import LaneParts
from processors.lane.runner import LaneLimits, LaneRunner
from processors.lane.standstill import StandstillWatch
from processors.telemetry import PULSE, get_logger
from processors.troubles import TROUBLES
from processors.wire.records import Record

log = get_logger(__name__)

POLL_S = 0.1
# How long the poll thread waits for a full lane: longer than any batch takes, far below what the group allows.
HOLD_S = 2.0
# Read at once at most: two batches, so that a lane's queue is never refilled by more than it may hold.
POLL_RECORDS_MAX = 8_000
# A lane that was revoked ends its step and lets go; it is fenced inside MySQL in any case, so this is courtesy (L12).
REVOKE_DEADLINE_S = 3.0
TOPIC_LOOK_S = 1.0  # how often the topic's id is compared (L3)
# After a fault or a revocation, books and clients are left behind that only Python's cycle collector frees; with the
# thresholds below it might not run for hours. A run looks at every object and takes some tenths of a second. So it is
# done at most this often, however many faults there are.
COLLECT_EVERY_S = 30.0
# Python's default of 5 ms lets one thread hold another up: at 5,000 commands a second the median latency was 7 times
# that of 0.2 ms in a prototype; below half a millisecond the switches themselves cost throughput.
SWITCH_INTERVAL_S = 0.0005
# A batch makes some 100,000 objects, and none in a cycle: collecting after every 700, Python's default, only scans the
# book again and again. Cycles come from faults: see COLLECT_EVERY_S.
COLLECT_AFTER = (200_000, 20, 100)
_OTHER_TOPIC = "the shard's topic has another id than before"  # the lane compares them when it is assigned, and stops


class ShardConsumer(Protocol):
    """The shard's consumer group member (``streams.consumer``)."""

    def poll(self, max_records: int, timeout_s: float) -> tuple[dict[int, list[Record]], dict[int, LaneStopped]]:
        """Return records by lane, and the lanes whose log is not what it was."""

    def pause(self, lane: int) -> None:
        """Have no more records of a lane come."""

    def resume(self, lane: int) -> None:
        """Have a paused lane's records come again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardConfig:
    """One worker of one shard."""

    shard: str
    lanes: int
    limits: LaneLimits
    topic_id: bytes


class ShardWorker:
    """Runs the lanes that the consumer group assigns to this process."""

    def __init__(
        self,
        config: ShardConfig,
        make_parts: Callable[[int], LaneParts],
        read_topic_id: Callable[[], bytes],
        look_at_partitions: Callable[[], None] = lambda: None,
    ) -> None:
        """Hold the parts.

        Args:
            config: The worker's surroundings.
            make_parts: Makes one lane's store, log and publisher; called in the lane's thread.
            read_topic_id: Asks the broker for the id of the shard's topic as it is now.
            look_at_partitions: Notices topics whose number of partitions was raised; called with each look at the id.
        """
        self._config = config
        self._make_parts = make_parts
        self._read_topic_id = read_topic_id
        self._look_at_partitions = look_at_partitions
        self._runners: dict[int, LaneRunner] = {}
        self._standstill = StandstillWatch(config.shard, config.limits.standstill_s)
        self._topic_looked_s = time.monotonic()
        self._taken = threading.Event()
        self._leftovers = threading.Event()
        self._collected_s = time.monotonic() - COLLECT_EVERY_S
        self._ending = False

    # -------------------------------------------------- told by the consumer, in the poll thread

    def assigned(self, lanes: Collection[int]) -> None:
        """Start the lanes' threads; the work of the assignment is done in there (L12).

        Partitions above the shard's lanes are nobody's: the topic's count was raised, and nothing is routed there (W3).
        """
        if self._ending:
            return
        config = self._config
        for lane in (lane for lane in lanes if lane < config.lanes):
            self._runners[lane] = LaneRunner(
                config.shard,
                lane,
                partial(self._make_parts, lane),
                config.limits,
                on_taken=self._taken.set,
                on_fault=self._leftovers.set,
            )

    def revoked(self, lanes: Collection[int]) -> None:
        """End the lanes' threads; what they have not committed is dropped (L12)."""
        ending = [self._runners.pop(lane) for lane in lanes if lane in self._runners]
        for runner in ending:
            runner.end(drop=True)
        deadline = time.monotonic() + REVOKE_DEADLINE_S
        for runner in ending:
            runner.join(max(0.0, deadline - time.monotonic()))
        self._leftovers.set()

    def started(self, lane: int) -> None:
        """Drop what was read before a lane's position was set (L12)."""
        runner = self._runners.get(lane)
        if runner is not None:
            runner.intake.clear()

    # -------------------------------------------------- the process

    def run(self, consumer: ShardConsumer, stopping: threading.Event) -> int:
        """Poll until told to stop.

        Returns:
            0 after ``stopping``; 1 when no lane is left running: each is stopped, and an operator must look.

        Raises:
            Fenced: Another process has this one's ``instance``.
            Fault: The consumer's; run another worker with another consumer.
        """
        try:
            return self._run(consumer, stopping)
        except BaseException:  # of the consumer: its lanes go with it, and whoever runs this begins anew
            self._ending = True
            self.revoked(list(self._runners))
            raise

    def _run(self, consumer: ShardConsumer, stopping: threading.Event) -> int:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.collect()  # of a worker before this one, in the same process
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        while not stopping.is_set():
            self._hold(consumer)
            records, stopped = consumer.poll(POLL_RECORDS_MAX, POLL_S)
            for lane, found in records.items():
                if lane in self._runners:  # else revoked between two polls: whoever owns it now reads them too
                    self._runners[lane].intake.offer(found)
            for lane, stop in stopped.items():
                self._interrupt(lane, stop)
            self._resume_hungry(consumer)
            self._look_at_topic()
            self._standstill.look_if_due(self._runners)
            self._collect()
            PULSE.beat()
            if self._all_stopped():
                log.error("no_lane_left", shard=self._config.shard)
                self._end(consumer)
                return 1
        PULSE.stop()
        self._end(consumer)
        return 0

    def _hold(self, consumer: ShardConsumer) -> None:
        """Read no more while lanes have enough; pause a full lane only where it would hold others up.

        A pause makes the client throw away what it has read ahead, and a resume read it again: under a backlog that
        costs half the throughput.
        """
        ends_s = time.monotonic() + HOLD_S
        while any(runner.intake.full for runner in self._reading()):
            if any(runner.intake.hungry for runner in self._reading()) or time.monotonic() > ends_s:
                break
            self._taken.wait(POLL_S)
            self._taken.clear()
        for runner in self._reading():
            if runner.intake.full:
                consumer.pause(runner.lane_number)
                runner.paused = True

    def _reading(self) -> list[LaneRunner]:
        return [runner for runner in self._runners.values() if not runner.paused]

    def _interrupt(self, lane: int, stop: LaneStopped) -> None:
        """Have a lane meet what is wrong with its log; where the topic was made again, it is told that (L3)."""
        runner = self._runners.get(lane)
        if runner is not None:
            runner.interrupt(Retryable(_OTHER_TOPIC) if self._is_other_topic() else stop)

    def _resume_hungry(self, consumer: ShardConsumer) -> None:
        for lane, runner in self._runners.items():
            if runner.paused and runner.intake.hungry:
                consumer.resume(lane)
                runner.paused = False

    def _look_at_topic(self) -> None:
        """Notice a topic that was made again under the same name (L3)."""
        now_s = time.monotonic()
        if now_s - self._topic_looked_s < TOPIC_LOOK_S:
            return
        if self._is_other_topic():
            for runner in self._runners.values():
                runner.interrupt(Retryable(_OTHER_TOPIC))
        self._look_at_partitions()
        self._topic_looked_s = time.monotonic()

    def _is_other_topic(self) -> bool:
        try:
            is_other = self._read_topic_id() != self._config.topic_id
        except Fault as fault:  # the broker is away: no record comes from it either, and the next look asks again
            TROUBLES.met("shard", fault, subject="the topic's id")
            return False
        TROUBLES.over("shard", subject="the topic's id")
        return is_other

    def _collect(self) -> None:
        """Free what faults and revoked lanes left, now and then."""
        now_s = time.monotonic()
        if self._leftovers.is_set() and now_s - self._collected_s >= COLLECT_EVERY_S:
            self._leftovers.clear()
            self._collected_s = now_s
            gc.collect()

    def _all_stopped(self) -> bool:
        runners = self._runners.values()
        return bool(runners) and all(runner.has_stopped for runner in runners)

    def _end(self, consumer: ShardConsumer) -> None:
        """Publish what the lanes decided, within the deadline, and let go of them."""
        self._ending = True
        runners = list(self._runners.values())
        for runner in runners:
            runner.end(drop=False)
        deadline = time.monotonic() + self._config.limits.stop_deadline_s
        while not all(runner.join(0) for runner in runners) and time.monotonic() < deadline:
            consumer.poll(POLL_RECORDS_MAX, POLL_S)  # a lane that is being assigned waits for its position to be set
        for runner in runners:
            if not runner.join(0):
                log.warning("lane_not_ended", lane=runner.lane_number)
