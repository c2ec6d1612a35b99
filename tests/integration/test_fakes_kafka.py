"""The simulation's Kafka and the real one: the same questions, the same answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from processors.faults import Fault, Fenced, LaneStopped, StopCode
from processors.lane.lane import LaneLog
from processors.lane.log import TopicLaneLog
from processors.lane.publishing import Publisher
from processors.lane.times import overrides_in
from processors.ledger.commands import SetLaneTime
from processors.ledger.rules import Rules
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import AssignmentEvents, GroupOptions
from processors.streams.publisher import TransactionalPublisher
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.admission import Gate, admit
from processors.wire.commands import encode_command
from processors.wire.positions import GroupPosition, LanePoint, encode_metadata
from processors.wire.records import Headers, OutRecord, Record
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign
from tests.kafka_log import KafkaLog, Member
from tests.servers import Servers
from tests.simulation.fakes.broker import Broker
from tests.simulation.fakes.clock import Clock
from tests.simulation.fakes.consumers import FakeLaneLog, FakeShardConsumer
from tests.simulation.fakes.crash_points import NoCrashes
from tests.simulation.fakes.producers import FakePublisher, Membership
from tests.waiting import eventually

SHARD = shard_topic("s1")
RESULTS = "results"
GROUP = "workers"
LANE = "s1.0"
KEYRING = KeyRing(signing="k1", keys={"k1": bytes(32)})


class Joined(ABC):
    """A member of the shard's group."""

    @abstractmethod
    def assigned(self) -> set[int]:
        """Return its partitions."""

    @abstractmethod
    def start(self, offset: int, leader_epoch: int) -> None:
        """Have partition 0 come from an offset on."""

    @abstractmethod
    def records(self) -> list[Record]:
        """Return what came of partition 0 since its last start, whatever is there by now."""

    @abstractmethod
    def stopped(self) -> LaneStopped | None:
        """Return why partition 0 stopped."""

    @abstractmethod
    def fault(self) -> Fault | None:
        """Return what ended the member."""


class Kafka(ABC):
    """A cluster with a shard's topic of one lane and a results topic, and what can happen to them."""

    @abstractmethod
    def write(self, values: Collection[bytes], *, headers: Headers | tuple[()] = ()) -> None:
        """Append to the shard's topic."""

    @abstractmethod
    def join(self, instance: str) -> Joined:
        """Join the group."""

    @abstractmethod
    def publisher(self, joined: Joined) -> Publisher:
        """Return a producer of the lane, not yet opened."""

    @abstractmethod
    def lane_log(self, joined: Joined) -> LaneLog:
        """Return the lane's log."""

    @abstractmethod
    def visible(self) -> list[bytes]:
        """Return what a reader of committed records sees in the results topic."""

    @abstractmethod
    def remake(self) -> None:
        """Make the shard's topic again."""

    @abstractmethod
    def trim(self, first_offset: int) -> None:
        """Let retention take what is below an offset of the shard's topic."""

    @abstractmethod
    def result(self, value: bytes) -> OutRecord:
        """Return a record for the results topic."""

    @abstractmethod
    def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Let time pass until something is so."""


# ---------------------------------------------------------------------- the real one


class RealJoined(Joined):
    def __init__(self, member: Member) -> None:
        self.member = member

    def assigned(self) -> set[int]:
        return self.member.assigned

    def start(self, offset: int, leader_epoch: int) -> None:
        self.member.consumer.start(0, offset, leader_epoch)

    def records(self) -> list[Record]:
        return self.member.records.get(0, [])

    def stopped(self) -> LaneStopped | None:
        return self.member.stopped.get(0)

    def fault(self) -> Fault | None:
        return self.member.fault


@dataclass(slots=True)
class RealKafka(Kafka):
    log: KafkaLog
    ending: ExitStack
    members: list[Member] = field(default_factory=list)

    def write(self, values: Collection[bytes], *, headers: Headers | tuple[()] = ()) -> None:
        self.log.write(SHARD, values, headers=headers, key=b"")

    def join(self, instance: str) -> Joined:
        member = Member(self.log.address, SHARD, GroupOptions(group=GROUP, instance=instance))
        self.ending.enter_context(member)
        return RealJoined(member)

    def publisher(self, joined: Joined) -> Publisher:
        assert isinstance(joined, RealJoined)
        metadata = joined.member.consumer.group_metadata
        made = TransactionalPublisher(self.log.address, LANE, self.log.full(SHARD), metadata)
        self.ending.callback(made.close)
        return made

    def lane_log(self, joined: Joined) -> LaneLog:
        assert isinstance(joined, RealJoined)
        consumer = joined.member.consumer
        return TopicLaneLog(self.log.address, consumer, shard="s1", lane=0)

    def visible(self) -> list[bytes]:
        return [record.value or b"" for record in self.log.read(RESULTS)]

    def remake(self) -> None:
        self.log.drop(SHARD)
        self.log.make(SHARD)

    def trim(self, first_offset: int) -> None:
        self.log.truncate(SHARD, first_offset)
        topics = TopicAdmin(self.log.address)
        eventually(lambda: topics.bounds(SHARD, 0)[0] == first_offset, "what is old is gone")

    def result(self, value: bytes) -> OutRecord:
        return OutRecord(self.log.full(RESULTS), 0, b"acme", value, [])

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        eventually(is_so, what)


# ---------------------------------------------------------------------- the simulation's


class FakeJoined(Joined):
    def __init__(self, broker: Broker, instance: str) -> None:
        self._assigned: set[int] = set()
        self._records: list[Record] = []
        self._stopped: LaneStopped | None = None
        self._fault: Fault | None = None
        events = AssignmentEvents(
            assigned=self._assigned.update,
            revoked=self._assigned.difference_update,
            started=lambda _: self._records.clear(),
        )
        self.consumer = FakeShardConsumer(broker, SHARD, GROUP, instance, events=events, crash_points=NoCrashes())

    def assigned(self) -> set[int]:
        return self._assigned

    def start(self, offset: int, leader_epoch: int) -> None:
        self.consumer.start(0, offset, leader_epoch)

    def records(self) -> list[Record]:
        return self._records

    def stopped(self) -> LaneStopped | None:
        return self._stopped

    def fault(self) -> Fault | None:
        return self._fault

    def poll(self) -> None:
        try:
            self._poll()
        except Fault as fault:
            self._fault = fault

    def _poll(self) -> None:
        records, stopped = self.consumer.poll(10, 0)
        self._records += records.get(0, [])
        self._stopped = stopped.get(0, self._stopped)


class FakeKafka(Kafka):
    def __init__(self) -> None:
        self._clock = Clock()
        self._broker = Broker(self._clock)
        self._broker.make_topic(SHARD, 1)
        self._broker.make_topic(RESULTS, 1)
        self._joined: list[FakeJoined] = []

    def write(self, values: Collection[bytes], *, headers: Headers | tuple[()] = ()) -> None:
        for value in values:
            self._broker.write(OutRecord(SHARD, 0, b"", value, list(headers)))

    def join(self, instance: str) -> Joined:
        self._joined.append(FakeJoined(self._broker, instance))
        return self._joined[-1]

    def publisher(self, joined: Joined) -> Publisher:
        assert isinstance(joined, FakeJoined)
        consumer = joined.consumer
        membership = Membership(group=consumer.group, member=lambda: consumer.member)
        return FakePublisher(self._broker, LANE, SHARD, membership, NoCrashes())

    def lane_log(self, joined: Joined) -> LaneLog:
        assert isinstance(joined, FakeJoined)
        return FakeLaneLog(self._broker, joined.consumer, SHARD, 0, crash_points=NoCrashes())

    def visible(self) -> list[bytes]:
        entries, _ = self._broker.log(RESULTS, 0).read(0, 1_000)
        return [entry.value or b"" for entry in entries]

    def remake(self) -> None:
        self._broker.make_topic(SHARD, 1)

    def trim(self, first_offset: int) -> None:
        self._broker.log(SHARD, 0).trim(first_offset)

    def result(self, value: bytes) -> OutRecord:
        return OutRecord(RESULTS, 0, b"acme", value, [])

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        for _ in range(10):
            if is_so():
                return
            self._clock.advance(100)
            for joined in self._joined:
                joined.poll()
        raise AssertionError(what)


@pytest.fixture(params=["the simulation's", "Kafka"])
def kafka(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    if request.param == "the simulation's":
        yield FakeKafka()
        return
    servers: Servers = request.getfixturevalue("servers")
    prefix: Callable[[], str] = request.getfixturevalue("topic_prefix")
    log = KafkaLog(KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=prefix()))
    log.make(SHARD)
    log.make(RESULTS)
    with ExitStack() as ending:
        yield RealKafka(log, ending)


def joined_alone(kafka: Kafka) -> Joined:
    joined = kafka.join("a")
    kafka.until(lambda: joined.assigned() == {0}, "the only member has the only partition")
    return joined


def position(next_offset: int) -> GroupPosition:
    return GroupPosition(
        topic_id=b"t" * 16,
        lane=0,
        at=LanePoint(next_offset=next_offset, lane_time_ms=5, digest=next_offset.to_bytes(32, "big"), leader_epoch=0),
    )


# ---------------------------------------------------------------------- publishing


@pytest.mark.rule("P1")
@pytest.mark.rule("L4")
def test_records_and_position_become_visible_together(kafka: Kafka) -> None:
    joined = joined_alone(kafka)
    log, publisher = kafka.lane_log(joined), kafka.publisher(joined)
    publisher.open()
    before = log.committed()

    publisher.publish([kafka.result(b"1"), kafka.result(b"2")], position(2))
    publisher.publish([], position(3))

    assert before is None
    assert kafka.visible() == [b"1", b"2"]
    assert log.committed() == (3, encode_metadata(position(3)))


@pytest.mark.rule("L5")
def test_a_producer_that_is_opened_fences_the_one_before(kafka: Kafka) -> None:
    joined = joined_alone(kafka)
    first, second = kafka.publisher(joined), kafka.publisher(joined)
    first.open()
    first.publish([kafka.result(b"1")], position(1))
    second.open()

    with pytest.raises(Fenced):
        first.publish([kafka.result(b"zombie")], position(9))
    second.publish([kafka.result(b"2")], position(2))

    assert kafka.visible() == [b"1", b"2"]
    assert kafka.lane_log(joined).committed() == (2, encode_metadata(position(2)))


# ---------------------------------------------------------------------- reading a lane


def test_a_lane_gets_its_records_from_where_it_starts_as_the_broker_stamped_them(kafka: Kafka) -> None:
    kafka.write([b"a", b"b", b"c"])
    joined = joined_alone(kafka)

    joined.start(1, -1)
    kafka.until(lambda: len(joined.records()) == 2, "two records came")
    kafka.write([b"d"])
    kafka.until(lambda: len(joined.records()) == 3, "a third one came")

    assert [(record.offset, record.value) for record in joined.records()] == [(1, b"b"), (2, b"c"), (3, b"d")]
    assert {(record.leader_epoch, record.append_time) for record in joined.records()} == {(0, True)}
    times = [record.timestamp_ms for record in joined.records()]
    assert times == sorted(times)


@pytest.mark.rule("L12")
def test_a_new_start_drops_what_was_read_before(kafka: Kafka) -> None:
    kafka.write([b"a", b"b"])
    joined = joined_alone(kafka)
    joined.start(0, -1)
    kafka.until(lambda: len(joined.records()) == 2, "both came")

    joined.start(1, 0)
    kafka.until(lambda: bool(joined.records()), "the second one came again")

    assert [record.offset for record in joined.records()] == [1]


@pytest.mark.rule("L3")
@pytest.mark.parametrize("offset", [0, 9])
def test_a_log_that_does_not_have_the_offset_stops_the_lane(kafka: Kafka, offset: int) -> None:
    kafka.write([b"a", b"b", b"c"])
    kafka.trim(2)
    joined = joined_alone(kafka)

    stop = start_and_wait(kafka, joined, offset)

    assert stop.code is StopCode.LOG_TRUNCATED


def start_and_wait(kafka: Kafka, joined: Joined, offset: int) -> LaneStopped:
    """Return how a start ends that cannot succeed: at once, or with a later poll."""
    try:
        joined.start(offset, 0)
    except LaneStopped as stop:
        return stop
    kafka.until(lambda: joined.stopped() is not None, "the lane stopped")
    stopped = joined.stopped()
    assert stopped is not None
    return stopped


@pytest.mark.rule("L3")
def test_a_topic_that_was_made_again_has_another_id(kafka: Kafka) -> None:
    log = kafka.lane_log(joined_alone(kafka))
    before = log.topic_id()

    kafka.remake()

    assert before != log.topic_id()
    assert len(before) == 16


@pytest.mark.rule("I2")
def test_operators_words_are_found_ahead_and_read_once(kafka: Kafka) -> None:
    payloads = [
        encode_command(SetLaneTime(command_id=bytes(16), lane_offset=first, time_ms=time_ms, last_offset=last))
        for first, last, time_ms in ((7, 9, 70), (8, None, 80))
    ]
    kafka.write([b"anything"])
    for payload in payloads:
        kafka.write([payload], headers=[(SIGNATURE_HEADER, sign(KEYRING, b"", payload))])
    kafka.write([encode_command(SetLaneTime(command_id=bytes(16), lane_offset=9, time_ms=90))])  # by nobody known
    log = kafka.lane_log(joined_alone(kafka))

    records, end = log.control_ahead(0)
    gate = Gate(keyring=KEYRING, lane=0, lanes=1)
    words = overrides_in(records, Rules(version=1), lambda record, rules: admit(record, rules, gate))

    assert [(word.record.offset, word.first_offset, word.last_offset, word.time_ms) for word in words] == [
        (1, 7, 9, 70),
        (2, 8, 8, 80),
    ]
    assert end == 4
    assert [record.offset for record in log.control_ahead(2)[0]] == [2, 3]
    assert log.control_ahead(end) == ([], end)


# ---------------------------------------------------------------------- the group


@pytest.mark.rule("P4")
def test_a_member_that_comes_back_has_its_partitions_and_fences_its_earlier_life(kafka: Kafka) -> None:
    earlier = joined_alone(kafka)

    again = kafka.join("a")

    kafka.until(lambda: again.assigned() == {0}, "the partition is the later life's")
    kafka.until(lambda: earlier.fault() is not None, "the earlier life is told")
    assert isinstance(earlier.fault(), Fenced)
    again.start(0, -1)


@pytest.mark.rule("L12")
def test_a_lane_that_is_not_the_members_cannot_be_started(kafka: Kafka) -> None:
    joined_alone(kafka)
    other = kafka.join("b")
    kafka.until(lambda: True, "")

    with pytest.raises(Fault):
        other.start(0, -1)
