from __future__ import annotations

from processors.client import NoAnswer
from tests.simulation.fakes.client_kafka import ClientKafka
from tests.unit.client_service import connected, pay


def test_exchange_yields_no_answer_in_the_place_of_a_result_and_goes_on() -> None:
    """Nobody answers; nothing is raised."""
    with connected(ClientKafka(), deadline_ms=100) as client:
        commands = [pay(client, "acme"), pay(client, "kite")]
        answers = list(client.exchange(commands))

    assert [command for command, _ in answers] == commands
    assert all(isinstance(answer, NoAnswer) for _, answer in answers)
