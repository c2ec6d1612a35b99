"""A lane's rows in its shard's MySQL: one connection, one transaction at a time, fenced (docs/design.md, A lane)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from processors.faults import WAITING_FOR_A_TIME, Fenced, Misconfigured, Retryable, StopCode
from processors.ledger.book import Keys, Rows
from processors.ledger.rows import Decision, SystemKey
from processors.stores import lane_sql, placement_sql
from processors.stores.addresses import MysqlAddress
from processors.stores.journal_reading import journal_rows
from processors.stores.lane_rows import (
    PROGRESS_COLUMNS,
    add_rows,
    progress_of,
    select_border,
    select_ingress,
    select_lane_times,
    select_system_accounts,
    stop_of,
)
from processors.stores.lane_thread import SqlThread, SqlTransaction, check_fence
from processors.stores.mysql import LOCK_WAIT_TIMEOUT_S, WAIT_TIMEOUT_S, LockWaitTimeout, Session
from processors.stores.partitions import slices
from processors.stores.recent_ids import RecentIds, ids_of, select_recent
from processors.stores.rows import (
    BatchWrite,
    Border,
    IngressKey,
    IngressPosition,
    JournalRow,
    LaneState,
    ParkedRow,
    Progress,
    RowsOf,
)
from processors.stores.rules_rows import select_rules
from processors.stores.sql_text import cut_literal, hex_literal, text_literal
from processors.stores.table_sql import SqlStatement

T = TypeVar("T")

KEYS_MAX = 2_000  # L8
# L6: the transaction that is in doubt may hold the row until its client was silent for wait_timeout; one lock wait more
# for the one that began just before, and air.
TAKE_OVER_DEADLINE_S = WAIT_TIMEOUT_S + LOCK_WAIT_TIMEOUT_S + 10
# A connection that was idle for longer may be gone with the next packet (wait_timeout): it is replaced before BEGIN,
# when nothing is in doubt.
IDLE_MAX_S = WAIT_TIMEOUT_S / 2
STOP_DETAIL_BYTES_MAX = 2_000


class MysqlLaneStore:
    """The lane's tables. The lane's thread calls the methods; the SQL of a batch runs in a thread of its own.

    After a fault nothing is known of the lane until ``take_over`` has read it again. Until then only ``stop`` and
    ``close`` may be called.
    """

    def __init__(
        self,
        address: MysqlAddress,
        lane: int,
        *,
        decision_of: Callable[[bytes], Decision],
        clock_ms: Callable[[], int],
        keys_max: int = KEYS_MAX,
    ) -> None:
        """Nothing is connected before ``take_over``.

        Args:
            address: The shard's database.
            lane: The partition of the shard's topic.
            decision_of: Reads a journal row's result (``wire.results``).
            clock_ms: Wall clock, for ``stopped_at_ms``, which only people read.
            keys_max: Rows that one statement names (L8).
        """
        assert 1 <= keys_max <= KEYS_MAX, f"keys_max is {keys_max}"
        self._address = address
        self._lane = lane
        self._decision_of = decision_of
        self._clock_ms = clock_ms
        self._keys_max = keys_max
        self._session: Session | None = None
        self._used_s = 0.0
        self._thread: SqlThread | None = None
        self._running: SqlTransaction | None = None
        self._running_write: BatchWrite | None = None
        self._running_fence: Progress | None = None
        self._running_here = False  # in the lane's thread, and its end is open
        self._owner_epoch: int | None = None
        self._next_offset = 0  # where the lane stood when it was last known
        self._stored_system: set[SystemKey] = set()
        self._stored_ingress: dict[IngressKey, IngressPosition] = {}
        self._recent = RecentIds(0, ())  # read when the lane is taken over, before anything is looked for

    # ------------------------------------------------------------------ ownership

    def take_over(self, topic_id: bytes) -> LaneState:
        """Become the lane's owner: its owner epoch rises by one, which fences every older owner (L1).

        Args:
            topic_id: 16 bytes; stored where the lane is new. The caller compares it with the state's (L3).

        Returns:
            Where the lane stands, read in the transaction that took it over.

        Raises:
            Retryable: The lane's row stayed locked for longer than any transaction in doubt can hold it (L6).
            Misconfigured: The database has no such lane; the text says what to do.
            Unavailable, UnknownOutcome: The server; take over again.
        """
        self._drop_session()
        deadline_s = time.monotonic() + TAKE_OVER_DEADLINE_S
        while True:
            session = Session(self._address, lane=True)
            try:
                state = self._take_over(session, topic_id)
            except LockWaitTimeout:  # after 5 s each; whatever else it is, the lane begins anew, with a pause
                session.abandon()
                if time.monotonic() > deadline_s:  # L6
                    raise
                continue
            except BaseException:
                session.abandon()
                raise
            self._use(session, state)
            return state

    def _take_over(self, session: Session, topic_id: bytes) -> LaneState:
        lane = self._lane
        session.begin()
        # Made here and not by `migrate`, since only now the topic's id is known. Whoever else does the same waits.
        session.execute(
            f"INSERT INTO progress ({PROGRESS_COLUMNS}) "
            f"VALUES ({lane},{hex_literal(topic_id)},0,-1,0,0,0,{hex_literal(bytes(32))},0,0) "
            "ON DUPLICATE KEY UPDATE lane = progress.lane",
            "making the lane's row",
        )
        raised = session.execute(
            f"UPDATE progress SET owner_epoch = owner_epoch + 1 WHERE lane = {lane}", "raising the owner epoch"
        )
        assert raised == 1, f"lane {lane}: {raised} rows of progress"
        ((*progress, waiting_at, code, detail),) = session.query(
            f"SELECT {PROGRESS_COLUMNS}, waiting_at, stop_code, stop_detail FROM progress "
            f"WHERE lane = {lane} FOR UPDATE",
            "reading progress",
        )
        stop_code, stop_detail = stop_of(code, detail)
        ((home,),) = session.query("SELECT home FROM shard", "reading whether this is the home shard")
        # Everything is read once the row is locked: while the lock was waited for, the owner before may have committed.
        rules_since = select_rules(session, lane).get(lane)
        if rules_since is None:
            raise Misconfigured(f"{self._address} has no rules for lane {lane}: run `balance migrate`")
        state = LaneState(
            progress=progress_of(tuple(progress)),
            ingress=select_ingress(session, lane),
            rules=next(reversed(rules_since.values())),  # by version, ascending
            rules_since=rules_since,
            system=select_system_accounts(session, lane),
            lane_times=select_lane_times(session, lane),
            waiting_at=waiting_at,
            stop_code=stop_code,
            stop_detail=stop_detail,
            home=bool(home),
            placements=placement_sql.select_placements(session, lane),
        )
        self._recent = select_recent(session, lane, state.progress.at.lane_time_ms)
        session.commit()
        return state

    def _use(self, session: Session, state: LaneState) -> None:
        self._session = session
        self._used_s = time.monotonic()
        self._owner_epoch = state.progress.owner_epoch
        self._next_offset = state.progress.at.next_offset
        self._stored_system = set(state.system)
        self._stored_ingress = dict(state.ingress)

    def owner_epoch(self) -> int:
        """Return the owner epoch as it is now (L5)."""
        sql = f"SELECT owner_epoch FROM progress WHERE lane = {self._lane}"
        rows = self._ask(lambda session: session.query(sql, "reading the owner epoch"))
        if not rows:
            raise Fenced(f"lane {self._lane} has no row of progress any more")
        return int(rows[0][0])

    # ------------------------------------------------------------------ batches

    def begin(self, fence: Progress, write: BatchWrite | None, load: Keys, *, open_end: bool = False) -> None:
        """Start a transaction: check the fence, read the rows asked for, write, and commit.

        Args:
            fence: The state of the last commit; anything else in ``progress`` means that the lane is not ours (L1).
            write: The batch to make durable, or None to load only. Its values are taken before this returns.
            load: Keys of the rows that ``loaded`` returns, as they are before ``write``.
            open_end: What is written is given to ``end``, which must be called whatever happens; ``write`` is None.
                Nothing is decided before the rows are there, nor anything else before all is committed: so it runs in
                the caller's thread. To hand it to another one, and to hear of its end, would take switches of threads,
                on a busy machine some milliseconds each.

        Raises:
            LaneStopped: BUG: the batch cannot be written as SQL.
            Unavailable, Misconfigured: The server; the rest comes from ``loaded`` and ``finish``.
        """
        assert self._running is None, "the transaction before was not finished"
        assert write is None or not open_end, "what is written is given twice"
        session = self._fresh_session()
        asked = replace(load, decisions=self._recent.may_be_any(load.decisions)) if load.decisions else load
        running = SqlTransaction(self._lane, fence, lane_sql.loads(asked, self._keys_max))
        self._running, self._running_fence, self._running_here = running, fence, open_end
        if open_end:
            running.open(session)
            return
        if self._thread is None:
            self._thread = SqlThread(f"sql-{self._lane}")
        self._thread.submit(lambda: running.run(session))
        self._say(write)  # the server looks up the rows while this thread makes the SQL of the writes

    def end(self, write: BatchWrite | None) -> None:
        """Write and commit in the transaction that was begun; ``finish`` says what became of it.

        Args:
            write: The batch, or None. Its values are taken before this returns.

        Raises:
            LaneStopped: BUG: the batch cannot be written as SQL. The transaction is rolled back.
        """
        running, session = self._running, self._session
        if running is None:  # it failed, and ``loaded`` has told why
            return
        assert session is not None
        self._say(write)
        running.end(session)

    def _say(self, write: BatchWrite | None) -> None:
        """Give the transaction that runs what it writes."""
        running = self._running
        assert running is not None
        self._running_write = write
        assert self._running_fence is not None
        try:
            running.write(() if write is None else self._statements(write, self._running_fence))
        except BaseException:
            self._drop_session()
            raise

    def loaded(self) -> Rows:
        """Wait for the rows that ``begin`` was asked for; what is not among them does not exist.

        Raises:
            Fenced: Another owner, or another past, of the lane.
            Fault: As ``finish``.
        """
        running = self._running
        assert running is not None, "no transaction was begun"
        if running.loaded.exception() is not None:
            self.finish()  # raises it
        found, loaded = Rows(), running.loaded.result()
        for load, rows in loaded.rows:
            add_rows(found, load, rows, loaded.results, self._decision_of)
        return found

    def _statements(self, write: BatchWrite, fence: Progress) -> Iterator[SqlStatement]:
        return lane_sql.writes(write, fence, self._stored_system, self._stored_ingress, self._keys_max)

    def finish(self) -> None:
        """Wait until what ``begin`` started is committed; at once where nothing runs.

        Raises:
            UnknownOutcome: COMMIT was sent and not answered (L6).
            Fenced: Another owner, or another past, of the lane.
            LaneStopped: BUG, or MISSING_SLICE (A7).
            Retryable, Unavailable, Misconfigured: The server. Nothing was changed then, as with the two above.
        """
        running, write = self._running, self._running_write
        if running is None:
            return
        self._running = self._running_write = None
        try:
            running.done.result()
        except Exception:
            self._session = None
            raise
        self._used_s = time.monotonic()
        if write is not None:
            self._next_offset = write.progress.at.next_offset
            self._stored_system.update(write.changes.system)
            self._stored_ingress.update(write.ingress)
            self._recent.add(ids_of(write.journal))

    def is_written(self) -> bool:
        """Say whether ``finish`` would return, or raise, at once."""
        return self._running is None or self._running.done.done()

    def delete_left(self, fence: Progress, rows: RowsOf, *, rows_max: int) -> int:
        """Delete some frozen rows of a placement key that comes back, in a transaction of their own (M7).

        Args:
            fence: As ``begin`` takes it; P is stored as it has it (L4).
            rows: Whose.
            rows_max: How many at most.

        Returns:
            How many were deleted: fewer than ``rows_max`` were the last ones.

        Raises:
            Fenced: Another owner, or another past, of the lane.
            UnknownOutcome, Unavailable, Retryable: The server; what is left is found again.
        """

        def delete(session: Session) -> int:
            session.begin()
            check_fence(session, self._lane, fence)
            session.execute(
                f"UPDATE progress SET published_offset = {fence.published_offset}, "
                f"published_time_ms = {fence.published_time_ms} WHERE lane = {self._lane}",
                "storing how far is published",
            )
            deleted = placement_sql.delete_rows(session, rows, rows_max)
            session.commit()
            return deleted

        return self._ask(delete)

    # ------------------------------------------------------------------ single questions

    def answers(self, from_offset: int, to_offset: int) -> list[JournalRow]:
        """Return the journal's rows of offsets ``from_offset`` to below ``to_offset``, in their order."""
        return self._ask(lambda session: self._select_answers(session, from_offset, to_offset))

    def _select_answers(self, session: Session, from_offset: int, to_offset: int) -> list[JournalRow]:
        # Named one by one, each slice is a short range of the primary key instead of a scan of its partition.
        known = ",".join(str(number) for number in slices(session))
        if not known:
            return []
        return journal_rows(
            session,
            f"journal AS t WHERE slice IN ({known}) AND lane = {self._lane} AND lane_offset >= {from_offset} "
            f"AND lane_offset < {to_offset} ORDER BY lane_offset, lane_index",
        )

    def last_border(self, at_most: int) -> Border | None:
        """Return the lane's state at the last batch border up to an offset, if one is still known (L13)."""
        return self._ask(lambda session: select_border(session, self._lane, at_most))

    def sums(self, rows: RowsOf) -> dict[SystemKey, int]:
        """Return what the accounts of a placement key hold, by level and currency, in minor units (M2)."""
        sql = placement_sql.select_sums(rows)
        return placement_sql.sums_of(self._ask(lambda session: session.query(sql, "reading a placement key's sums")))

    def parked(self, placement_key: str, *, records_max: int, bytes_max: int) -> list[ParkedRow]:
        """Return the first records that wait for a placement key, in their order (M5).

        Args:
            placement_key: The one that they wait for.
            records_max: How many at most.
            bytes_max: Of their payloads together; the first record comes whatever it has.
        """
        waiting = f"placement_key = {text_literal(placement_key)} AND unparked_offset IS NULL"
        sizes = (
            f"SELECT lane_offset, LENGTH(record_value) FROM parked WHERE lane = {self._lane} AND {waiting} "
            f"ORDER BY lane_offset LIMIT {records_max}"
        )
        rows = self._ask(lambda session: session.query(sizes, "reading the sizes of parked records"))
        last, total = None, 0
        for offset, size in rows:
            total += size
            if last is not None and total > bytes_max:
                break
            last = offset
        return [] if last is None else self._parked(f"{waiting} AND lane_offset <= {last}")

    def parked_again(self, from_offset: int, to_offset: int) -> list[ParkedRow]:
        """Return what was parked, or unparked, from an offset of the lane on to below another one (L4)."""
        met = f"(lane_offset >= {from_offset} AND lane_offset < {to_offset})"
        unparked = f"(unparked_offset >= {from_offset} AND unparked_offset < {to_offset})"
        return self._parked(f"({met} OR {unparked})")

    def _parked(self, where: str) -> list[ParkedRow]:
        sql = placement_sql.select_parked(self._lane, where)
        rows = self._ask(lambda session: session.query(sql, "reading parked records"))
        return [placement_sql.parked_of(row) for row in rows]

    def stop(self, code: StopCode, detail: str) -> None:
        """Store why the lane stopped, if the lane is still ours; its next commit removes the reason.

        If it stopped because the time of its next record is not known, it goes on waiting for that time even after
        somebody has removed the stop (I2).

        Raises:
            Fenced: Another owner has it: he goes on.
            Fault: The server; stop again.
        """
        if self._owner_epoch is None:
            raise Fenced(f"lane {self._lane} was never taken over")
        if self._running is not None:
            self._drop_session()
        # A connection of its own: the lane's may be what went wrong.
        session = Session(self._address, lane=True)
        try:
            told = session.execute(
                f"UPDATE progress SET stop_code = {text_literal(code.value)}, "
                f"stop_detail = {cut_literal(detail, STOP_DETAIL_BYTES_MAX)}, stopped_at_ms = {self._clock_ms()}"
                f"{', waiting_at = next_offset' if code in WAITING_FOR_A_TIME else ''} "
                # In a restored database a later owner may get the same epoch again; but then the lane stands at
                # another offset (L1).
                f"WHERE lane = {self._lane} AND owner_epoch = {self._owner_epoch} "
                f"AND next_offset = {self._next_offset}",
                "storing the stop",
            )
        finally:
            session.close()
        if told != 1:
            raise Fenced(f"lane {self._lane} has another owner, or another past")

    def close(self) -> None:
        """Give the connection back and end the thread; what was not committed is rolled back."""
        self._drop_session()
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    # ------------------------------------------------------------------ the connection

    def _ask(self, question: Callable[[Session], T]) -> T:
        """Ask something outside a batch; after a fault the connection is gone."""
        session = self._fresh_session()
        try:
            answer = question(session)
        except BaseException:
            self._drop_session()
            raise
        self._used_s = time.monotonic()
        return answer

    def _fresh_session(self) -> Session:
        assert self._running is None, "the transaction before was not finished"
        if self._session is None:
            raise Retryable(f"lane {self._lane} must be taken over again")
        if time.monotonic() - self._used_s > IDLE_MAX_S:
            self._drop_session()
            self._session = Session(self._address, lane=True)
            self._used_s = time.monotonic()
        return self._session

    def _drop_session(self) -> None:
        """Let go of the connection; a transaction that still runs is waited for, so that its thread is free."""
        if self._running is not None:
            self._running.roll_back()
            if self._running_here and self._session is not None:
                self._running.end(self._session)
            if self._running.done.exception() is None and self._running_write is not None:
                self._next_offset = self._running_write.progress.at.next_offset
            self._running = self._running_write = None
        if self._session is not None:
            self._session.abandon()
            self._session = None
