"""Reads results and hands them out, in a thread of its own; a fault of the brokers is waited out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Container, Mapping
from typing import Protocol

from processors.client.deduplication import Deduplication
from processors.faults import Fault, Undecodable
from processors.wire.records import Record
from processors.wire.results import Result, decode_result

# A partition that begins to be followed waits this long at most while others are read.
_READ_S = 0.05
# After a fault; each time a connection is made anew.
_AGAIN_S = 1.0


class Tail(Protocol):
    """What is read: some partitions of the results topic (``streams.tail.TopicTail``)."""

    def begin(self, places: Mapping[int, int]) -> None:
        """Read more partitions, from these offsets on."""
        ...

    def drop(self, partitions: Collection[int]) -> None:
        """Read these no more."""
        ...

    def places(self) -> dict[int, int]:
        """Return where each goes on."""
        ...

    def read(self, timeout_s: float, keys: Container[bytes | None] | None = None) -> list[Record]:
        """Return the next records, those with these keys."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Reader:
    """Reads the partitions that it is told to, and tells of each result once (A1).

    ``begin`` and ``drop`` may be called by any thread, ``run`` is the reader's own. After a fault it goes on where it
    was: nothing is missed.
    """

    def __init__(
        self,
        open_tail: Callable[[Mapping[int, int]], Tail],
        tell: Callable[[int, Result], None],
        *,
        keys: Container[bytes | None] | None,
        places: Mapping[int, int],
    ) -> None:
        """Prepare.

        Args:
            open_tail: Begins to read some partitions at some offsets.
            tell: Called by the reader with each result and its partition; what it raises ends the reader.
            keys: Of the results that are wanted; the others are not even decoded. None is all.
            places: Where to begin.
        """
        self._open_tail = open_tail
        self._tell = tell
        self._keys = keys
        self._places = dict(places)
        self._changes: deque[tuple[int, int | None]] = deque()
        self._changed = threading.Event()
        self._deduplication = Deduplication()
        self.trouble = ""
        """Why nothing can be read at the moment, or a result could not be; empty where all is well."""

    def begin(self, partition: int, offset: int) -> None:
        """Read a partition from an offset on; soon."""
        self._changes.append((partition, offset))
        self._changed.set()

    def drop(self, partition: int) -> None:
        """Read a partition no more."""
        self._changes.append((partition, None))
        self._changed.set()

    def run(self, closing: threading.Event) -> None:
        """Read until ``closing``."""
        while not closing.is_set():
            try:
                self._follow(closing)
            except Fault as fault:
                self.trouble = f"results cannot be read: {fault}"
                closing.wait(_AGAIN_S)

    def stir(self) -> None:
        """Have the reader look whether it is to end, although nothing comes."""
        self._changed.set()

    # ------------------------------------------------------------------ in the reader's thread

    def _follow(self, closing: threading.Event) -> None:
        tail = self._open_tail(self._places)
        try:
            while not closing.is_set():
                if self._changes:
                    self._change(tail)
                if self._places:
                    self._read(tail)
                else:
                    self._changed.wait()
                    self._changed.clear()  # what came meanwhile, a change or the word to end, is looked for next
        finally:
            try:
                self._places = tail.places()
            finally:
                tail.close()

    def _read(self, tail: Tail) -> None:
        records = tail.read(_READ_S, self._keys)
        self.trouble = self.trouble if not records else ""
        for record in records:
            self._take(record)

    def _change(self, tail: Tail) -> None:
        while self._changes:
            partition, offset = self._changes.popleft()
            if offset is None:
                del self._places[partition]
                tail.drop([partition])
            else:
                self._places[partition] = offset  # first: where the tail fails at it, the next one begins with it
                tail.begin({partition: offset})

    def _take(self, record: Record) -> None:
        try:
            result = decode_result(record.value or b"")
        except Undecodable as fault:
            self.trouble = f"a result cannot be read, since it is of a later release than this program: {fault}"
            return
        if self._deduplication.is_new(record.partition, result):
            self._tell(record.partition, result)
