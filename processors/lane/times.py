"""The time of records whose broker's clock was wrong: an operator's time overrides, and which are in force (I2).

A *time override* is a SET_LANE_TIME record, by which an operator says what time some records of the lane have. Whether
it counts depends on the log alone, and never on the moment at which the lane looked: it counts from the first record
that it is about, or not at all. What is behind a stretch is read through the log that ``OverridesAhead`` gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from processors.ledger.commands import ControlType, SetLaneTime, SetRules
from processors.ledger.control import next_rules
from processors.ledger.rules import RULES_RELEASE, Rules
from processors.stores.rows import OverriddenTime
from processors.wire.admission import Admission
from processors.wire.commands import type_of_payload
from processors.wire.records import Record

# How far a record's stamp must be ahead of the override's own for the override to count: twice as far as a stamp may be
# ahead of a worker's clock before the lane stops. A worker decides a record by its stamp once the stamp is at most a
# minute ahead of his clock. If his clock is right to a minute, he does so at most two minutes before the stamp: after
# the override came.
OVERRIDE_AHEAD_MS = 120_000
_HEARD = {ControlType.SET_LANE_TIME, ControlType.SET_RULES}
RANGES_SINCE = 2  # the release of the rules since which an override is about a range, and bounded by its own stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOverride:
    """A time override as it stands in the log, at ``record``: what time a stretch of the lane's records has.

    ``is_range`` is False for an override by the first version of its schema, which is about one record.
    """

    record: Record
    first_offset: int
    last_offset: int
    time_ms: int
    is_range: bool


class OverridesLog(Protocol):
    """A lane's log, as far as it is read ahead."""

    def control_ahead(self, from_offset: int) -> tuple[list[Record], int]:
        """Read on to the end for records that ``may_be_heard``, in order; and say where the end is."""


class OverridesAhead:
    """The time overrides that stand in the log ahead of a lane; how far it read, and nothing else of what it read.

    Whether a record is an override depends on the rules at its offset (I6), so changes of them are followed on the way.
    """

    def __init__(
        self,
        log: OverridesLog,
        clock_ms: Callable[[], int],
        admit: Callable[[Record, Rules], Admission],
        *,
        known_release: int,
    ) -> None:
        """Nothing is read before the first look.

        Args:
            log: Of the lane.
            clock_ms: This machine's time.
            admit: Says what a record is under some rules.
            known_release: The newest release whose meaning this process knows.
        """
        self.by_first: dict[int, list[TimeOverride]] = {}
        self._log = log
        self._clock_ms = clock_ms
        self._admit = admit
        self._known_release = known_release
        self._next_offset = 0  # at the last look
        self._read_to = 0
        self._rules: Rules | None = None  # in force where it has read to

    def look(self, next_offset: int, rules: Rules, on_hand: Iterable[Record] = ()) -> int:
        """Read on to the end of the log, as it is now; return this machine's time before.

        Args:
            next_offset: The first record that is not decided; overrides before it count for none that comes.
            rules: In force there.
            on_hand: Records from there on that need not be read again.

        Raises:
            LaneStopped: UNKNOWN_VERSION, KEY_MISSING: what cannot be understood here may be an override.
        """
        looked_ms = self._clock_ms()
        self._pass(next_offset, rules)
        for record in on_hand:
            if record.offset >= self._read_to:
                self._hear([record] if may_be_heard(record) else [])
                self._read_to = record.offset + 1
        records, end = self._log.control_ahead(self._read_to)
        if end < self._read_to:  # the log was cut: what stood there counts no more
            self._begin_at(next_offset, rules)
            records, end = self._log.control_ahead(next_offset)
        self._hear(records)
        self._read_to = end
        return looked_ms

    def _pass(self, next_offset: int, rules: Rules) -> None:
        if next_offset < self._next_offset:  # what was decided was not committed, and is decided again
            self._begin_at(next_offset, rules)
        self._next_offset = next_offset
        if self._rules is None or next_offset >= self._read_to:
            self._read_to, self._rules = next_offset, rules
        for first in [first for first, overrides in self.by_first.items() if overrides[-1].record.offset < next_offset]:
            del self.by_first[first]

    def _begin_at(self, next_offset: int, rules: Rules) -> None:
        self.by_first.clear()
        self._read_to, self._rules = next_offset, rules

    def _hear(self, records: Iterable[Record]) -> None:
        for record in records:
            assert self._rules is not None  # since the first look
            override, self._rules = heard(record, self._rules, self._admit, known_release=self._known_release)
            self._read_to = record.offset + 1
            if override is not None:
                self.by_first.setdefault(override.first_offset, []).append(override)


class LaneTimes:
    """What a lane was told about its records' times, and the overrides that stand in the log ahead of it.

    ``unstored`` is what it was told since the last batch, to be stored with the next one. ``looked_ms`` is this
    machine's time when the log was last read to its end. On a record whose stamp is at most a minute later than that,
    no override can come any more that counts.
    """

    def __init__(
        self,
        told: Mapping[int, OverriddenTime],
        overrides: Mapping[int, Sequence[TimeOverride]],
        *,
        next_offset: int,
        let_pass_below: int,
        waiting_at: int | None = None,
    ) -> None:
        """Begin with what is stored, before the first look.

        Args:
            told: By the first offset of each stretch; ``next_offset`` may lie within one.
            overrides: By the offset that each begins at, in the log's order; may grow.
            next_offset: The next record's.
            let_pass_below: Records below it were decided before; how far they are ahead is not asked again.
            waiting_at: The record for whose time the lane waits, however long its own clock has passed it.
        """
        self.told = dict(told)
        self.unstored: dict[int, OverriddenTime] = {}
        self.let_pass_below = let_pass_below
        self.looked_ms = 0
        self._waiting_at = waiting_at
        self._overrides = overrides
        self._within = (0, -1, 0)  # the stretch that was met last: first offset, last offset, time
        for first, of_first in self.told.items():
            if first < next_offset <= of_first.last_offset:
                self._within = (first, of_first.last_offset, of_first.time_ms)

    def time_of(self, record: Record, release: int) -> int | None:
        """Return the time that the next record has by an operator's override, ms since the epoch; None: by its stamp.

        Never later than the broker's own stamp, where the record has one.

        Args:
            record: The next one.
            release: Of the lane's rules in force.
        """
        offset = record.offset
        first, last, time_ms = self._within
        if not first <= offset <= last:
            told = self._told_at(record, release)
            if told is None:
                return None
            self._within = (offset, told.last_offset, told.time_ms)
            time_ms = told.time_ms
        return min(time_ms, record.timestamp_ms) if record.append_time else time_ms

    def waits(self, record: Record, release: int) -> bool:
        """Say whether the lane must go on waiting for an override of the next record; none in force is about it.

        A lane that stopped at this record waits for an override. It may decide the record by its stamp only if an
        override says so: one that came too late to give the record another time, and that names a time not before the
        stamp.
        """
        offset = record.offset
        return (
            release >= RANGES_SINCE
            and self._waiting_at == offset
            and not any(
                _may_count(override, offset, release) and override.time_ms >= record.timestamp_ms
                for override in self._overrides.get(offset, ())
            )
        )

    def heard_at(self, offset: int, release: int) -> bool:
        """Say whether any override begins at an offset, in force or not."""
        return offset in self.told or any(
            _may_count(override, offset, release) for override in self._overrides.get(offset, ())
        )

    def tell(self, override: TimeOverride) -> None:
        """Take in an override that stands before its record: it counts for rules of the first release only."""
        if override.first_offset not in self.told:
            told = OverriddenTime(last_offset=override.first_offset, time_ms=override.time_ms)
            self.told[override.first_offset] = self.unstored[override.first_offset] = told

    def _told_at(self, record: Record, release: int) -> OverriddenTime | None:
        """Return what is told from a record on; an override that is in force is in force for good from here on."""
        told = self.told.get(record.offset)
        if told is None and self._overrides:
            override = next(
                (each for each in self._overrides.get(record.offset, ()) if _is_in_force(each, record, release)), None
            )
            if override is not None:
                told = self.told[record.offset] = self.unstored[record.offset] = _told_by(override, release)
        return told


def _may_count(override: TimeOverride, offset: int, release: int) -> bool:
    """Say whether an override is one of this release, that came after its first record, at a time that is known."""
    if release < RANGES_SINCE:
        return not override.is_range
    return override.record.append_time and override.record.offset > offset


def _is_in_force(override: TimeOverride, record: Record, release: int) -> bool:
    """Say whether an override gives the record that it begins at another time than its stamp.

    It does not where some worker may have decided the record by its stamp before the override came.
    """
    if not _may_count(override, record.offset, release):
        return False
    ahead_ms = OVERRIDE_AHEAD_MS if release >= RANGES_SINCE else 0
    return not record.append_time or record.timestamp_ms > override.record.timestamp_ms + ahead_ms


def _told_by(override: TimeOverride, release: int) -> OverriddenTime:
    if release < RANGES_SINCE:
        return OverriddenTime(last_offset=override.last_offset, time_ms=override.time_ms)
    # Every record it is about was written before it.
    last_offset = max(override.first_offset, min(override.last_offset, override.record.offset - 1))
    return OverriddenTime(last_offset=last_offset, time_ms=min(override.time_ms, override.record.timestamp_ms))


def override_of(admission: Admission) -> TimeOverride | None:
    """Return the time override that a record is, if it is one and signed."""
    told = admission.command
    if not isinstance(told, SetLaneTime):
        return None
    is_range = told.last_offset is not None
    return TimeOverride(
        record=admission.record,
        first_offset=told.lane_offset,
        last_offset=told.lane_offset if told.last_offset is None else told.last_offset,
        time_ms=told.time_ms,
        is_range=is_range,
    )


def by_first_offset(overrides: Iterable[TimeOverride]) -> dict[int, list[TimeOverride]]:
    """Return overrides by the offset that each begins at, in their order."""
    found: dict[int, list[TimeOverride]] = {}
    for override in overrides:
        found.setdefault(override.first_offset, []).append(override)
    return found


def may_be_heard(record: Record) -> bool:
    """Say whether a record may be an override, or a change of the rules by which overrides count."""
    return record.value is not None and type_of_payload(record.value) in _HEARD


def heard(
    record: Record, rules: Rules, admit: Callable[[Record, Rules], Admission], *, known_release: int
) -> tuple[TimeOverride | None, Rules]:
    """Return the override that a record ahead of the lane is, if it is one, and the rules in force behind it.

    Raises:
        LaneStopped: UNKNOWN_VERSION, KEY_MISSING.
    """
    admission = admit(record, rules)
    command = admission.command
    if isinstance(command, SetRules):  # only the floors depend on the time, and no override on them
        rules = next_rules(rules, command, now_ms=0, known_release=known_release) or rules
    return override_of(admission), rules


def overrides_in(
    records: Iterable[Record],
    rules: Rules,
    admit: Callable[[Record, Rules], Admission],
    *,
    known_release: int = RULES_RELEASE,
) -> Iterator[TimeOverride]:
    """Yield the operators' overrides among a lane's records, for reading ahead.

    Args:
        records: Of the lane, in order.
        rules: In force at the first of them.
        admit: Says what a record is under some rules.
        known_release: The newest release whose meaning this process knows.

    Raises:
        LaneStopped: UNKNOWN_VERSION, KEY_MISSING.
    """
    for record in records:
        if may_be_heard(record):
            override, rules = heard(record, rules, admit, known_release=known_release)
            if override is not None:
                yield override
