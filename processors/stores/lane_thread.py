"""A lane's SQL transaction, and the thread that executes it while the lane decides; a small one the lane executes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import chain
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

from processors.faults import Fault, Fenced, LaneStopped, StopCode
from processors.stores.journal_reading import Place, results_at
from processors.stores.lane_sql import Load, select_progress
from processors.stores.mysql import Reply, Row, Session
from processors.stores.rows import Progress
from processors.stores.table_sql import SqlStatement

T = TypeVar("T")

# Statements that go to the server in one packet: what a batch of some hundred commands has. A larger one costs more
# than its round trip, and each is below the server's limit for a packet by itself (``sql_text.STATEMENT_BYTES_MAX``).
TOGETHER_BYTES_MAX = 256 * 1024


class LoadedRows(NamedTuple):
    """What each SELECT of a batch's rows found, and the results of the journal's rows among them."""

    rows: list[tuple[Load, list[Row]]]
    results: dict[Place, bytes]


class SqlTransaction:
    """One transaction under way. The fence is checked and the rows are read first; then the writes, and COMMIT.

    It has three round trips: BEGIN with the fence and the rows; what is written, in one packet or more; COMMIT. Results
    of rows that are found in the journal take another. Where no rows are asked for, the first packet goes along with
    BEGIN and the fence. The fence's answer comes first then, too: what was written behind another owner's back is
    rolled back.

    The two threads meet in futures, ``loaded`` once the rows are read and ``done`` after the commit, and in a queue:
    ``write`` passes on what is written packet by packet, so that the server executes one while the next is made.
    """

    def __init__(self, lane: int, fence: Progress, loads: list[Load]) -> None:
        """Nothing runs before ``run``, or ``open``."""
        self.loaded: Future[LoadedRows] = Future()
        self.done: Future[None] = Future()
        self._packets: SimpleQueue[list[SqlStatement] | None] = SimpleQueue()  # empty: the end; None: roll back
        self._lane = lane
        self._fence = fence
        self._loads = loads

    def write(self, statements: Iterable[SqlStatement]) -> None:
        """Pass on what is written, as it is made. What ``statements`` raises is raised here, and nothing is written."""
        try:
            for packet in _together(statements):
                self._packets.put(packet)
        except BaseException:
            self.roll_back()
            raise
        self._packets.put([])

    def roll_back(self) -> None:
        """Have it end in ROLLBACK, whatever it has executed; nothing if it has ended."""
        self._packets.put(None)

    def run(self, session: Session) -> None:
        """Run it to its end, as ``open`` and ``end``."""
        self.open(session)
        self.end(session)

    def open(self, session: Session) -> None:
        """Read the rows, if any are asked for; what goes wrong is told to whoever waits, and ends the session."""
        if not self._loads:
            self.loaded.set_result(LoadedRows([], {}))
            return
        with self._telling(session):
            loads = [SqlStatement(what=f"loading from {load.name}", sql=load.sql) for load in self._loads]
            first, *others = map(_texts, _together(loads))
            replies = chain(self._begun(session, first), *map(session.together, others))
            found = [(load, next(replies).rows) for load in self._loads]
            decided = [row for load, rows in found if load.table is None for row in rows]
            # One round trip more, where a command was decided before: a duplicate, or the original of a refund.
            places = ((row[2], row[3], row[4], row[5]) for row in decided)
            self.loaded.set_result(LoadedRows(found, results_at(session, places) if decided else {}))

    def end(self, session: Session) -> None:
        """Write and commit, once it is known what; nothing where ``open`` failed. Tells of trouble as ``open``."""
        if self.done.done():
            return
        with self._telling(session):
            packets = self._written()
            if not self._loads:
                first = next(packets, [])
                _check_counts(first, self._begun(session, _texts(first)))
            for packet in packets:
                _check_counts(packet, session.together(_texts(packet)))
            session.commit()
            self.done.set_result(None)

    def _written(self) -> Iterator[list[SqlStatement]]:
        while packet := self._packets.get():
            yield packet
        if packet is None:
            raise AssertionError("the batch could not be written as SQL")

    def _begun(self, session: Session, statements: list[tuple[str, str]]) -> Iterator[Reply]:
        """Begin, check the fence, and return the replies to what goes along with that."""
        fence = (select_progress(self._lane), "locking progress")
        replies = session.together([fence, *statements], begin=True)
        check_answer(self._lane, self._fence, next(replies).rows)
        return replies

    @contextmanager
    def _telling(self, session: Session) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            trouble = _told(error)
            with suppress(Exception):  # whoever waits must be told, whatever else goes wrong
                session.abandon()
            if not self.loaded.done():
                self.loaded.set_exception(trouble)
            self.done.set_exception(trouble)  # so nothing goes on behind a packet that was taken and never sent
            if not isinstance(error, Exception):  # else whoever waits raises it: never passed over
                raise


def check_fence(session: Session, lane: int, fence: Progress) -> None:
    """Lock a lane's row of ``progress``, and compare it with the state of the last commit (L1).

    Raises:
        Fenced: Another owner, or another past, of the lane.
    """
    check_answer(lane, fence, session.query(select_progress(lane), "locking progress"))


def check_answer(lane: int, fence: Progress, found: list[Row]) -> None:
    """Compare what the locking read of ``progress`` found with the state of the last commit (L1).

    Raises:
        Fenced: Another owner, or another past, of the lane.
    """
    if found != [(fence.at.next_offset, fence.at.digest, fence.owner_epoch)]:
        stands = "gone" if not found else f"at {found[0][0]} with owner epoch {found[0][2]}"
        raise Fenced(f"lane {lane} is {stands}, it was at {fence.at.next_offset} with owner epoch {fence.owner_epoch}")


def _together(statements: Iterable[SqlStatement]) -> Iterator[list[SqlStatement]]:
    """Yield the statements by packets, in their order."""
    packet: list[SqlStatement] = []
    size = 0
    for statement in statements:
        if packet and size + len(statement.sql) > TOGETHER_BYTES_MAX:
            yield packet
            packet, size = [], 0
        packet.append(statement)
        size += len(statement.sql)
    if packet:
        yield packet


def _texts(statements: list[SqlStatement]) -> list[tuple[str, str]]:
    return [(statement.sql, statement.what) for statement in statements]


def _check_counts(statements: list[SqlStatement], replies: Iterator[Reply]) -> None:
    for statement, reply in zip(statements, replies, strict=True):
        if reply.count != statement.rows is not None:  # L8
            raise AssertionError(f"{statement.what}: {reply.count} rows, not {statement.rows}")


def _told(error: BaseException) -> Exception:
    if isinstance(error, Fault):
        return error
    stop = LaneStopped(StopCode.BUG, f"{type(error).__name__}: {error}")
    stop.__cause__ = error  # whose traceback is the one to be read
    return stop


class SqlThread:
    """Runs one job after the other; ended by ``close``."""

    def __init__(self, name: str) -> None:
        """Start at once."""
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Queue a job, which must not raise."""
        self._jobs.put(job)

    def close(self) -> None:
        """End after what is queued; does not wait for it."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
