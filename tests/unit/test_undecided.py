"""An id that nobody knows: exit status 1 only where no lane can decide it any more."""

from __future__ import annotations

import pytest

from processors.faults import StopCode
from processors.ids import derived_id, make_command_id
from processors.ledger.rules import Rules
from processors.lookup.undecided import LaneAhead, lanes_ahead, told_of
from processors.stores.rows import Progress
from processors.stores.shard_reader import LanePosition
from processors.wire.positions import LanePoint

pytestmark = pytest.mark.rule("I4")

HOUR_MS = 3_600_000
NOW_MS = 1_760_000_000_000
RULES = Rules(version=1, window_ms=6 * HOUR_MS)
OLD = make_command_id(NOW_MS - 7 * HOUR_MS, bytes(10))
YOUNG = make_command_id(NOW_MS - HOUR_MS, bytes(10))


def at(next_offset: int, *, time_ms: int = NOW_MS, stop: StopCode | None = None) -> LanePosition:
    progress = Progress(
        lane=0,
        topic_id=bytes(16),
        owner_epoch=1,
        version_us=0,
        published_offset=0,
        published_time_ms=0,
        at=LanePoint(next_offset=next_offset, leader_epoch=0, lane_time_ms=time_ms, digest=bytes(32)),
    )
    return LanePosition(progress=progress, stop_code=stop, stop_detail="", stopped_at_ms=0)


def ahead(
    command_id: bytes, position: LanePosition | None, *, end: int = 10, rules: Rules | None = RULES
) -> list[LaneAhead]:
    return lanes_ahead(
        command_id,
        "s1",
        ends={0: end},
        positions={} if position is None else {0: position},
        rules={} if rules is None else {0: {0: rules}},
        now_ms=NOW_MS,
    )


def test_an_id_within_the_window_may_be_on_its_way_wherever_the_lane_stands() -> None:
    assert ahead(YOUNG, at(10)) == [
        LaneAhead(
            shard="s1", lane=0, next_offset=10, end_offset=10, stop_code="", until_ms=NOW_MS - HOUR_MS + 6 * HOUR_MS
        )
    ]


def test_an_older_id_is_never_decided_by_a_lane_that_has_come_to_its_end() -> None:
    assert ahead(OLD, at(10)) == []
    assert ahead(OLD, at(10, time_ms=NOW_MS - 100 * HOUR_MS)) == []  # idle since: the next record bears its own time
    assert ahead(OLD, None, end=0) == []


def test_a_lane_that_is_late_may_still_meet_it_by_the_time_of_its_records() -> None:
    (lane,) = ahead(OLD, at(4, time_ms=NOW_MS - 2 * HOUR_MS))
    assert (lane.next_offset, lane.end_offset) == (4, 10)
    assert ahead(OLD, None, end=10)  # never owned
    assert ahead(OLD, at(4, time_ms=NOW_MS)) == []  # late, but all that follows is later than its time


def test_a_stopped_lane_may_still_meet_it_whatever_its_topic_says_now() -> None:
    for offset in (4, 10, 17):
        (lane,) = ahead(OLD, at(offset, time_ms=NOW_MS - 2 * HOUR_MS, stop=StopCode.LOG_TRUNCATED))
        assert lane.stop_code == "LOG_TRUNCATED"


def test_a_topic_that_ends_before_the_lane_proves_nothing() -> None:
    assert ahead(OLD, at(11, time_ms=NOW_MS - 2 * HOUR_MS))


def test_an_id_at_the_edge_of_the_window_is_not_trusted_to_clocks() -> None:
    edge = make_command_id(NOW_MS - 6 * HOUR_MS - 1, bytes(10))

    assert ahead(edge, at(10, time_ms=NOW_MS - HOUR_MS))
    assert ahead(edge, at(10, time_ms=NOW_MS)) == []  # the lane itself has met such a time


def test_without_a_lanes_rules_nothing_is_proven() -> None:
    assert ahead(OLD, at(10), rules=None)


def test_an_id_that_no_partners_command_can_have_is_never_decided_but_the_services_own_may_be() -> None:
    assert ahead(bytes(16), at(4)) == []
    assert ahead(derived_id("EXPIRE_HOLD", YOUNG), at(10))


def test_it_is_told_which_lane_stands_where_and_to_send_the_same_id_again() -> None:
    late = told_of(OLD, ahead(OLD, at(4, time_ms=NOW_MS - 2 * HOUR_MS, stop=StopCode.CLOCK_AHEAD)))
    assert "send the same id again" in late[0]
    assert "lane 0 of s1 stands at offset 4, the topic ends at 10" in late[1]
    assert "CLOCK_AHEAD" in late[1]

    on_its_way = told_of(YOUNG, ahead(YOUNG, at(10)))
    assert "balance.commands" in on_its_way[1]
