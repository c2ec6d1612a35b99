"""Keys and registry ids on a running service: from the file into the log, and out of use, without a restart."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from processors.client import Client, ClientConfig, CommandIds, NoAnswer
from processors.ledger.commands import Adjust, Direction, Pay
from processors.ops import addresses, keys
from processors.streams.topics import COMMANDS_TOPIC
from processors.wire.commands import encode_command
from processors.wire.signature import KeyRing
from tests.end_to_end.conftest import Running, balance, started
from tests.servers import Place
from tests.unit.wire.build import confluent_framed
from tests.waiting import eventually

IDS = CommandIds()


@pytest.fixture(scope="module")
def service(fresh_place: Callable[..., Place]) -> Iterator[Running]:
    yield from started(fresh_place(BALANCE_EXPIRER__TICK_MS="1000"))


def adjusted_by(service: Running, ring: KeyRing, *, within_ms: int = 60_000) -> bool:
    """Say whether an adjustment that a ring signs is taken."""
    settings = service.place.settings
    wish = Adjust(
        command_id=IDS.next(),
        address="acme",
        currency="USD",
        amount_minor=100,
        direction=Direction.CREDIT,
        explanation="counted again",
    )
    config = ClientConfig(kafka=addresses.kafka_address(settings), keyring=ring, deadline_ms=60_000)
    with Client(config) as client:  # the config's deadline bounds connecting, too
        try:
            return client.send(wish, deadline_ms=within_ms).status == "ACCEPTED"
        except NoAnswer:
            return False


def letters(service: Running) -> list[str]:
    found = service.balance("dead-letters", "list", "--json").json_lines
    return [f"{each['cause']}: {each['detail']}" for each in found]


@pytest.mark.rule("W1")
@pytest.mark.rule("I6")
def test_a_key_is_rotated_on_a_running_service(service: Running) -> None:
    settings = service.place.settings
    assert service.balance("account", "open", "acme", "USD").status == 0
    (first,) = keys.keyring(settings).keys
    (second,) = {*service.balance("key", "add", "k2", "--json").json["keys"]} - {first}
    newer = replace(keys.keyring(settings), signing=second)

    assert not adjusted_by(service, newer, within_ms=4_000)  # the file has it, the log does not
    assert service.balance("key", "retire", first).status == 3
    said = service.balance("key", "announce")
    assert (said.status, "key retire" in said.out) == (0, True)
    assert adjusted_by(service, newer)
    assert service.balance("key", "end", first).status != 0  # it signs
    assert service.balance("key", "retire", first).status == 0
    ended = service.balance("key", "end", first)
    assert (ended.status, "Recallers sign with keys, too" in ended.out) == (0, True)
    assert service.balance("key", "end", first).status == 0

    assert not adjusted_by(service, replace(newer, signing=first), within_ms=4_000)
    assert adjusted_by(service, newer)
    eventually(lambda: f"BAD_SIGNATURE: key {first} has ended" in letters(service), "the dead letter says why")
    listed = {each["id"]: each for each in service.balance("key", "list", "--json").json["keys"]}
    assert [(listed[each]["file"], listed[each]["s1"]) for each in (first, second)] == [
        ("verifies", "ended"),
        ("signs", "counts"),
    ]


@pytest.mark.rule("I6")
def test_a_registry_id_counts_once_the_log_has_it(service: Running) -> None:
    settings = service.place.settings
    service.balance("account", "open", "beta", "USD")
    service.balance("topup", "beta", "10.00", "USD")
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "partitioner": "murmur2"})

    def pay() -> None:
        command = Pay(command_id=IDS.next(), address="beta", currency="USD", amount_minor=100)
        topic = settings.kafka.topic_prefix + COMMANDS_TOPIC
        producer.produce(topic, confluent_framed(encode_command(command), 12), b"beta")
        producer.flush(10)

    pay()
    told = "UNKNOWN_SCHEMA: registry id 12 is not in the rules: `balance rules set --registry-id`"
    eventually(lambda: told in letters(service), "the dead letter names the id")
    assert service.balance("rules", "set", "--registry-id", "pay=12").status == 0
    pay()

    def available() -> int:
        return int(service.balance("balance", "beta", "USD", "--json").json["postings"][0]["available_minor"])

    eventually(lambda: available() == 900, "the second is taken, the first never")
    time.sleep(1)
    assert available() == 900
    assert "write NAME=NUMBER" in service.balance("rules", "set", "--registry-id", "pay").err


def test_no_new_secret_is_drawn_for_an_installation_whose_keys_file_is_missing(
    service: Running, tmp_path: Path
) -> None:
    missing = tmp_path / "keys.json"
    elsewhere = Place(
        environment={**service.place.environment, "BALANCE_KEYS_FILE": str(missing)}, settings=service.place.settings
    )

    said = balance(elsewhere, "init")

    assert said.status == 3
    assert "Bring the file back" in said.err
    assert not missing.exists()
    assert json.loads(Path(service.place.environment["BALANCE_KEYS_FILE"]).read_text())["keys"]
