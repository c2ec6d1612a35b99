"""Builds every process and proof from the settings: a file each, and here what several of them are made of.

The layers below know no settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from processors.faults import Misconfigured
from processors.lane.standing import LaneContext
from processors.ops import counts
from processors.ops.addresses import kafka_address, mysql_address
from processors.ops.keys import keyring
from processors.settings import Settings
from processors.stores.lane_store import MysqlLaneStore
from processors.stores.migrations import ShardRow, check_database
from processors.stores.shard_reader import open_reader
from processors.streams.consumer import GroupOptions
from processors.streams.topics import (
    COMMANDS_TOPIC,
    DEAD_LETTERS_TOPIC,
    LOOK_DEADLINE_S,
    RESULTS_TOPIC,
    TopicAdmin,
    TopicSpec,
    service_topics,
)
from processors.streams.unused_partitions import PartitionWatch
from processors.wire.admission import Gate
from processors.wire.commands import ConfluentIds, type_of_payload
from processors.wire.results import LaneIdentity, decision_of
from processors.wire.schemas import ALL, Schema


def confluent_ids(settings: Settings) -> ConfluentIds:
    """Return a schema registry's ids of the commands' schemas; empty where none is configured.

    Raises:
        Misconfigured: A name is no command's, or an id stands for two schemas.
    """
    found: dict[int, Schema] = {}
    for name, numbers in settings.kafka.registry_ids.items():
        for number in numbers:
            schema = _schema_named(name)
            if found.setdefault(number, schema) != schema:
                raise Misconfigured(f"kafka.registry_ids names {number} for {found[number].name} and for {name}")
    return found


def registry_ids_of(texts: Iterable[str]) -> dict[int, str]:
    """Read ``NAME=NUMBER`` as the rules name it: the schema's fingerprint by the registry's id.

    Raises:
        Misconfigured: It is not that, or the name is no command's.
    """
    found: dict[int, str] = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        if not all(each.isascii() and each.isdecimal() for each in numbers.split(",")):
            raise Misconfigured(f"{text} is no registry id: write NAME=NUMBER, such as pay=12")
        found |= {int(each): _schema_named(name).fingerprint for each in numbers.split(",")}
    return found


def _schema_named(name: str) -> Schema:
    """Return a command's schema: ``pay`` is its first version, ``pay.v2`` another, whatever later releases bring."""
    known = {f"{schema.name}.v{schema.version}": schema for schema in ALL.values() if type_of_payload(schema.prefix)}
    found = known.get(name if ".v" in name else f"{name}.v1")
    if found is None:
        names = sorted(full.removesuffix(".v1") for full in known)
        raise Misconfigured(f"kafka.registry_ids names {name}; schemas are: {', '.join(names)}")
    return found


def gate(settings: Settings, shard: str, lane: int) -> Gate:
    """Return what a process brings to the admission of a lane's records, with the keys file as it is now.

    Raises:
        Misconfigured: The keys file cannot be read, or a registry id is no command's.
    """
    return Gate(keyring=keyring(settings), lane=lane, lanes=settings.lanes_of(shard), confluent=confluent_ids(settings))


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return every topic as the settings want it."""
    topics = settings.topics
    return service_topics(
        commands=topics.commands_partitions,
        results=topics.results_partitions,
        lanes={shard: settings.lanes_of(shard) for shard in settings.shards},
        dead_letters=topics.dead_letters_partitions,
        archived=topics.archived_partitions,
        days={
            "commands": topics.commands_retention_days,
            "shard": topics.shard_retention_days,
            "results": topics.results_retention_days,
            "dead_letters": topics.dead_letters_retention_days,
            "archived": topics.archived_retention_days,
        },
        min_insync_replicas=settings.kafka.min_insync_replicas,
    )


def check_topics(settings: Settings, *names: str, process: str) -> tuple[TopicAdmin, PartitionWatch]:
    """Check the topics that a process uses, and name those with more partitions than the service uses.

    Args:
        settings: With the counts in force.
        names: The topics, without prefix.
        process: Which kind of process asks, for metrics.

    Returns:
        A way to ask about topics, and the watch of their partitions' number.

    Raises:
        Misconfigured: One is missing or not as it must be.
    """
    topics = TopicAdmin(kafka_address(settings))
    specs = [spec for spec in topic_specs(settings) if spec.name in names]
    for spec in specs:
        topics.check(spec)
    known = {spec.name: spec.partitions for spec in specs}
    watch = PartitionWatch(
        known,
        lambda: topics.partition_counts(known, deadline_s=LOOK_DEADLINE_S),
        time.monotonic,
        process=process,
    )
    watch.look()
    return topics, watch


def lane_context(settings: Settings, shard: str, lane: int, topic_id: bytes) -> LaneContext:
    """Return a lane's fixed surroundings."""
    prefix = settings.kafka.topic_prefix
    return LaneContext(
        identity=LaneIdentity(shard=shard, incarnation=topic_id, lane=lane),
        lanes=settings.lanes_of(shard),
        results_topic=prefix + RESULTS_TOPIC,
        results_partitions=settings.topics.results_partitions,
        dead_letters_topic=prefix + DEAD_LETTERS_TOPIC,
        commands_topic=prefix + COMMANDS_TOPIC,
        commands_partitions=settings.topics.commands_partitions,
        clock_ahead_max_ms=settings.worker.clock_ahead_max_ms,
    )


def lane_store(settings: Settings, shard: str, lane: int) -> MysqlLaneStore:
    """Return a lane's rows, not yet taken over."""
    return MysqlLaneStore(
        mysql_address(settings, shard),
        lane,
        decision_of=decision_of,
        clock_ms=clock_ms,
        keys_max=settings.worker.statement_keys_max,
    )


def clock_ms() -> int:
    """Return this machine's time, ms since the epoch."""
    return time.time_ns() // 1_000_000


def shard_row(settings: Settings, shard: str) -> ShardRow:
    """Return what the database of a shard that is made by these settings says of itself, for good."""
    topics = settings.topics
    return ShardRow(
        shard=shard,
        lanes=settings.lanes_of(shard),
        results_partitions=topics.results_partitions,
        home=shard == settings.home_shard,
    )


def checked_shard(settings: Settings, shard: str) -> Settings:
    """Prove that a shard's database is its own, of this release, and keeps what it commits (L7).

    Returns:
        The settings with the counts that the shard was made with, which are logged where the settings differ.

    Raises:
        Misconfigured: It is not.
        Unavailable: The server does not answer.
    """
    in_force = counts.of_shard(settings, check_database(mysql_address(settings, shard), shard))
    counts.tell_ignored(settings, in_force)
    return in_force


def founded_settings(settings: Settings, shard: str) -> Settings:
    """Return the settings with the counts that a shard was made with, for whoever only reads.

    Raises:
        Misconfigured: The database is not the shard's, or not of this release.
        Unavailable: The server does not answer.
    """
    reader = open_reader(mysql_address(settings, shard))
    try:
        return counts.of_shard(settings, reader.check(shard))
    finally:
        reader.close()


def counted(settings: Settings) -> Settings:
    """Return the settings with the counts that the directory names; where they differ, that is logged."""
    in_force = counts.of_directory(settings, kafka_address(settings))
    counts.tell_ignored(settings, in_force)
    return in_force


def member(settings: Settings, group: str) -> GroupOptions:
    """Return this process's place in a group that every process of its kind is a member of."""
    return GroupOptions(group=group, instance=settings.instance, session_timeout_ms=settings.worker.session_timeout_ms)
