"""An in-memory shard database: committed tables, and one open transaction a connection with a lock on its lane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from processors.faults import LaneStopped, Retryable
from processors.ledger.rules import Rules
from processors.stores.mysql import LOCK_WAIT_TIMEOUT_S, WAIT_TIMEOUT_S
from processors.stores.rows import BatchWrite, Progress
from processors.wire.positions import LANE_START
from tests.simulation.fakes.clock import Clock
from tests.simulation.fakes.tables import Tables


@dataclass(slots=True)
class Session:
    """A connection. ``lane`` is the one whose row it has locked; ``committing``: its COMMIT was sent, and waits."""

    used_ms: int
    lane: int | None = None
    write: BatchWrite | None = None
    committing: bool = False
    gone: bool = False


class Database:
    """One shard. ``on_commit`` is told each batch as it becomes durable."""

    def __init__(self, clock: Clock, rules: Rules, *, home: bool = True) -> None:
        self.clock = clock
        self.rules = rules
        self.home = home  # R2
        self.tables = Tables()
        self.on_commit: Callable[[int, BatchWrite], None] = lambda _lane, _write: None
        self.on_wait: Callable[[Session], None] = lambda _holder: None  # told who holds a lock while another waits
        self._holders: dict[int, Session] = {}

    def connect(self) -> Session:
        return Session(self.clock.now_ms)

    # ------------------------------------------------------------------ locks

    def lock(self, session: Session, lane: int) -> None:
        """Take the lane's row of ``progress`` FOR UPDATE, waiting as long as MySQL would.

        Raises:
            Retryable: The row stayed locked; the transaction is rolled back by the caller.
        """
        session.used_ms = self.clock.now_ms
        holder = self._holders.get(lane)
        if holder is not None and holder is not session:
            self.clock.advance(LOCK_WAIT_TIMEOUT_S * 1000)
            self.on_wait(holder)
            holder = self._holders.get(lane)
        if holder is not None and holder is not session:
            if self.clock.now_ms - holder.used_ms <= WAIT_TIMEOUT_S * 1000:
                raise Retryable(f"lane {lane}: lock wait timeout")
            self.settle(holder, commit=False)  # the server gave its silent client up
        self._holders[lane] = session
        session.lane = lane

    def settle(self, session: Session, *, commit: bool) -> None:
        """End a session's transaction without its client: the server lost it, or carries out a COMMIT it was sent."""
        if commit and session.committing and not session.gone:
            self.commit(session)
        self.release(session)
        session.gone = True

    def release(self, session: Session) -> None:
        """Roll back, or end after the commit: the lock goes."""
        if session.lane is not None and self._holders.get(session.lane) is session:
            del self._holders[session.lane]
        session.lane = session.write = None
        session.committing = False

    def holders(self) -> list[Session]:
        return list(self._holders.values())

    # ------------------------------------------------------------------ committing

    def commit(self, session: Session) -> None:
        """Carry the session's batch out; ``try_out`` found nothing against it, and its rows are locked since."""
        write, lane = session.write, session.lane
        assert lane is not None
        if write is not None:
            self.tables.apply(write)
        self.release(session)
        if write is not None:
            self.on_commit(lane, write)

    def try_out(self, write: BatchWrite) -> LaneStopped | None:
        """Return what the statements of a batch would run into."""
        try:
            self.tables.backup().apply(write)
        except LaneStopped as stop:
            return stop
        return None

    def drop_slice(self, number: int) -> None:
        """Drop a partition of the journal.

        Raises:
            Retryable: A transaction uses the table (A7).
        """
        if any(session.write is not None for session in self._holders.values()):
            raise Retryable("the journal is in use")
        self.tables.drop_slice(number)

    def new_lane(self, lane: int, topic_id: bytes) -> None:
        """Make a lane's rows where it has none yet."""
        self.tables.progress[lane] = Progress(
            lane=lane,
            topic_id=topic_id,
            owner_epoch=0,
            version_us=0,
            published_offset=0,
            published_time_ms=0,
            at=LANE_START,
        )
        self.tables.rules[lane, self.rules.version] = (0, self.rules)
        self.tables.ingress[lane] = {}

    def raise_owner_epoch(self, lane: int) -> None:
        progress = self.tables.progress[lane]
        self.tables.progress[lane] = replace(progress, owner_epoch=progress.owner_epoch + 1)

    # ------------------------------------------------------------------ recovery

    def restore(self, backup: Tables) -> None:
        """Go back to a backup; every connection is gone, with what it had open."""
        for session in self.holders():
            self.settle(session, commit=False)
        self.tables = backup.backup()
