"""Points of time as text."""

from __future__ import annotations

from datetime import UTC, datetime


def show_time(time_ms: int) -> str:
    """Write a time, ms since the epoch, as ISO 8601 in UTC; nothing for 0.

    >>> show_time(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    if not time_ms:
        return ""
    moment = datetime.fromtimestamp(time_ms // 1000, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"
