"""Puts the recaller together."""

from __future__ import annotations

import threading
from contextlib import closing

from processors.ops import addresses, assembly, keys
from processors.ops.assembly.archive import archive_session
from processors.settings import Settings
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_reader import ArchiveReader
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.group import GroupConsumer
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import COMMANDS_TOPIC, RECALLER_GROUP, RESULTS_TOPIC
from processors.wire.signature import KeyRing
from processors.workers.recaller import Recaller, RecallerOptions, is_wanted


def run(settings: Settings, _shard: str, stopping: threading.Event) -> int:
    """Run one recaller until ``stopping``, and return 0.

    Raises:
        Misconfigured: A topic or the keys are not as they must be.
        Fault: One that waiting does not mend.
    """
    settings = assembly.counted(settings)
    assembly.check_topics(settings, RESULTS_TOPIC, COMMANDS_TOPIC, process="recaller")
    return run_recaller(
        addresses.kafka_address(settings),
        addresses.cassandra_address(settings),
        group=assembly.member(settings, RECALLER_GROUP),
        keyring=keys.keyring(settings),
        commands_partitions=settings.topics.commands_partitions,
        batch_records_max=settings.recaller.batch_records_max,
        retry_ms=settings.recaller.retry_ms,
        requests_max=settings.sink.requests_max,
        stopping=stopping,
    )


def run_recaller(
    kafka: KafkaAddress,
    archive: CassandraAddress,
    *,
    group: GroupOptions,
    keyring: KeyRing,
    commands_partitions: int,
    batch_records_max: int,
    retry_ms: int,
    requests_max: int,
    stopping: threading.Event,
) -> int:
    """Run a recaller on these servers until told to stop, and return 0; several share the results partitions.

    Args:
        kafka: The brokers.
        archive: Cassandra; waited for at the start as later.
        group: This member's place in ``RECALLER_GROUP``.
        keyring: Signs.
        commands_partitions: Of balance.commands, a power of two.
        batch_records_max: Results read at once.
        retry_ms: Pause before asking again for what waits.
        requests_max: Reads of the archive on the way at once.
        stopping: Set to end.

    Raises:
        Fault: One that waiting does not mend.
    """
    options = RecallerOptions(
        commands_topic=kafka.topic_prefix + COMMANDS_TOPIC,
        commands_partitions=commands_partitions,
        keyring=keyring,
        batch_records_max=batch_records_max,
        retry_ms=retry_ms,
    )
    with archive_session("recaller", archive, requests_max=requests_max, stopping=stopping) as session:
        if session is None:
            return 0
        with closing(IdempotentProducer(kafka)) as producer:
            recaller = Recaller(options, ArchiveReader(session), producer)
            consumer = GroupConsumer(kafka, RESULTS_TOPIC, group, on_revoked=recaller.revoked, wanted=is_wanted)
            with closing(consumer):
                recaller.run(consumer, stopping)
    return 0
