"""A shard of the first release on this one, raised by its operator while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from processors.client import Client, ClientConfig, CommandIds
from processors.ledger.commands import Pay, SetLaneTime
from processors.ledger.rules import RULES_RELEASE
from processors.ops import addresses, keys
from processors.ops.setting_up import initialize
from processors.stores.mysql import Session
from processors.stores.shard_reader import open_reader
from processors.streams.topics import COMMANDS_TOPIC
from processors.wire.commands import encode_command
from processors.wire.signature import trusted_keys
from tests.end_to_end.conftest import Running, started
from tests.servers import Place
from tests.unit.wire.build import confluent_framed
from tests.waiting import eventually

IDS = CommandIds()
FAR = 1 << 40  # an offset that no lane comes to


@pytest.fixture
def service(fresh_place: Callable[..., Place]) -> Iterator[Running]:
    """Return a service whose shard was made by the first release: its log names neither keys nor registry ids."""
    place = fresh_place(BALANCE_EXPIRER__TICK_MS="1000", BALANCE_KAFKA__REGISTRY_IDS__PAY="12")
    initialize(place.settings, lambda _said: None)
    session = Session(addresses.mysql_address(place.settings, "s1"), lane=False)
    session.execute(
        "UPDATE rules SET rules_release = 1, result_version = 1, signing_keys = NULL, registry_ids = NULL",
        "making a shard of the first release",
    )
    session.commit()
    session.close()
    yield from started(place)


def pay_framed(service: Running, registry_id: int) -> None:
    settings = service.place.settings
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "partitioner": "murmur2"})
    command = Pay(command_id=IDS.next(), address="acme", currency="USD", amount_minor=100)
    topic = settings.kafka.topic_prefix + COMMANDS_TOPIC
    producer.produce(topic, confluent_framed(encode_command(command), registry_id), b"acme")
    producer.flush(10)


def available(service: Running) -> int:
    return int(service.balance("balance", "acme", "USD", "--json").json["postings"][0]["available_minor"])


def takes_words_of_this_release(service: Running, *, within_s: float) -> bool:
    """Say whether a lane takes a word on a range of records, by a schema of this release."""
    settings = service.place.settings
    config = ClientConfig(kafka=addresses.kafka_address(settings), keyring=keys.keyring(settings), deadline_ms=60_000)
    with Client(config) as client:  # the config's deadline bounds connecting, too
        word = SetLaneTime(command_id=IDS.next(), lane_offset=FAR, time_ms=1, last_offset=FAR)
        try:
            client.submit_control(word, shard="s1", lane=0).result(within_s)
        except TimeoutError:
            return False
        return True


def rules(service: Running) -> dict[int, list[tuple[int, bool]]]:
    """Return the release of every version of each lane's rules, and whether it names keys."""
    reader = open_reader(addresses.mysql_address(service.place.settings, "s1"))
    try:
        return {
            lane: [(each.release, each.keys is not None) for each in of_lane.values()]
            for lane, of_lane in reader.rules().items()
        }
    finally:
        reader.close()


@pytest.mark.rule("I6")
@pytest.mark.rule("W1")
def test_a_shard_of_the_first_release_is_raised_while_it_runs_and_nothing_decided_before_changes(
    service: Running,
) -> None:
    ring = keys.keyring(service.place.settings)
    assert service.balance("account", "open", "acme", "USD").status == 0
    assert service.balance("topup", "acme", "10.00", "USD").status == 0
    pay_framed(service, 12)
    eventually(lambda: available(service) == 900, "the settings' registry id counts")
    assert not takes_words_of_this_release(service, within_s=4)
    said = service.balance("key", "announce")
    assert (said.status != 0, "balance rules raise" in said.err) == (True, True)

    assert service.balance("rules", "raise").status == 0

    lanes = range(service.place.settings.topics.lanes)
    assert rules(service) == {lane: [(1, False), (RULES_RELEASE, False), (RULES_RELEASE, True)] for lane in lanes}
    shown: dict[str, Any] = service.balance("rules", "show", "--json").json["s1"]
    assert {(each["version"], each["keys"]) for each in shown.values()} == {(3, trusted_keys(ring))}
    assert "every lane has these rules already" in service.balance("rules", "raise").out
    assert takes_words_of_this_release(service, within_s=60)
    assert service.balance("adjust", "acme", "CREDIT", "1.00", "USD", "--because", "counted again").status == 0
    pay_framed(service, 13)
    pay_framed(service, 12)
    eventually(lambda: available(service) == 900, "the key and the registry id count by the log")
    letters = service.balance("dead-letters", "list", "--json").json_lines
    assert [each["detail"] for each in letters if "registry id" in each["detail"]] == [
        "registry id 13 is not in the rules: `balance rules set --registry-id`"
    ]
    eventually(lambda: service.balance("status").status == 0, "all is well")
    eventually(lambda: service.balance("verify").status == 0, "it is proven")
