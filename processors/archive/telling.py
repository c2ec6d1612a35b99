"""What is told on balance.archived of how far the archive is durable (A5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from processors.stores.archive_rows import CoverageKey, Covered
from processors.wire.coverage import Coverage, encode_archived
from processors.wire.records import OutRecord


def coverage_records(
    covered: Mapping[CoverageKey, Covered], *, topic: str, partitions: int, now_ms: int
) -> Iterator[OutRecord]:
    """Yield a record for each lane and results partition that is covered further.

    Args:
        covered: How far.
        topic: The whole name of balance.archived.
        partitions: How many it has.
        now_ms: Wall clock, ms since the epoch.
    """
    for (incarnation, shard, lane, partition), place in covered.items():
        coverage = Coverage(
            incarnation=incarnation,
            shard=shard,
            lane=lane,
            results_partition=partition,
            lane_offset=place.lane_offset,
            lane_index=place.lane_index,
            time_ms=now_ms,
        )
        yield OutRecord(topic, partition % partitions, shard.encode(), encode_archived(coverage), [])
