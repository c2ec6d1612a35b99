"""Writes rows to the archive in few, large requests (docs/design.md, The archive)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from processors.stores.archive_rows import (
    INSERT_CHUNK,
    INSERT_COVERAGE,
    INSERT_DAY,
    INSERT_PLACES,
    INSERT_POSITION,
    INSERT_STATEMENT,
    ArchiveRows,
    PartitionKey,
    Values,
    covered_values,
    day_values,
    position_values,
)
from processors.stores.cassandra import BoundRow, CassandraSession, Meanwhile, nothing

# A request costs the driver some 200 us whatever it carries. Rows of one partition are one mutation for the server,
# which takes those up to 16 MiB; above 30 KiB nothing was gained.
GROUP_BYTES = 30 * 1024
# Rows of several partitions on the same nodes. Groups of ten partitions and 5 KiB, above which a server warns as it is
# shipped, cost it six times the CPU a row. Ours is told of these limits (docs/operations.md); it refuses above 50 KiB.
SHARED_PARTITIONS_MAX = 100
SHARED_BYTES_MAX = 40 * 1024
VALUE_OVERHEAD_BYTES = 20


class ArchiveWriter:
    """Writes what the sink archives, and how far it came. For one thread."""

    def __init__(self, session: CassandraSession) -> None:
        """Prepare; ``session`` is the caller's to close.

        Raises:
            Misconfigured: The schema is not this release's.
            Unavailable: Cassandra does not answer.
        """
        self._session = session
        self._places = session.prepare(INSERT_PLACES)
        self._statement = session.prepare(INSERT_STATEMENT)
        self._day = session.prepare(INSERT_DAY)
        self._chunk = session.prepare(INSERT_CHUNK)
        self._coverage = session.prepare(INSERT_COVERAGE)
        self._position = session.prepare(INSERT_POSITION)

    def write(self, rows: ArchiveRows, meanwhile: Meanwhile = nothing) -> None:
        """Make rows durable, all but ``covered``. Again, in part or in another order: the outcome is the same (A2).

        Args:
            rows: All of them.
            meanwhile: See ``CassandraSession.write``.

        Raises:
            Unavailable: Some may be missing; write all of them again.
        """
        days = [day_values(key, first) for key, first in rows.days.items()]
        day_partitions: dict[PartitionKey, list[Values]] = {}
        for values in days:
            day_partitions.setdefault((values[0], values[1]), []).append(values)
        self._session.write(
            chain(
                ([(self._places, row) for row in group] for group in self._shared(rows.places)),
                ([(self._chunk, row) for row in group] for group in groups(rows.journal.values())),
                ([(self._statement, row) for row in group] for group in self._shared(rows.statement)),
                ([(self._day, row) for row in group] for group in self._shared(day_partitions)),
            ),
            meanwhile,
        )

    def cover(self, rows: ArchiveRows) -> None:
        """Say how far the archive is durable; everything that ``rows`` covers is written (A5).

        Raises:
            Unavailable: Perhaps not said; say it again.
        """
        by_shard: dict[PartitionKey, list[Values]] = {}
        for (incarnation, _shard, lane, partition), covered in rows.covered.items():
            by_shard.setdefault((incarnation,), []).append(covered_values(incarnation, lane, partition, covered))
        self._session.write([(self._coverage, row) for row in group] for group in groups(by_shard.values()))

    def note_positions(self, topic_id: bytes, positions: Mapping[int, int]) -> None:
        """Note from which offset of each results partition the sink goes on; what precedes it is covered.

        Args:
            topic_id: Of balance.results; a topic made again is read from its beginning.
            positions: Next offset by partition.

        Raises:
            Unavailable: Perhaps not noted; note it again.
        """
        noted: list[BoundRow] = [
            (self._position, position_values(topic_id, partition, offset)) for partition, offset in positions.items()
        ]
        self._session.write([noted] if noted else [])

    def _shared(self, partitions: Mapping[PartitionKey, list[Values]]) -> Iterator[list[Values]]:
        """Yield groups: large partitions by themselves, small ones with others that lie on the same nodes."""
        shared: dict[tuple[str, ...], _Shared] = {}
        for key, rows in partitions.items():
            size = sum(map(size_of, rows))
            if size > SHARED_BYTES_MAX // 2:
                yield from groups([rows])
                continue
            nodes = self._session.replicas(key)
            group = shared.get(nodes)
            if group is None or not group.has_room(size):
                if group is not None:
                    yield group.rows
                group = shared[nodes] = _Shared()
            group.add(rows, size)
        for group in shared.values():
            yield group.rows


@dataclass(slots=True)
class _Shared:
    """Rows of several partitions on the same nodes."""

    rows: list[Values] = field(default_factory=list)
    size: int = 0
    partitions: int = 0

    def has_room(self, size: int) -> bool:
        return self.partitions < SHARED_PARTITIONS_MAX and self.size + size <= SHARED_BYTES_MAX

    def add(self, rows: list[Values], size: int) -> None:
        self.rows += rows
        self.size += size
        self.partitions += 1


def groups(partitions: Iterable[list[Values]]) -> Iterator[list[Values]]:
    """Yield groups of some ``GROUP_BYTES``, each of one partition."""
    for rows in partitions:
        group: list[Values] = []
        size = 0
        for row in rows:
            group.append(row)
            size += size_of(row)
            if size >= GROUP_BYTES:
                yield group
                group, size = [], 0
        if group:
            yield group


def size_of(row: Values) -> int:
    """Return about how many bytes a row has for the server."""
    return sum(map(len, row)) + VALUE_OVERHEAD_BYTES * len(row)
