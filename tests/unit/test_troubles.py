"""A fault that repeats is heard of at once and then counted, in the log and on the health page, until it is over."""

from __future__ import annotations

import io
import json

import MySQLdb
import pytest
from confluent_kafka import KafkaError, KafkaException

from processors.faults import (
    Fault,
    LaneStopped,
    Misconfigured,
    Refused,
    Retryable,
    StopCode,
    Unavailable,
    UnknownOutcome,
)
from processors.telemetry import configure_logging
from processors.troubles import KINDS_MAX, QUIET_S, REPEAT_S, Troubles, needs_somebody
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def troubles(clock: Clock) -> Troubles:
    return Troubles(clock)


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("shard-s1", stream=stream)
    return stream


def read(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_the_same_fault_is_logged_once_and_then_every_thirty_seconds_with_a_count(
    troubles: Troubles, clock: Clock, lines: io.StringIO
) -> None:
    for second in range(70):
        clock.now_s = 1000.0 + second
        troubles.met("shard", Unavailable(f"MySQL error 2003: can't connect, try {second}"), subject="s1 lane 0")

    told = read(lines)
    assert [line["times"] for line in told] == [1, 30, 30]
    assert told[0]["detail"] == "MySQL error 2003: can't connect, try 0"
    assert (told[0]["event"], told[0]["level"], told[0]["about"]) == ("fault", "warning", "s1 lane 0")


def test_another_fault_or_another_error_number_is_told_at_once(troubles: Troubles, lines: io.StringIO) -> None:
    for number in (2003, 1836, 2003):
        troubles.met("shard", Unavailable(f"a statement: MySQL error {number}"))
    troubles.met("shard", Retryable("a statement: MySQL error 2003"))

    assert len(read(lines)) == 3


def test_a_bug_that_becomes_a_stop_is_told_as_one_at_once(troubles: Troubles, lines: io.StringIO) -> None:
    stop = LaneStopped(StopCode.BUG, "offset 4: KeyError: 7")
    for event in ("lane_bug", "lane_bug", "lane_stopped"):
        troubles.met("shard", stop, subject="s1 lane 0", event=event)

    assert [line["event"] for line in read(lines)] == ["lane_bug", "lane_stopped"]


def test_a_fault_that_comes_and_goes_every_second_does_not_fill_the_log(
    troubles: Troubles, clock: Clock, lines: io.StringIO
) -> None:
    for second in range(60):
        clock.now_s = 1000.0 + second
        troubles.met("shard", Unavailable("away"))
        troubles.over("shard")

    assert [line["event"] for line in read(lines)] == ["fault", "fault_over", "fault", "fault_over"]


def test_the_end_of_a_fault_is_told_and_it_is_shown_no_more(
    troubles: Troubles, clock: Clock, lines: io.StringIO
) -> None:
    troubles.met("sink", Unavailable("away"))
    clock.now_s += 12
    (shown,) = troubles.now()
    assert (shown.process, shown.fault, shown.detail, shown.times, shown.for_s) == (
        "sink",
        "Unavailable",
        "away",
        1,
        12,
    )

    troubles.over("sink")

    assert troubles.now() == []
    assert (read(lines)[-1]["event"], read(lines)[-1]["lasted_s"]) == ("fault_over", 12.0)


def test_a_fault_that_nobody_meets_any_more_is_shown_no_more(troubles: Troubles, clock: Clock) -> None:
    troubles.met("router", Unavailable("away"))
    clock.now_s += QUIET_S + 1

    assert troubles.now() == []


def test_one_subject_that_is_well_again_says_nothing_of_another(troubles: Troubles) -> None:
    for lane in (0, 1):
        troubles.met("shard", Unavailable("away"), subject=f"s1 lane {lane}")
    troubles.over("shard", subject="s1 lane 0")

    assert [each.subject for each in troubles.now()] == ["s1 lane 1"]


def caused_by(fault: Fault, cause: Exception) -> Fault:
    fault.__cause__ = cause
    return fault


@pytest.mark.parametrize(
    ("fault", "loud"),
    [
        (Refused("no right"), True),
        (Misconfigured("sync_binlog is 0"), True),
        (AssertionError("a bug"), True),
        (caused_by(UnknownOutcome("a delivery"), Refused("no right")), True),
        (Unavailable("away"), False),
        (Retryable("a deadlock"), False),
        (caused_by(Retryable("a deadlock"), MySQLdb.OperationalError(1213)), False),
    ],
)
def test_somebody_must_look_where_a_server_says_no_and_where_it_is_a_bug(fault: Exception, loud: bool) -> None:
    assert needs_somebody(fault) is loud


def test_a_bugs_own_traceback_is_logged_once_and_no_drivers_words(
    troubles: Troubles, clock: Clock, lines: io.StringIO
) -> None:
    def bug() -> None:
        try:
            raise MySQLdb.IntegrityError(1062, "Duplicate entry '12500' for key 'held'")
        except MySQLdb.MySQLError as error:
            raise AssertionError("a statement: MySQL error 1062: key 'held'") from error

    for _ in range(3):
        try:
            bug()
        except AssertionError as error:
            stop = LaneStopped(StopCode.BUG, str(error))
            stop.__cause__ = error
            troubles.met("shard", stop, event="lane_bug", loud=True)
        clock.now_s += REPEAT_S

    told = read(lines)
    assert "in bug\n" in str(told[0]["exception"])
    assert [line.get("exception") for line in told[1:]] == [None, None]
    assert "12500" not in lines.getvalue()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MySQLdb.IntegrityError(1062, "Duplicate entry '12500' for key 'held'"), "1062"),
        (KafkaException(KafkaError(KafkaError._STATE, "no longer 12500")), "no longer 12500"),
    ],
)
def test_a_drivers_own_error_that_nobody_made_a_fault_of_is_told_as_a_bug(
    troubles: Troubles, lines: io.StringIO, error: Exception, said: str
) -> None:
    def bug() -> None:
        raise error

    try:
        bug()
    except Exception as met:  # noqa: BLE001 - as whoever meets bugs does
        troubles.met("router", met)

    (told,) = read(lines)
    assert (told["fault"], told["level"]) == (type(error).__name__, "error")
    assert said in str(told["detail"])
    assert "in bug\n" in str(told["exception"])
    assert "Duplicate" not in lines.getvalue()


def test_a_stop_that_is_its_own_cause_is_told_all_the_same(troubles: Troubles, lines: io.StringIO) -> None:
    stop = LaneStopped(StopCode.LOG_GAP, "offset 4")
    stop.__cause__ = caused_by(Retryable("between"), stop)
    troubles.met("shard", stop)

    assert len(read(lines)) == 1


def test_no_flood_of_different_faults_fills_the_memory(troubles: Troubles) -> None:
    for number in range(2 * KINDS_MAX):
        troubles.met("shard", Unavailable("away " + "x" * number))

    assert len(troubles.now()) == KINDS_MAX
