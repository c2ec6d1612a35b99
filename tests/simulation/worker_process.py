"""A shard worker's process on simulated threads: which actor runs what, and what a fault leads to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from processors.faults import Fault, Fenced, LaneStopped, Retryable
from processors.lane.lane import Lane, LaneParts
from processors.lane.publishing import PublishStage
from processors.lane.runner import (
    BACKOFF_S,
    FENCED_WAIT_S,
    STOPPED_LOOK_S,
    UNPUBLISHED_BATCHES_MAX,
    LaneCondition,
    why_stopped,
)
from processors.streams.consumer import AssignmentEvents
from processors.wire.records import Record
from tests.simulation.deployment import admit_of
from tests.simulation.fakes.frozen_rows import fake_courier
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.fakes.producers import Membership

if TYPE_CHECKING:
    from tests.simulation.environment import Environment

INTAKE_FULL = 60
POLL_RECORDS_MAX = 30
AHEAD_FROM = 3  # both smaller and larger batches come


class Actor(ABC):
    """Something that takes a step now and then: a thread of a process, or something outside the service."""

    def __init__(self, name: str, process: Process | None) -> None:
        self.name = name
        self.process = process
        self.busy = False  # within a step, which stands still while others take theirs

    def ready(self) -> bool:
        return True

    @abstractmethod
    def step(self) -> None:
        """Do the next thing."""


class Process(ABC):
    """One process, and its crash points (``fakes.crash_points.CrashPoints``): at each of them it may end."""

    def __init__(self, environment: Environment, name: str) -> None:
        self.environment = environment
        self.name = name
        self.alive = True
        self.stopped = False  # by SIGSTOP
        self.actors: list[Actor] = []
        self.stores: list[FakeLaneStore] = []

    @property
    def running(self) -> bool:
        return self.alive and not self.stopped

    def point(self, where: str) -> None:
        self.environment.point(self, where)

    def fails(self, where: str) -> bool:
        return self.environment.fails(self, where)

    def choose(self, ways: int) -> int:
        return self.environment.rng.randrange(ways)

    @abstractmethod
    def boot(self) -> None:
        """Begin anew, without a memory."""


class LoopActor(Actor):
    """A process that is one loop; a fault ends it, and the supervisor starts it again."""

    def __init__(self, process: LoopProcess) -> None:
        super().__init__(process.name, process)
        self._process = process

    def ready(self) -> bool:
        return self._process.due()

    def step(self) -> None:
        process = self._process
        try:
            process.turn()
        except Fault as fault:
            process.environment.note(f"{process.name} ends: {fault}")
            process.environment.kill(process)


class LoopProcess(Process):
    """A process with one thread."""

    def boot(self) -> None:
        self.actors = [LoopActor(self)]

    def due(self) -> bool:
        return True

    @abstractmethod
    def turn(self) -> None:
        """Go round once."""


class WorkerProcess(Process):
    """``workers.shard.ShardWorker``: its poll thread, and for each lane what ``lane.runner`` does."""

    def boot(self) -> None:
        environment = self.environment
        events = AssignmentEvents(assigned=self._assigned, revoked=self._revoked, started=self._started)
        self.topic_id = environment.broker.topic(environment.shard_topic).topic_id
        self.release = environment.deployment.release_of_a_start()
        self.runners: dict[int, LaneActor] = {}
        self.consumer = environment.components.consumer(
            environment.broker,
            environment.shard_topic,
            environment.shard_group,
            self.name,
            events=events,
            crash_points=self,
        )
        self.actors = [PollActor(self)]

    def read_clock(self) -> int:
        environment = self.environment
        return environment.clock.read() + (environment.options.worker_ahead_ms if self.name == "worker-2" else 0)

    def make_parts(self, lane: int) -> LaneParts:
        environment, components = self.environment, self.environment.components
        store = components.store(environment.database, lane, self)
        self.stores.append(store)
        membership = Membership(group=self.consumer.group, member=lambda: self.consumer.member)
        return LaneParts(
            context=replace(environment.context(lane, self.topic_id), known_release=self.release),
            make_gate=lambda: environment.deployment.gate(self.name, lane),
            store=store,
            log=components.log(environment.broker, self.consumer, environment.shard_topic, lane, crash_points=self),
            make_publisher=lambda: components.publisher(
                environment.broker, f"s1.{lane}", environment.shard_topic, membership, self
            ),
            make_sender=lambda: components.producer(environment.broker, self),
            clock_ms=self.read_clock,
            book_accounts_max=environment.options.book_accounts_max,
            courier=fake_courier("s1", environment.database, lane, environment.broker, self),
            ahead_from=AHEAD_FROM,
            observe_published=lambda _records, _stamped_ms: None,
            admit=admit_of(self.release, components.admit),
        )

    def _assigned(self, lanes: Collection[int]) -> None:
        for lane in lanes:
            self.runners[lane] = LaneActor(self, lane)
            self.actors.append(self.runners[lane])

    def _revoked(self, lanes: Collection[int]) -> None:
        for lane in lanes:
            if lane in self.runners:
                self.runners.pop(lane).ending = True  # it ends when its step does: that may be late (L12)

    def _started(self, lane: int) -> None:
        if lane in self.runners and not self.environment.components.keeps_queued:
            self.runners[lane].intake.clear()


class PollActor(Actor):
    """The poll thread: reads, admits, and passes on."""

    def __init__(self, process: WorkerProcess) -> None:
        super().__init__(f"{process.name} poll", process)
        self._process = process

    def step(self) -> None:
        process = self._process
        environment, consumer = process.environment, process.consumer
        for lane, runner in process.runners.items():
            if len(runner.intake) >= INTAKE_FULL:
                consumer.pause(lane)
            elif not runner.intake:
                consumer.resume(lane)
        try:
            process.point("poll.topic_id")
            if environment.broker.topic(environment.shard_topic).topic_id != process.topic_id:  # L3
                for runner in process.runners.values():
                    runner.trouble = Retryable("the shard's topic has another id than before")
            records, stopped = consumer.poll(POLL_RECORDS_MAX, 0)
        except Fenced as fenced:
            environment.note(f"{process.name} ends: {fenced}")
            environment.kill(process)
            return
        for lane, found in records.items():
            process.runners[lane].intake.extend(found)
        for lane, stop in stopped.items():
            process.runners[lane].trouble = stop


class PublishActor(Actor):
    """A lane's publish thread, one an assignment. Told to close, it still publishes what waits, if it can."""

    def __init__(self, process: Process, stage: PublishStage, lane: int) -> None:
        super().__init__(f"{process.name} publish {lane}", process)
        self.stage = stage
        self.fault: Exception | None = None

    def ready(self) -> bool:
        return self.fault is None and self.stage.waiting > 0

    def step(self) -> None:
        try:
            self.stage.step()
        except Exception as fault:  # noqa: BLE001 - handed to the lane's thread, as the real one does
            self.fault = fault


class LaneActor(Actor):
    """A lane's own thread."""

    def __init__(self, process: WorkerProcess, lane_number: int) -> None:
        super().__init__(f"{process.name} lane {lane_number}", process)
        self._process = process
        self._number = lane_number
        self.intake: deque[Record] = deque()
        self.ending = False
        self.trouble: Exception | None = None
        self.condition = LaneCondition.ASSIGNING
        self._lane: Lane | None = None
        self._parts: LaneParts | None = None
        self._publishing: PublishActor | None = None
        self._wait_until_ms = 0
        self._failures = 0

    def ready(self) -> bool:
        if self.ending:
            return True
        if self.condition is LaneCondition.RUNNING:
            assert self._lane is not None
            assert self._publishing is not None
            return bool(self.intake or self.trouble or self._publishing.fault or not self._lane.idle)
        return self._process.environment.clock.now_ms >= self._wait_until_ms

    def step(self) -> None:
        if self.ending:
            self._end()
            return
        try:
            self._run()
        except Exception as fault:  # noqa: BLE001 - L11, as the real runner does
            self._meet(fault)

    def _run(self) -> None:
        if self.condition is LaneCondition.RUNNING:
            self._serve()
            return
        process = self._process
        if self._lane is None:
            self._parts = process.make_parts(self._number)
            self._lane = process.environment.components.lane(self._parts)
        self.condition = LaneCondition.ASSIGNING
        self._lane.assign()
        if self._publishing is not None and not self._publishing.busy:
            process.actors.remove(self._publishing)
        self._publishing = PublishActor(process, self._lane.publishing, self._number)
        process.actors.append(self._publishing)
        self.condition = LaneCondition.RUNNING
        self._failures = 0
        process.environment.note(
            f"{self.name} runs from {self._lane.next_offset}, P {self._lane.publishing.published[0]}"
        )

    def _serve(self) -> None:
        lane, publishing = self._lane, self._publishing
        assert lane is not None
        assert publishing is not None
        trouble, self.trouble = self.trouble or publishing.fault, None
        if trouble is not None:
            lane.settle()
            raise trouble
        if lane.publishing.waiting >= UNPUBLISHED_BATCHES_MAX:
            return
        size = min(len(self.intake), self._process.environment.batch_size())
        records = [self.intake.popleft() for _ in range(size)]
        if not records and lane.idle:
            return
        taken = lane.turn(records)
        self.intake.extendleft(reversed(records[taken:]))

    def _wait(self, fault: Exception, wait_s: float) -> None:
        environment = self._process.environment
        environment.note(f"{self.name}: {type(fault).__name__}: {fault}")
        self._wait_until_ms = environment.clock.now_ms + int(wait_s * 1000)
        self.condition = LaneCondition.ASSIGNING

    def _meet(self, fault: Exception) -> None:
        """Stop the lane or begin anew; a stop waits for what is committed to be published."""
        stop = why_stopped(fault)
        unpublished = None if stop is None else self._publish_rest()
        if unpublished is not None:
            fault, stop = unpublished, why_stopped(unpublished)
        if stop is not None:
            self._stop(stop)
        elif isinstance(fault, Fenced):
            self._wait(fault, FENCED_WAIT_S)
        else:
            self._wait(fault, BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)])
            self._failures += 1

    def _publish_rest(self) -> Exception | None:
        publishing = self._publishing
        if publishing is None or self.condition is not LaneCondition.RUNNING:
            return None
        while publishing.ready() and not publishing.busy:
            publishing.step()
        return Retryable("a publication takes its time") if publishing.busy else publishing.fault

    def _stop(self, stop: LaneStopped) -> None:
        """Store why, and look again later."""
        self._wait(stop, STOPPED_LOOK_S)
        if self._parts is not None:
            try:
                self._parts.store.stop(stop.code, stop.detail)
                self._process.environment.lane_stopped(self._number, stop)
            except Fault as fault:
                self._process.environment.note(f"{self.name}: the stop was not stored: {fault}")
        self.condition = LaneCondition.STOPPED

    def _end(self) -> None:
        self._process.actors.remove(self)
        if self._lane is not None:
            self._lane.close()
        if self._parts is not None:
            self._parts.store.close()
        self.condition = LaneCondition.DROPPED
