"""The router's own rules, on a log and a broker in memory that acknowledge when the test says so."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from processors.faults import Fault, Fenced, Misconfigured, Unavailable
from processors.routing.buckets import partition_of
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory
from processors.streams.directory import DirectoryContents
from processors.streams.topics import COMMANDS_TOPIC, shard_topic
from processors.streams.unused_partitions import LOOK_EVERY_S, PartitionWatch
from processors.wire.causes import Cause
from processors.wire.dead_letters import decode_dead_letter
from processors.wire.directory import DirectoryHead, DirectoryRecord, PositionRecord, ShardRecord, decode_directory
from processors.wire.records import OutRecord, Record
from processors.wire.route import ROUTE_HEADER, Route, decode_route
from processors.workers.router import (
    COMMIT_INTERVAL_S,
    COMMIT_PATIENCE_S,
    IN_FLIGHT_RECORDS_MAX,
    NOTE_INTERVAL_S,
    SILENCE_S,
    Assigned,
    Router,
    RouterConfig,
    RouterParts,
    Told,
)

INGRESS_ID = b"i" * 16
HEAD = DirectoryHead(directory_id=b"d" * 16, ingress_topic_id=INGRESS_ID, ingress_epoch=3)
METADATA = f"r1 directory={HEAD.directory_id.hex()} end="
PARTITIONS = 2
ROOTS = ["acme" if partition_of("acme", PARTITIONS) == number else "globex" for number in range(PARTITIONS)]


@dataclass(slots=True)
class Ingress:
    """A consumer group with one member; assigns and revokes when told to, within the member's poll."""

    waiting: deque[Record] = field(default_factory=deque)
    commits: list[tuple[dict[int, int], str]] = field(default_factory=list)
    kept: dict[int, tuple[int, str]] = field(default_factory=dict)
    assigning: list[int] = field(default_factory=lambda: list(range(PARTITIONS)))
    revoking: list[int] = field(default_factory=list)
    fault: Fault | None = None
    assigned: Assigned = field(init=False)
    revoked: Told = field(init=False)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:  # noqa: ARG002 - the real one's signature
        revoking, self.revoking = self.revoking, []
        assigning, self.assigning = self.assigning, []
        if revoking:
            self.revoked(revoking)
        if assigning:
            self.assigned(assigning)
        return [self.waiting.popleft() for _ in range(min(max_records, len(self.waiting)))]

    def commit(self, offsets: Mapping[int, int], metadata: str = "") -> None:
        if self.fault is not None:
            raise self.fault
        self.commits.append((dict(offsets), metadata))
        self.kept |= {partition: (offset, metadata) for partition, offset in offsets.items()}

    def committed(self, partitions: Collection[int]) -> dict[int, tuple[int, str]]:
        return {partition: self.kept[partition] for partition in partitions if partition in self.kept}


@dataclass(slots=True)
class Lanes:
    """A producer whose broker acknowledges in whatever order the test asks for."""

    sent: list[OutRecord] = field(default_factory=list)
    told: dict[int, Callable[[], None] | None] = field(default_factory=dict)  # not acknowledged yet, by index
    hurried: list[int] = field(default_factory=list)  # after how many records
    silent: bool = True
    fault: Fault | None = None

    @property
    def undelivered(self) -> int:
        return len(self.told)

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        self.poll(0)
        self.told[len(self.sent)] = on_delivered
        self.sent.append(record)

    def acknowledge(self, *indexes: int) -> None:
        for index in indexes:
            told = self.told.pop(index)
            if told is not None:
                told()

    def poll(self, timeout_s: float) -> None:  # noqa: ARG002
        if self.fault is not None:
            raise self.fault

    def hurry(self) -> None:
        self.hurried.append(len(self.sent))

    def flush(self, deadline_s: float) -> None:
        self.poll(0)
        if self.silent and self.told:
            raise Unavailable(f"not acknowledged within {deadline_s} s")
        self.acknowledge(*list(self.told))


@dataclass(slots=True)
class RouterFakes:
    ingress: Ingress = field(default_factory=Ingress)
    lanes: Lanes = field(default_factory=Lanes)
    now_s: float = 0.0
    ingress_id: bytes = INGRESS_ID
    end_offset: int = 3
    directory: Directory = field(default_factory=Directory)
    reads: int = 0
    records_max: int = 2
    partitions: int = PARTITIONS  # of the ingress, as the brokers say
    lanes_of: dict[str, int] = field(default_factory=dict)  # by shard, as the directory says; s1's is the settings'

    def __post_init__(self) -> None:
        self.directory.add(placement_key=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0)

    def contents(self) -> DirectoryContents:
        self.reads += 1
        shards = {
            shard: ShardRecord(shard=shard, topic=shard_topic(shard), topic_id=shard.encode() * 8)
            for shard in ("s1", *self.lanes_of)
        }
        return DirectoryContents(
            head=HEAD,
            directory=self.directory,
            shards=shards,
            partitions={shard_topic(shard): lanes for shard, lanes in self.lanes_of.items()},
            end_offset=self.end_offset,
        )

    def join(self, assigned: Assigned, revoked: Told) -> Ingress:
        self.ingress.assigned, self.ingress.revoked = assigned, revoked
        return self.ingress

    def router(self) -> Router:
        config = RouterConfig(
            ingress_partitions=PARTITIONS,
            lanes=2,
            topic_prefix="p.",
            dead_letters_topic="balance.dead-letters",
            batch_records_max=self.records_max,
            stop_deadline_s=1.0,
        )
        parts = RouterParts(
            join=self.join,
            producer=self.lanes,
            read_directory=self.contents,
            read_ingress_id=lambda: self.ingress_id,
            clock_s=lambda: self.now_s,
            watch=PartitionWatch(
                {COMMANDS_TOPIC: PARTITIONS},
                lambda: {COMMANDS_TOPIC: self.partitions},
                lambda: self.now_s,
                process="router",
            ),
        )
        return Router(config, parts)

    def arrive(self, partition: int, *offsets: int) -> None:
        for offset in offsets:
            self.ingress.waiting.append(
                Record("p.in", partition, offset, 5, 1_000 + offset, True, ROOTS[partition].encode(), b"x", [])
            )

    def later(self) -> None:
        self.now_s += COMMIT_INTERVAL_S


def route_of(record: OutRecord) -> Route:
    ((name, value),) = record.headers
    assert name == ROUTE_HEADER
    return decode_route(value)


@pytest.mark.rule("R6")
def test_an_offset_is_committed_only_when_everything_before_it_is_acknowledged() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0, 1)
    fakes.arrive(1, 0, 1)
    router.step()  # batch of offsets 0 and 1 of partition 0
    router.step()  # batch of partition 1

    fakes.lanes.acknowledge(1, 2, 3)
    fakes.later()
    router.step()
    assert fakes.ingress.commits == []

    fakes.lanes.acknowledge(0)
    fakes.later()
    router.step()
    assert fakes.ingress.commits == [({0: 2, 1: 2}, METADATA + "3")]


@pytest.mark.rule("R6")
def test_a_dead_letter_is_acknowledged_too_before_its_offset_is_committed() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.ingress.waiting.append(Record("p.in", 0, 7, 5, 1_000, True, b"NO ROOT", b"x", []))
    router.step()
    fakes.later()
    router.step()
    assert fakes.ingress.commits == []

    fakes.lanes.acknowledge(0)
    fakes.later()
    router.step()
    assert fakes.ingress.commits == [({0: 8}, METADATA + "3")]


def test_what_comes_after_a_silence_goes_out_at_once_and_what_follows_it_waits_to_fill_requests() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0, 1, 2, 3)
    router.step()
    router.step()
    assert fakes.lanes.hurried == []

    fakes.now_s += 2 * SILENCE_S
    fakes.arrive(0, 4, 5, 6, 7)
    router.step()
    fakes.now_s += SILENCE_S / 2
    router.step()
    assert fakes.lanes.hurried == [6]


@pytest.mark.rule("R6")
def test_what_is_not_acknowledged_when_the_router_stops_is_not_committed() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()

    with pytest.raises(Unavailable):
        router.finish()
    assert fakes.ingress.commits == []

    fakes.lanes.silent = False
    router.finish()
    assert fakes.ingress.commits == [({0: 1}, METADATA + "3")]


@pytest.mark.rule("R7")
def test_a_delivery_that_failed_ends_the_router() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()
    fakes.lanes.fault = Misconfigured("too large")

    with pytest.raises(Misconfigured, match="too large"):
        router.run(threading.Event())
    assert fakes.ingress.commits == []


@pytest.mark.rule("R1")
def test_the_directory_is_read_on_each_assignment_before_the_first_record() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    assert fakes.reads == 0
    fakes.directory.add(placement_key="acme", generation=1, shard="s1", ingress_partition=ROOTS.index("acme"), since=0)
    fakes.arrive(ROOTS.index("acme"), 0)

    router.step()

    assert fakes.reads == 1
    assert (route_of(fakes.lanes.sent[0]).placement_key, route_of(fakes.lanes.sent[0]).generation) == ("acme", 1)
    fakes.ingress.revoking, fakes.ingress.assigning = [0], [0]
    router.step()
    assert fakes.reads == 2


@pytest.mark.rule("W3")
def test_each_shard_has_its_own_number_of_lanes() -> None:
    fakes = RouterFakes(lanes_of={"s2": 16})
    router = fakes.router()
    acme, globex = ROOTS.index("acme"), ROOTS.index("globex")
    fakes.directory.add(placement_key="acme", generation=1, shard="s2", ingress_partition=acme, since=0)
    fakes.arrive(acme, 0)
    fakes.arrive(globex, 0)

    router.step()

    assert [(out.topic, out.partition) for out in fakes.lanes.sent] == [
        ("p.balance.shard.s2", partition_of("acme", 16)),
        ("p.balance.shard.s1", partition_of("globex", 2)),
    ]
    assert partition_of("acme", 16) != partition_of("acme", 2)


def test_records_of_a_partition_that_was_given_away_are_dropped_and_never_committed() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    fakes.arrive(1, 0)
    router.step()
    fakes.ingress.revoking = [0]
    fakes.arrive(0, 1)
    fakes.arrive(1, 1)
    router.step()

    assert [(route_of(out).ingress_partition, route_of(out).ingress_offset) for out in fakes.lanes.sent] == [
        (0, 0),
        (1, 0),
        (1, 1),
    ]
    fakes.lanes.acknowledge(0, 1, 2)
    fakes.later()
    router.step()
    assert fakes.ingress.commits == [({1: 2}, METADATA + "3")]
    assert router.owned == {1}


def test_what_is_acknowledged_in_time_is_committed_for_the_next_owner() -> None:
    fakes = RouterFakes()
    fakes.lanes.silent = False
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()
    fakes.ingress.revoking = [0]
    router.step()

    assert fakes.ingress.commits == [({0: 1}, METADATA + "3")]


@pytest.mark.parametrize("fault", [Fenced("rebalance"), Unavailable("no answer")])
def test_a_commit_that_is_refused_is_made_again_and_given_up_after_a_minute(fault: Fault) -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()
    fakes.lanes.acknowledge(0)
    fakes.ingress.fault = fault
    fakes.later()
    router.step()

    fakes.ingress.fault = None
    router.step()
    assert fakes.ingress.commits == [({0: 1}, METADATA + "3")]

    fakes.arrive(0, 1)
    router.step()
    fakes.lanes.acknowledge(1)
    fakes.ingress.fault = fault
    fakes.now_s += COMMIT_PATIENCE_S + 1
    with pytest.raises(type(fault)):
        router.step()


@pytest.mark.rule("R8")
def test_nothing_is_committed_once_the_ingress_topic_is_another() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    fakes.arrive(0, 0)
    router.step()
    fakes.lanes.acknowledge(0)
    fakes.ingress_id = b"j" * 16
    fakes.later()

    with pytest.raises(Misconfigured, match="made again"):
        router.step()
    assert fakes.ingress.commits == []


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    "metadata", [METADATA + "4", f"r1 directory={'e' * 32} end=3"], ids=["shorter", "another directory"]
)
def test_a_directory_that_is_not_the_one_of_the_last_commit_is_refused(metadata: str) -> None:
    fakes = RouterFakes()
    fakes.ingress.kept = {1: (5, metadata)}
    router = fakes.router()

    with pytest.raises(Misconfigured, match="placements are lost"):
        router.step()


@pytest.mark.parametrize("metadata", ["", "someone's tool", METADATA + "03"])
def test_a_commit_with_anothers_metadata_says_nothing_of_the_directory(metadata: str) -> None:
    fakes = RouterFakes()
    fakes.ingress.kept = {1: (5, metadata)}
    router = fakes.router()

    router.step()

    assert router.owned == {0, 1}


def test_a_broker_that_acknowledges_nothing_is_not_sent_more_than_memory_holds() -> None:
    fakes = RouterFakes(records_max=10_000)
    router = fakes.router()
    fakes.arrive(0, *range(IN_FLIGHT_RECORDS_MAX + 20_000))

    for _ in range(20):
        router.step()

    assert len(fakes.lanes.sent) == IN_FLIGHT_RECORDS_MAX
    assert route_of(fakes.lanes.sent[-1]).ingress_offset == IN_FLIGHT_RECORDS_MAX - 1


@pytest.mark.rule("W3")
def test_a_raised_count_is_said_once_within_a_minute_and_the_known_partitions_go_on() -> None:
    fakes = RouterFakes()
    router = fakes.router()
    with capture_logs() as logs:
        router.step()
        fakes.partitions = 8
        fakes.now_s += LOOK_EVERY_S
        for _ in range(3):
            fakes.arrive(0, 0)
            router.step()
            fakes.now_s += LOOK_EVERY_S

    assert LOOK_EVERY_S < 30.0
    assert [(line["partitions"], line["known"]) for line in logs if line["event"] == "topic_has_more_partitions"] == [
        (8, PARTITIONS)
    ]
    assert {record.topic for record in fakes.lanes.sent} == {"p.balance.shard.s1"}


@pytest.mark.rule("W3")
def test_what_is_in_a_partition_that_the_service_does_not_know_is_a_dead_letter_that_says_so() -> None:
    fakes = RouterFakes(partitions=8)
    router = fakes.router()
    fakes.ingress.assigning = [0, 1, 5]
    fakes.ingress.waiting.append(Record("p.in", 5, 0, 5, 1_000, True, ROOTS[1].encode(), b"x", []))

    router.step()

    (letter,) = [decode_dead_letter(record.value) for record in fakes.lanes.sent]
    assert letter.cause == Cause.WRONG_PARTITION
    assert "the topic has 8 partitions, the service knows 2" in letter.detail


@pytest.mark.rule("R6")
def test_what_is_committed_is_noted_in_the_directory_now_and_then_and_never_more() -> None:
    fakes = RouterFakes(records_max=4)
    router = fakes.router()
    fakes.arrive(0, 0, 1, 2)
    router.step()
    fakes.now_s += NOTE_INTERVAL_S
    router.step()
    assert noted(fakes) == []

    fakes.lanes.acknowledge(0, 1, 2)
    fakes.now_s += NOTE_INTERVAL_S
    router.step()
    assert noted(fakes) == [PositionRecord(ingress_epoch=HEAD.ingress_epoch, ingress_partition=0, next_offset=3)]


@pytest.mark.rule("R6")
def test_an_orderly_end_notes_where_it_was() -> None:
    fakes = RouterFakes()
    fakes.lanes.silent = False
    router = fakes.router()
    fakes.arrive(0, 0, 1)
    router.step()
    router.finish()

    assert noted(fakes) == [PositionRecord(ingress_epoch=HEAD.ingress_epoch, ingress_partition=0, next_offset=2)]


def noted(fakes: RouterFakes) -> list[DirectoryRecord]:
    return [decode_directory(record.value) for record in fakes.lanes.sent if record.topic == "p.balance.directory"]
