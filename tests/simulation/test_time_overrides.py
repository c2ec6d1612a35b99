"""When an operator's override of records' times counts, whenever the lane looks for it (I2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.faults import LaneStopped, StopCode
from processors.ledger.commands import SetLaneTime, SetRules
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE
from processors.stores.rows import OverriddenTime
from processors.wire.commands import encode_command
from tests.simulation.fakes.clock import START_MS
from tests.simulation.fakes.consumers import FakeLaneLog
from tests.simulation.test_regressions import HOUR_MS, PLACE, TOPIC, Worker


def stopped_ahead(*ahead_ms: int) -> Worker:
    """Return a lane that stopped at its first record, whose broker's clock was ahead; and so with those after it."""
    worker = Worker.begin()
    for each in ahead_ms:
        worker.clock.broker_ahead_ms = each
        worker.write()
    worker.clock.broker_ahead_ms = 0
    stop = worker.stop()
    assert stop is not None
    assert stop.code is StopCode.CLOCK_AHEAD
    return worker


@pytest.mark.rule("I2")
def test_a_lane_stopped_by_a_producers_time_goes_on_once_it_is_told_the_records_time() -> None:
    worker = Worker.begin()
    worker.broker.topic(TOPIC).append_time = False
    worker.write()
    worker.broker.topic(TOPIC).append_time = True
    stop = worker.stop()
    assert stop is not None
    assert stop.code is StopCode.TIMESTAMP_TYPE
    worker.tell(0, START_MS)

    assert worker.stop() is None
    assert worker.next_offset == 2
    assert worker.database.tables.stops == {}


@pytest.mark.rule("I2")
def test_an_override_of_a_record_that_was_decided_by_its_stamp_changes_nothing_when_it_is_decided_again() -> None:
    worker = Worker.begin()
    worker.lane.assign()
    backup = worker.database.tables.backup()
    worker.write(count=3)
    worker.clock.advance(1_000)
    rules = SetRules(
        command_id=bytes(16),
        version=2,
        release=RULES_RELEASE,
        window_ms=HOUR_MS,
        skew_ms=0,
        future_limit_ms=HOUR_MS,
        refund_period_ms=HOUR_MS,
        longest_hold_ms=HOUR_MS,
        result_version=RESULT_VERSION,
    )
    worker.write(encode_command(rules))  # leaves a row with its lane time
    worker.serve()
    worker.tell(3, START_MS)
    worker.write()
    worker.serve()
    live = worker.database.tables.progress[0]
    worker.database.restore(backup)

    later = worker.again()
    assert later.stop() is None
    again = later.database.tables.progress[0]
    assert (again.at.digest, again.at.lane_time_ms) == (live.at.digest, live.at.lane_time_ms)


@pytest.mark.rule("I2")
@pytest.mark.parametrize("append_time", [True, False])
def test_an_override_never_moves_a_lanes_time_on_further_than_its_own_stamp(append_time: bool) -> None:
    worker = Worker.begin()
    worker.clock.broker_ahead_ms = 2 * HOUR_MS
    worker.broker.topic(TOPIC).append_time = append_time
    worker.write()
    worker.broker.topic(TOPIC).append_time = True
    worker.clock.broker_ahead_ms = 0
    assert worker.stop() is not None
    worker.clock.advance(5_000)
    microseconds = START_MS * 1_000
    worker.tell(0, microseconds)

    assert worker.stop() is None
    assert worker.database.tables.progress[0].at.lane_time_ms == START_MS + 5_000


@pytest.mark.rule("I2")
def test_an_operators_override_is_kept_for_owners_whose_clock_has_passed_the_record() -> None:
    worker = Worker.begin()
    worker.clock.broker_ahead_ms = 2 * HOUR_MS
    worker.write(count=2)
    worker.clock.broker_ahead_ms = 0
    assert worker.stop() is not None
    worker.clock.advance(1)
    worker.tell(0, START_MS + 1, last=1)
    worker.lane.assign()
    worker.lane.turn(worker.read()[:1])
    worker.commit()  # offset 0, and not offset 1

    worker.clock.advance(3 * HOUR_MS)
    later = worker.again()
    assert later.stop() is None

    assert later.database.tables.lane_times == {(0, 0): OverriddenTime(last_offset=1, time_ms=START_MS + 1)}
    assert later.database.tables.progress[0].at.lane_time_ms == START_MS + 1  # not the two hours later of the records
    assert later.database.tables.stops == {}


@pytest.mark.rule("I2")
@pytest.mark.parametrize("ahead_ms", [30_000, 90_000, 2 * HOUR_MS])
def test_records_after_the_one_that_stopped_the_lane_have_the_time_of_the_same_override(ahead_ms: int) -> None:
    worker = stopped_ahead(2 * HOUR_MS, ahead_ms, ahead_ms)
    worker.clock.advance(1_000)
    worker.tell(0, START_MS + 7, last=2)

    assert worker.stop() is None

    assert worker.database.tables.lane_times == {(0, 0): OverriddenTime(last_offset=2, time_ms=START_MS + 7)}
    assert worker.database.tables.progress[0].at.lane_time_ms == START_MS + 1_000  # the override's own


@pytest.mark.rule("I2")
def test_an_override_is_about_records_before_it_only() -> None:
    worker = stopped_ahead(2 * HOUR_MS)
    worker.tell(0, START_MS, last=1 << 40)
    worker.clock.advance(5_000)
    worker.write()

    assert worker.stop() is None

    assert worker.database.tables.lane_times == {(0, 0): OverriddenTime(last_offset=0, time_ms=START_MS)}
    assert worker.database.tables.progress[0].at.lane_time_ms == START_MS + 5_000


@pytest.mark.rule("I2")
def test_an_override_that_does_not_begin_where_the_lane_waits_counts_for_nothing() -> None:
    worker = stopped_ahead(2 * HOUR_MS, 2 * HOUR_MS)
    worker.tell(1, START_MS, last=1)

    stop = worker.stop()

    assert stop is not None
    assert worker.next_offset == 0


@pytest.mark.rule("I2")
@pytest.mark.parametrize("stops", [None, (StopCode.BUG, "of another release")], ids=["restart", "another stop"])
def test_a_lane_that_waited_for_an_override_waits_however_it_was_started_again(
    stops: tuple[StopCode, str] | None,
) -> None:
    worker = stopped_ahead(2 * HOUR_MS)
    if stops is not None:
        worker.database.tables.stops[0] = stops
    del worker.database.tables.stops[0]
    worker.clock.advance(3 * HOUR_MS)

    stop = worker.again().stop()

    assert stop is not None
    assert stop.code is StopCode.CLOCK_AHEAD
    assert worker.next_offset == 0


@pytest.mark.rule("I2")
def test_a_lane_whose_record_has_its_time_by_now_goes_on_by_the_stamp_that_an_override_confirms() -> None:
    worker = stopped_ahead(2 * HOUR_MS)
    worker.clock.advance(3 * HOUR_MS)
    worker.tell(0, worker.clock.now_ms)

    assert worker.stop() is None
    assert worker.database.tables.lane_times == {}
    assert worker.next_offset == 2


@pytest.mark.rule("I2")
def test_an_override_that_came_while_the_brokers_clock_was_still_wrong_counts_for_nothing() -> None:
    worker = stopped_ahead(2 * HOUR_MS)
    worker.clock.broker_ahead_ms = 2 * HOUR_MS
    worker.tell(0, START_MS)
    worker.clock.broker_ahead_ms = 0
    assert worker.stop() is not None
    worker.tell(0, START_MS, last=1)

    assert worker.stop() is None
    assert worker.database.tables.lane_times == {(0, 0): OverriddenTime(last_offset=1, time_ms=START_MS)}


@pytest.mark.rule("I2")
def test_an_override_in_the_log_is_known_to_a_restored_database_that_lost_the_group_offset_too() -> None:
    worker = Worker.begin()
    worker.lane.assign()
    backup = worker.database.tables.backup()
    worker.clock.broker_ahead_ms = 2 * HOUR_MS
    worker.write()
    worker.clock.broker_ahead_ms = 0
    assert worker.stop() is not None
    worker.tell(0, START_MS)
    assert worker.stop() is None
    live = worker.database.tables.progress[0]
    worker.database.restore(backup)
    del worker.broker.group("workers").offsets[PLACE]
    worker.clock.advance(3 * HOUR_MS)

    assert worker.again().stop() is None
    again = worker.database.tables.progress[0]
    assert (again.at.digest, again.at.lane_time_ms) == (live.at.digest, live.at.lane_time_ms)


@pytest.mark.rule("I2")
def test_a_record_that_came_after_the_lane_began_has_the_time_of_an_override_that_the_lane_could_not_know_then() -> (
    None
):
    worker = Worker.begin()
    worker.lane.assign()
    worker.clock.broker_ahead_ms = 2 * HOUR_MS
    worker.write()
    worker.clock.broker_ahead_ms = 0
    worker.tell(0, START_MS)
    worker.clock.advance(3 * HOUR_MS)  # the lane stands still for so long
    waiting = worker.read()[:1]

    worker.lane.turn(waiting)
    worker.commit()

    assert worker.database.tables.lane_times == {(0, 0): OverriddenTime(last_offset=0, time_ms=START_MS)}


@pytest.mark.rule("I2")
def test_a_stopped_lane_reads_what_is_ahead_once_and_keeps_only_overrides_of_it() -> None:
    worker = stopped_ahead(2 * HOUR_MS)
    worker.write(count=500)
    log = worker.parts.log
    assert isinstance(log, FakeLaneLog)
    before = log.records_read

    for _ in range(3):
        with pytest.raises(LaneStopped):
            worker.lane.assign()

    assert log.records_read - before == 500
    assert worker.lane._ahead.by_first == {}


@pytest.mark.rule("I2")
@pytest.mark.rule("I6")
def test_under_rules_of_the_first_release_an_override_is_about_one_record_and_bounded_by_the_records_stamp() -> None:
    worker = Worker.begin()
    worker.database.rules = replace(worker.database.rules, release=1)
    worker.clock.broker_ahead_ms = 2 * HOUR_MS
    worker.write()
    worker.clock.broker_ahead_ms = 0
    assert worker.stop() is not None
    microseconds = START_MS * 1_000
    worker.tell(0, START_MS)  # a stretch: not known to those rules
    assert worker.stop() is not None
    worker.write(encode_command(SetLaneTime(command_id=bytes(16), lane_offset=0, time_ms=microseconds), release=1))

    assert worker.stop() is None
    assert worker.database.tables.progress[0].at.lane_time_ms == START_MS + 2 * HOUR_MS
