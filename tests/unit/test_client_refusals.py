"""What a program hands to the client that is none of its things: named, with what to write; nothing is sent."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from processors.client import Client, ClientConfig
from processors.ledger.commands import MovePartner, Pay
from processors.wire.commands import encode_command
from tests.simulation.fakes.client_kafka import ClientKafka
from tests.unit.client_service import Service, connected

ID = UUID("018bcfe5-6800-7000-8000-000000000000")


@pytest.mark.parametrize("given", ["127.0.0.1:19092", None, {"kafka": "127.0.0.1:19092"}])
def test_a_client_of_anything_but_a_config_names_it_and_what_to_write(given: Any) -> None:
    with pytest.raises(TypeError, match=r"Client was given .*: write Client\(ClientConfig\(kafka=KafkaAddress\("):
        Client(given)


def test_a_config_without_an_address_names_what_it_has_and_what_to_write() -> None:
    wrong: Any = "127.0.0.1:19092"
    with pytest.raises(TypeError, match=r"kafka is '127.0.0.1:19092', a str: write KafkaAddress\("):
        Client(ClientConfig(kafka=wrong))


@pytest.mark.parametrize("given", [{}, None, "pay acme 5 USD", b"payload"])
def test_what_is_no_command_is_refused_with_its_type_and_an_example(given: Any) -> None:
    with pytest.raises(TypeError, match=rf"is a {type(given).__name__} and no command: write one of .*Pay\("):
        encode_command(given)


def test_a_uuid_where_bytes_belong_is_told_of_its_bytes() -> None:
    wrong: Any = ID
    with pytest.raises(ValueError, match=r"command_id is UUID\(.*\), an? UUID: write its 16 bytes, .*\.bytes"):
        encode_command(Pay(command_id=wrong, address="acme", currency="USD", amount_minor=1))
    encode_command(Pay(command_id=ID.bytes, address="acme", currency="USD", amount_minor=1))


def test_a_marker_without_its_partition_is_refused_with_what_to_call() -> None:
    service = Service(ClientKafka())
    with connected(service.kafka) as client:
        marker = MovePartner(
            command_id=client.new_id(), placement_key="bucket:17", generation=1, source="s1", target="s2"
        )

        with pytest.raises(TypeError, match="submit_marker"):
            client.submit(marker)

    assert service.seen == []
