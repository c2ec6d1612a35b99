"""The service's topics on a real broker: made whole, and refused where they are not as they must be."""

from __future__ import annotations

import socket
from concurrent.futures import Future
from dataclasses import replace

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of the driver's stubs
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from processors.faults import Misconfigured, Unavailable
from processors.streams.connection import ANSWER_GRACE_S, MESSAGE_BYTES_MAX, KafkaAddress, answer_of
from processors.streams.topics import TopicAdmin, TopicSpec, service_topics
from processors.wire.commands import PAYLOAD_BYTES_MAX
from processors.wire.results import RESULT_BYTES_MAX
from processors.wire.route import SIGNATURES_MAX
from processors.wire.signature import SIGNATURE_BYTES_MAX, SIGNATURE_HEADER
from tests.kafka_log import DEADLINE_S, KafkaLog
from tests.waiting import eventually


def specs() -> list[TopicSpec]:
    days = dict.fromkeys(("commands", "shard", "results", "dead_letters", "archived"), 2)
    return service_topics(
        commands=4, results=2, lanes={"s1": 2}, dead_letters=1, archived=1, days=days, min_insync_replicas=1
    )


def spec_of(name: str) -> TopicSpec:
    (spec,) = [spec for spec in specs() if spec.name == name]
    return spec


def alter(log: KafkaLog, topic: str, setting: str, value: str) -> None:
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, log.full(topic), incremental_configs=[entry])
    log.admin.incremental_alter_configs([resource])[resource].result(DEADLINE_S)

    def told() -> bool:  # the controller knows it first
        asked = ConfigResource(ResourceType.TOPIC, log.full(topic))
        return bool(log.admin.describe_configs([asked])[asked].result(DEADLINE_S)[setting].value == value)

    eventually(told, f"{setting} of {topic} is {value}")


def test_every_topic_is_made_once_and_found_right_afterwards(address: KafkaAddress) -> None:
    topics = TopicAdmin(address)

    assert topics.create(specs(), replication_factor=1) == [spec.name for spec in specs()]
    assert topics.create(specs(), replication_factor=1) == []
    for spec in specs():
        topics.check(spec)


def test_a_missing_topic_is_refused_with_what_to_do(address: KafkaAddress) -> None:
    with pytest.raises(Misconfigured, match="run `balance init`"):
        TopicAdmin(address).check(spec_of("balance.results"))


@pytest.mark.rule("W3")
def test_a_topic_with_another_partition_count_is_refused(address: KafkaAddress) -> None:
    topics = TopicAdmin(address)
    spec = spec_of("balance.commands")
    topics.create([spec], replication_factor=1)

    with pytest.raises(Misconfigured, match="has 4 partitions and the settings say 8"):
        topics.check(replace(spec, partitions=8))


@pytest.mark.rule("I2")
@pytest.mark.parametrize(
    ("setting", "value"),
    [("message.timestamp.type", "CreateTime"), ("retention.ms", "1000"), ("cleanup.policy", "compact")],
)
def test_a_topic_with_another_setting_is_refused_by_its_name(address: KafkaAddress, setting: str, value: str) -> None:
    topics = TopicAdmin(address)
    topics.create(specs(), replication_factor=1)
    alter(KafkaLog(address), "balance.shard.s1", setting, value)

    with pytest.raises(Misconfigured, match=f"{setting} is {value}, must be"):
        topics.check(spec_of("balance.shard.s1"))
    with pytest.raises(Misconfigured, match=f"{setting} is {value}, must be"):
        topics.create(specs(), replication_factor=1)


@pytest.mark.rule("W4")
def test_limits_rise_from_ingress_to_results_and_each_holds_what_the_one_before_can_become() -> None:
    ingress, lanes, results = (
        int(spec_of(name).settings["max.message.bytes"])
        for name in ("balance.commands", "balance.shard.s1", "balance.results")
    )

    headers = SIGNATURES_MAX * (len(SIGNATURE_HEADER) + SIGNATURE_BYTES_MAX + 1)  # and the router's one, of 100 bytes
    assert PAYLOAD_BYTES_MAX + headers + 1_000 < ingress < lanes < results < MESSAGE_BYTES_MAX
    assert results > RESULT_BYTES_MAX


def test_a_broker_that_takes_the_connection_and_never_answers_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        topics = TopicAdmin(KafkaAddress(bootstrap_servers=f"127.0.0.1:{port}"))

        with pytest.raises(Unavailable):
            topics.topic_id("balance.shard.s1", deadline_s=1.0)


def test_an_answer_that_not_even_the_client_gives_is_a_fault() -> None:
    with pytest.raises(Unavailable, match="id of topic: no answer within"):
        answer_of(Future(), 0.1 - ANSWER_GRACE_S, "id of topic", Producer({}))
