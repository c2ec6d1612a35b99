"""The publish stage: results, dead letters and the group's position, in one Kafka transaction after the commit (P1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from processors.lane.decided import HandedOver
from processors.lane.handing_over import Courier, rounds
from processors.lane.sending import LaneSender
from processors.lane.stages import StageClock
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord

# One Kafka transaction takes what waits, up to this many records: two full batches, so that a lane that decides
# faster than the broker commits is not held up by small transactions, and a reader's stall stays well below a second.
TRANSACTION_RECORDS_MAX = 8_000
# And up to as many bytes as those records mostly have: a batch alone is bounded by what its rows take in MySQL (L8).
TRANSACTION_BYTES_MAX = 16 * 1024 * 1024


class Publisher(Protocol):
    """A transactional producer of one lane (L5). After any fault it is unusable."""

    def open(self) -> None:
        """Fence every earlier producer of the lane."""

    def publish(self, records: list[OutRecord], position: GroupPosition) -> None:
        """Make records and position visible together, or raise a fault."""

    def close(self) -> None:
        """Let go of it, without waiting for anything."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch that is durable in MySQL and may be published."""

    out: list[OutRecord]
    position: GroupPosition
    stamped_ms: int = 0  # the broker's time of its first record; 0: it may have been published before
    sends: list[OutRecord] = field(default_factory=list)  # what the lane sends because of it, in the causes' order
    handed_over: list[HandedOver] = field(default_factory=list)  # acknowledged before its results are published (P3)
    sends_soon: bool = False  # parts of a hand-off have come: once all have, a receipt goes back


class PublishStage:
    """Publishes committed batches in order. ``published`` is P and the lane time there, as far as this owner knows."""

    def __init__(
        self,
        publisher: Publisher,
        sender: LaneSender,
        published: GroupPosition,
        observe: Callable[[int, int], None],
        courier: Courier,
        *,
        stages: StageClock | None = None,
    ) -> None:
        """Begin after what was published before.

        Args:
            publisher: Opened already, in L5's order.
            sender: Of what the lane sends by itself.
            published: P.
            observe: Told the number of records of each transaction, and the broker's time of the first.
            courier: Takes to other shards what a batch hands over.
            stages: Told what is published, and since when that was under way.
        """
        self._publisher = publisher
        self._sender = sender
        self._waiting: deque[Committed] = deque()
        self._observe = observe
        self._courier = courier
        self._stages = stages or StageClock()
        self._under_way: Iterator[list[OutRecord]] | None = None  # what the first batch that waits hands over
        self.published = (published.at.next_offset, published.at.lane_time_ms)

    @property
    def waiting(self) -> int:
        """Return how many batches wait."""
        return len(self._waiting)

    def offer(self, committed: Committed) -> None:
        """Queue a batch; the caller bounds how many wait."""
        self._waiting.append(committed)

    def step(self) -> bool:
        """Publish what waits in one transaction, and say whether there was anything.

        What the lane sends because of it is acknowledged first: were it lost, nobody would send it again (P2).

        Raises:
            Fault: What happened is unknown or did not happen; the lane must be assigned again (L5).
        """
        if not self._waiting or self._hands_over():
            return bool(self._waiting)
        began_s = self._stages.now_s()
        batch = self._next()
        records, sends, stamped_ms = list(batch.out), list(batch.sends), batch.stamped_ms
        size = _bytes_of(records) if self._waiting else 0
        alone = bool(batch.handed_over)  # P3: what is before it is published before anything of it is sent
        while not alone and self._waiting and not self._waiting[0].handed_over:
            if len(records) + len(self._waiting[0].out) > TRANSACTION_RECORDS_MAX:
                break
            size += _bytes_of(self._waiting[0].out)
            if size > TRANSACTION_BYTES_MAX:
                break
            batch = self._next()
            records.extend(batch.out)
            sends.extend(batch.sends)
        position = batch.position
        self._sender.send(sends)
        self._publisher.publish(records, position)
        self.published = (position.at.next_offset, position.at.lane_time_ms)
        self._observe(len(records), stamped_ms)
        self._stages.published(position.at.next_offset, began_s)
        return True

    def _next(self) -> Committed:
        batch = self._waiting.popleft()
        if batch.sends_soon:
            self._sender.open()
        return batch

    def _hands_over(self) -> bool:
        """Send the next of what the first batch hands over; say whether there was any left to send (P3)."""
        if self._under_way is None:
            if self._waiting[0].handed_over:
                self._sender.open()  # it connects while the first rows are read
            carried = map(self._courier.records, self._waiting[0].handed_over)
            self._under_way = rounds(chain.from_iterable(carried))
        records = next(self._under_way, None)
        if records is None:
            self._under_way = None
            return False
        self._sender.send(records)
        return True


def _bytes_of(records: list[OutRecord]) -> int:
    return sum(len(record.value) for record in records)
