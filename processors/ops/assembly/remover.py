"""Puts a shard's remover together."""

from __future__ import annotations

import threading
from contextlib import closing
from functools import partial

from processors.ops import addresses, assembly
from processors.ops.assembly.archive import archive_session
from processors.settings import Settings
from processors.stores.addresses import CassandraAddress, MysqlAddress
from processors.stores.archive_reader import ArchiveReader
from processors.stores.cassandra import CassandraSession
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.streams.connection import KafkaAddress
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import ARCHIVED_TOPIC
from processors.workers import remover
from processors.workers.remover import Remover, RemoverOptions


def run(settings: Settings, shard: str, stopping: threading.Event) -> int:
    """Run one shard's remover until ``stopping``, and return 0.

    Raises:
        Misconfigured: A topic, the database or the archive is not as it must be.
    """
    assembly.check_topics(settings, ARCHIVED_TOPIC, process="remover")
    return run_remover(
        addresses.kafka_address(settings),
        addresses.cassandra_address(settings),
        addresses.mysql_address(settings, shard),
        shard=shard,
        interval_ms=settings.remover.interval_ms,
        requests_max=settings.sink.requests_max,
        stopping=stopping,
    )


def run_remover(
    kafka: KafkaAddress,
    archive: CassandraAddress,
    database: MysqlAddress,
    *,
    shard: str,
    interval_ms: int,
    requests_max: int,
    stopping: threading.Event,
) -> int:
    """Run a remover on these servers until told to stop, and return 0.

    Args:
        kafka: The brokers.
        archive: Cassandra; waited for at the start as later.
        database: The shard's.
        shard: Its id.
        interval_ms: From look to look.
        requests_max: Reads on the way at once.
        stopping: Set to end.

    Raises:
        Misconfigured: The database or the archive is not of this release, or is another shard's.
    """
    reader, upkeep = open_reader(database), ShardUpkeep(database)

    def make(session: CassandraSession, producer: IdempotentProducer) -> Remover:
        row = reader.check(shard)
        options = RemoverOptions(
            shard=shard,
            lanes=row.lanes,
            results_partitions=row.results_partitions,
            archived_topic=kafka.topic_prefix + ARCHIVED_TOPIC,
        )
        return Remover(options, reader, upkeep, ArchiveReader(session), producer, stopping=stopping)

    with archive_session("remover", archive, requests_max=requests_max, stopping=stopping) as session:
        if session is None:
            return 0
        with closing(IdempotentProducer(kafka)) as producer:
            remover.run(partial(make, session, producer), stopping, interval_ms=interval_ms)
    return 0
