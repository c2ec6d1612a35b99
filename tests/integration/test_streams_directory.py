"""The directory on real Kafka: made once, read whole, and refused where it contradicts itself (R8)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from processors.faults import Misconfigured
from processors.routing.directory import HOME_UNIT
from processors.streams.connection import KafkaAddress
from processors.streams.directory import read_directory, write_directory_head
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, shard_topic
from processors.wire.directory import (
    HEAD_KEY,
    DirectoryHead,
    DirectoryRecord,
    PlacementRecord,
    ShardRecord,
    encode_directory,
)
from tests.integration.ingress import make_topics
from tests.kafka_log import KafkaLog
from tests.servers import Servers


@pytest.fixture
def address(servers: Servers, topic_prefix: Callable[[], str]) -> KafkaAddress:
    return KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())


@pytest.fixture
def log(address: KafkaAddress) -> KafkaLog:
    return KafkaLog(address)


def write(log: KafkaLog, *records: DirectoryRecord) -> None:
    for record in records:
        log.write(DIRECTORY_TOPIC, [encode_directory(record)], key=record.key)


def placed(shard: str, since: int) -> PlacementRecord:
    return PlacementRecord(unit="acme", generation=1, shard=shard, ingress_partition=0, since=since)


@pytest.mark.rule("R8")
def test_the_directory_begins_with_its_head_and_names_shards_and_home(address: KafkaAddress, log: KafkaLog) -> None:
    topics = make_topics(address, "s1", "s2")

    contents = write_directory_head(address, home_shard="s1", shards=["s1", "s2"])

    assert log.read(DIRECTORY_TOPIC)[0].key == HEAD_KEY
    assert len(contents.head.directory_id) == 16
    assert contents.head.ingress_topic_id == topics.topic_id(COMMANDS_TOPIC)
    assert contents.shards == {
        shard: ShardRecord(shard=shard, topic=shard_topic(shard), topic_id=topics.topic_id(shard_topic(shard)))
        for shard in ("s1", "s2")
    }
    assert contents.directory.home_shard == "s1"
    assert contents.end_offset == 4


def test_a_directory_that_is_there_stays_as_it_is(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    first = write_directory_head(address, home_shard="s1", shards=["s1"])

    again = write_directory_head(address, home_shard="s1", shards=["s1"])

    assert (again.head, again.shards, again.end_offset) == (first.head, first.shards, first.end_offset)
    assert len(log.read(DIRECTORY_TOPIC)) == 3


def test_a_shard_that_is_new_is_added(address: KafkaAddress) -> None:
    make_topics(address)
    first = write_directory_head(address, home_shard="s1", shards=["s1"])
    make_topics(address, "s1", "s2")

    again = write_directory_head(address, home_shard="s1", shards=["s1", "s2"])

    assert again.head == first.head
    assert list(again.shards) == ["s1", "s2"]


@pytest.mark.rule("R8")
def test_an_ingress_that_was_made_again_is_refused_and_nothing_written(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    write_directory_head(address, home_shard="s1", shards=["s1"])
    log.drop(COMMANDS_TOPIC)
    make_topics(address)

    with pytest.raises(Misconfigured, match="every offset means another record"):
        write_directory_head(address, home_shard="s1", shards=["s1"])

    assert len(log.read(DIRECTORY_TOPIC)) == 3


@pytest.mark.rule("L10")
@pytest.mark.rule("R8")
def test_an_ingress_that_was_made_again_with_its_directory_has_another_epoch(
    address: KafkaAddress, log: KafkaLog
) -> None:
    """Lanes keep how far they met the old one: under its epoch they would take the new one's commands for repeats."""
    make_topics(address)
    first = write_directory_head(address, home_shard="s1", shards=["s1"])
    log.drop(COMMANDS_TOPIC)
    log.drop(DIRECTORY_TOPIC)
    make_topics(address)
    time.sleep(1)  # an epoch is a second

    again = write_directory_head(address, home_shard="s1", shards=["s1"])

    assert first.head.ingress_epoch < again.head.ingress_epoch < 2**32


def test_a_shards_topic_that_was_made_again_is_refused(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    write_directory_head(address, home_shard="s1", shards=["s1"])
    log.drop(shard_topic("s1"))
    make_topics(address)

    with pytest.raises(Misconfigured, match="shard s1"):
        write_directory_head(address, home_shard="s1", shards=["s1"])


def test_the_home_shard_never_changes(address: KafkaAddress) -> None:
    make_topics(address, "s1", "s2")
    write_directory_head(address, home_shard="s1", shards=["s1", "s2"])

    with pytest.raises(Misconfigured, match="never changes"):
        write_directory_head(address, home_shard="s2", shards=["s1", "s2"])


@pytest.mark.rule("R8")
def test_a_directory_without_a_head_is_refused(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    write(log, PlacementRecord(unit=HOME_UNIT, generation=0, shard="s1", ingress_partition=0, since=0))

    with pytest.raises(Misconfigured, match="balance init"):
        read_directory(address)


@pytest.mark.rule("R8")
def test_a_later_ingress_epoch_of_the_same_directory_holds_and_another_head_is_refused(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_topics(address)
    head = write_directory_head(address, home_shard="s1", shards=["s1"]).head
    later = DirectoryHead(
        directory_id=head.directory_id, ingress_topic_id=b"i" * 16, ingress_epoch=head.ingress_epoch + 1
    )
    write(log, later)
    assert read_directory(address).head == later

    write(log, DirectoryHead(directory_id=b"d" * 16, ingress_topic_id=b"i" * 16, ingress_epoch=head.ingress_epoch + 2))
    with pytest.raises(Misconfigured, match="two heads"):
        read_directory(address)


@pytest.mark.rule("R8")
def test_two_placements_of_one_generation_are_refused(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    write_directory_head(address, home_shard="s1", shards=["s1"])
    write(log, placed("s1", 7), placed("s1", 7))
    assert read_directory(address).directory.place("acme", ingress_partition=0, ingress_offset=7).generation == 1

    write(log, placed("s1", 8))
    with pytest.raises(Misconfigured, match="two placements"):
        read_directory(address)


def test_a_record_of_no_known_kind_is_refused(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    write_directory_head(address, home_shard="s1", shards=["s1"])
    log.write(DIRECTORY_TOPIC, [b"what"], key=b"what")

    with pytest.raises(Misconfigured, match="record 3"):
        read_directory(address)


def test_records_that_are_repeated_change_nothing(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    before = write_directory_head(address, home_shard="s1", shards=["s1"])
    write(log, before.head, *before.shards.values())

    after = read_directory(address)

    assert (after.head, after.shards, after.end_offset) == (before.head, before.shards, before.end_offset + 2)
