"""Puts the router together."""

from __future__ import annotations

import threading
import time

from processors.ops import addresses, assembly
from processors.ops.keys import keyring
from processors.settings import Settings
from processors.streams.directory import read_directory
from processors.streams.group import GroupConsumer
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import (
    COMMANDS_TOPIC,
    DEAD_LETTERS_TOPIC,
    DIRECTORY_TOPIC,
    LOOK_DEADLINE_S,
    ROUTER_GROUP,
    shard_topic,
)
from processors.wire.route import needed_headers
from processors.workers.router import Assigned, Revoked, Router, RouterConfig, RouterParts


def run(settings: Settings, _shard: str, stopping: threading.Event) -> int:
    """Run one router until ``stopping``, and return 0.

    Raises:
        Misconfigured: A topic, the directory or the keys file is not as it must be.
        Fault: What the router cannot mend; start it again.
    """
    keyring(settings)  # a keys file that cannot be read is said now, and not at the first marker
    address = addresses.kafka_address(settings)
    settings = assembly.counted(settings)
    known = read_directory(address).shards  # a shard that is in the settings and was not added yet has no topic
    shard_topics = [shard_topic(shard) for shard in settings.shards if shard in known]
    topics, watch = assembly.check_topics(
        settings, COMMANDS_TOPIC, DIRECTORY_TOPIC, DEAD_LETTERS_TOPIC, *shard_topics, process="router"
    )
    producer = IdempotentProducer(address)
    joined: list[GroupConsumer] = []

    def join(assigned: Assigned, revoked: Revoked) -> GroupConsumer:
        group = assembly.member(settings, ROUTER_GROUP)
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
        read_directory=lambda known: read_directory(address, known),
        read_ingress_id=lambda: topics.topic_id(COMMANDS_TOPIC, deadline_s=LOOK_DEADLINE_S),
        read_keyring=lambda: keyring(settings),
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
