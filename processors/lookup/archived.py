"""How far the archive is behind each lane, by what it covers (A5) and what waits for the sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from processors.lookup.service import ServiceReader
from processors.stores.archive_rows import Covered


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneArchived:
    """A lane at ``lane_time_ms``: whatever it decided before ``until_ms`` is archived; both ms since the epoch.

    ``until_ms`` is the lane time itself where nothing waits, and 0 where nothing is archived yet.
    """

    shard: str
    lane: int
    lane_time_ms: int
    until_ms: int

    @property
    def behind_ms(self) -> int | None:
        """Return for how long what was decided first has waited, at most; None where nothing is archived yet."""
        return self.lane_time_ms - self.until_ms if self.until_ms or not self.lane_time_ms else None


def lanes_archived(service: ServiceReader, waiting: Mapping[int, int]) -> list[LaneArchived]:
    """Return how far the archive is behind each lane that somebody has owned.

    Args:
        service: What to look into.
        waiting: By results partition, how many offsets the sink has still to copy; read before this is called.

    Raises:
        Fault: A shard's, or the archive's.
    """
    found = []
    archive = service.archive()
    for shard in service.places.shards:
        row = service.row(shard)
        for lane, position in service.shard(shard).lane_positions().items():
            covered = archive.coverage(position.progress.topic_id)
            partitions = _partitions_of(lane, row.lanes, row.results_partitions)
            found.append(
                LaneArchived(
                    shard=shard,
                    lane=lane,
                    lane_time_ms=position.progress.at.lane_time_ms,
                    until_ms=_until_ms(position.progress.at.lane_time_ms, lane, partitions, covered, waiting),
                )
            )
    return found


def _partitions_of(lane: int, lanes: int, results_partitions: int) -> range:
    """Return the results partitions that a lane writes: both are the low bits of a bucket (W3)."""
    step = min(lanes, results_partitions)
    return range(lane % step, results_partitions, step)


def _until_ms(
    lane_time_ms: int,
    lane: int,
    partitions: Sequence[int],
    covered: Mapping[tuple[int, int], Covered],
    waiting: Mapping[int, int],
) -> int:
    late = [covered.get((lane, partition)) for partition in partitions if waiting.get(partition, 1)]
    return min([lane_time_ms, *(0 if each is None else each.lane_time_ms for each in late)])
