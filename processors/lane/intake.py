"""Records that wait for their lane, in batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from processors.wire.records import Record

# A batch's SQL must stay below 4 MiB (L8), so a batch ends at what its records can grow to as SQL: hex doubles the
# result, which repeats the payload's text, and the columns and the statement's own words take some 700 bytes.
SQL_BYTES_PER_RECORD = 700
SQL_BYTES_PER_PAYLOAD_BYTE = 4
# Records waiting for the lane, in batches: the next batch is there while one is decided.
WAITING_BATCHES_MAX = 3
# And in bytes of payload, of which one poll may bring half as much again (``streams.consumer.QUEUE_KIB_MAX``).
WAITING_BYTES_MAX = 32 * 1024 * 1024
# How often somebody who waits for records looks whether what goes on meanwhile has ended.
BUSY_LOOK_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How large a batch may be (L8)."""

    batch_commands_max: int = 4_000
    batch_sql_bytes_max: int = 4 * 1024 * 1024


class Intake:
    """Filled with records by the poll thread; the lane's thread takes them in batches."""

    def __init__(
        self, limits: BatchLimits, on_taken: Callable[[], None], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin empty; ``full`` from ``WAITING_BATCHES_MAX`` batches, or ``WAITING_BYTES_MAX``, on.

        ``on_taken`` is told after each take; ``clock_s`` never goes back.
        """
        self._limits = limits
        self._on_taken = on_taken
        self._records: deque[Record] = deque()
        self._bytes = 0  # of the records' payloads
        self._clock_s = clock_s
        self._offered: deque[tuple[int, float]] = deque()  # how many records were offered at once, and when
        self.waited_s = 0.0  # of the first record that was taken last: from its offer on
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Return how many records wait."""
        return len(self._records)

    @property
    def full(self) -> bool:
        """Say whether the poll thread should pause the lane's partition."""
        return len(self) >= self._limits.batch_commands_max * WAITING_BATCHES_MAX or self._bytes >= WAITING_BYTES_MAX

    @property
    def hungry(self) -> bool:
        """Say whether a paused partition should come again."""
        return len(self) < self._limits.batch_commands_max and self._bytes < WAITING_BYTES_MAX // WAITING_BATCHES_MAX

    def offer(self, records: list[Record]) -> None:
        """Queue records; the caller looks at ``full``."""
        with self._changed:
            self._records.extend(records)
            self._offered.append((len(records), self._clock_s()))
            self._bytes += sum(map(_size, records))
            self._changed.notify()

    def take(self, wait_s: float) -> list[Record]:
        """Return the next batch's records, waiting for the first one at most ``wait_s``; within L8's limits."""
        limits = self._limits
        with self._changed:
            if not self._records and wait_s > 0:
                self._changed.wait(wait_s)
            taken: list[Record] = []
            sql_bytes = 0
            while self._records and len(taken) < limits.batch_commands_max:
                size = _size(self._records[0])
                sql_bytes += SQL_BYTES_PER_RECORD + SQL_BYTES_PER_PAYLOAD_BYTE * size
                if taken and sql_bytes > limits.batch_sql_bytes_max:
                    break
                taken.append(self._records.popleft())
                self._bytes -= size
            self._note_waits(len(taken))
        self._on_taken()
        return taken

    def take_while(self, busy: Callable[[], bool]) -> list[Record]:
        """Return the next batch's records as ``take`` does: as soon as there are any, and none once ``busy`` ends."""
        taken = self.take(0)
        while not taken and busy():
            taken = self.take(BUSY_LOOK_S)
        return taken

    def give_back(self, records: list[Record]) -> None:
        """Put records that a batch did not take in front again."""
        with self._changed:
            self._records.extendleft(reversed(records))
            self._offered.appendleft((len(records), self._clock_s() - self.waited_s))
            self._bytes += sum(map(_size, records))

    def clear(self) -> None:
        """Drop everything: the position changed (L12)."""
        with self._changed:
            self._records.clear()
            self._offered.clear()
            self._bytes = 0

    def _note_waits(self, count: int) -> None:
        """Move on over so many records that were offered."""
        if not count:
            return
        self.waited_s = self._clock_s() - self._offered[0][1]
        while count:
            offered, since_s = self._offered.popleft()
            if offered > count:
                self._offered.appendleft((offered - count, since_s))
            count -= min(count, offered)

    def wake(self) -> None:
        """End a ``take`` that waits."""
        with self._changed:
            self._changed.notify_all()


def _size(record: Record) -> int:
    return len(record.value) if record.value else 0
