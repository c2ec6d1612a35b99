"""The client's reader keeps what it was told to read, whatever its tail fails at."""

from __future__ import annotations

import threading
from collections.abc import Collection, Container, Mapping

from processors.client.reader import Reader
from processors.faults import Retryable
from processors.wire.records import Record


class FailingTail:
    """A tail of which every call fails, but for its end."""

    def __init__(self, opened: list[dict[int, int]], places: Mapping[int, int], enough: threading.Event) -> None:
        opened.append(dict(places))
        self._opened = opened
        self._enough = enough
        self.closed = False

    def begin(self, places: Mapping[int, int]) -> None:
        raise Retryable(f"no beginning at {places}")

    def drop(self, partitions: Collection[int]) -> None:
        raise Retryable(f"no end of {partitions}")

    def places(self) -> dict[int, int]:
        raise Retryable("no places")

    def read(self, timeout_s: float, keys: Container[bytes | None] | None = None) -> list[Record]:
        del timeout_s, keys
        self._enough.set()
        raise Retryable("no records")

    def close(self) -> None:
        self.closed = True


def test_a_partition_at_which_the_tail_failed_is_read_by_the_next_tail_and_each_is_closed() -> None:
    opened: list[dict[int, int]] = []
    tails: list[FailingTail] = []
    closing = threading.Event()

    def open_tail(places: Mapping[int, int]) -> FailingTail:
        tails.append(FailingTail(opened, places, closing))
        return tails[-1]

    reader = Reader(open_tail, lambda _partition, _result: None, keys=None, places={})
    reader.begin(3, 70)
    reader.run(closing)  # the second tail is read, and that ends it

    assert opened == [{}, {3: 70}]
    assert [tail.closed for tail in tails] == [True, True]
