"""The archive compared with the results topic, put together from the settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from processors.ops import addresses, assembly, counts
from processors.ops.assembly.republishing import ResultsLog, refuse_partitions
from processors.recovery.archive_replay import ReplayedArchive, passed_by_the_sink, replay_archive
from processors.recovery.repair import RepairParts
from processors.recovery.republish import ResultsBorder, ResultsStretch, stretches_between
from processors.routing.buckets import partition_of
from processors.settings import Settings
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_schema import open_archive
from processors.stores.archive_writer import ArchiveWriter
from processors.streams.topics import RESULTS_TOPIC, TopicAdmin


def rearchive(
    settings: Settings,
    *,
    since: ResultsBorder,
    until: ResultsBorder | None,
    partner: str | None,
    write: bool,
    on_progress: Callable[[ResultsStretch, int], None],
) -> ReplayedArchive:
    """Compare with the archive what the results topic has and the sink has passed; see ``recovery.archive_replay``.

    Args:
        settings: Of the whole service.
        since: Results from this time or these offsets on; what has left the topic of them is not compared.
        until: Up to, and without, this time or these offsets; None: as far as the sink is.
        partner: Only this partner's, a root; None: all.
        write: Whether what is missing is written again.
        on_progress: Told how far each partition is compared.

    Raises:
        Misconfigured: There is no such partition, or the servers are not this installation's.
        Fault: A server does not answer; run it again.
    """
    address = addresses.kafka_address(settings)
    partitions = counts.of_directory(settings, address).topics.results_partitions
    refuse_partitions(partitions, since, until)
    topic_id = TopicAdmin(address).topic_id(RESULTS_TOPIC)
    log = ResultsLog(address)
    which = range(partitions) if partner is None else [partition_of(partner, partitions)]
    asked = stretches_between(log, which, since=since, until=until)
    archive = addresses.cassandra_address(settings)
    with closing(open_archive(archive, requests_max=settings.sink.requests_max)) as session:
        reader = ArchiveReader(session)
        positions = {each: reader.position(topic_id, each) or 0 for each in which}
        return replay_archive(
            log,
            passed_by_the_sink(asked, positions),
            RepairParts(
                archive=reader,
                writer=ArchiveWriter(session) if write else None,
                results_partitions=partitions,
                now_ms=assembly.clock_ms,
            ),
            partner=partner,
            on_progress=on_progress,
        )
