"""The thread that executes a lane's SQL, so that the interpreter is free for deciding while MySQL works."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

from processors.faults import Fault, Fenced, LaneStopped, StopCode
from processors.stores.lane_sql import Load, select_progress
from processors.stores.mysql import Row, Session
from processors.stores.rows import Progress
from processors.stores.table_sql import SqlStatement

T = TypeVar("T")


class SqlTransaction:
    """One transaction under way. The fence is checked and the rows are read first; then the writes, and COMMIT.

    The two threads meet in futures: ``loaded`` is set by the SQL thread once the rows are read; ``to_write`` by the
    lane's thread once it has made the SQL (None: it could not, roll back); ``done`` by the SQL thread after the commit.
    """

    def __init__(self, lane: int, fence: Progress, loads: list[Load]) -> None:
        """Nothing runs before ``run``."""
        self.loaded: Future[list[tuple[Load, list[Row]]]] = Future()
        self.to_write: Future[list[SqlStatement] | None] = Future()
        self.done: Future[None] = Future()
        self._lane = lane
        self._fence = fence
        self._loads = loads

    def run(self, session: Session) -> None:
        """Run it to its end; what goes wrong is told to whoever waits. Afterwards the session is unusable if it did."""
        try:
            self._run(session)
        except Exception as error:  # noqa: BLE001 - handed to the lane's thread, which raises it: never passed over
            trouble = _told(error)
            with suppress(Exception):  # whoever waits must be told, whatever else goes wrong
                session.abandon()
            if not self.loaded.done():
                self.loaded.set_exception(trouble)
            self.done.set_exception(trouble)
        else:
            self.done.set_result(None)

    def _run(self, session: Session) -> None:
        session.begin()
        check_fence(session, self._lane, self._fence)
        self.loaded.set_result([(load, session.query(load.sql, f"loading from {load.name}")) for load in self._loads])
        statements = self.to_write.result()
        if statements is None:
            raise AssertionError("the batch could not be written as SQL")
        for statement in statements:
            rows = session.execute(statement.sql, statement.what)
            if rows != statement.rows is not None:  # L8
                raise AssertionError(f"{statement.what}: {rows} rows, not {statement.rows}")
        session.commit()


def check_fence(session: Session, lane: int, fence: Progress) -> None:
    """Lock a lane's row of ``progress``, and compare it with the state of the last commit (L1).

    Raises:
        Fenced: Another owner, or another past, of the lane.
    """
    found = session.query(select_progress(lane), "locking progress")
    if found != [(fence.at.next_offset, fence.at.digest, fence.owner_epoch)]:
        stands = "gone" if not found else f"at {found[0][0]} with owner epoch {found[0][2]}"
        raise Fenced(f"lane {lane} is {stands}, it was at {fence.at.next_offset} with owner epoch {fence.owner_epoch}")


def _told(error: Exception) -> Exception:
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
