"""Builds the processes around the shard worker from the settings: router, expirer, sink, recaller, remover."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from processors.ops import addresses, assembly, counts, keys
from processors.settings import Settings
from processors.stores.shard_reader import open_reader
from processors.streams.consumer import GroupOptions
from processors.streams.directory import read_directory
from processors.streams.group import GroupConsumer
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import (
    ARCHIVED_TOPIC,
    COMMANDS_TOPIC,
    DEAD_LETTERS_TOPIC,
    DIRECTORY_TOPIC,
    LOOK_DEADLINE_S,
    RESULTS_TOPIC,
    shard_topic,
)
from processors.wire.route import needed_headers
from processors.workers import expirer as expirers
from processors.workers import recaller, sink
from processors.workers.expirer import Expirer, ExpirerParts
from processors.workers.recaller import run_recaller
from processors.workers.remover import run_remover
from processors.workers.router import Assigned, Router, RouterConfig, RouterParts, Told
from processors.workers.sink import run_sink

ROUTER_GROUP = "balance-router"


def run_router(settings: Settings, _shard: str, stopping: threading.Event) -> int:
    """Run one router until ``stopping``, and return 0.

    Raises:
        Misconfigured: A topic or the directory is not as it must be.
        Fault: What the router cannot mend; start it again.
    """
    address = addresses.kafka_address(settings)
    settings = _counted(settings)
    shard_topics = [shard_topic(shard) for shard in settings.shards]
    topics, watch = assembly.check_topics(
        settings, COMMANDS_TOPIC, DIRECTORY_TOPIC, DEAD_LETTERS_TOPIC, *shard_topics, process="router"
    )
    producer = IdempotentProducer(address)
    joined: list[GroupConsumer] = []

    def join(assigned: Assigned, revoked: Told) -> GroupConsumer:
        group = _group(settings, ROUTER_GROUP)
        consumer = GroupConsumer(
            address,
            COMMANDS_TOPIC,
            group,
            on_assigned=assigned,
            on_revoked=revoked,
            needed_headers=needed_headers,
        )
        joined.append(consumer)
        return consumer

    parts = RouterParts(
        join=join,
        producer=producer,
        read_directory=lambda: read_directory(address),
        read_ingress_id=lambda: topics.topic_id(COMMANDS_TOPIC, deadline_s=LOOK_DEADLINE_S),
        clock_s=time.monotonic,
        watch=watch,
    )
    try:
        return Router(_router_config(settings), parts).run(stopping)
    finally:
        for consumer in joined:
            consumer.close()
        producer.close()


def _router_config(settings: Settings) -> RouterConfig:
    return RouterConfig(
        ingress_partitions=settings.topics.commands_partitions,
        lanes=settings.topics.lanes,
        topic_prefix=settings.kafka.topic_prefix,
        dead_letters_topic=DEAD_LETTERS_TOPIC,
        batch_records_max=settings.router.batch_records_max,
        stop_deadline_s=settings.router.stop_deadline_ms / 1_000,
    )


def run_expirer(settings: Settings, shard: str, stopping: threading.Event) -> int:
    """Run one shard's expirer until ``stopping``, and return 0.

    Raises:
        Fault: One that waiting does not mend.
    """
    settings = assembly.checked_shard(settings, shard)
    address, topic = addresses.kafka_address(settings), shard_topic(shard)
    topics, _ = assembly.check_topics(settings, topic, process="expirer")

    def make() -> tuple[Expirer, Callable[[], None]]:
        reader, producer = open_reader(addresses.mysql_address(settings, shard)), IdempotentProducer(address)
        parts = ExpirerParts(
            shard=shard,
            topic=address.topic_prefix + topic,
            lanes=settings.topics.lanes,
            reader=reader,
            writer=producer,
            end_offset=lambda lane: topics.end(topic, lane),
            holds_max=settings.expirer.holds_max,
        )

        def close() -> None:
            reader.close()
            producer.close()

        return Expirer(parts), close

    return expirers.run(make, stopping, tick_ms=settings.expirer.tick_ms)


def run_the_sink(settings: Settings, _shard: str, stopping: threading.Event) -> int:
    """Run one sink until ``stopping``, and return 0.

    Raises:
        Fault: One that waiting does not mend.
    """
    assembly.check_topics(settings, RESULTS_TOPIC, ARCHIVED_TOPIC, process="sink")
    return run_sink(
        addresses.kafka_address(settings),
        addresses.cassandra_address(settings),
        group=_group(settings, sink.GROUP),
        archived_partitions=settings.topics.archived_partitions,
        batch_rows_max=settings.sink.batch_rows_max,
        batch_wait_ms=settings.sink.batch_wait_ms,
        requests_max=settings.sink.requests_max,
        stopping=stopping,
    )


def run_the_recaller(settings: Settings, _shard: str, stopping: threading.Event) -> int:
    """Run one recaller until ``stopping``, and return 0.

    Raises:
        Misconfigured: A topic or the keys are not as they must be.
        Fault: One that waiting does not mend.
    """
    settings = _counted(settings)
    assembly.check_topics(settings, RESULTS_TOPIC, COMMANDS_TOPIC, process="recaller")
    return run_recaller(
        addresses.kafka_address(settings),
        addresses.cassandra_address(settings),
        group=_group(settings, recaller.GROUP),
        keyring=keys.keyring(settings),
        commands_partitions=settings.topics.commands_partitions,
        batch_records_max=settings.recaller.batch_records_max,
        retry_ms=settings.recaller.retry_ms,
        requests_max=settings.sink.requests_max,
        stopping=stopping,
    )


def run_the_remover(settings: Settings, shard: str, stopping: threading.Event) -> int:
    """Run one shard's remover until ``stopping``, and return 0.

    Raises:
        Misconfigured: A topic, the database or the archive is not as it must be.
    """
    assembly.check_topics(settings, ARCHIVED_TOPIC, process="remover")
    return run_remover(
        addresses.kafka_address(settings),
        addresses.cassandra_address(settings),
        {shard: addresses.mysql_address(settings, shard)},
        interval_ms=settings.remover.interval_ms,
        requests_max=settings.sink.requests_max,
        stopping=stopping,
    )


def _counted(settings: Settings) -> Settings:
    """Return the settings with the counts that the directory names; where they differ, that is logged."""
    in_force = counts.of_directory(settings, addresses.kafka_address(settings))
    counts.tell_ignored(settings, in_force)
    return in_force


def _group(settings: Settings, group: str) -> GroupOptions:
    return GroupOptions(group=group, instance=settings.instance, session_timeout_ms=settings.worker.session_timeout_ms)
