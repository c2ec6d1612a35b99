"""Archives from MySQL's journal what has left the results topic before the sink had it (A5, A6).

The sink never reads a row whose result left the topic before it came there. Each lane's results lie in a results
partition in the lane's order. So of the rows that the archive does not cover these are the ones below the first that
the sink will meet there, or, where it will meet none, all that the lane has committed: some of them may be published
yet, and are the same bytes then.

What is missing is written, and read back; only then it is covered, and told; and only once all shards' are, the sink's
position is moved behind the gap. So it may be killed anywhere: what is archived is found there by the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from processors.faults import Misconfigured
from processors.recovery.repair import (
    Repair,
    RepairJournal,
    RepairParts,
    compare,
    ranges,
    results_partition,
)
from processors.stores.archive_rows import ArchiveRows, CoverageKey, Covered
from processors.stores.rows import JournalRow, Progress
from processors.wire.records import Record
from processors.wire.result_keys import long_of, result_keys

Place = tuple[int, int]
"""Lane offset and index."""
LaneOfPartition = tuple[int, int]
"""A lane, and a results partition."""
NOWHERE: Place = (-1, 0)
ReadResults = Callable[[int, int, int], Iterator[list[Record]]]
"""Yields the records of a results partition, from an offset up to another, in order."""


class CoverWriter(Protocol):
    """The archive, as far as is said there what it has (``stores.archive_writer``)."""

    def cover(self, rows: ArchiveRows) -> None:
        """Say that all up to these rows is durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStart:
    """Where the sink's position in a results partition is; the partition has offsets ``first`` up to ``end``."""

    partition: int
    position: int
    first: int
    end: int

    @property
    def is_cut(self) -> bool:
        """Say whether results have left the topic before the sink had them."""
        return self.position < self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class FillShard:
    """One shard. ``published`` says of lanes, where it is known, up to which offset their results are published."""

    shard: str
    journal: RepairJournal
    parts: RepairParts
    published: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FillParts:
    """What is filled. Without a ``cover`` nothing is written.

    The sink's ``starts`` were read before the archive is asked here what it covers: what lies before them is covered.

    ``tell`` tells balance.archived what is covered; ``note`` notes from where the sink goes on, by partition.
    ``on_progress`` is told which shard is at how many rows of all.
    """

    shards: Sequence[FillShard]
    starts: Mapping[int, SinkStart]
    results: ReadResults
    cover: CoverWriter | None
    tell: Callable[[Mapping[CoverageKey, Covered]], None]
    on_progress: Callable[[str, int], None]
    note: Callable[[Mapping[int, int]], None]


@dataclass(slots=True, kw_only=True)
class Filled(Repair):
    """What was found among the rows that the sink will not read, and which partitions' gaps it may pass now."""

    passed: dict[int, int] = field(default_factory=dict)
    stays: set[int] = field(default_factory=set)


def fill(parts: FillParts) -> Filled:
    """Archive of every shard what the sink will not read, and have the sink go on behind it.

    Raises:
        Misconfigured: A lane is behind what it published: its database was restored.
        Unavailable: A server does not answer; run it again.
    """
    done, differing = Filled(told=[]), set[int]()
    for shard in parts.shards:
        differing |= _fill_shard(parts, shard, done)
    cut = {each.partition: each.first for each in parts.starts.values() if each.is_cut}
    done.stays = {partition for partition in cut if parts.cover is None or partition in differing}
    done.passed = {partition: first for partition, first in cut.items() if partition not in done.stays}
    if done.passed:
        parts.note(done.passed)
    return done


def _fill_shard(parts: FillParts, shard: FillShard, done: Filled) -> set[int]:
    """Archive and cover what the sink will not read of one shard; return the partitions where something differs."""
    journal = shard.journal
    positions = journal.positions()
    _refuse_behind(shard, positions)
    covered = _covered(shard, positions)
    waiting = _waiting(shard, journal, covered)
    ends = _ends(parts, positions, {each for some in waiting.values() for each in some})
    last: dict[LaneOfPartition, JournalRow] = {}
    differing: set[LaneOfPartition] = set()
    for some in _ranges_of(journal, waiting):
        rows = [row for row in some if _is_left_out(shard, row, covered, ends)]
        if not rows:
            continue
        differ = compare(shard.parts, positions[some[0].lane].topic_id, rows, done)
        left = {(each.lane_offset, each.lane_index) for each in differ}
        parts.on_progress(shard.shard, done.compared)
        for row in rows:
            key = (row.lane, results_partition(shard.parts, row))
            last[key] = max(last.get(key, row), row, key=_place)
            differing |= {key} if _place(row) in left else set()
    _cover(parts, shard, positions, {key: row for key, row in last.items() if key not in differing})
    return {partition for _, partition in differing}


def _ranges_of(journal: RepairJournal, waiting: Mapping[int, set[LaneOfPartition]]) -> Iterator[list[JournalRow]]:
    for number, keys in waiting.items():
        for lane in sorted({lane for lane, _ in keys}):
            yield from ranges(journal, number, lane)


def _refuse_behind(shard: FillShard, positions: Mapping[int, Progress]) -> None:
    for lane, progress in positions.items():
        decided, published = progress.at.next_offset, shard.published.get(lane, 0)
        if decided < published:
            raise Misconfigured(
                f"{shard.shard} lane {lane} has published offset {published - 1} and decided up to {decided}: its "
                "database was restored, and what is missing there cannot be archived; once the lane is past it, again"
            )


def _covered(shard: FillShard, positions: Mapping[int, Progress]) -> dict[LaneOfPartition, Place]:
    found: dict[LaneOfPartition, Place] = {}
    for lane, progress in positions.items():
        for (of_lane, partition), covered in shard.parts.archive.coverage(progress.topic_id).items():
            if of_lane == lane:
                found[lane, partition] = (covered.lane_offset, covered.lane_index)
    return found


def _waiting(
    shard: FillShard, journal: RepairJournal, covered: Mapping[LaneOfPartition, Place]
) -> dict[int, set[LaneOfPartition]]:
    """Return the slices that have rows which are not covered, and of which lanes and partitions."""
    found = {}
    for number in journal.slices_with_any_table():
        last = journal.slice_last_rows(number, shard.parts.results_partitions)
        found[number] = {key for key, place in last.items() if place > covered.get(key, NOWHERE)}
    return {number: keys for number, keys in found.items() if keys}


def _ends(
    parts: FillParts, positions: Mapping[int, Progress], keys: set[LaneOfPartition]
) -> dict[LaneOfPartition, Place]:
    """Return before which place of each lane and partition the sink will read nothing of what is committed now.

    What is committed and not published yet comes to the topic behind the ends that were read, and the sink has it, too.
    """
    found = {key: (positions[key[0]].at.next_offset, 0) for key in keys}
    for partition in {partition for _, partition in keys}:
        lanes = {(positions[lane].topic_id, lane) for lane, of in keys if of == partition}
        for (_, lane), place in _first_places(parts.results, parts.starts[partition], lanes).items():
            found[lane, partition] = min(place, found[lane, partition])
    return found


def _first_places(
    results: ReadResults, start: SinkStart, lanes: set[tuple[bytes, int]]
) -> dict[tuple[bytes, int], Place]:
    """Return the first place of each of some lanes, by incarnation and number, that the sink will meet, if any."""
    found: dict[tuple[bytes, int], Place] = {}
    for records in results(start.partition, max(start.position, start.first), start.end):
        for keys in (result_keys(record.value or b"") for record in records):
            incarnation, _, lane = keys.lane
            if (incarnation, lane) in lanes:
                found.setdefault((incarnation, lane), (keys.lane_offset, keys.lane_index))
        if found.keys() == lanes:
            break
    return found


def _is_left_out(
    shard: FillShard,
    row: JournalRow,
    covered: Mapping[LaneOfPartition, Place],
    ends: Mapping[LaneOfPartition, Place],
) -> bool:
    key = (row.lane, results_partition(shard.parts, row))
    return covered.get(key, NOWHERE) < _place(row) < ends.get(key, NOWHERE)


def _cover(
    parts: FillParts, shard: FillShard, positions: Mapping[int, Progress], last: Mapping[LaneOfPartition, JournalRow]
) -> None:
    if parts.cover is None or not last:
        return
    covered: dict[CoverageKey, Covered] = {}
    for (lane, partition), row in last.items():
        keys = result_keys(row.result)
        covered[positions[lane].topic_id, shard.shard, lane, partition] = Covered(
            lane_offset=row.lane_offset,
            lane_index=row.lane_index,
            lane_time_ms=keys.lane_time_ms,
            version_us=long_of(keys.version),
        )
    parts.cover.cover(ArchiveRows(covered=covered))
    parts.tell(covered)


def _place(row: JournalRow) -> Place:
    return row.lane_offset, row.lane_index
