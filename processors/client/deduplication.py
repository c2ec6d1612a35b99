"""Lets each result through once."""

from __future__ import annotations

from processors.wire.results import Result


class Deduplication:
    """Lets each result through once (A1): a lane publishes in order, so one pair for each lane tells what was seen."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, bytes, int], tuple[int, int]] = {}

    def is_new(self, partition: int, result: Result) -> bool:
        """Say whether a result of a results partition was not seen before, and remember it.

        Whoever is shown only some results of a partition, such as one root's, is told the same of those.
        """
        lane = (partition, result.incarnation, result.lane)
        position = (result.lane_offset, result.lane_index)
        if position <= self._seen.get(lane, (-1, -1)):
            return False
        self._seen[lane] = position
        return True
