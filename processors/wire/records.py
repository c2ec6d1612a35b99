"""Records as the workers see them: what came from a topic, and what goes to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Headers = list[tuple[str, bytes]]
ReadHeaders = Sequence[tuple[str, bytes | None]]
"""Headers of a record that anybody may have written: Kafka has headers without a value."""

# Stands for the headers of a record one of whose names is not UTF-8: the client cannot tell them.
UNREADABLE_HEADERS: Headers = [("\ufffd", b"")]


@dataclass(slots=True)
class Record:
    """A record as it was read. Not frozen and positional: one per command on the hot path.

    ``timestamp_ms`` is the broker's time, ms since the epoch, where ``append_time`` is True (LogAppendTime); else the
    producer's, which nothing may be decided on (I2). ``leader_epoch`` is -1 where the broker told none.
    """

    topic: str
    partition: int
    offset: int
    leader_epoch: int
    timestamp_ms: int
    append_time: bool
    key: bytes | None
    value: bytes | None
    headers: ReadHeaders


@dataclass(slots=True)
class OutRecord:
    """A record to be written to an explicit partition (W3)."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: Headers


# What a record to be written has besides its place: key, value, and headers. A tuple: one per command on the hot path.
Content = tuple[bytes | None, bytes, Headers]


def records_below(records: list[Record], offset: int) -> list[Record]:
    """Return those of some records of one partition, in order, that lie below an offset."""
    if not records or records[-1].offset < offset:
        return records
    return [record for record in records if record.offset < offset]
