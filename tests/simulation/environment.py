"""The environment of one seeded run: broker, database, clock, processes, and the scheduler that has them take turns.

At every crash point (``fakes.crash_points``) the scheduler may have the process crash, or stand still while others
go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from processors.faults import LaneStopped, StopCode
from processors.ids import slice_of
from processors.lane.gate import Admit
from processors.lane.lane import Lane, LaneParts
from processors.lane.standing import LaneContext
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory
from processors.streams.directory import DirectoryContents
from processors.streams.topics import DIRECTORY_TOPIC
from processors.wire.admission import admit
from processors.wire.directory import DirectoryHead, ShardRecord
from processors.wire.results import LaneIdentity, Result
from processors.workers.router import Router
from tests.simulation.checker import Checker
from tests.simulation.deployment import Deployment
from tests.simulation.fakes.broker import Broker, End, PartitionLog
from tests.simulation.fakes.clock import START_MS, Clock
from tests.simulation.fakes.consumers import FakeLaneLog, FakeShardConsumer
from tests.simulation.fakes.crash_points import Crash
from tests.simulation.fakes.database import Database, Session
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.fakes.producers import FakeProducer, FakePublisher
from tests.simulation.nemesis import Nemesis
from tests.simulation.outside_actors import Background, Gateways, Operator, Supervisor
from tests.simulation.run_options import RunOptions, draw_options
from tests.simulation.services import ExpirerProcess, RecallerProcess, RemoverProcess, RouterProcess
from tests.simulation.transfers_checker import Violation, demand
from tests.simulation.upgrade_nemesis import UpgradeNemesis
from tests.simulation.worker_process import Actor, Process, WorkerProcess
from tests.simulation.workload import Workload

PAUSES_NESTED_MAX = 2
DRAIN_ROUNDS_MAX = 400
SLICES_AHEAD = 52  # twice the future limit, and more
# What such a lane decided last cannot be answered again before an operator has looked (L3).
_STOPS_OF_A_LOST_LOG = {StopCode.LOG_TRUNCATED, StopCode.LOG_REWRITTEN, StopCode.TOPIC_CHANGED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """The classes that the service is made of. A mutation (``mutations``) puts another class in the place of one."""

    lane: Callable[[LaneParts], Lane] = Lane
    store: type[FakeLaneStore] = FakeLaneStore
    publisher: type[FakePublisher] = FakePublisher
    log: type[FakeLaneLog] = FakeLaneLog
    consumer: type[FakeShardConsumer] = FakeShardConsumer
    producer: type[FakeProducer] = FakeProducer  # the router's
    router: type[Router] = Router
    recaller: type[RecallerProcess] = RecallerProcess
    remover: type[RemoverProcess] = RemoverProcess
    admit: Admit = admit
    keeps_queued: bool = False  # L12 taken out


class Environment:
    """Everything that one run consists of, and the only source of randomness in it."""

    commands_topic = "balance.commands"
    shard_topic = "balance.shard.s1"
    results_topic = "balance.results"
    dead_letters_topic = "balance.dead-letters"
    shard_group = "balance-shard-s1"
    router_group = "balance-router"

    def __init__(
        self,
        seed: int,
        *,
        components: Components | None = None,
        options: Callable[[RunOptions], RunOptions] | None = None,
    ) -> None:
        self.rng = Random(seed)
        drawn = draw_options(self.rng)
        self.options = drawn if options is None else options(drawn)
        self.components = components or Components()
        self.trace: Callable[[str], None] | None = None
        self.clock = Clock()
        self.broker = Broker(self.clock)
        self._make_topics()
        self.database = Database(self.clock, self.options.rules)
        self.database.on_wait = self._waited_for
        self.archive: dict[tuple[str, bytes], Result] = {}
        self.ticks_are_over = False
        self.healed = False
        self.stop_codes: dict[int, set[StopCode]] = {}  # lane -> what damage to a log must stop it with
        self.may_stop: set[StopCode] = set()  # what may stop any other lane
        self._first_slice = slice_of(START_MS) - 8
        self.keep_slices()
        topic_id = self.broker.topic(self.shard_topic).topic_id
        contexts = [self.context(lane, topic_id) for lane in range(self.options.lanes)]
        self.checker = Checker(self.broker, self.database, self.shard_topic, contexts, self.options.rules)
        self.checker.clocks_ahead_ms = self.options.worker_ahead_ms
        self._until_crash = self._draw(self.options.crashes_every)
        self._until_failure = self._draw(self.options.failures_every)
        self._pauses = 0
        self._start()

    def _make_topics(self) -> None:
        options, broker = self.options, self.broker
        ingress = broker.make_topic(self.commands_topic, options.ingress_partitions)
        shard = broker.make_topic(self.shard_topic, options.lanes)
        broker.make_topic(self.results_topic, options.results_partitions)
        broker.make_topic(self.dead_letters_topic, 1)
        broker.make_topic(DIRECTORY_TOPIC, 1)  # for the routers' notes; the rest of it is `directory`
        directory = Directory()
        directory.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0)
        self.directory = DirectoryContents(
            head=DirectoryHead(directory_id=bytes(16), ingress_topic_id=ingress.topic_id, ingress_epoch=1),
            directory=directory,
            shards={"s1": ShardRecord(shard="s1", topic=self.shard_topic, topic_id=shard.topic_id)},
            partitions={},
            end_offset=3,
        )

    def _start(self) -> None:
        self.deployment = Deployment(self)
        self.processes: list[Process] = [
            WorkerProcess(self, "worker-1"),
            WorkerProcess(self, "worker-2"),
            RouterProcess(self, "router-1"),
            RouterProcess(self, "router-2"),
            ExpirerProcess(self, "expirer"),
            self.components.recaller(self, "recaller"),
            self.components.remover(self, "remover"),
        ]
        for process in self.processes:
            process.boot()
        self.workload = Workload(self.rng, self.options.roots, self.options.transfers_share)
        self.gateways = Gateways(self)
        self.operator = Operator(self)
        self.nemesis = Nemesis(self)
        self.surroundings: list[Actor] = [
            self.gateways, self.gateways, Background(self), Supervisor(self), self.operator, self.nemesis,
        ]  # fmt: skip
        if self.options.rolling_upgrades:
            self.surroundings.append(UpgradeNemesis(self))

    def context(self, lane: int, topic_id: bytes) -> LaneContext:
        return LaneContext(
            identity=LaneIdentity(shard="s1", incarnation=topic_id, lane=lane),
            lanes=self.options.lanes,
            results_topic=self.results_topic,
            results_partitions=self.options.results_partitions,
            dead_letters_topic=self.dead_letters_topic,
            commands_topic=self.commands_topic,
            commands_partitions=self.options.ingress_partitions,
        )

    def note(self, what: str) -> None:
        if self.trace is not None:
            self.trace(f"{(self.clock.now_ms - START_MS) / 1000:12.3f} s  {'    ' * self._pauses}{what}")

    def batch_size(self) -> int:
        return 50 if self.healed else self.rng.randrange(self.options.batch_max + 1)

    def keep_slices(self) -> None:
        """Make the journal's partitions far enough ahead (A7)."""
        journal = self.database.tables.journal
        top = max(journal, default=self._first_slice - 1)
        for number in range(top + 1, slice_of(self.clock.now_ms) + SLICES_AHEAD):
            journal[number] = {}

    # ------------------------------------------------------------------ crashes, pauses and lost answers

    def _draw(self, every: int) -> int:
        """Return how many calls pass until it happens next; with 0, none ever comes."""
        return 1 + int(self.rng.expovariate(1 / every)) if every else -1

    def point(self, process: Process, where: str) -> None:
        if not process.alive:
            raise Crash
        self._until_crash -= 1
        if self._until_crash or self.healed:
            return
        self._until_crash = self._draw(self.options.crashes_every)
        if self.rng.random() < self.options.pause_share:
            if self._pauses < PAUSES_NESTED_MAX:
                self._pause(process, where)
        else:
            self.note(f"{process.name} crashes at {where}")
            self.kill(process)
        if not process.alive:
            raise Crash

    def _pause(self, process: Process, where: str) -> None:
        """Have the thread stand still within a call, alone or with its process, while the others go on."""
        stops = not process.stopped and self.rng.random() < 0.5
        self.note(f"{process.name} {'is stopped' if stops else 'waits'} at {where}")
        self._pauses += 1
        process.stopped = process.stopped or stops
        self.take_steps(self.rng.choice((3, 15, 60)))
        if stops:
            process.stopped = False
        self._pauses -= 1
        self.note(f"{process.name} goes on at {where}")

    def fails(self, process: Process, where: str) -> bool:
        self._until_failure -= 1
        if self._until_failure or self.healed:
            return False
        self._until_failure = self._draw(self.options.failures_every)
        self.note(f"{process.name} gets no answer at {where}")
        return True

    def kill(self, process: Process) -> None:
        """End a process; the server may find out at once, later, or be about to carry out its COMMIT."""
        process.alive = False
        process.stopped = False
        for store in process.stores:
            session = store.session
            if session is not None and session.lane is not None:
                way = self.rng.randrange(3)
                session.committing = way == 2
                if way == 0:
                    self.database.settle(session, commit=False)
        process.stores = []

    def lane_stopped(self, lane: int, stop: LaneStopped) -> None:
        """Take note that a stop was stored; only damage to a log, or a clock that is ahead, may have led to it."""
        self.note(f"lane {lane} is stopped: {stop}")
        allowed = self.stop_codes.get(lane, set()) | self.may_stop | {StopCode.CLOCK_AHEAD}
        allowed |= self.deployment.may_stop(lane)
        demand(stop.code in allowed, f"lane {lane} stopped: {stop}")

    def _waited_for(self, holder: Session) -> None:
        if holder.committing and self.rng.random() < 0.3:
            self.database.settle(holder, commit=self.rng.random() < 0.5)

    # ------------------------------------------------------------------ turns

    def actors(self) -> list[Actor]:
        found = list(self.surroundings)
        for process in self.processes:
            if process.alive and not process.stopped:
                found += process.actors
        return found

    def take_steps(self, count: int) -> None:
        """Let anyone who is ready take so many steps."""
        for _ in range(count):
            actors = self.actors()
            self.clock.advance(self.rng.choice((1, 5, 20, 100, 400)))
            for _ in range(4):  # most have nothing to do most of the time
                actor = self.rng.choice(actors)
                if not actor.busy and actor.ready():
                    self.let(actor)
                    break

    def let(self, actor: Actor) -> None:
        actor.busy = True
        try:
            actor.step()
        except Crash:
            assert actor.process is not None
        finally:
            actor.busy = False

    # ------------------------------------------------------------------ the whole run

    def run(self) -> None:
        """Run to the end.

        Raises:
            Violation: Something did not hold.
        """
        options = self.options
        before = self.rng.randrange(options.steps) if options.log_damage else options.steps
        self.take_steps(before)
        if options.log_damage is not None:
            self.nemesis.damage_log(options.log_damage)
            self.take_steps(options.steps - before)
        self._drain()
        self.checker.finish(self.commands_topic, is_whole=lambda lane: lane not in self.database.tables.stops)

    def _drain(self) -> None:
        """Have everything brought to its end, with the nemesis gone and every process started again."""
        self.healed = True
        self.clock.broker_ahead_ms = 0
        self.gateways.finish()
        for rounds in range(DRAIN_ROUNDS_MAX):
            self.ticks_are_over = rounds > 8
            self.clock.advance(1_000)
            for actor in self.actors():
                if actor.ready() and not actor.busy:
                    self.let(actor)
            if self.ticks_are_over and self._all_done():
                return
        raise Violation(f"it does not come to an end: {self._told()}")

    def _all_done(self) -> bool:
        return self._ingress_done() and all(self._lane_done(lane) for lane in range(self.options.lanes))

    def _ingress_done(self) -> bool:
        routed = self.broker.group(self.router_group).offsets
        recalled = self.broker.group("balance-recaller").offsets
        return all(
            routed.get((self.commands_topic, log.number), (0, ""))[0] >= _last_of(log) for log in
            self.broker.topic(self.commands_topic).partitions
        ) and all(
            recalled.get((self.results_topic, log.number), (0, ""))[0] >= _last_of(log) for log in
            self.broker.topic(self.results_topic).partitions
        )  # fmt: skip

    def _lane_done(self, lane: int) -> bool:
        progress = self.database.tables.progress.get(lane)
        if progress is None:
            return False
        code, _ = self.database.tables.stops.get(lane, (None, ""))
        if code is not None and code in self.stop_codes.get(lane, self.may_stop):
            return code in _STOPS_OF_A_LOST_LOG or self._is_published(lane, progress.at.next_offset)
        if code is StopCode.CLOCK_AHEAD and lane in self.stop_codes:  # the override was lost with the log, too
            return (lane, progress.at.next_offset) in self.operator.told
        log = self.broker.log(self.shard_topic, lane)
        return (
            lane not in self.stop_codes and progress.at.next_offset == log.next_offset == self.checker.published[lane]
        )

    def _is_published(self, lane: int, next_offset: int) -> bool:
        """Say whether all that was decided is published, as far as the log still has what it answers."""
        unpublished = set(range(self.checker.published[lane], next_offset))
        return not unpublished or not unpublished <= {
            entry.offset for entry in self.broker.log(self.shard_topic, lane).entries
        }

    def _told(self) -> str:
        lanes = [
            f"lane {lane}: D {progress.at.next_offset}, P {self.checker.published[lane]}, "
            f"end {self.broker.log(self.shard_topic, lane).next_offset}, {self.database.tables.stops.get(lane)}"
            for lane, progress in self.database.tables.progress.items()
        ]
        return "; ".join([*lanes, f"ingress done: {self._ingress_done()}"])


def _last_of(log: PartitionLog) -> int:
    """Return the offset after the last record that a consumer gets to see."""
    for entry in reversed(log.entries):
        if not entry.control and (entry.transaction is None or entry.transaction.end is End.COMMITTED):
            return entry.offset + 1
    return 0
