"""The expirer on real MySQL and Kafka: what it writes, when, and that a lane takes it (H2, M9, A6)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest

from processors.faults import Misconfigured, StopCode, Unavailable
from processors.ids import derived_id
from processors.ledger.commands import ExpireHold, Tick
from processors.ledger.rows import Hold
from processors.ledger.rules import Rules
from processors.routing.buckets import partition_of, placement_key_of
from processors.stores.addresses import MysqlAddress
from processors.stores.rows import ParkedRow, PlacementRow, PlacementState, Progress
from processors.stores.shard_reader import LanePosition, OverdueHold, open_reader
from processors.streams.connection import KafkaAddress
from processors.streams.producer import IdempotentProducer
from processors.streams.reader import read_range
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.admission import Gate, admit
from processors.wire.positions import LanePoint
from processors.wire.records import OutRecord, Record
from processors.wire.signature import KeyRing
from processors.workers.expirer import TICK, Expirer, ExpirerParts, run
from tests.integration.ingress import LANES, SHARD, make_topics
from tests.integration.mysql_shard import SHARD as MYSQL_SHARD
from tests.integration.mysql_shard import make_shard, new_id, take_lane
from tests.servers import Servers

KEYS = KeyRing(signing="k1", keys={"k1": bytes(32)})
HOLDS_MAX = 3
ROOT = next(name for name in (f"p{number}" for number in range(99)) if partition_of(name, MYSQL_SHARD.lanes) == 0)


@dataclass
class Place:
    """A shard's database and topic, with an expirer on them."""

    database: MysqlAddress
    kafka: KafkaAddress
    topics: TopicAdmin
    parts: ExpirerParts
    expirer: Expirer
    positions: dict[int, int] = field(default_factory=dict)

    def written(self, lane: int) -> list[Record]:
        """Return what a lane's partition got since the last look."""
        topic = shard_topic(SHARD)
        start = self.positions.get(lane, 0)
        end = self.topics.end(topic, lane)
        self.positions[lane] = end
        return [record for records in read_range(self.kafka, topic, lane, start, end) for record in records]


@pytest.fixture
def place(servers: Servers, topic_prefix: Callable[[], str], fresh_database: Callable[[], str]) -> Iterator[Place]:
    kafka = KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())
    topics = make_topics(kafka)
    database = make_shard(servers, fresh_database)
    reader, producer = open_reader(database), IdempotentProducer(kafka)
    parts = ExpirerParts(
        shard=SHARD,
        topic=kafka.topic_prefix + shard_topic(SHARD),
        lanes=LANES,
        reader=reader,
        writer=producer,
        end_offset=lambda lane: topics.end(shard_topic(SHARD), lane),
        holds_max=HOLDS_MAX,
    )
    yield Place(database=database, kafka=kafka, topics=topics, parts=parts, expirer=Expirer(parts))
    reader.close()
    producer.close()


def commands_of(records: list[Record]) -> list[object]:
    """Return what a lane makes of the records, as it admits them."""
    return [
        admit(each, Rules(version=1), Gate(keyring=KEYS, lane=each.partition, lanes=LANES)).command for each in records
    ]


@pytest.mark.rule("A6")
def test_every_lane_gets_a_tick_owned_or_not(place: Place) -> None:
    take_lane(place.database, 1)

    assert place.expirer.step() == 0

    for lane in range(LANES):
        assert commands_of(place.written(lane)) == [Tick()]


@pytest.mark.rule("H2")
@pytest.mark.rule("M9")
def test_holds_overdue_by_the_lanes_own_time_are_asked_for_once(place: Place) -> None:
    root = next(name for name in (f"p{number}" for number in range(99)) if partition_of(name, LANES) == 1)
    lane = take_lane(place.database, 1)
    due, later = new_id(), new_id()
    holds = [
        ((root, id_), Hold(f"{root}:a", "USD", 5, 5, 1, expires_at_ms), False)
        for id_, expires_at_ms in ((due, 1_000), (later, 1_001))
    ]
    batch = lane.batch(1, holds=holds)
    # The lane's time is 1,000 ms; the wall clock has long passed both.
    lane.commit(replace(batch, progress=replace(batch.progress, at=replace(batch.progress.at, lane_time_ms=1_000))))
    wanted = ExpireHold(command_id=derived_id("EXPIRE_HOLD", due), address=f"{root}:a", currency="USD", hold_id=due)

    assert place.expirer.step() == 1
    written = place.written(1)
    assert commands_of(written) == [wanted, Tick()]
    assert (written[0].key, written[0].headers) == (root.encode(), [])
    assert commands_of(place.written(0)) == [Tick()]

    # The lane has not met the request yet: it is not repeated, however often the expirer looks.
    assert place.expirer.step() == 0
    assert commands_of(place.written(1)) == [Tick()]

    # It has passed it, and the hold is still there: asked for again, under the same id.
    batch = lane.batch(10)
    lane.commit(replace(batch, progress=replace(batch.progress, at=replace(batch.progress.at, lane_time_ms=1_000))))
    assert place.expirer.step() == 1
    assert commands_of(place.written(1)) == [wanted, Tick()]


@pytest.mark.rule("H2")
def test_what_a_lanes_tick_makes_overdue_is_asked_for_before_the_next_one(place: Place) -> None:
    root = next(name for name in (f"p{number}" for number in range(99)) if partition_of(name, LANES) == 1)
    lane, due = take_lane(place.database, 1), new_id()
    batch = lane.batch(1, holds=[((root, due), Hold(f"{root}:a", "USD", 5, 5, 1, 2_000), False)])
    lane.commit(replace(batch, progress=replace(batch.progress, at=replace(batch.progress.at, lane_time_ms=1_000))))
    assert place.expirer.step() == 0

    batch = lane.batch(2)
    # It has taken the TICK.
    lane.commit(replace(batch, progress=replace(batch.progress, at=replace(batch.progress.at, lane_time_ms=2_000))))

    assert place.expirer.ask() == 1
    wanted = ExpireHold(command_id=derived_id("EXPIRE_HOLD", due), address=f"{root}:a", currency="USD", hold_id=due)
    assert commands_of(place.written(1)) == [Tick(), wanted]


def test_a_step_asks_for_a_bounded_number_of_holds(place: Place) -> None:
    lane = take_lane(place.database, 0)
    root = next(name for name in (f"p{number}" for number in range(99)) if partition_of(name, LANES) == 0)
    lane.write(1, holds=[((root, new_id()), Hold(root, "USD", 5, 5, 1, 77), False) for _ in range(HOLDS_MAX + 2)])

    assert place.expirer.step() == HOLDS_MAX


@pytest.mark.rule("M5")
def test_a_lane_in_which_records_wait_for_a_key_that_has_come_gets_a_tick(place: Place) -> None:
    came, comes = take_lane(place.database, 0), take_lane(place.database, 1)
    owned = PlacementRow(placement_key="a", generation=1, state=PlacementState.OWNED, parked=1)
    came.commit(replace(came.batch(1), placements=[owned], parked=[waiting("a", 0)]))
    others = [
        PlacementRow(placement_key="b", generation=1, state=PlacementState.ARRIVING, parked=1),
        PlacementRow(placement_key="c", generation=1, state=PlacementState.OWNED),
    ]
    comes.commit(replace(comes.batch(1), placements=others, parked=[waiting("b", 1)]))

    place.expirer.unpark()

    assert [commands_of(place.written(lane)) for lane in range(LANES)] == [[Tick()], []]


@pytest.mark.rule("M5")
def test_a_lane_in_which_nothing_waits_any_more_or_that_is_stopped_gets_no_tick_but_its_usual_one(place: Place) -> None:
    owned = PlacementRow(placement_key="a", generation=1, state=PlacementState.OWNED, parked=1)
    done, stopped = take_lane(place.database, 0), take_lane(place.database, 1)
    done.commit(replace(done.batch(1), placements=[owned], parked=[waiting("a", 0, unparked=(1, 1))]))
    stopped.commit(replace(stopped.batch(1), placements=[owned], parked=[waiting("a", 1)]))
    stopped.store.stop(StopCode.BUG, "a bug")

    place.expirer.unpark()

    assert [place.written(lane) for lane in range(LANES)] == [[]] * LANES


def waiting(placement_key: str, lane: int, *, unparked: tuple[int, int] | None = None) -> ParkedRow:
    record = Record("balance.shard.s1", lane, 0, 0, 1_000, True, placement_key.encode(), b"payload", [])
    return ParkedRow(placement_key=placement_key, record=record, is_move_out=False, unparked=unparked)


@pytest.mark.rule("M2")
@pytest.mark.rule("M9")
@pytest.mark.parametrize(
    ("state", "asked"),
    [
        (PlacementState.OWNED, 1),
        (PlacementState.ARRIVING, 0),
        (PlacementState.SEALED, 0),
        (PlacementState.LEFT, 0),
    ],
)
@pytest.mark.parametrize("key", [ROOT, placement_key_of(ROOT)])
def test_a_hold_is_asked_for_where_its_partner_is_owned(
    place: Place, key: str, state: PlacementState, asked: int
) -> None:
    lane = take_lane(place.database, 0)
    row = PlacementRow(placement_key=key, generation=1, state=state, other_shard="s2")
    batch = lane.batch(1, holds=[((ROOT, new_id()), Hold(f"{ROOT}:a", "USD", 5, 5, 1, 1_000), False)])
    lane.commit(replace(batch, placements=[row]))

    assert place.expirer.ask() == asked


@pytest.mark.rule("M9")
def test_a_roots_own_key_decides_before_its_buckets_once_it_has_come(place: Place) -> None:
    lane = take_lane(place.database, 0)
    bucket = PlacementRow(
        placement_key=placement_key_of(ROOT), generation=1, state=PlacementState.OWNED, other_shard="s2"
    )
    only_waits = PlacementRow(placement_key=ROOT, generation=0, state=PlacementState.AWAY, parked=1)
    batch = lane.batch(1, holds=[((ROOT, new_id()), Hold(f"{ROOT}:a", "USD", 5, 5, 1, 1_000), False)])
    lane.commit(replace(batch, placements=[bucket, only_waits]))
    assert place.expirer.ask() == 1

    left = PlacementRow(placement_key=ROOT, generation=1, state=PlacementState.LEFT, other_shard="s2")
    lane.commit(replace(lane.batch(1), placements=[left]))
    again = Expirer(place.parts)
    assert again.ask() == 0


class FlakyShard:
    """A shard whose rows cannot always be read."""

    def __init__(self, faults: list[Exception]) -> None:
        self.faults = faults
        self.looks = 0
        self.written: list[OutRecord] = []

    def lane_positions(self) -> Mapping[int, LanePosition]:
        self.looks += 1
        if self.faults:
            raise self.faults.pop()
        progress = Progress(
            lane=0,
            topic_id=bytes(16),
            owner_epoch=1,
            version_us=0,
            published_offset=0,
            published_time_ms=0,
            at=LanePoint(next_offset=0, leader_epoch=0, lane_time_ms=0, digest=bytes(32)),
        )
        return {0: LanePosition(progress=progress, stop_code=None, stop_detail="", stopped_at_ms=0)}

    def overdue_holds(self, lane: int, *, now_ms: int, holds_max: int) -> list[OverdueHold]:
        del lane, now_ms, holds_max
        return []

    def unparking_lanes(self) -> list[int]:
        return []

    def send(self, record: OutRecord) -> None:
        self.written.append(record)

    def flush(self, deadline_s: float) -> None:
        del deadline_s


class WaitingShard(FlakyShard):
    """A shard with a lane in which records wait, as long as fewer TICKs were written than its backlog needs."""

    def unparking_lanes(self) -> list[int]:
        return [0] if len(self.written) < 5 else []


def run_in(flaky: FlakyShard, until: Callable[[], bool], *, tick_ms: int = 10) -> list[str]:
    stopping = threading.Event()
    closed: list[str] = []
    parts = ExpirerParts(
        shard=SHARD, topic="t", lanes=1, reader=flaky, writer=flaky, end_offset=lambda _: 0, holds_max=1
    )
    thread = threading.Thread(
        target=lambda: run(lambda: (Expirer(parts), lambda: closed.append("closed")), stopping, tick_ms=tick_ms)
    )
    thread.start()
    ends_s = time.monotonic() + 50  # before the usual tick
    while not until() and time.monotonic() < ends_s:
        time.sleep(0.01)
    stopping.set()
    thread.join()
    return closed


def test_a_fault_that_passes_is_waited_out_with_new_connections() -> None:
    flaky = FlakyShard([Unavailable("away"), Unavailable("away")])

    closed = run_in(flaky, lambda: len(flaky.written) >= 2)

    assert len(closed) == 3
    assert len(flaky.written) >= 2


@pytest.mark.rule("M5")
def test_a_backlog_is_unparked_long_before_the_next_usual_tick() -> None:
    waiting_shard, began_s = WaitingShard([]), time.monotonic()

    run_in(waiting_shard, lambda: len(waiting_shard.written) >= 5, tick_ms=60_000)

    assert [record.value for record in waiting_shard.written] == [TICK] * 5
    assert time.monotonic() - began_s < 10


def test_what_waiting_does_not_mend_ends_the_process() -> None:
    flaky = FlakyShard([Misconfigured("wrong")])
    parts = ExpirerParts(
        shard=SHARD, topic="t", lanes=1, reader=flaky, writer=flaky, end_offset=lambda _: 0, holds_max=1
    )
    closed: list[str] = []

    with pytest.raises(Misconfigured):
        run(lambda: (Expirer(parts), lambda: closed.append("closed")), threading.Event(), tick_ms=10)

    assert closed == ["closed"]
