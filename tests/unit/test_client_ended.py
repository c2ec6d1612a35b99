"""What a client that has ended says of the commands that it did not see answered."""

from __future__ import annotations

import pytest

from processors.client import NoAnswer
from tests.simulation.fakes.client_kafka import ClientKafka
from tests.unit.client_service import Service, connected, nothing, pay
from tests.waiting import eventually

HANG_S = 5.0


def test_who_was_not_answered_learns_whether_it_may_have_been_decided() -> None:
    kafka = ClientKafka()
    service = Service(kafka)
    service.answer = nothing
    client = connected(kafka, deadline_ms=60_000)
    sent = client.submit(pay(client))
    eventually(lambda: len(service.seen) == 1, "it is sent")
    late = pay(client)
    client.close()

    with pytest.raises(
        NoAnswer, match="the client ended; it may have been decided, so send it again with the same id"
    ) as told:
        sent.result(HANG_S)
    assert told.value.sent
    with pytest.raises(
        NoAnswer, match="so it was not sent; unless it was sent before, it is not decided: send it"
    ) as told:
        client.send(late)
    assert not told.value.sent
