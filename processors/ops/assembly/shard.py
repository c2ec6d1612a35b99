"""Puts a shard's worker together."""

from __future__ import annotations

import threading
from functools import cache, partial

from processors.faults import Misconfigured
from processors.lane.handing_over import LaneCourier
from processors.lane.lane import LaneParts
from processors.lane.log import TopicLaneLog
from processors.lane.metrics import publications, stage_clock
from processors.lane.runner import LaneLimits
from processors.lane.sending import SEND_DEADLINE_S
from processors.ops import addresses, assembly, counts
from processors.routing.buckets import partition_of
from processors.settings import Settings
from processors.stores.frozen_rows import FrozenRowsReader
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import AssignmentEvents, GroupOptions, RecordConsumer
from processors.streams.directory import find_directory
from processors.streams.producer import IdempotentProducer
from processors.streams.publisher import TransactionalPublisher
from processors.streams.topics import (
    DEAD_LETTERS_TOPIC,
    LOOK_DEADLINE_S,
    RESULTS_TOPIC,
    TopicAdmin,
    shard_group,
    shard_topic,
)
from processors.workers.shard import ShardConfig, ShardWorker


def run(
    settings: Settings,
    shard: str,
    stopping: threading.Event,
    *,
    publisher: type[TransactionalPublisher] = TransactionalPublisher,
) -> int:
    """Run one worker of a shard until ``stopping``; chaos tests give a publisher that fails at a named step.

    Returns:
        0, or 1 when every lane of this process is stopped.

    Raises:
        Misconfigured: A topic, a key or a database is not as it must be.
        Fenced: Another process runs with this one's ``instance``.
    """
    # R8: a directory that is lost is made again only from lanes that have decided to their ends: by the settings then.
    known = counts.before_init(settings, addresses.kafka_address(settings))
    counts.tell_ignored(settings, known)
    settings = assembly.checked_shard(known, shard)
    address, topic = addresses.kafka_address(settings), shard_topic(shard)
    whole_topic = address.topic_prefix + topic
    topics, watch = assembly.check_topics(settings, topic, RESULTS_TOPIC, DEAD_LETTERS_TOPIC, process="shard")
    assembly.gate(settings, shard, 0)  # a keys file that cannot be read is said at the start
    config = _shard_config(settings, shard, topics.topic_id(topic))

    def make_parts(lane: int) -> LaneParts:
        return LaneParts(
            context=assembly.lane_context(settings, shard, lane, config.topic_id),
            make_gate=lambda: assembly.gate(settings, shard, lane),
            store=assembly.lane_store(settings, shard, lane),
            log=TopicLaneLog(address, consumer, shard=shard, lane=lane),
            make_publisher=lambda: publisher(address, f"{shard}.{lane}", whole_topic, consumer.group_metadata),
            make_sender=lambda: IdempotentProducer(address, linger_ms=0, room_deadline_s=SEND_DEADLINE_S),
            clock_ms=assembly.clock_ms,
            book_accounts_max=settings.worker.book_accounts_max,
            courier=_courier(settings, shard, lane),
            observe_published=publications(shard, lane, assembly.clock_ms),
            stages=stage_clock(shard, lane),
        )

    worker = ShardWorker(
        config, make_parts, lambda: topics.topic_id(topic, deadline_s=LOOK_DEADLINE_S), watch.look_if_due
    )
    events = AssignmentEvents(assigned=worker.assigned, revoked=worker.revoked, started=worker.started)
    consumer = RecordConsumer(address, whole_topic, _group(settings, shard), events)
    try:
        return worker.run(consumer, stopping)
    finally:
        consumer.close()


def _group(settings: Settings, shard: str) -> GroupOptions:
    return GroupOptions(
        group=shard_group(shard),
        instance=f"{settings.instance}-{shard}",
        session_timeout_ms=settings.worker.session_timeout_ms,
    )


def _courier(settings: Settings, shard: str, lane: int) -> LaneCourier:
    address = addresses.kafka_address(settings)
    return LaneCourier(
        shard,
        FrozenRowsReader(addresses.mysql_address(settings, shard), lane),
        partial(_lane_of, address, tuple((each, settings.lanes_of(each)) for each in settings.shards)),
    )


def _lane_of(
    address: KafkaAddress, wished: tuple[tuple[str, int], ...], shard: str, placement_key: str
) -> tuple[str, int]:
    """Return the topic of a shard and a placement key's lane in it."""
    return address.topic_prefix + shard_topic(shard), partition_of(placement_key, _lanes_of(address, wished, shard))


@cache
def _lanes_of(address: KafkaAddress, wished: tuple[tuple[str, int], ...], shard: str) -> int:
    """Ask the directory for the number of a shard's lanes, once, since it never changes; the shard may be a new one.

    To ask takes some tenths of a second, during which the lane publishes nothing. Where the directory is lost, the
    topic says it, if the settings (``wished``) say the same: the lane must go on, since the directory is made again
    only from lanes that have decided to their ends (R8).
    """
    contents, topic = find_directory(address), shard_topic(shard)
    if contents is not None:
        lanes = contents.partitions.get(topic)
    else:
        lanes = TopicAdmin(address).partition_counts([topic])[topic]
        if lanes != dict(wished).get(shard):
            raise Misconfigured(
                f"there is no directory, topic {topic} has {lanes} partitions, and the settings say otherwise of shard "
                f"{shard}: correct the settings"
            )
    if lanes is None:
        raise Misconfigured(f"the directory has no shard {shard}")
    return lanes


def _shard_config(settings: Settings, shard: str, topic_id: bytes) -> ShardConfig:
    worker = settings.worker
    return ShardConfig(
        shard=shard,
        lanes=settings.lanes_of(shard),
        limits=LaneLimits(
            batch_commands_max=worker.batch_commands_max,
            batch_sql_bytes_max=worker.batch_sql_bytes_max,
            unpublished_batches_max=worker.queue_batches_max,
            stop_deadline_s=worker.stop_deadline_ms / 1000,
        ),
        topic_id=topic_id,
    )
