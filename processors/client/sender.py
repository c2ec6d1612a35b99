"""Sends commands, in a thread of its own, so that nobody who asks waits for a broker; and ends waiting in time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Protocol, assert_never

from processors.client.desk import Desk, Waiting
from processors.faults import Fault, Unavailable
from processors.wire.records import OutRecord

# How often deadlines are looked at: a result may be given up this much later than asked.
LOOK_S = 0.25
# A partition is read on for this long after the last one who waited: beginning anew takes a question to its leader.
_LINGER_S = 30.0


class Producer(Protocol):
    """Where commands are written (``streams.producer.IdempotentProducer``)."""

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        """Queue a record."""
        ...

    def send_at_once(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> bool:
        """Queue a record if there is room, and say whether there was."""
        ...

    def poll(self, timeout_s: float) -> None:
        """Learn of deliveries."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Ends(Protocol):
    """Who knows where results partitions end (``streams.ends.TopicEnds``)."""

    def ask(self, partitions: Collection[int], told: Callable[[int, int | Fault], None]) -> None:
        """Ask for the ends of some partitions."""
        ...

    def trouble(self) -> str:
        """Return what brokers said of late that cannot be reached."""
        ...


class Places(Protocol):
    """Who reads results partitions (``client.reader.Reader``)."""

    trouble: str

    def begin(self, partition: int, offset: int) -> None:
        """Read a partition from an offset on."""
        ...

    def drop(self, partition: int) -> None:
        """Read it no more."""
        ...


@dataclass(frozen=True, slots=True)
class _End:
    """Where a partition ends, or why that is not known."""

    partition: int
    end: int | Fault


class Sender:
    """Writes each record once every partition is read in which its result may come, so that none is missed.

    A partition is read from where it ended before the record was written. Records of one root keep their order.
    ``submit`` may be called by any thread and never waits; ``run`` is the sender's own.

    While the sender's thread is at rest with nothing before it, ``submit`` hands a record to the producer itself, where
    nothing has to be asked or waited for: to wake the thread for it costs 60 µs. Whatever is in the way, a fault among
    them, is met in the thread, so that nobody's callback is called by who submits.
    """

    def __init__(self, desk: Desk, ends: Ends, reader: Places, open_producer: Callable[[], Producer]) -> None:
        self._desk = desk
        self._ends = ends
        self._reader = reader
        self._open_producer = open_producer
        self._producer: Producer | None = None
        self._unwritten: dict[Waiting, None] = {}  # handed to the producer, not acknowledged yet; in their order
        self._events: SimpleQueue[Waiting | _End | None] = SimpleQueue()
        self._at_rest_lock = threading.Lock()
        self._at_rest = False  # the sender's thread touches nothing: who has the lock may
        self._parked: dict[int, deque[Waiting]] = {}  # by spread: who waits for partitions to be read
        self._asked: set[int] = set()
        self._read: dict[int, float] = {}  # partitions that are read, and when somebody waited there last
        self._trouble = ""

    def submit(self, waiting: Waiting) -> None:
        """Have a record sent; who waits is registered at the desk."""
        with self._at_rest_lock:
            at_rest, self._at_rest = self._at_rest, False
            try:
                self._at_rest = at_rest and self._written_at_once(waiting)
            finally:  # after an interrupt, too: the thread may write it a second time, which is a repetition (I3)
                if not self._at_rest:
                    self._events.put(waiting)

    def stir(self) -> None:
        """Have the sender look whether it is to end, although nothing comes."""
        self._events.put(None)

    def run(self, closing: threading.Event) -> None:
        """Send until ``closing``."""
        looked_s = time.monotonic()
        try:
            while not closing.is_set():
                event = self._next()
                self._rise()
                self._meet(event)
                if time.monotonic() - looked_s >= LOOK_S:
                    looked_s = time.monotonic()
                    self._look(looked_s)
                with self._at_rest_lock:
                    self._at_rest = self._events.empty()
        finally:
            self._rise()
            if self._producer is not None:
                self._producer.close()

    def _written_at_once(self, waiting: Waiting) -> bool:
        if self._producer is None or waiting.spread in self._parked or not waiting.places <= self._read.keys():
            return False
        if waiting.future.done():  # given up before it came this far; the thread passes it over
            return False
        sent = False
        self._unwritten[waiting] = None
        try:
            with contextlib.suppress(Fault):  # which the thread meets again
                sent = self._producer.send_at_once(waiting.record, partial(self._unwritten.pop, waiting, None))
        finally:
            if not sent:
                self._unwritten.pop(waiting, None)
        return sent

    # ------------------------------------------------------------------ in the sender's thread

    def _rise(self) -> None:
        """Have no one else touch what is the thread's."""
        with self._at_rest_lock:
            self._at_rest = False

    def _next(self) -> Waiting | _End | None:
        try:
            return self._events.get(timeout=LOOK_S)
        except Empty:
            return None

    def _meet(self, event: Waiting | _End | None) -> None:
        match event:
            case Waiting():
                self._take(event)
            case _End():
                self._meet_end(event)
            case None:
                pass  # stirred, or nothing came
            case _:
                assert_never(event)

    def _meet_end(self, event: _End) -> None:
        self._asked.discard(event.partition)
        if isinstance(event.end, Fault):
            self._trouble = str(event.end)  # asked again at the next look
        else:
            self._trouble = ""
            self._begin(event.partition, event.end)

    def _take(self, waiting: Waiting) -> None:
        parked = self._parked.get(waiting.spread)
        if parked is not None:  # behind those of the same root, whatever is read meanwhile
            parked.append(waiting)
        elif waiting.places <= self._read.keys():
            self._write(waiting)
        else:
            self._parked[waiting.spread] = deque([waiting])
            self._ask(waiting.places)

    def _ask(self, places: Collection[int]) -> None:
        wanted = set(places) - self._read.keys() - self._asked
        if wanted:
            self._asked |= wanted
            self._ends.ask(wanted, lambda partition, end: self._events.put(_End(partition, end)))

    def _begin(self, partition: int, end: int) -> None:
        if partition not in self._read:
            self._read[partition] = time.monotonic()
            self._reader.begin(partition, end)
        for spread, parked in list(self._parked.items()):
            while parked and parked[0].places <= self._read.keys():
                self._write(parked.popleft())
            if not parked:
                del self._parked[spread]

    def _write(self, waiting: Waiting) -> None:
        if waiting.future.done():  # given up, and nobody would learn of its result
            return
        self._unwritten[waiting] = None
        try:
            if self._producer is None:  # its password may just be changed, and its file be away
                self._producer = self._open_producer()
            self._producer.send(waiting.record, partial(self._unwritten.pop, waiting, None))
        except Unavailable as fault:  # of this record alone: its producer has no room
            del self._unwritten[waiting]
            self._desk.give_up_these([waiting], f"it was not sent: {fault}", sent=False)
        except Fault as fault:
            self._drop_producer(fault)

    def _drop_producer(self, fault: Fault) -> None:
        """Begin anew with the next record: after a failed delivery nobody knows which of these were written."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None
        lost, self._unwritten = list(self._unwritten), {}
        self._desk.give_up_these(lost, str(fault))

    def _look(self, now_s: float) -> None:
        trouble = self._ends.trouble() or self._reader.trouble or self._trouble
        self._desk.give_up("none came in time" + (f" ({trouble})" if trouble else ""), until_s=now_s)
        if self._producer is not None:
            try:
                self._producer.poll(0)
            except Fault as fault:
                self._drop_producer(fault)
        for spread, parked in list(self._parked.items()):
            left = deque(waiting for waiting in parked if not waiting.future.done())
            if left:
                self._parked[spread] = left
                self._ask(left[0].places)
            else:
                del self._parked[spread]
        self._let_go(now_s)

    def _let_go(self, now_s: float) -> None:
        """Stop reading partitions in which nobody has waited for a while."""
        waited_in = self._desk.places()
        for partition, last_s in list(self._read.items()):
            if partition in waited_in:
                self._read[partition] = now_s
            elif now_s - last_s > _LINGER_S:
                del self._read[partition]
                self._reader.drop(partition)
