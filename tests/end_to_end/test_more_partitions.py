"""Partition counts that somebody raises, under load and over a restart of everything (W3)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import pytest

from processors.ops import addresses
from processors.routing.buckets import bucket_of
from processors.streams.topics import COMMANDS_TOPIC, RESULTS_TOPIC, shard_topic
from tests.end_to_end.conftest import Running, balance, started
from tests.kafka_log import KafkaLog
from tests.servers import Place
from tests.waiting import eventually

STAYS = next(f"u-{number}" for number in range(100) if bucket_of(f"u-{number}") & 7 < 4)
MOVES = next(f"u-{number}" for number in range(100) if bucket_of(f"u-{number}") & 7 >= 4)


def is_told_after_a_command(running: Running) -> bool:
    """Send a command where nobody answers: a busy machine may need all of its second to connect, and writes none."""
    assert running.balance("pay", MOVES, "1.00", "USD", "--within", "1").status == 3
    letters = running.balance("dead-letters", "list", "--json").out
    return "the topic has 8 partitions, the service knows 4" in letters


def raised(running: Running) -> dict[str, tuple[int, int]]:
    said = running.balance("status", "--json")
    return {topic["topic"]: (topic["partitions"], topic["known"]) for topic in said.json["raised"]}


@pytest.mark.rule("W3")
def test_a_raised_count_of_commands_is_told_and_partners_whose_partition_stays_are_served(
    fresh_place: Callable[..., Place],
) -> None:
    place = fresh_place()
    log = KafkaLog(addresses.kafka_address(place.settings))
    with contextmanager(started)(place) as running:
        for root in (STAYS, MOVES):
            assert running.balance("account", "open", root, "USD").status == 0
            assert running.balance("topup", root, "9.00", "USD").status == 0
        eventually(lambda: running.balance("status").status == 0, "all is well")

        log.widen(COMMANDS_TOPIC, 8)

        assert running.balance("pay", STAYS, "1.00", "USD").status == 0
        eventually(lambda: is_told_after_a_command(running), "the letter says why")
        said = running.balance("status")
        assert said.status == 3
        assert "topic balance.commands has 8 partitions, the service knows 4" in said.out
        assert raised(running) == {COMMANDS_TOPIC: (8, 4)}
        assert running.balance("verify").status == 0


@pytest.mark.rule("W3")
def test_raised_counts_of_results_and_lanes_are_ignored_over_a_restart_whatever_the_settings_say(
    fresh_place: Callable[..., Place],
) -> None:
    place = fresh_place()
    log = KafkaLog(addresses.kafka_address(place.settings))
    with contextmanager(started)(place) as running:
        for root in (STAYS, MOVES):
            assert running.balance("account", "open", root, "USD").status == 0
            assert running.balance("topup", root, "9.00", "USD").status == 0
        log.widen(RESULTS_TOPIC, 8)
        log.widen(shard_topic("s1"), 8)
        assert running.balance("pay", MOVES, "1.00", "USD").status == 0

    wider = {"BALANCE_TOPICS__RESULTS_PARTITIONS": "8", "BALANCE_TOPICS__LANES": "8"}
    assert balance(replace(place, environment={**place.environment, **wider}), "init").status == 3
    for settings in ({}, wider):
        with contextmanager(started)(replace(place, environment={**place.environment, **settings})) as running:
            for root in (STAYS, MOVES):
                assert running.balance("pay", root, "1.00", "USD").status == 0
            assert raised(running) == {RESULTS_TOPIC: (8, 4), shard_topic("s1"): (8, 4)}
            eventually(lambda run=running: run.balance("status").status == 0, "all is well")  # type: ignore[misc]
            eventually(lambda run=running: run.balance("verify").status == 0, "it is proven")  # type: ignore[misc]
    for topic in (RESULTS_TOPIC, shard_topic("s1")):
        assert [log.read(topic, partition=partition) for partition in range(4, 8)] == [[]] * 4
