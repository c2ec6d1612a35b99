"""What a consumer shows of its brokers, with a client that says what it is told to."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from processors.metrics import REGISTRY
from processors.streams.watched import LOOK_S, Watched

TOPIC = "of-this-test"
DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN)


class Client:
    """Knows the ends of its last fetches; its brokers are there, or away."""

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends, self.away = ends, False

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self.ends.get(place.partition, -1001)

    def list_topics(self, topic: str, *, timeout: float) -> None:
        del topic, timeout
        if self.away:
            raise KafkaException(DOWN)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += LOOK_S
        return self.now_s


def lag(partition: int) -> float | None:
    return REGISTRY.get_sample_value("balance_lag_records", {"topic": TOPIC, "partition": str(partition)})


def is_up() -> float | None:
    return REGISTRY.get_sample_value("balance_server_up", {"server": "kafka"})


def test_lag_is_what_lies_behind_the_last_record_taken_and_marks_at_an_end_are_none() -> None:
    client: Any = Client({0: 10, 1: 10, 2: 10})
    watched = Watched(TOPIC, Clock())

    watched.look(client, {0: 7, 1: 9, 3: 5}, ends={1})
    assert [lag(0), lag(1), lag(2), lag(3)] == [3, 0, None, 0]  # 2 is not its own; of 3 nothing was fetched yet

    watched.forget([0, 2])
    assert [lag(0), lag(1)] == [None, 0]


def test_a_look_is_taken_once_a_second() -> None:
    client: Any = Client({0: 10})
    watched = Watched(TOPIC, lambda: LOOK_S)

    watched.look(client, {0: 7})
    watched.look(client, {0: 10})
    assert lag(0) == 3


def test_brokers_that_are_away_are_shown_until_one_answers_again() -> None:
    client: Any = Client({})
    watched = Watched(TOPIC, Clock())
    watched.look(client, {})
    assert is_up() == 1

    client.away = True
    watched.hear(DOWN)
    watched.look(client, {})
    assert is_up() == 0

    client.away = False
    watched.look(client, {})
    assert is_up() == 1
