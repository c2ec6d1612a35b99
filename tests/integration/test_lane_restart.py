"""What an operator is told of a stopped lane, and which stops a restart takes away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processors.faults import NEXT_STEPS, StopCode
from processors.ops import addresses, assembly
from processors.ops.setting_up import initialize
from processors.stores.shard_reader import open_reader
from processors.streams.topics import TopicAdmin, shard_topic
from tests.end_to_end.conftest import balance
from tests.servers import Place

SHARD, LANE = "s1", 0
IN_VAIN = sorted(code for code, step in NEXT_STEPS.items() if not step.restart_mends)


@pytest.fixture(scope="module")
def place(fresh_place: Callable[..., Place]) -> Place:
    made = fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1")
    initialize(made.settings, lambda _said: None)
    return made


def stop(place: Place, code: StopCode) -> None:
    store = assembly.lane_store(place.settings, SHARD, LANE)
    store.take_over(TopicAdmin(addresses.kafka_address(place.settings)).topic_id(shard_topic(SHARD)))
    store.stop(code, "offset 0 is not what it was")
    store.close()


def stop_code(place: Place) -> StopCode | None:
    reader = open_reader(addresses.mysql_address(place.settings, SHARD))
    try:
        return reader.lane_positions()[LANE].stop_code
    finally:
        reader.close()


@pytest.mark.parametrize("code", IN_VAIN)
def test_a_restart_is_refused_where_the_lane_would_meet_the_same_record(place: Place, code: StopCode) -> None:
    stop(place, code)

    said = balance(place, "lane", "restart", str(LANE))

    assert said.status == 3
    assert f"lane 0 stopped with {code}, which a restart does not mend: {NEXT_STEPS[code].mend}" in said.err
    assert stop_code(place) is code


def test_a_stopped_lane_is_shown_with_the_next_command_as_it_is_typed(place: Place) -> None:
    stop(place, StopCode.MISSING_SLICE)
    wanted = "run balance migrate; then: balance lane restart --shard s1 0"

    shown, listed = balance(place, "lane", "show"), balance(place, "lane", "show", "--json")

    assert wanted in shown.out
    assert listed.json[0]["next_step"] == wanted

    restarted = balance(place, *wanted.rpartition("balance ")[2].split())
    assert (restarted.status, restarted.out.strip()) == (0, "lane 0 may go on")
    assert stop_code(place) is None
    assert balance(place, "lane", "restart", str(LANE)).out.strip() == "lane 0 was not stopped"
