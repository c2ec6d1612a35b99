"""Who waits for which result, and in which results partitions it may come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Container
from concurrent.futures import Future
from dataclasses import dataclass

from processors.faults import UnknownOutcome
from processors.ids import id_text
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Status
from processors.wire.records import OutRecord
from processors.wire.results import Result

TOO_MANY = "too many commands wait for results, so it was not sent"
_ENDED = "the client ended, so it was not sent"
Key = tuple[str, bytes, bytes]
"""Root, command id and body hash: the same id with another body is another wish (I3). Of a control record no root, its
payload, and no hash; of a transaction that is open its root and id, and no hash."""


class NoAnswer(UnknownOutcome):
    """No result came in time: the command may have been decided, or may be later. Or it was not even sent, and says so.

    Send the same command again, with the same ``command_id``: it is decided once, and answered again.
    """

    def __init__(self, command_id: bytes, detail: str, *, sent: bool = True) -> None:
        """Tell of a command; ``sent`` is False where it was not even written this time."""
        known = "it may have been decided, so send" if sent else "unless it was sent before, it is not decided: send"
        super().__init__(
            f"no result for command {id_text(command_id)}: {detail}; {known} it again with the same id, which is safe, "
            "or look it up"
        )
        self.command_id = command_id
        self.sent = sent


@dataclass(slots=True, eq=False)
class Waiting:
    """A record on its way. Its first result may be OPEN; then ``until_final`` waits for the transaction's next one.

    Its results' records have the key that the record itself has.
    ``spread`` is the number whose low bits are the results partition: the root's bucket, or the lane of a control
    record (W3, A1). ``places`` are the partitions in which its results may come.
    """

    key: Key
    record: OutRecord
    command_id: bytes
    deadline_s: float  # on the monotonic clock
    spread: int
    future: Future[Result]
    until_final: bool = False
    places: frozenset[int] = frozenset()


class Desk:
    """Registers who waits, and hands results out. Any thread may use it; futures are told outside its lock.

    At most ``in_flight_max`` wait; the place of one is free again before its future is told.

    Copies of one command are answered in the order they were sent in, which is the order of their results. A
    transaction is in ``_open`` while somebody has waited for its end since its first OPEN answer.

    In how many partitions the service spreads results is not told anywhere that a client may read: as many as the topic
    has, unless somebody raised that by hand, to no effect on the service. So each power of two up to the topic's count
    is possible until an answer shows otherwise, and a root is waited for in each partition that it may be.
    """

    def __init__(self, partitions: int, in_flight_max: int) -> None:
        """Begin; ``partitions`` is how many the results topic has."""
        if in_flight_max < 1:
            raise ValueError(f"in_flight_max is {in_flight_max}: write 1 or more")
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._room = in_flight_max  # how many more may wait
        self._sent: dict[Key, deque[Waiting]] = {}
        self._open: dict[Key, deque[Waiting]] = {}
        self._all_counts = frozenset(1 << bits for bits in range(partitions.bit_length()))
        self._counts = self._all_counts
        self._keys: dict[bytes | None, int] = {}  # how many wait for each
        self._closed = False

    @property
    def keys(self) -> Container[bytes | None]:
        """Return the keys of the results that somebody waits for, as they are at each look."""
        return self._keys

    def places(self) -> set[int]:
        """Return the partitions in which a result may come that somebody waits for; looks at each who waits."""
        with self._lock:
            return {
                place
                for queues in (self._sent, self._open)
                for queue in queues.values()
                for waiting in queue
                for place in waiting.places
            }

    def register(self, waiting: Waiting, room_within_s: float) -> str | None:
        """Begin to wait; before the record is sent, so that no result can come too early.

        Args:
            waiting: Who begins.
            room_within_s: Where as many wait as may, how long until one of them has its result.

        Returns:
            Why it was not registered, or None.
        """
        with self._lock:
            if not self._room:
                self._freed.wait_for(lambda: self._room or self._closed, room_within_s)
            if self._closed:
                return _ENDED
            if not self._room:
                return TOO_MANY
            self._room -= 1
            waiting.places = frozenset(waiting.spread & (count - 1) for count in self._counts)
            self._sent.setdefault(waiting.key, deque()).append(waiting)
            self._keys[waiting.record.key] = self._keys.get(waiting.record.key, 0) + 1
        return None

    def answer(self, result: Result, partition: int) -> None:
        """Hand a result, read from this partition, to whoever waits for it."""
        with self._lock:
            ready = self._ready(result, partition)
            self._left(ready)
        for waiting in ready:
            waiting.future.set_result(result)

    def give_up(self, detail: str, *, until_s: float | None = None) -> None:
        """End the waiting of those whose deadline is at or before ``until_s``, of all where it is None."""
        with self._lock:
            late = _taken_out(self._sent, until_s) + _taken_out(self._open, until_s)
            self._left(late)
        for waiting in late:
            waiting.future.set_exception(NoAnswer(waiting.command_id, detail))

    def close(self, detail: str) -> None:
        """End the waiting of all, and register nobody any more."""
        with self._lock:
            self._closed = True
            self._freed.notify_all()
        self.give_up(detail)

    def give_up_these(self, given_up: Collection[Waiting], detail: str, *, sent: bool = True) -> None:
        """End the waiting of some who wait for their first result; who was answered meanwhile is left alone."""
        with self._lock:
            found = [waiting for waiting in given_up if waiting in self._sent.get(waiting.key, ())]
            for waiting in found:
                _take(self._sent, waiting.key, waiting)
            self._left(found)
        for waiting in found:
            waiting.future.set_exception(NoAnswer(waiting.command_id, detail, sent=sent))

    # ------------------------------------------------------------------ under the lock

    def _left(self, gone: Collection[Waiting]) -> None:
        self._room += len(gone)
        self._freed.notify(len(gone))
        for waiting in gone:
            key = waiting.record.key
            if self._keys[key] > 1:
                self._keys[key] -= 1
            else:  # what nobody waits for is no member any more
                del self._keys[key]

    def _ready(self, result: Result, partition: int) -> list[Waiting]:
        ready: list[Waiting] = []
        first = self._first_sent(
            ("", result.control, b"")
            if result.type is CommandType.CONTROL
            else (result.root, result.command_id, result.body_hash)
        )
        if first is not None:
            self._learn(first.spread, partition)
        transaction = _transaction(result)
        if first is not None and first.until_final and self._ends_later(result):
            self._open.setdefault(transaction, deque()).append(first)
        elif first is not None:
            ready.append(first)
        if result.status is not Status.OPEN and result.command_id != result.transaction_id:
            ready.extend(self._open.pop(transaction, ()))
        return ready

    def _learn(self, spread: int, partition: int) -> None:
        """Keep the counts by which this answer lies where it does."""
        fitting = frozenset(count for count in self._counts if spread & (count - 1) == partition)
        self._counts = fitting or self._all_counts

    def _ends_later(self, result: Result) -> bool:
        """Say whether a transaction's end is still to come: a repeated OPEN answer may be given after it."""
        known = _transaction(result) in self._open
        return result.status is Status.OPEN and (result.duplicate_of is None or known)

    def _first_sent(self, key: Key) -> Waiting | None:
        queue = self._sent.get(key)
        return None if queue is None else _take(self._sent, key, queue[0])


def _take(queues: dict[Key, deque[Waiting]], key: Key, waiting: Waiting) -> Waiting:
    queue = queues[key]
    queue.remove(waiting)
    if not queue:
        del queues[key]
    return waiting


def _transaction(result: Result) -> Key:
    return (result.root, result.transaction_id, b"")


def _taken_out(queues: dict[Key, deque[Waiting]], until_s: float | None) -> list[Waiting]:
    late = [
        (key, waiting)
        for key, queue in queues.items()
        for waiting in queue
        if until_s is None or waiting.deadline_s <= until_s
    ]
    return [_take(queues, key, waiting) for key, waiting in late]
