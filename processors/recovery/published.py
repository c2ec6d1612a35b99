"""Proves that each published row of the journal is on the results topic, byte for byte, and once (A1)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from processors.faults import Undecodable
from processors.recovery.checks import Tally
from processors.wire.records import Record
from processors.wire.results import decode_result

_SUM_MASK = 2**256 - 1
# Only what the last batches published may come again (L4); this is ten of them (L8), some 10 MB a lane.
AGAIN_ROWS_MAX = 40_000
# A lane's time is some broker's, a result's stamp perhaps another one's, and either may be a minute ahead (I2).
EARLIER_MS = 120_000


class PublishedResults(Protocol):
    """The results topic."""

    def read(self, since_ms: int | None) -> Iterator[Record]:
        """Yield the records of every partition from a broker time on; None: all that are there."""

    def reaches_back_to_ms(self) -> int:
        """Return since which broker time the topic has all results; 0 where none has left it."""


@dataclass(slots=True)
class RowSum:
    """A sum over the hashes of rows, in any order: with a row more, a row less or another row it is another sum."""

    count: int = 0
    total: int = 0

    def add(self, payload: bytes) -> None:
        """Add a row."""
        self.count += 1
        self.total = self.total + int.from_bytes(hashlib.sha256(payload).digest(), "big") & _SUM_MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows of a lane must be on the topic: from ``first`` up to ``end``, with the sum of what the journal has.

    ``since_ms`` is lane time at ``first``.
    """

    topic_id: bytes
    first: int
    end: int
    since_ms: int
    journal: RowSum


@dataclass(slots=True)
class _Read:
    """What was read of a lane in one results partition; what has no larger place than that is a repetition (A1)."""

    largest: tuple[int, int] = (-1, 0)
    recent: OrderedDict[tuple[int, int], bytes] = field(default_factory=OrderedDict)  # place -> digest

    def is_first(self, place: tuple[int, int]) -> bool:
        return place > self.largest

    def is_same(self, place: tuple[int, int], payload: bytes) -> bool:
        return self.recent.get(place) == hashlib.sha256(payload).digest()

    def note(self, place: tuple[int, int], payload: bytes) -> None:
        if not self.is_first(place):
            return
        self.largest = place
        self.recent[place] = hashlib.sha256(payload).digest()
        if len(self.recent) > AGAIN_ROWS_MAX:
            self.recent.popitem(last=False)


def prove_published(
    results: PublishedResults, wanted: Mapping[int, Wanted], tally: Tally, *, on_progress: Callable[[str, int], None]
) -> set[int]:
    """Compare rows of some lanes with what was published, and return the lanes whose rows are all there.

    Results may have been published twice, after the group's offset was lost (L4); then the bytes must be the same. The
    topic is read from the earliest time on that a lane needs. Stamps may mislead (I2): only where something does not
    agree then is it read from its beginning.
    """
    if not wanted:
        return set()
    since_ms = max(0, min(each.since_ms for each in wanted.values()) - EARLIER_MS)
    found = _read(results, since_ms, wanted, on_progress)
    if not found.agrees(wanted):
        found = _read(results, None, wanted, on_progress)
    tally.counted += found.counted
    for told in found.other_copies:
        tally.refute(told)
    agreed = set()
    for lane, each in wanted.items():
        if found.sums[lane] == each.journal:
            if lane not in found.bad_lanes:
                agreed.add(lane)
        elif results.reaches_back_to_ms() > each.since_ms:
            tally.lacks(f"lane {lane}: the results of offsets {each.first} and up have left the topic in part")
        else:
            count = found.sums[lane].count
            tally.refute(f"lane {lane}: {each.journal.count} rows in the journal, {count} published")
    return agreed


@dataclass(slots=True)
class _OnTopic:
    sums: dict[int, RowSum] = field(default_factory=lambda: defaultdict(RowSum))
    other_copies: list[str] = field(default_factory=list)
    bad_lanes: set[int] = field(default_factory=set)
    counted: int = 0

    def agrees(self, wanted: Mapping[int, Wanted]) -> bool:
        return not self.other_copies and all(self.sums[lane] == each.journal for lane, each in wanted.items())

    def is_another(self, lane: int, told: str) -> None:
        self.bad_lanes.add(lane)
        self.other_copies.append(told)


def _read(
    results: PublishedResults,
    since_ms: int | None,
    wanted: Mapping[int, Wanted],
    on_progress: Callable[[str, int], None],
) -> _OnTopic:
    found = _OnTopic()
    read: dict[tuple[int, int], _Read] = defaultdict(_Read)  # by results partition and lane
    for record in results.read(since_ms):
        if record.value is None:
            continue
        try:
            result = decode_result(record.value)
        except Undecodable as fault:
            told = f"balance.results partition {record.partition} offset {record.offset}: {fault.detail}"
            found.other_copies.append(told)
            continue
        of_lane = wanted.get(result.lane)
        if of_lane is None or result.incarnation != of_lane.topic_id or not result.journalled:
            continue
        if result.lane_offset < of_lane.first:
            continue
        place, copies = (result.lane_offset, result.lane_index), read[record.partition, result.lane]
        if not copies.is_first(place):
            if not copies.is_same(place, record.value):
                found.is_another(
                    result.lane,
                    f"lane {result.lane} offset {place}: published again, and not known to be the same",
                )
        elif result.lane_offset < of_lane.end:
            found.sums[result.lane].add(record.value)
        copies.note(place, record.value)
        found.counted += 1
        on_progress("results", found.counted)
    return found
