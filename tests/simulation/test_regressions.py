"""What the simulation found once, each as the shortest order of events that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Event

import pytest

from processors.faults import Fault, Fenced, LaneStopped, Retryable, StopCode
from processors.ids import SLICE_MS, make_command_id, slice_of
from processors.lane.lane import Lane, LaneParts
from processors.lane.publishing import Publisher
from processors.lane.runner import LaneLimits
from processors.lane.standing import LaneContext
from processors.ledger.commands import Command, GetBalance, SetLaneTime, Tick
from processors.ledger.outcomes import Reason
from processors.ledger.rules import Rules
from processors.streams.consumer import AssignmentEvents
from processors.wire.admission import Gate
from processors.wire.commands import encode_command
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord, Record
from processors.wire.results import LaneIdentity, decode_result
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from processors.wire.signature import SIGNATURE_HEADER, sign
from processors.workers.shard import ShardConfig, ShardWorker
from tests.simulation.fakes.broker import Broker
from tests.simulation.fakes.clock import START_MS, Clock
from tests.simulation.fakes.consumers import FakeLaneLog, FakeShardConsumer
from tests.simulation.fakes.crash_points import NoCrashes
from tests.simulation.fakes.database import Database
from tests.simulation.fakes.frozen_rows import fake_courier
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.fakes.producers import FakeProducer, FakePublisher, Membership
from tests.simulation.workload import KEYRING

TOPIC = "balance.shard.s1"
PLACE = (TOPIC, 0)
HOUR_MS = 3_600_000
TICK = encode_command(Tick())


class Worker:
    """One lane of one process, step by step; ``again`` is another process that takes it over."""

    def __init__(self, clock: Clock, broker: Broker, database: Database) -> None:
        self.clock, self.broker, self.database = clock, broker, database
        self.keyring = KEYRING
        self.on_start: Callable[[], None] = lambda: None
        events = AssignmentEvents(assigned=lambda _: None, revoked=lambda _: None, started=lambda _: self.on_start())
        crash_points = self.crash_points = NoCrashes()
        consumer = FakeShardConsumer(broker, TOPIC, "workers", "worker", events=events, crash_points=crash_points)
        consumer.poll(1, 0)  # joins
        self.consumer = consumer
        self.store = FakeLaneStore(database, 0, crash_points)
        membership = Membership(group=consumer.group, member=lambda: consumer.member)
        self.parts = LaneParts(
            context=LaneContext(
                identity=LaneIdentity(shard="s1", incarnation=broker.topic(TOPIC).topic_id, lane=0),
                lanes=1,
                results_topic="balance.results",
                results_partitions=1,
                dead_letters_topic="balance.dead-letters",
                commands_topic="balance.commands",
                commands_partitions=1,
            ),
            make_gate=lambda: Gate(keyring=self.keyring, lane=0, lanes=1),
            store=self.store,
            log=FakeLaneLog(broker, consumer, TOPIC, 0, crash_points=crash_points),
            make_publisher=lambda: FakePublisher(broker, "s1.0", TOPIC, membership, crash_points),
            make_sender=lambda: FakeProducer(broker, crash_points),
            clock_ms=clock.read,
            book_accounts_max=10,
            courier=fake_courier("s1", database, 0, broker, crash_points),
            observe_published=lambda _records, _stamped_ms: None,
        )
        self.lane = Lane(self.parts)

    @staticmethod
    def begin() -> Worker:
        clock = Clock()
        broker = Broker(clock)
        for topic in (TOPIC, "balance.results", "balance.dead-letters"):
            broker.make_topic(topic, 1)
        database = Database(clock, Rules(version=1))
        for number in range(slice_of(START_MS), slice_of(START_MS) + 4):
            database.tables.journal[number] = {}
        return Worker(clock, broker, database)

    def again(self) -> Worker:
        return Worker(self.clock, self.broker, self.database)

    def write(self, payload: bytes = TICK, *, count: int = 1) -> None:
        headers = [(SIGNATURE_HEADER, sign(KEYRING, None, payload))]
        for _ in range(count):
            self.broker.write(OutRecord(TOPIC, 0, None, payload, headers))

    def write_command(
        self, command: Command, ingress_offset: int, *, placement_key: str = "home", generation: int = 0
    ) -> None:
        """Write a partner's command as the router does."""
        now_ms = self.clock.now_ms
        route = Route(RouteKind.COMMAND, 1, 0, ingress_offset, 0, now_ms, placement_key, generation)
        headers = [(ROUTE_HEADER, encode_route(route))]
        self.broker.write(OutRecord(TOPIC, 0, b"acme", encode_command(command), headers))

    def write_balance_question(self, ingress_offset: int) -> None:
        """Write a command that is refused, and leaves a row."""
        command_id = make_command_id(self.clock.now_ms, bytes(10))
        self.write_command(GetBalance(command_id=command_id, address="acme", currency="USD"), ingress_offset)

    def keep_slices(self) -> None:
        """Make the journal's slices up to now."""
        for number in range(slice_of(START_MS), slice_of(self.clock.now_ms) + 2):
            self.database.tables.journal.setdefault(number, {})

    def remove_slices(self) -> None:
        """Remove what the remover may, of what is published (A6)."""
        floor_ms = self.database.tables.progress[0].published_time_ms - Rules(version=1).window_ms
        for number in [each for each in self.database.tables.journal if (each + 1) * SLICE_MS <= floor_ms]:
            del self.database.tables.journal[number]

    def tell(self, offset: int, time_ms: int, *, last: int | None = None) -> None:
        """Write an operator's override of the time of a record, or of it and those after it."""
        last = offset if last is None else last
        override = SetLaneTime(command_id=bytes(16), lane_offset=offset, time_ms=time_ms, last_offset=last)
        self.write(encode_command(override))

    def read(self) -> list[Record]:
        records, _ = self.consumer.poll(100, 0)
        return records.get(0, [])

    def serve(self, *, publish: bool = True) -> None:
        """Take everything there is, and bring it to its end."""
        waiting = self.read()
        while waiting or not self.lane.idle:
            waiting = waiting[self.lane.turn(waiting) :]
        while publish and self.lane.publishing.step():
            pass

    def commit(self) -> None:
        """Bring what was taken to its commit."""
        while not self.lane.idle:
            self.lane.turn([])

    def stop(self) -> LaneStopped | None:
        """Serve as the lane's runner does, until the lane runs out of records or is stopped."""
        for _ in range(5):
            try:
                self.lane.assign()
                self.serve()
            except Retryable:
                continue
            except LaneStopped as stop:
                self.store.stop(stop.code, stop.detail)
                return stop
            return None
        raise AssertionError("it goes on like this for ever")

    def results(self) -> list[bytes]:
        """Return every visible result."""
        return [entry.value for entry in self.broker.log("balance.results", 0).entries if entry.value]

    @property
    def next_offset(self) -> int:
        return self.database.tables.progress[0].at.next_offset


@pytest.mark.rule("L2")
@pytest.mark.parametrize("before", [0, 1, 4])
def test_a_gap_stops_the_lane_wherever_in_a_batch_it_lies(before: int) -> None:
    worker = Worker.begin()
    worker.write(count=before + 4)
    worker.broker.log(TOPIC, 0).lose(before)

    stop = worker.stop()

    assert stop is not None
    assert stop.code is StopCode.LOG_GAP
    assert worker.next_offset == before


@pytest.mark.rule("L2")
def test_a_position_that_another_runner_moved_is_no_gap() -> None:
    worker = Worker.begin()
    worker.write(count=3)
    worker.lane.assign()
    worker.serve()
    worker.consumer.start(0, 0, -1)  # by a runner of the lane that was held up since before

    with pytest.raises(Retryable):
        worker.serve()

    assert worker.stop() is None
    assert worker.next_offset == 3


@pytest.mark.rule("L2")
def test_a_gap_over_all_that_is_to_be_answered_again_stops_the_lane() -> None:
    worker = Worker.begin()
    worker.lane.assign()
    worker.write(count=4)
    worker.serve(publish=False)
    worker.write()
    for offset in range(4):
        worker.broker.log(TOPIC, 0).lose(offset)

    stop = worker.again().stop()

    assert stop is not None
    assert stop.code is StopCode.LOG_GAP


@pytest.mark.rule("L4")
def test_a_database_from_before_that_loses_the_group_offset_goes_on() -> None:
    worker = Worker.begin()
    worker.lane.assign()
    backup = worker.database.tables.backup()
    worker.write(count=6)
    worker.serve()
    worker.database.restore(backup)
    halfway = worker.again()
    halfway.lane.assign()
    halfway.lane.turn(halfway.read()[:2])
    halfway.commit()

    offsets = worker.broker.group("workers").offsets
    del offsets[PLACE]
    assert halfway.database.tables.progress[0].published_offset == 2

    later = halfway.again()
    assert later.stop() is None
    assert later.next_offset == 6


@pytest.mark.rule("L3")
@pytest.mark.rule("L4")
def test_a_log_that_was_rewritten_is_not_decided_again_below_what_was_published() -> None:
    worker = Worker.begin()
    worker.lane.assign()
    backup = worker.database.tables.backup()
    worker.write(count=6)
    worker.serve()
    worker.database.restore(backup)
    worker.broker.log(TOPIC, 0).lose_from(1)
    worker.write(count=8)

    stop = worker.again().stop()

    assert stop is not None
    assert stop.code is StopCode.LOG_REWRITTEN
    assert worker.next_offset == 0


@pytest.mark.rule("I2")
@pytest.mark.parametrize("publish", [True, False], ids=["below P", "below D"])
def test_a_slower_clock_does_not_stop_a_lane_below_what_another_clock_let_pass(publish: bool) -> None:
    worker = Worker.begin()
    worker.lane.assign()
    backup = worker.database.tables.backup()
    worker.clock.advance(2 * HOUR_MS)
    worker.write(count=3)
    worker.serve(publish=publish)
    if publish:
        worker.database.restore(backup)
    worker.clock.advance(-2 * HOUR_MS)

    assert worker.again().stop() is None
    assert worker.next_offset == 3


@pytest.mark.rule("L1")
def test_a_stop_is_not_stored_by_an_owner_from_a_past_that_is_no_more() -> None:
    worker = Worker.begin()
    worker.lane.assign()
    backup = worker.database.tables.backup()
    worker.again().lane.assign()
    zombie = worker.again()
    zombie.lane.assign()
    worker.database.restore(backup)
    successor = worker.again()
    successor.write(count=2)
    for _ in range(2):
        successor.lane.assign()
    successor.serve()
    assert successor.database.tables.progress[0].owner_epoch == 3

    with pytest.raises(Fenced):
        zombie.store.stop(StopCode.BUG, "mine")


def test_what_is_being_committed_is_published_before_a_lane_is_interrupted() -> None:
    worker = Worker.begin()
    worker.parts = replace(worker.parts, ahead_from=1)  # else a batch is committed when its turn ends
    worker.lane = Lane(worker.parts)
    worker.write()
    worker.lane.assign()
    worker.lane.turn(worker.read())
    worker.lane.turn([])
    assert worker.lane.publishing.waiting == 0  # it is being written

    worker.lane.settle()

    assert worker.lane.publishing.waiting == 1


def test_a_small_batch_may_be_published_when_its_turn_ends() -> None:
    worker = Worker.begin()
    worker.write()
    worker.lane.assign()

    worker.lane.turn(worker.read())

    assert worker.lane.publishing.waiting == 1


@pytest.mark.rule("P1")
@pytest.mark.parametrize(("failing", "way"), [("store.begin", 0), ("store.finish", 0), ("store.finish", 2)])
def test_a_batch_whose_transaction_failed_is_never_handed_to_the_publish_stage(failing: str, way: int) -> None:
    worker = Worker.begin()
    worker.parts = replace(worker.parts, ahead_from=1)
    worker.lane = Lane(worker.parts)
    worker.write(count=3)
    worker.lane.assign()
    worker.lane.turn(worker.read())  # it is decided
    if failing == "store.finish":
        worker.lane.turn([])  # it is being written
    worker.crash_points.failures[failing] = way

    with pytest.raises(Fault):
        worker.lane.turn([])

    assert worker.next_offset == 0
    assert worker.lane.publishing.waiting == 0


class ConsumerOfACutLog:
    """Says that the lane's log was cut, once the lane runs; by then the topic has been made again."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def poll(self, _max_records: int, _timeout_s: float) -> tuple[dict[int, list[Record]], dict[int, LaneStopped]]:
        if 0 not in self._worker.database.tables.progress:
            return {}, {}
        self._worker.broker.topic(TOPIC).topic_id = bytes([9]) * 16
        return {}, {0: LaneStopped(StopCode.LOG_TRUNCATED, "the log ends before the lane's position")}

    def pause(self, lane: int) -> None:
        raise AssertionError(lane)

    resume = pause

    def close(self) -> None:
        raise AssertionError


@pytest.mark.rule("L3")
def test_a_log_that_is_cut_because_its_topic_was_made_again_stops_the_lane_as_that() -> None:
    worker = Worker.begin()
    topic = worker.broker.topic(TOPIC)
    limits = LaneLimits(stopped_look_s=60)
    config = ShardConfig(shard="s1", lanes=1, limits=limits, topic_id=topic.topic_id)
    shard = ShardWorker(config, lambda _lane: worker.parts, lambda: topic.topic_id)
    shard.assigned([0])

    assert shard.run(ConsumerOfACutLog(worker), Event()) == 1

    assert worker.database.tables.stops[0][0] is StopCode.TOPIC_CHANGED


@pytest.mark.rule("L4")
def test_copies_of_a_command_from_the_future_are_answered_again_whatever_each_was_answered_first() -> None:
    worker = Worker.begin()
    for number in range(slice_of(START_MS), slice_of(START_MS) + 30):
        worker.database.tables.journal.setdefault(number, {})
    worker.lane.assign()
    command_id = make_command_id(START_MS + Rules(version=1).future_limit_ms + 2, bytes(10))
    for sent in range(3):  # implausible, with no row; from the future, with one; its copy, with none
        worker.write_command(GetBalance(command_id=command_id, address="acme", currency="USD"), sent)
        worker.clock.advance(2)
    worker.serve(publish=False)
    assert worker.next_offset == 3

    later = worker.again()
    assert later.stop() is None

    answers = [decode_result(entry.value) for entry in later.broker.log("balance.results", 0).entries if entry.value]
    assert [(answer.reason, answer.duplicate_of is None) for answer in answers] == [
        (Reason.IMPLAUSIBLE_ID, True),
        (Reason.COMMAND_FROM_FUTURE, True),
        (Reason.COMMAND_FROM_FUTURE, False),
    ]


class OvertakenPublisher:
    """Another worker takes the lane over just before it is opened."""

    def __init__(self, inner: Publisher, overtake: Callable[[], object]) -> None:
        self._inner, self._overtake = inner, overtake

    def open(self) -> None:
        self._overtake()
        self._inner.open()

    def publish(self, records: list[OutRecord], position: GroupPosition) -> None:
        self._inner.publish(records, position)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.rule("L5")
def test_who_was_overtaken_before_the_producer_was_opened_lets_go_of_the_lane() -> None:
    worker = Worker.begin()
    worker.write()
    other = worker.again()
    topic_id = worker.broker.topic(TOPIC).topic_id
    make = worker.parts.make_publisher
    overtaken = replace(
        worker.parts, make_publisher=lambda: OvertakenPublisher(make(), lambda: other.store.take_over(topic_id))
    )

    with pytest.raises(Fenced, match="during the assignment"):
        Lane(overtaken).assign()


@pytest.mark.rule("L4")
@pytest.mark.rule("A6")
def test_rows_from_the_border_before_what_is_published_are_kept_for_the_next_owner() -> None:
    worker = Worker.begin()
    worker.lane.assign()
    for sent in range(4):  # one batch of twelve hours, as after an outage: more than a window
        worker.write_balance_question(sent)
        worker.clock.advance(4 * HOUR_MS)
        worker.keep_slices()
    worker.serve(publish=False)
    second = worker.again()
    second.lane.assign()
    waiting = second.read()
    waiting = waiting[second.lane.turn(waiting[:3]) :]
    assert second.lane.publishing.step()  # P lies within the batch
    second.write_balance_question(4)
    waiting += second.read()
    while waiting or not second.lane.idle:
        waiting = waiting[second.lane.turn(waiting) :]
    second.remove_slices()

    third = second.again()

    assert third.stop() is None
    offsets = [decode_result(value).lane_offset for value in third.results()]
    assert offsets == [0, 1, 2, 3, 4]


@pytest.mark.rule("M9")
def test_a_tick_moves_the_lanes_time_on_and_leaves_no_row() -> None:
    worker = Worker.begin()
    worker.clock.advance(5_000)
    worker.write(count=2)
    assert worker.stop() is None

    progress = worker.database.tables.progress[0]
    assert (progress.at.next_offset, progress.at.lane_time_ms) == (2, worker.clock.now_ms)
    assert progress.at.digest == bytes(32)
    assert not any(rows for rows in worker.database.tables.journal.values())
    assert not [entry for entry in worker.broker.log("balance.results", 0).entries if entry.value]
