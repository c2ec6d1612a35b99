"""Brings back what the archive lost, from the results topic: of rows that left MySQL, too, and of every shard (A6).

The sink has passed the stretches that are compared here; what lies behind them it reads itself. Its rows are made from
the same results as the sink made them. Where the archive differs from a result, that is named and not overwritten, as
in ``recovery.repair``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from processors.archive.slice_proof import RANGE_ROWS
from processors.recovery.repair import Repair, RepairParts, compare
from processors.recovery.republish import PublishedLog, ResultsAsked, ResultsStretch
from processors.stores.proven_journal import slice_of_result
from processors.stores.rows import JournalRow
from processors.wire.records import Record
from processors.wire.results import ROOT_HEADER, decode_result

_Lane = tuple[str, bytes, int]
"""A shard, the incarnation under which its rows are archived, and a lane."""
_Rows = dict[_Lane, dict[tuple[int, int, bytes], JournalRow]]
"""The rows of some results, by offset, index and bytes: a lane that answered again has some of them twice.

Where two of one place have other bytes, both are compared, and one of them differs from what the archive has.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedArchive:
    """Which stretches were compared, what has left the topic, and by shard what the archive lacked."""

    asked: ResultsAsked
    shards: dict[str, Repair]

    @property
    def compared(self) -> int:
        """Return how many rows were compared."""
        return sum(each.compared for each in self.shards.values())

    @property
    def found(self) -> int:
        """Return how many differences were found."""
        return sum(each.found for each in self.shards.values())

    @property
    def left(self) -> int:
        """Return how many of them are left."""
        return sum(each.left for each in self.shards.values())


def passed_by_the_sink(asked: ResultsAsked, positions: Mapping[int, int]) -> ResultsAsked:
    """Return what was asked for as far as the sink is: ``positions`` says, by partition, which offset it reads next."""
    stretches = []
    for each in asked.stretches:
        end = min(each.end, positions.get(each.partition, 0))
        stretches.append(replace(each, first=min(each.first, end), end=end))
    return ResultsAsked(stretches=stretches, gaps=asked.gaps)


def replay_archive(
    log: PublishedLog,
    asked: ResultsAsked,
    parts: RepairParts,
    *,
    partner: str | None,
    on_progress: Callable[[ResultsStretch, int], None],
) -> ReplayedArchive:
    """Compare published results with the archive, and write again what it lacks.

    Args:
        log: The results topic.
        asked: Which stretches, all of them passed by the sink.
        parts: The archive; without a writer nothing is written.
        partner: Only this one's results, a root; None: everybody's, and those of no partner.
        on_progress: Told up to which offset of a stretch all is compared.

    Raises:
        Undecodable: A record of the topic is no result of this release's.
        Unavailable: A server does not answer; run it again.
    """
    done = ReplayedArchive(asked=asked, shards={})
    for stretch in asked.stretches:
        for rows, offset in _some_rows(log, stretch, partner):
            for (shard, incarnation, _), of_lane in rows.items():
                some = [of_lane[place] for place in sorted(of_lane)]
                compare(parts, incarnation, some, done.shards.setdefault(shard, Repair(told=[])))
            on_progress(stretch, offset)
        on_progress(stretch, stretch.end)
    return done


def _some_rows(log: PublishedLog, stretch: ResultsStretch, partner: str | None) -> Iterator[tuple[_Rows, int]]:
    """Yield the rows of a stretch, some at a time, and the offset behind each time's last record."""
    rows: _Rows = {}
    waiting = 0
    for records in log.read(stretch.partition, stretch.first, stretch.end):
        for record in records:
            if partner is None or dict(record.headers).get(ROOT_HEADER) == partner.encode():
                waiting += _add(record, rows)
            if waiting >= RANGE_ROWS:
                yield rows, record.offset + 1
                rows, waiting = {}, 0
    if rows:
        yield rows, stretch.end


def _add(record: Record, rows: _Rows) -> int:
    """Add a result's row, if it has one, and return how many that are."""
    payload = record.value or b""
    result = decode_result(payload)
    if not result.journalled:
        return 0
    place = (result.lane_offset, result.lane_index)
    row = JournalRow(slice_of_result(result), result.lane, *place, result.command_id, result.root, payload)
    rows.setdefault((result.shard, result.incarnation, result.lane), {})[*place, payload] = row
    return 1
