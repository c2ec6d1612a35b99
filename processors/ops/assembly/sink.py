"""Puts the sink together."""

from __future__ import annotations

import threading
from contextlib import closing

from processors.archive.waiting import until_answered
from processors.ops import addresses, assembly
from processors.ops.assembly.archive import archive_session
from processors.settings import Settings
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.group import GroupConsumer
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import ARCHIVED_TOPIC, RESULTS_TOPIC, SINK_GROUP, TopicAdmin
from processors.workers.sink import Sink, SinkOptions, SinkPositions


def run(settings: Settings, _shard: str, stopping: threading.Event) -> int:
    """Run one sink until ``stopping``, and return 0.

    Raises:
        Fault: One that waiting does not mend.
    """
    assembly.check_topics(settings, RESULTS_TOPIC, ARCHIVED_TOPIC, process="sink")
    return run_sink(
        addresses.kafka_address(settings),
        addresses.cassandra_address(settings),
        group=assembly.member(settings, SINK_GROUP),
        archived_partitions=settings.topics.archived_partitions,
        batch_rows_max=settings.sink.batch_rows_max,
        batch_wait_ms=settings.sink.batch_wait_ms,
        requests_max=settings.sink.requests_max,
        stopping=stopping,
    )


def run_sink(
    kafka: KafkaAddress,
    archive: CassandraAddress,
    *,
    group: GroupOptions,
    archived_partitions: int,
    batch_rows_max: int,
    batch_wait_ms: int,
    requests_max: int,
    stopping: threading.Event,
) -> int:
    """Run a sink on these servers until told to stop, and return 0; several share the results partitions.

    Args:
        kafka: The brokers.
        archive: Cassandra; waited for at the start as later.
        group: This member's place in ``SINK_GROUP``.
        archived_partitions: Of balance.archived.
        batch_rows_max: Results read at once.
        batch_wait_ms: How long to gather them.
        requests_max: Writes on the way at once.
        stopping: Set to end.

    Raises:
        Fault: One that waiting does not mend.
    """
    with archive_session("sink", archive, requests_max=requests_max, stopping=stopping) as session:
        if session is not None:
            options = SinkOptions(
                topic_id=TopicAdmin(kafka).topic_id(RESULTS_TOPIC),
                archived_topic=kafka.topic_prefix + ARCHIVED_TOPIC,
                archived_partitions=archived_partitions,
                batch_rows_max=batch_rows_max,
                batch_wait_ms=batch_wait_ms,
            )
            _run(session, kafka, group, options, stopping)
    return 0


def _run(
    session: CassandraSession, kafka: KafkaAddress, group: GroupOptions, options: SinkOptions, stopping: threading.Event
) -> None:
    positions = SinkPositions(ArchiveReader(session), TopicAdmin(kafka), options.topic_id, stopping)
    writer = until_answered("sink", lambda: ArchiveWriter(session), stopping)
    if writer is None:
        return
    with (
        closing(IdempotentProducer(kafka)) as producer,
        closing(
            GroupConsumer(kafka, RESULTS_TOPIC, group, start_at=positions.start_at, with_headers=False)
        ) as consumer,
    ):
        Sink(options, consumer, writer, producer, now_ms=assembly.clock_ms).run(stopping)
