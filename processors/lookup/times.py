"""Points of time as text, and where a day begins in a time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, tzinfo
from zoneinfo import ZoneInfo


class TimeZoneError(ValueError):
    """A text that names no time zone; the message says how to write one."""


def show_time(time_ms: int, zone: tzinfo = UTC) -> str:
    """Write a time, ms since the epoch, as ISO 8601, with the zone's offset at that time or Z; nothing for 0.

    >>> show_time(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    >>> show_time(1_700_000_000_123, ZoneInfo("Asia/Kathmandu"))
    '2023-11-15T03:58:20.123+05:45'
    """
    if not time_ms:
        return ""
    moment = datetime.fromtimestamp(time_ms // 1000, tz=UTC).astimezone(zone).replace(microsecond=time_ms % 1000 * 1000)
    text = moment.isoformat(timespec="milliseconds")
    return f"{text[:23]}Z" if zone is UTC else text


def zone_of(name: str) -> tzinfo:
    """Return a time zone of the IANA's data.

    Raises:
        TimeZoneError: There is none of that name.

    >>> zone_of("Europe/Vienna").key
    'Europe/Vienna'
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; no name of one; a folder of them
        raise TimeZoneError(f"{name!r} is not a time zone: write it like Europe/Vienna or UTC") from None


def begin_of_day(day: date, zone: tzinfo) -> int:
    """Return when a day begins in a zone, ms since the epoch.

    Where clocks go back over midnight, the first of the two; where they skip it, the moment at which they do. So days
    follow on each other, whether they have 23, 24 or 25 hours.

    >>> hours = [begin_of_day(date(2026, 3, each), zone_of("Europe/Vienna")) // 3_600_000 for each in (29, 30)]
    >>> hours[1] - hours[0]
    23
    """
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1_000
