"""Spans and points of time as people type and read them, to and from milliseconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,12})\s*(ms|s|m|h|d)", re.ASCII)


class DurationError(ValueError):
    """A text that names no span of time; the message says how to write one."""


def parse_duration(text: str) -> int:
    """Read a span of time, in milliseconds.

    Raises:
        DurationError: It is not a whole number with one of the units ms, s, m, h, d.

    >>> parse_duration("15m")
    900000
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise DurationError(f"{text!r} is not a span of time: write it like 90s, 15m, 6h or 30d")
    return int(found[1]) * _UNITS_MS[found[2]]


def show_duration(duration_ms: int) -> str:
    """Write a span of time in the largest unit that leaves no remainder.

    >>> show_duration(21_600_000), show_duration(1_500)
    ('6h', '1500ms')
    """
    unit = next(unit for unit in reversed(_UNITS_MS) if duration_ms % _UNITS_MS[unit] == 0)
    return f"{duration_ms // _UNITS_MS[unit]}{unit}"


def show_age(age_ms: int) -> str:
    """Write how long something takes already, in its two largest units at most; below a second nothing smaller.

    >>> show_age(400), show_age(61_000), show_age(90_000_000), show_age(-5)
    ('0s', '1m 1s', '1d 1h', '0s')
    """
    left_ms = max(0, age_ms)
    told: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, left_ms = divmod(left_ms, _UNITS_MS[unit])
        if count or (unit == "s" and not told):
            told.append(f"{count}{unit}")
    return " ".join(told[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodBorder:
    """Where a period begins or ends: at a day's begin, or at a time, ms since the epoch. One of them is None."""

    day: date | None = None
    time_ms: int | None = None


def parse_border(text: str) -> PeriodBorder:
    """Read where a period begins or ends: a day, or a time in milliseconds since the epoch.

    Raises:
        DurationError: It is neither.

    >>> parse_border("1970-01-01T00:00:01Z").time_ms
    1000
    """
    try:
        return PeriodBorder(day=date.fromisoformat(text.strip()))
    except ValueError:
        pass
    try:
        return PeriodBorder(time_ms=parse_time(text))
    except DurationError:
        raise DurationError(
            f"{text!r} is neither a day nor a time: write it like 2026-11-23 or 2026-11-23T00:10:00Z"
        ) from None


def parse_time(text: str) -> int:
    """Read a point of time, in milliseconds since the epoch.

    Args:
        text: ISO 8601 with an offset or Z, or the milliseconds themselves.

    Raises:
        DurationError: It is neither.

    >>> parse_time("2023-11-14T22:13:20.123Z")
    1700000000123
    """
    if text.strip().isdecimal():
        return int(text)
    moment: datetime | None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise DurationError(f"{text!r} is not a time: write it like 2026-11-23T00:10:00Z, or as ms since the epoch")
    whole = int((moment.replace(microsecond=0) - _EPOCH).total_seconds())
    return whole * 1_000 + moment.microsecond // 1_000


def parse_offsets(text: str) -> dict[int, int]:
    """Read offsets of partitions.

    Raises:
        DurationError: It is no such text.

    >>> parse_offsets("0=1200,3=77")
    {0: 1200, 3: 77}
    """
    offsets: dict[int, int] = {}
    for each in text.split(","):
        partition, _, offset = each.partition("=")
        if not (partition.isascii() and partition.isdecimal() and offset.isascii() and offset.isdecimal()):
            raise DurationError(f"{each!r} is no number of a partition and an offset: write 0=1200,3=77, or a time")
        offsets[int(partition)] = int(offset)
    return offsets
