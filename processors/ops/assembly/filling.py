"""The archive filled from MySQL, where the results topic begins above the sink's position, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial

from processors.archive.telling import coverage_records
from processors.ops import addresses, assembly
from processors.ops.shards import every_shard
from processors.recovery.archive_fill import Filled, FillParts, FillShard, SinkStart, fill
from processors.recovery.repair import RepairParts
from processors.settings import Settings
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_rows import CoverageKey, Covered
from processors.stores.archive_schema import open_archive
from processors.stores.archive_writer import ArchiveWriter
from processors.stores.cassandra import CassandraSession
from processors.stores.shard_reader import ShardReader, open_reader
from processors.streams.connection import KafkaAddress
from processors.streams.group_look import committed_positions
from processors.streams.producer import IdempotentProducer
from processors.streams.reader import read_range
from processors.streams.topics import ARCHIVED_TOPIC, RESULTS_TOPIC, TopicAdmin, shard_group, shard_topic
from processors.wire.positions import decode_metadata

TELL_DEADLINE_S = 30.0  # for a record of each lane and results partition


def fill_archive(settings: Settings, *, write: bool, on_progress: Callable[[str, int], None]) -> Filled:
    """Archive of every shard what the sink will not read in the results topic; see ``recovery.archive_fill``.

    Args:
        settings: Of the whole service.
        write: Else nothing is written.
        on_progress: Told which shard is at how many rows of all.

    Raises:
        Misconfigured: A lane is behind what it published, or the servers are not this installation's.
        Fault: A server does not answer; run it again.
    """
    address = addresses.kafka_address(settings)
    every = every_shard(settings)  # a partition's gap has results of all of them
    topic_id = TopicAdmin(address).topic_id(RESULTS_TOPIC)
    with ExitStack() as stack:
        session = stack.enter_context(
            closing(open_archive(addresses.cassandra_address(settings), requests_max=settings.sink.requests_max))
        )
        writer, reader = ArchiveWriter(session), ArchiveReader(session)
        partitions = range(settings.topics.results_partitions)
        positions = {each: reader.position(topic_id, each) or 0 for each in partitions}
        shards = []
        for shard in every:
            journal = stack.enter_context(closing(open_reader(addresses.mysql_address(settings, shard))))
            shards.append(_shard(address, session, shard, journal, write=write))
        return fill(
            FillParts(
                shards=shards,
                starts=_starts(address, positions),
                results=partial(read_range, address, RESULTS_TOPIC),
                cover=writer if write else None,
                tell=lambda covered: _tell(settings, address, covered),
                on_progress=on_progress,
                note=lambda passed: writer.note_positions(topic_id, passed),
            )
        )


def _shard(
    address: KafkaAddress,
    session: CassandraSession,
    shard: str,
    journal: ShardReader,
    *,
    write: bool,
) -> FillShard:
    row = journal.check(shard)
    positions = journal.positions()
    published = {lane: progress.published_offset for lane, progress in positions.items()}
    committed = committed_positions(address, shard_group(shard), shard_topic(shard), positions)
    for lane, (offset, metadata) in committed.items():
        ours = decode_metadata(offset, metadata)  # L4: whose metadata is another's says nothing
        if ours is not None and (ours.lane, ours.topic_id) == (lane, positions[lane].topic_id):
            published[lane] = max(published[lane], offset)
    return FillShard(
        shard=shard,
        published=published,
        journal=journal,
        parts=RepairParts(
            archive=ArchiveReader(session),
            writer=ArchiveWriter(session) if write else None,
            results_partitions=row.results_partitions,
            now_ms=assembly.clock_ms,
        ),
    )


def _starts(address: KafkaAddress, positions: Mapping[int, int]) -> dict[int, SinkStart]:
    admin = TopicAdmin(address)
    found = {}
    for partition, position in positions.items():
        first, end = admin.bounds(RESULTS_TOPIC, partition)
        found[partition] = SinkStart(partition=partition, position=position, first=first, end=end)
    return found


def _tell(settings: Settings, address: KafkaAddress, covered: Mapping[CoverageKey, Covered]) -> None:
    records = coverage_records(
        covered,
        topic=address.topic_prefix + ARCHIVED_TOPIC,
        partitions=settings.topics.archived_partitions,
        now_ms=assembly.clock_ms(),
    )
    with closing(IdempotentProducer(address)) as producer:
        for record in records:
            producer.send(record)
        producer.flush(TELL_DEADLINE_S)
