"""Refunds that are open, and what is to be done about each: ask the archive, or wait for the lane's answer (H4).

A refund is kept from the result that opened it until the result that ended it; both are in one results partition. Its
recall may become a dead letter, where a worker's keys file lacks the key that signed it; so until the refund has ended
the recall is sent again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from processors.stores.archive_reader import StepKey
from processors.stores.archive_rows import Covered

# A running lane answers a recall within seconds. One that is not answered for a minute may have become a dead letter,
# whose cause an operator must mend. It is sent again less and less often, so that a refund makes at most one dead
# letter an hour.
FIRST_RESEND_S = 60.0
RESEND_MAX_S = 3_600.0
# An original that is not archived yet is asked for again, less and less often; at once when coverage has come.
RETRY_MAX_S = 60.0

Coverage = Mapping[tuple[int, int], Covered]
"""How far an incarnation is archived, by lane and results partition (A5)."""


@dataclass(slots=True, kw_only=True)
class WaitingRefund:
    """A refund that waits for its original, and where its result was read.

    Not frozen. ``due_s`` is when something is to be done about it, by the recaller's clock; ``pause_s``, how long it
    was put off the last time; ``sent`` says that its recall is on its way. ``early`` says that the archive has not yet
    been asked for its original since coverage reached the refund.
    """

    partition: int
    offset: int
    incarnation: bytes
    lane: int
    lane_offset: int
    lane_index: int
    root: str
    address: str
    currency: str
    refund_id: bytes
    original_id: bytes
    due_s: float = 0.0
    pause_s: float = 0.0
    sent: bool = False
    early: bool = True

    @property
    def original(self) -> StepKey:
        """Where the original is archived: a capture, too, under its own id (A4)."""
        return StepKey(self.original_id, self.root, self.original_id)

    def is_covered(self, coverage: Mapping[bytes, Coverage]) -> bool:
        """Say whether all that precedes it in its results partition is archived, so that absence means something."""
        covered = coverage.get(self.incarnation, {}).get((self.lane, self.partition))
        if covered is None:
            return False
        return (covered.lane_offset, covered.lane_index) >= (self.lane_offset, self.lane_index)


class OpenRefunds:
    """All that are known to be open. For one thread."""

    def __init__(self, sent_max: int) -> None:
        """Begin with none; of those whose recall was sent, ``sent_max`` are kept, 1 KiB each."""
        self._sent_max = sent_max
        self._waiting: dict[tuple[str, bytes], WaitingRefund] = {}  # by root and id, in the order in which they came
        self._sent: dict[tuple[str, bytes], WaitingRefund] = {}  # in the order in which they were sent
        self._given_up: dict[int, int] = {}  # by partition, the lowest offset of those that found no room

    def __len__(self) -> int:
        """Return how many wait for the archive."""
        return len(self._waiting)

    @property
    def sent(self) -> int:
        """Return how many wait for their lane."""
        return len(self._sent)

    @property
    def incarnations(self) -> set[bytes]:
        """Return the shards' incarnations to which they belong."""
        return {refund.incarnation for refund in self._every()}

    def add(self, refund: WaitingRefund) -> None:
        """Take one in; published twice, it is the same."""
        key = (refund.root, refund.refund_id)
        if key not in self._sent:
            self._waiting.setdefault(key, refund)

    def end(self, root: str, refund_id: bytes) -> None:
        """Let go of one that its lane has ended."""
        self._waiting.pop((root, refund_id), None)
        self._sent.pop((root, refund_id), None)

    def forget(self, partitions: Collection[int]) -> None:
        """Let go of what came from some results partitions."""
        for kept in (self._waiting, self._sent):
            for key in [key for key, refund in kept.items() if refund.partition in partitions]:
                del kept[key]
        for partition in partitions:
            self._given_up.pop(partition, None)

    def oldest(self) -> dict[int, int]:
        """Return, by results partition, the offset from which one must read again to know of all of them."""
        oldest = dict(self._given_up)
        for refund in self._every():
            oldest[refund.partition] = min(oldest.get(refund.partition, refund.offset), refund.offset)
        return oldest

    def due(self, now_s: float, coverage: Mapping[bytes, Coverage]) -> list[WaitingRefund]:
        """Return those about which something is to be done, one of each partner, then another of each, and so on.

        So a partner who has ten thousand holds up nobody who has one.
        """
        turns: dict[str, int] = defaultdict(int)
        found: list[tuple[int, WaitingRefund]] = []
        for refund in self._every():
            if refund.due_s <= now_s or (refund.early and refund.is_covered(coverage)):
                found.append((turns[refund.root], refund))
                turns[refund.root] += 1
        return [refund for _, refund in sorted(found, key=lambda each: each[0])]

    def put_off(self, refund: WaitingRefund, now_s: float, first_s: float, *, covered: bool) -> None:
        """Note that nothing could be said about an original yet; ``first_s`` is the first pause."""
        refund.early = not covered
        refund.pause_s = min(2 * refund.pause_s, RETRY_MAX_S) if refund.pause_s else first_s
        refund.due_s = now_s + refund.pause_s

    def note_sent(self, refund: WaitingRefund, now_s: float) -> None:
        """Note that a recall was acknowledged by the log; the lane has a while to answer it."""
        refund.pause_s = min(2 * refund.pause_s, RESEND_MAX_S) if refund.sent else FIRST_RESEND_S
        refund.due_s = now_s + refund.pause_s
        refund.sent, refund.early = True, False
        key = (refund.root, refund.refund_id)
        self._waiting.pop(key, None)
        self._sent[key] = refund
        if len(self._sent) > self._sent_max:
            self._give_up(self._sent.pop(next(iter(self._sent))))

    def _give_up(self, refund: WaitingRefund) -> None:
        """Forget one, but read it again at the next start: no position beyond it is committed."""
        self._given_up[refund.partition] = min(self._given_up.get(refund.partition, refund.offset), refund.offset)

    def _every(self) -> Iterator[WaitingRefund]:
        yield from self._waiting.values()
        yield from self._sent.values()
