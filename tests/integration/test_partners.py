"""``balance partner``: what the directory on real Kafka says of where partners live."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from processors.faults import Misconfigured
from processors.ops.cli.main import app
from processors.ops.partners import read_partner, read_placed
from processors.routing.buckets import BUCKETS, partition_of, placement_key_of
from processors.streams.connection import KafkaAddress
from processors.streams.directory import write_directory_head
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, shard_topic
from processors.wire.directory import PlacementRecord, encode_directory
from tests.integration.ingress import INGRESS_PARTITIONS, LANES, make_topics
from tests.kafka_log import KafkaLog

BUCKET = placement_key_of("acme")
ACME = partition_of("acme", INGRESS_PARTITIONS)


def found(address: KafkaAddress) -> None:
    make_topics(address, "s1", "s2")
    counts = {COMMANDS_TOPIC: INGRESS_PARTITIONS, shard_topic("s1"): LANES, shard_topic("s2"): LANES}
    write_directory_head(address, home_shard="s1", shards=["s1", "s2"], partitions=counts, keys={})


def move(log: KafkaLog, key: str, generation: int, shard: str, since: int) -> None:
    placed = PlacementRecord(unit=key, generation=generation, shard=shard, ingress_partition=ACME, since=since)
    log.write(DIRECTORY_TOPIC, [encode_directory(placed)], key=placed.key)


def run(address: KafkaAddress, *words: str) -> Result:
    environment = {
        "BALANCE_KAFKA__BOOTSTRAP_SERVERS": address.bootstrap_servers,
        "BALANCE_KAFKA__TOPIC_PREFIX": address.topic_prefix,
        "COLUMNS": "200",
    }
    return CliRunner().invoke(app, words, env=environment)


def balance(address: KafkaAddress, *words: str) -> tuple[int, str]:
    ran = run(address, *words)
    return ran.exit_code, ran.stdout


@pytest.mark.rule("R2")
def test_a_partner_is_shown_with_every_placement_that_held_for_him(address: KafkaAddress, log: KafkaLog) -> None:
    found(address)
    move(log, BUCKET, 1, "s2", 10)
    move(log, "acme", 1, "s1", 20)
    move(log, "acme", 1, "s1", 20)  # a router that met the marker again
    move(log, BUCKET, 2, "s1", 30)
    stamps = {record.offset: record.timestamp_ms for record in log.read(DIRECTORY_TOPIC)}

    partner = read_partner(address, "acme")

    assert (partner.now.shard, partner.now.generation, partner.by_hand) == ("s1", 1, True)
    shown = [(each.placement_key, each.generation, each.shard, each.since) for each in partner.placements]
    assert shown == [("acme", 1, "s1", 20), (BUCKET, 1, "s2", 10), ("*", 0, "s1", 0)]
    assert partner.now.placed_at_ms == stamps[max(stamps) - 2]

    status, page = balance(address, "partner", "show", "acme", "--json")
    said = json.loads(page)
    assert (status, said["by_hand"], said["now"]["shard"]) == (0, True, "s1")
    assert [each["since"] for each in said["placements"]] == [20, 10, 0]
    status, page = balance(address, "partner", "show", "acme")
    assert (status, page.splitlines()[0]) == (0, "acme is on s1, at generation 1")
    status, page = balance(address, "partner", "show", BUCKET)
    assert page.splitlines()[0] == f"{BUCKET} is on s1, at generation 2"
    _, page = balance(address, "partner", "show", "globex")
    assert page.splitlines()[0] == f"globex is on s1, with {placement_key_of('globex')}, which has never moved"


def test_partners_that_were_placed_by_hand_are_listed_and_buckets_if_asked_for(
    address: KafkaAddress, log: KafkaLog
) -> None:
    found(address)
    move(log, BUCKET, 1, "s2", 10)
    move(log, "acme", 1, "s1", 20)
    move(log, "acme", 2, "s2", 30)

    placed = read_placed(address)

    assert [(each.placement_key, each.generation) for each in placed.partners] == [("acme", 2)]
    assert placed.buckets_of == {"s1": BUCKETS - 1, "s2": 1}
    for words, keys in {
        (): ["acme"],
        ("--buckets",): ["acme", BUCKET],
        ("--buckets", "--shard", "s1"): [],
    }.items():
        status, page = balance(address, "partner", "list", "--json", *words)
        assert (status, [each["placement_key"] for each in json.loads(page)["placements"]]) == (0, keys)


def test_a_list_of_a_shard_that_there_is_not_is_refused_with_those_that_there_are(address: KafkaAddress) -> None:
    found(address)

    assert balance(address, "partner", "list", "--shard", "s2")[0] == 0
    refused = run(address, "partner", "list", "--shard", "s9").exception
    assert isinstance(refused, Misconfigured)
    assert str(refused).startswith("there is no shard s9; there are s1, s2")


def test_without_a_directory_it_is_said_what_to_do(address: KafkaAddress) -> None:
    with pytest.raises(Misconfigured, match="balance init"):
        read_partner(address, "acme")
    make_topics(address)
    with pytest.raises(Misconfigured, match="balance init"):
        read_placed(address)
