"""A replay on the in-memory log and store, where a test says what stands in the log and what time it bears."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from processors.faults import LaneStopped, StopCode
from processors.ids import make_command_id
from processors.lane.standing import LaneContext
from processors.ledger.commands import GetBalance, SetLaneTime
from processors.recovery.replay import ReplayParts, Stretch, replay_lane
from processors.wire.admission import Gate
from processors.wire.commands import encode_command
from processors.wire.records import Record
from processors.wire.results import LaneIdentity, decode_result
from tests.simulation.fakes.broker import Broker, record_of
from tests.simulation.fakes.clock import START_MS
from tests.simulation.fakes.crash_points import NoCrashes
from tests.simulation.fakes.database import Database
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.test_regressions import HOUR_MS, PLACE, TOPIC, Worker
from tests.simulation.workload import KEYRING


class Topic:
    """The shard's topic, as a replay reads it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def topic_id(self) -> bytes:
        return self._broker.topic(TOPIC).topic_id

    def bounds(self, lane: int) -> tuple[int, int]:
        log = self._broker.log(TOPIC, lane)
        return log.start_offset, log.next_offset

    def read(self, lane: int, from_offset: int, to_offset: int) -> Iterator[list[Record]]:
        log = self._broker.log(TOPIC, lane)
        entries, _ = log.read(from_offset, to_offset - from_offset)
        yield [record_of(log, entry) for entry in entries if entry.offset < to_offset]


class Target(FakeLaneStore):
    """The target's rows; nothing is left open when it is closed."""

    def close(self) -> None:
        return


def parts_of(worker: Worker, database: Database) -> ReplayParts:
    topic = Topic(worker.broker)
    context = LaneContext(
        identity=LaneIdentity(shard="s1", incarnation=topic.topic_id(), lane=0),
        lanes=1,
        results_topic="balance.results",
        results_partitions=1,
        dead_letters_topic="balance.dead-letters",
        commands_topic="balance.commands",
        commands_partitions=1,
    )
    return ReplayParts(
        topic=topic,
        make_gate=lambda lane: Gate(keyring=KEYRING, lane=lane, lanes=1),
        make_store=lambda lane: Target(database, lane, NoCrashes()),
        make_context=lambda _lane: context,
        clock_ms=lambda: worker.clock.now_ms,
        book_accounts_max=10,
    )


def up_to(target: int) -> Stretch:
    return Stretch(lane=0, target=target, decided_below=target, seals_show_published=False)


def forge_published_digest(worker: Worker) -> None:
    """Have the group's position tell of another digest than what was published has."""
    offsets = worker.broker.group("workers").offsets
    offset, metadata = offsets[PLACE]
    offsets[PLACE] = (offset, metadata[:-4] + ("0000" if metadata[-4:] != "0000" else "1111"))


@pytest.mark.rule("I2")
def test_a_replay_knows_the_override_that_stands_behind_its_target() -> None:
    worker = Worker.begin()
    worker.broker.topic(TOPIC).append_time = False
    worker.write()
    worker.broker.topic(TOPIC).append_time = True
    worker.write(count=3)
    stop = worker.stop()
    assert stop is not None
    assert stop.code is StopCode.TIMESTAMP_TYPE
    worker.write(encode_command(SetLaneTime(command_id=bytes(16), lane_offset=0, time_ms=START_MS, last_offset=0)))
    assert worker.stop() is None
    live = worker.database.tables.progress[0]

    target = Database(worker.clock, worker.database.rules)
    target.tables.journal.update({number: {} for number in worker.database.tables.journal})
    parts = parts_of(worker, target)
    before = replay_lane(
        parts, up_to(2), on_progress=lambda _at: None
    )  # the live lane had committed a batch up to here
    replayed = replay_lane(parts, up_to(live.at.next_offset), on_progress=lambda _at: None)

    assert before.at.next_offset == 2
    assert (replayed.at.digest, replayed.at.lane_time_ms) == (live.at.digest, live.at.lane_time_ms)


@pytest.mark.rule("I2")
@pytest.mark.parametrize("first_last", [0, 2])
def test_a_replay_decides_as_the_lane_did_whenever_that_looked_for_overrides(first_last: int) -> None:
    worker = Worker.begin()
    for ahead_ms in (2 * HOUR_MS, 50_000, 50_000):
        worker.clock.broker_ahead_ms = ahead_ms
        worker.write()
    worker.clock.broker_ahead_ms = 0
    assert worker.stop() is not None
    worker.tell(0, START_MS, last=first_last)
    assert worker.stop() is None  # the lane has looked: these came too late, and no lane waited for them
    worker.tell(1, START_MS, last=1)
    worker.tell(0, START_MS, last=2)
    assert worker.stop() is None
    live = worker.database.tables.progress[0]

    target = Database(worker.clock, worker.database.rules)
    target.tables.journal.update({number: {} for number in worker.database.tables.journal})
    replayed = replay_lane(parts_of(worker, target), up_to(live.at.next_offset), on_progress=lambda _at: None)

    assert (replayed.at.digest, replayed.at.lane_time_ms) == (live.at.digest, live.at.lane_time_ms)


@pytest.mark.rule("L11")
def test_a_record_that_cannot_be_decided_says_why_and_what_precedes_it_is_kept() -> None:
    worker = Worker.begin()
    questions(worker, 3)
    worker.broker.topic(TOPIC).append_time = False
    worker.write()
    target = Database(worker.clock, worker.database.rules)
    target.tables.journal.update({number: {} for number in worker.database.tables.journal})

    with pytest.raises(LaneStopped) as stopped:
        replay_lane(parts_of(worker, target), up_to(4), on_progress=lambda _at: None)

    assert stopped.value.code is StopCode.TIMESTAMP_TYPE
    assert target.tables.progress[0].at.next_offset == 3


@pytest.mark.rule("I2")
def test_a_record_that_nobody_is_known_to_have_decided_is_stopped_at_where_its_time_is_far_ahead() -> None:
    worker = Worker.begin()
    questions(worker, 2)
    worker.clock.broker_ahead_ms = 2 * HOUR_MS
    worker.write()
    target = Database(worker.clock, worker.database.rules)
    target.tables.journal.update({number: {} for number in worker.database.tables.journal})
    parts = parts_of(worker, target)

    with pytest.raises(LaneStopped) as stopped:
        replay_lane(
            parts, Stretch(lane=0, target=3, decided_below=0, seals_show_published=False), on_progress=lambda _at: None
        )

    assert stopped.value.code is StopCode.CLOCK_AHEAD
    assert target.tables.progress[0].at.next_offset == 2
    assert replay_lane(parts, up_to(3), on_progress=lambda _at: None).at.next_offset == 3  # it was decided


def questions(worker: Worker, count: int) -> None:
    """Write commands, each of which is answered by a row."""
    for number in range(count):
        worker.clock.advance(1)
        command_id = make_command_id(worker.clock.now_ms, bytes([number]) * 10)
        worker.write_command(GetBalance(command_id=command_id, address="acme", currency="USD"), number)


def replayed(worker: Worker, end: int | None = None) -> Worker:
    """Have another worker go on with a database that was replayed in one batch, up to an offset where one is given."""
    target = Database(worker.clock, worker.database.rules)
    target.tables.journal.update({number: {} for number in worker.database.tables.journal})
    end = worker.database.tables.progress[0].at.next_offset if end is None else end
    replay_lane(parts_of(worker, target), up_to(end), on_progress=lambda _at: None)
    return Worker(worker.clock, worker.broker, target)


def answered(worker: Worker) -> list[int]:
    entries = worker.broker.log("balance.results", 0).entries
    return [decode_result(entry.value).lane_offset for entry in entries if entry.value]


@pytest.mark.rule("L4")
def test_a_replayed_database_goes_on_from_where_results_were_published_whatever_its_batches_were() -> None:
    worker = Worker.begin()
    questions(worker, 6)
    worker.lane.assign()
    records = worker.read()
    worker.lane.turn(records[:2])
    worker.commit()
    assert worker.lane.publishing.step()
    worker.lane.turn(records[2:])
    worker.commit()

    later = replayed(worker)
    assert later.stop() is None

    assert answered(later) == [0, 1, 2, 3, 4, 5]


@pytest.mark.rule("L4")
def test_what_is_answered_again_is_published_bit_by_bit_and_p_moves_on_with_it() -> None:
    worker = Worker.begin()
    questions(worker, 6)
    worker.lane.assign()
    worker.serve()
    del worker.broker.group("workers").offsets[PLACE]

    later = replayed(worker)
    later.lane.assign()
    records = later.read()
    for first in (0, 2):
        assert later.lane.turn(records[first : first + 2]) == 2
        assert later.lane.publishing.step()
        assert later.broker.group("workers").offsets[PLACE][0] == first + 2
    assert answered(later) == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]

    last = Worker(later.clock, later.broker, later.database)  # at 4 no batch ended
    assert last.stop() is None
    assert answered(last) == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]


@pytest.mark.rule("L4")
def test_a_replayed_database_that_differs_from_what_was_published_stops_before_it_publishes() -> None:
    worker = Worker.begin()
    questions(worker, 6)
    worker.lane.assign()
    records = worker.read()
    worker.lane.turn(records[:2])
    worker.commit()
    assert worker.lane.publishing.step()
    worker.lane.turn(records[2:])
    worker.commit()
    forge_published_digest(worker)

    stop = replayed(worker).stop()

    assert stop is not None
    assert stop.code is StopCode.DIGEST_DIFFERS
    assert answered(worker) == [0, 1]


@pytest.mark.rule("L4")
def test_a_database_from_before_that_decides_otherwise_up_to_p_publishes_nothing() -> None:
    worker = Worker.begin()
    questions(worker, 6)
    worker.lane.assign()
    worker.serve()
    forge_published_digest(worker)
    worker.write()

    later = replayed(worker, end=3)
    stop = later.stop()

    assert stop is not None
    assert stop.code is StopCode.DIGEST_DIFFERS
    assert worker.broker.group("workers").offsets[PLACE][0] == 6
    assert later.database.tables.progress[0].at.next_offset == 3


@pytest.mark.rule("L3")
def test_a_process_that_began_with_another_topic_takes_no_new_lane_of_this_one() -> None:
    worker = Worker.begin()
    worker.broker.topic(TOPIC).topic_id = bytes([9]) * 16
    worker.write()

    with pytest.raises(LaneStopped) as stopped:
        worker.lane.assign()

    assert (stopped.value.code, stopped.value.stored) == (StopCode.TOPIC_CHANGED, True)
    assert worker.database.tables.stops == {}
    assert worker.again().stop() is None  # the process that is started again
