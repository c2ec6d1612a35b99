"""What brokers refuse is remembered for as long as it may still be so, and no longer."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from processors.faults import Refused, Unavailable
from processors.streams.connection import fault_of
from processors.streams.login_refusal import ECHO_S, LASTS_S, LOGIN_REFUSAL, LoginRefusal, unanswered
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusal(clock: Clock) -> LoginRefusal:
    return LoginRefusal(clock)


def test_the_last_word_counts_until_it_was_not_said_for_longer_than_an_idle_client_is_silent(
    refusal: LoginRefusal, clock: Clock
) -> None:
    assert refusal.now() == ""
    refusal.hear("first")
    clock.now_s += LASTS_S
    assert refusal.now() == "first"
    refusal.hear("second")
    clock.now_s += LASTS_S + 1
    assert refusal.now() == ""


def test_a_new_password_ends_it_and_what_was_said_of_the_old_one_is_not_heard(
    refusal: LoginRefusal, clock: Clock
) -> None:
    told: list[str | None] = []
    refusal.tell = lambda refused: told.append(None if refused is None else str(refused))
    refusal.hear("old")
    refusal.forget()
    refusal.hear("old")
    assert refusal.now() == ""
    clock.now_s += ECHO_S
    refusal.hear("new one")
    assert refusal.now() == "new one"
    assert told == ["Kafka: old", None, "Kafka: new one"]


def test_who_waited_in_vain_says_what_is_refused() -> None:
    silent = KafkaError(KafkaError._TIMED_OUT)
    assert type(unanswered("list of topics")) is Unavailable
    assert type(fault_of(silent, "list of topics")) is Unavailable
    LOGIN_REFUSAL.hear("invalid credentials")
    try:
        for fault in (unanswered("list of topics"), fault_of(silent, "list of topics")):
            assert isinstance(fault, Refused)
            assert str(fault).endswith("; refused: invalid credentials")
    finally:
        LOGIN_REFUSAL.forget()
