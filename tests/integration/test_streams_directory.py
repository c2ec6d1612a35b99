"""The directory on real Kafka: made once, read whole, and refused where it contradicts itself (R8)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from processors.faults import Misconfigured
from processors.ledger.rules import Rules
from processors.ledger.trust import TrustedKey
from processors.routing.directory import HOME_PLACEMENT_KEY
from processors.streams.connection import KafkaAddress
from processors.streams.directory import (
    DirectoryContents,
    read_directory,
    write_directory_head,
    write_keys,
    write_shard,
)
from processors.streams.first_rules import write_first_rules
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, shard_topic
from processors.wire.directory import (
    COUNTS_AFTER_MS,
    HEAD_KEY,
    DirectoryHead,
    DirectoryRecord,
    PlacementRecord,
    PositionRecord,
    ShardRecord,
    TopicRecord,
    encode_directory,
)
from tests.integration.ingress import INGRESS_PARTITIONS, KEYS, LANES, make_topics
from tests.kafka_log import KafkaLog

STAMPED_WITHIN_MS = 30_000  # on a busy machine


def made(
    address: KafkaAddress,
    home: str,
    *shards: str,
    partitions: int = INGRESS_PARTITIONS,
    keys: Mapping[str, TrustedKey] | None = None,
) -> DirectoryContents:
    counts = {COMMANDS_TOPIC: partitions, **{shard_topic(shard): LANES for shard in shards}}
    return write_directory_head(address, home_shard=home, shards=list(shards), partitions=counts, keys=keys or {})


def write(log: KafkaLog, *records: DirectoryRecord) -> None:
    for record in records:
        log.write(DIRECTORY_TOPIC, [encode_directory(record)], key=record.key)


def placed(shard: str, since: int) -> PlacementRecord:
    return PlacementRecord(unit="acme", generation=1, shard=shard, ingress_partition=0, since=since)


@pytest.mark.rule("R8")
def test_the_directory_begins_with_its_head_and_names_shards_and_home(address: KafkaAddress, log: KafkaLog) -> None:
    topics = make_topics(address, "s1", "s2")

    contents = made(address, "s1", "s1", "s2")

    assert log.read(DIRECTORY_TOPIC)[0].key == HEAD_KEY
    assert len(contents.head.directory_id) == 16
    assert contents.head.ingress_topic_id == topics.topic_id(COMMANDS_TOPIC)
    assert contents.shards == {
        shard: ShardRecord(shard=shard, topic=shard_topic(shard), topic_id=topics.topic_id(shard_topic(shard)))
        for shard in ("s1", "s2")
    }
    assert contents.directory.home_shard == "s1"
    assert contents.partitions == {COMMANDS_TOPIC: 4, shard_topic("s1"): 2, shard_topic("s2"): 2}
    assert contents.end_offset == 7


def test_a_directory_that_is_there_stays_as_it_is(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    first = made(address, "s1", "s1")

    again = made(address, "s1", "s1")

    assert (again.head, again.shards, again.end_offset) == (first.head, first.shards, first.end_offset)
    assert len(log.read(DIRECTORY_TOPIC)) == 5


def test_a_shard_that_is_new_is_added(address: KafkaAddress) -> None:
    make_topics(address)
    first = made(address, "s1", "s1")
    make_topics(address, "s1", "s2")

    again = made(address, "s1", "s1", "s2")

    assert again.head == first.head
    assert list(again.shards) == ["s1", "s2"]


@pytest.mark.rule("R8")
def test_an_ingress_that_was_made_again_is_refused_and_nothing_written(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    made(address, "s1", "s1")
    log.drop(COMMANDS_TOPIC)
    make_topics(address)

    with pytest.raises(Misconfigured, match="every offset means another record"):
        made(address, "s1", "s1")

    assert len(log.read(DIRECTORY_TOPIC)) == 5


@pytest.mark.rule("L10")
@pytest.mark.rule("R8")
def test_an_ingress_that_was_made_again_with_its_directory_has_another_epoch(
    address: KafkaAddress, log: KafkaLog
) -> None:
    """Lanes keep how far they met the old one: under its epoch they would take the new one's commands for repeats."""
    make_topics(address)
    first = made(address, "s1", "s1")
    log.drop(COMMANDS_TOPIC)
    log.drop(DIRECTORY_TOPIC)
    make_topics(address)
    time.sleep(1)  # an epoch is a second

    again = made(address, "s1", "s1")

    assert first.head.ingress_epoch < again.head.ingress_epoch < 2**32


def test_a_shards_topic_that_was_made_again_is_refused(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    made(address, "s1", "s1")
    log.drop(shard_topic("s1"))
    make_topics(address)

    with pytest.raises(Misconfigured, match="shard s1"):
        made(address, "s1", "s1")


def test_the_home_shard_never_changes(address: KafkaAddress) -> None:
    make_topics(address, "s1", "s2")
    made(address, "s1", "s1", "s2")

    with pytest.raises(Misconfigured, match="never changes"):
        made(address, "s2", "s1", "s2")


@pytest.mark.rule("R8")
def test_a_directory_without_a_head_is_refused(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    write(log, PlacementRecord(unit=HOME_PLACEMENT_KEY, generation=0, shard="s1", ingress_partition=0, since=0))

    with pytest.raises(Misconfigured, match="balance init"):
        read_directory(address)


@pytest.mark.rule("R8")
def test_a_later_ingress_epoch_of_the_same_directory_holds_and_another_head_is_refused(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_topics(address)
    head = made(address, "s1", "s1").head
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
    made(address, "s1", "s1")
    write(log, placed("s1", 7), placed("s1", 7))
    assert read_directory(address).directory.place("acme", ingress_partition=0, ingress_offset=7).generation == 1

    write(log, placed("s1", 8))
    with pytest.raises(Misconfigured, match="two placements"):
        read_directory(address)


@pytest.mark.rule("R1")
def test_a_directory_that_was_read_before_is_read_on_from_its_end(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    made(address, "s1", "s1")
    write(log, placed("s1", 7))
    before = read_directory(address)
    note = PositionRecord(ingress_epoch=before.head.ingress_epoch, ingress_partition=1, next_offset=9)
    write(log, replace(placed("s1", 8), generation=2), note)

    after = read_directory(address, before)

    assert after.directory is before.directory
    assert [move.since for move in after.directory.moves_of("acme")] == [8, 7]
    assert (after.positions, after.end_offset) == ({1: 9}, before.end_offset + 2)
    whole = read_directory(address)
    assert (whole.head, whole.shards, whole.partitions, whole.positions, whole.end_offset, whole.topic_id) == (
        (after.head, after.shards, after.partitions, after.positions, after.end_offset, after.topic_id)
    )


@pytest.mark.rule("R8")
def test_a_directory_that_ends_before_what_was_read_or_was_made_again_is_not_read_on(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_topics(address)
    before = made(address, "s1", "s1")
    with pytest.raises(Misconfigured, match="placements are lost"):
        read_directory(address, replace(before, end_offset=before.end_offset + 1))

    log.drop(DIRECTORY_TOPIC)
    make_topics(address)
    made(address, "s1", "s1")
    write(log, placed("s1", 7))
    with pytest.raises(Misconfigured, match="placements are lost"):
        read_directory(address, before)


def test_a_record_of_no_known_kind_is_refused(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    made(address, "s1", "s1")
    log.write(DIRECTORY_TOPIC, [b"what"], key=b"what")

    with pytest.raises(Misconfigured, match="record 5"):
        read_directory(address)


def test_records_that_are_repeated_change_nothing(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    before = made(address, "s1", "s1")
    write(log, before.head, *before.shards.values())

    after = read_directory(address)

    assert (after.head, after.shards, after.end_offset) == (before.head, before.shards, before.end_offset + 2)


@pytest.mark.rule("W3")
def test_the_directory_keeps_its_counts_whatever_the_brokers_have(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    made(address, "s1", "s1")
    log.widen(COMMANDS_TOPIC, 8)

    assert made(address, "s1", "s1").partitions[COMMANDS_TOPIC] == INGRESS_PARTITIONS
    with pytest.raises(Misconfigured, match=r"uses 4 partitions of topic balance\.commands, .* and the settings say 8"):
        made(address, "s1", "s1", partitions=8)


@pytest.mark.rule("W3")
def test_a_new_directory_refuses_a_topic_of_another_count(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    log.widen(COMMANDS_TOPIC, 8)

    with pytest.raises(Misconfigured, match="has 8 partitions and the settings say 4"):
        made(address, "s1", "s1")
    assert log.read(DIRECTORY_TOPIC) == []


@pytest.mark.rule("W3")
def test_a_directory_of_an_earlier_release_is_told_the_counts_it_was_used_with(
    address: KafkaAddress, log: KafkaLog
) -> None:
    make_topics(address)
    made(address, "s1", "s1")
    older = [record for record in log.read(DIRECTORY_TOPIC) if not (record.key or b"").startswith(b"topic/")]
    log.drop(DIRECTORY_TOPIC)
    make_topics(address)
    for record in older:
        log.write(DIRECTORY_TOPIC, [record.value or b""], key=record.key or b"")
    assert read_directory(address).partitions == {}
    log.widen(COMMANDS_TOPIC, 8)

    assert made(address, "s1", "s1").partitions[COMMANDS_TOPIC] == INGRESS_PARTITIONS


@pytest.mark.rule("W3")
def test_two_counts_of_one_topic_are_refused(address: KafkaAddress, log: KafkaLog) -> None:
    make_topics(address)
    made(address, "s1", "s1")
    write(log, TopicRecord(topic=COMMANDS_TOPIC, partitions=8))

    with pytest.raises(Misconfigured, match="4 partitions, then 8"):
        read_directory(address)


@pytest.mark.rule("R3")
def test_keys_and_shards_of_a_new_directory_count_for_every_marker_and_later_ones_some_seconds_later(
    address: KafkaAddress,
) -> None:
    make_topics(address, "s1", "s2")
    first = made(address, "s1", "s1", keys=KEYS).vouched
    began_ms = time.time_ns() // 1_000_000
    later = {"k2": TrustedKey("ab" * 16), "k1": replace(KEYS["k1"], ended=True)}

    said = [write_keys(address, later), write_keys(address, later)]
    write_shard(address, shard="s2", lanes=LANES)

    vouched = read_directory(address).vouched
    assert said == [["k1", "k2"], []]
    assert first.targets == {"s1": 0}
    assert [(key.counts_from_ms, key.ended_from_ms) for key in first.keys.values()] == [(0, None)]
    assert vouched.keys["k1"].counts_from_ms == 0
    ended_ms = vouched.keys["k1"].ended_from_ms
    assert ended_ms is not None
    times = (ended_ms, vouched.keys["k2"].counts_from_ms, vouched.targets["s2"])
    assert all(0 <= time_ms - began_ms - COUNTS_AFTER_MS < STAMPED_WITHIN_MS for time_ms in times)
    with pytest.raises(Misconfigured, match="two secrets"):
        write_keys(address, {"k1": TrustedKey("cd" * 16)})
    assert read_directory(address).vouched == vouched


@pytest.mark.rule("I6")
def test_with_which_rules_a_shard_began_is_written_once_and_stays(address: KafkaAddress) -> None:
    make_topics(address)
    made(address, "s1", "s1")
    began = Rules(version=1, window_ms=7 * 3_600_000, keys="k1=" + "ab" * 16)

    first = write_first_rules(address, ["s1"], {"s1": began}.__getitem__)
    others = {"s1": replace(began, window_ms=3_600_000), "s2": Rules(version=1)}
    again = write_first_rules(address, others, others.__getitem__)

    assert (first, again) == (["s1"], ["s2"])
    assert read_directory(address).first_rules == {"s1": began, "s2": Rules(version=1)}
