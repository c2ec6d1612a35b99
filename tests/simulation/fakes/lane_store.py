"""``stores.lane_store.MysqlLaneStore`` on the in-memory shard database."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from processors.faults import WAITING_FOR_A_TIME, Fenced, LaneStopped, Retryable, StopCode, Unavailable, UnknownOutcome
from processors.ids import slice_of_id
from processors.ledger.book import Changes, Keys, Rows
from processors.ledger.rows import SystemKey
from processors.stores.recent_ids import LOADED_MS, RecentIds, ids_of
from processors.stores.rows import BatchWrite, Border, JournalRow, LaneState, ParkedRow, Progress, RowsOf
from processors.wire.results import decision_of
from tests.simulation.fakes.crash_points import CrashPoints
from tests.simulation.fakes.database import Database, Session

IDS_REMEMBERED = 40  # few, so that many leave again
TAKE_OVER_ATTEMPTS = 7  # L6: as many lock waits as are longer than wait_timeout


class FakeLaneStore:
    """A lane's rows over one session. What ``begin`` wrote is under way until ``finish``."""

    def __init__(self, database: Database, lane: int, crash_points: CrashPoints) -> None:
        self.database = database
        self.lane = lane
        self.crash_points = crash_points
        self.session: Session | None = None
        self._owner_epoch: int | None = None
        self._next_offset = 0
        self._running = False
        self._trouble: LaneStopped | None = None
        self._recent = RecentIds(0, ())

    # ------------------------------------------------------------------ ownership

    def take_over(self, topic_id: bytes) -> LaneState:
        crash_points, database, lane = self.crash_points, self.database, self.lane
        crash_points.point("store.take_over")
        self._drop_session()
        if crash_points.fails("store.take_over"):
            raise Unavailable("MySQL does not answer")
        session = self._lock_patiently()
        if lane not in database.tables.progress:
            database.new_lane(lane, topic_id)
        way = crash_points.choose(2) if crash_points.fails("store.take_over.commit") else None
        if way != 0:
            database.raise_owner_epoch(lane)
        state = self._state()
        database.release(session)
        if way is not None:
            raise UnknownOutcome("the takeover's COMMIT was not answered")
        crash_points.point("store.taken_over")
        self.session = session
        self._owner_epoch = state.progress.owner_epoch
        self._next_offset = state.progress.at.next_offset
        self._recent = self._select_recent(state)
        return state

    def _select_recent(self, state: LaneState) -> RecentIds:
        floor_ms = max(state.progress.at.lane_time_ms - LOADED_MS, 0)
        rows = [row for row in self.database.tables.by_command.values() if row.lane == self.lane]
        ids = [row.command_id for row in rows if slice_of_id(row.command_id) == row.slice]
        return RecentIds(floor_ms, ids, ids_max=IDS_REMEMBERED)

    def _load(self, load: Keys) -> Rows:
        asked = self._recent.may_be_any(load.decisions)
        here = self.database.tables.load(Keys(decisions=load.decisions), decision_of).decisions
        assert here.keys() <= asked.keys(), "the journal has an id that would not have been looked for"
        return self.database.tables.load(replace(load, decisions=asked), decision_of)

    def _lock_patiently(self) -> Session:
        for _ in range(TAKE_OVER_ATTEMPTS):
            session = self.database.connect()
            try:
                self.database.lock(session, self.lane)
            except Retryable:
                continue  # L6
            return session
        raise Retryable(f"lane {self.lane} stayed locked")

    def _state(self) -> LaneState:
        tables, lane = self.database.tables, self.lane
        rules_since = tables.rules_of(lane)
        code, detail = tables.stops.get(lane, (None, ""))
        return LaneState(
            progress=tables.progress[lane],
            ingress=dict(tables.ingress[lane]),
            rules=list(rules_since.values())[-1],
            rules_since=rules_since,
            system={key: balance for (of_lane, key), balance in tables.system.items() if of_lane == lane},
            lane_times={first: told for (of_lane, first), told in tables.lane_times.items() if of_lane == lane},
            waiting_at=tables.waiting.get(lane),
            stop_code=code,
            stop_detail=detail,
            placements=tables.placements_of(lane),
            home=self.database.home,
        )

    def owner_epoch(self) -> int:
        self._ask("store.owner_epoch")
        if self.lane not in self.database.tables.progress:
            raise Fenced(f"lane {self.lane} has no row of progress any more")
        return self.database.tables.progress[self.lane].owner_epoch

    # ------------------------------------------------------------------ batches

    def begin(self, fence: Progress, write: BatchWrite | None, load: Keys, *, open_end: bool = False) -> None:
        crash_points, database = self.crash_points, self.database
        assert not self._running, "the transaction before was not finished"
        assert write is None or not open_end, "what is written is given twice"
        crash_points.point("store.begin")
        session = self._open_session()
        if crash_points.fails("store.begin"):
            self._drop_session()
            raise Retryable("the connection was lost before COMMIT")
        try:
            database.lock(session, self.lane)
            self.check_fence(fence)
        except (Retryable, Fenced):
            self._drop_session()
            raise
        self._loaded = self._load(load)
        self._running = True
        if not open_end:
            self.end(write)
        crash_points.point("store.begun")

    def end(self, write: BatchWrite | None) -> None:
        if not self._running or write is None:
            return
        assert self.session is not None
        self.crash_points.point("store.end")
        self.session.write = copied = copy_write(write)
        self._trouble = self.database.try_out(copied)

    def loaded(self) -> Rows:
        assert self._running, "no transaction was begun"
        return self._loaded

    def check_fence(self, fence: Progress) -> None:
        progress = self.database.tables.progress.get(self.lane)
        found = None if progress is None else (progress.at.next_offset, progress.at.digest, progress.owner_epoch)
        if found != (fence.at.next_offset, fence.at.digest, fence.owner_epoch):  # L1
            raise Fenced(f"lane {self.lane} stands at {found}, it was at {fence}")

    def finish(self) -> None:
        crash_points, database, session = self.crash_points, self.database, self.session
        if not self._running:
            return
        self._running = False
        assert session is not None
        crash_points.point("store.finish")
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            self._drop_session()
            raise trouble
        if session.gone:
            self.session = None
            raise Retryable("the server gave the connection up")
        if crash_points.fails("store.finish"):
            self._lose_the_answer(session)
        write = session.write
        database.commit(session)
        if write is not None:
            self._next_offset = write.progress.at.next_offset
            self._recent.add(ids_of(write.journal))
        session.used_ms = database.clock.now_ms
        crash_points.point("store.finished")

    def is_written(self) -> bool:
        return True  # its statements take no time

    def delete_left(self, fence: Progress, rows: RowsOf, *, rows_max: int) -> int:
        self._ask("store.delete_left")
        session = self._open_session()
        try:
            self.database.lock(session, self.lane)
            self.check_fence(fence)
        except (Retryable, Fenced):
            self._drop_session()
            raise
        tables = self.database.tables
        tables.progress[self.lane] = replace(
            tables.progress[self.lane],
            published_offset=fence.published_offset,
            published_time_ms=fence.published_time_ms,
        )
        deleted = tables.delete_rows_of(rows, rows_max)
        self.database.release(session)
        self.crash_points.point("store.deleted_left")
        return deleted

    def _lose_the_answer(self, session: Session) -> None:
        """Lose the connection: before COMMIT, after it was carried out, with it, or with it still on the wire."""
        self.session = None
        way = self.crash_points.choose(4)
        if way == 0:
            self.database.release(session)
            raise Retryable("the connection was lost before COMMIT")
        if way == 1:
            self.database.commit(session)
        elif way == 2:
            self.database.release(session)
        else:
            session.committing = True  # the environment carries it out, or gives it up, some time later
        raise UnknownOutcome("COMMIT was not answered")

    # ------------------------------------------------------------------ single questions

    def answers(self, from_offset: int, to_offset: int) -> list[JournalRow]:
        self._ask("store.answers")
        return self.database.tables.rows_of(self.lane, from_offset, to_offset)

    def last_border(self, at_most: int) -> Border | None:
        self._ask("store.last_border")
        borders = self.database.tables.batch_digests
        known = [offset for lane, offset in borders if lane == self.lane and offset <= at_most]
        return borders[self.lane, max(known)] if known else None

    def sums(self, rows: RowsOf) -> dict[SystemKey, int]:
        self._ask("store.sums")
        return self.database.tables.sums(rows)

    def parked(self, placement_key: str, *, records_max: int, bytes_max: int) -> list[ParkedRow]:
        self._ask("store.parked")
        rows = self.database.tables.parked_of(self.lane)
        waiting = [row for row in rows if row.placement_key == placement_key and row.unparked is None]
        found: list[ParkedRow] = []
        for row in waiting[:records_max]:
            bytes_max -= len(row.record.value or b"")
            if found and bytes_max < 0:
                break
            found.append(row)
        return found

    def parked_again(self, from_offset: int, to_offset: int) -> list[ParkedRow]:
        self._ask("store.parked_again")
        within = range(from_offset, to_offset)
        rows = self.database.tables.parked_of(self.lane)
        return [row for row in rows if row.record.offset in within or (row.unparked and row.unparked[0] in within)]

    def stop(self, code: StopCode, detail: str) -> None:
        self.crash_points.point("store.stop")
        database, lane = self.database, self.lane
        if self._owner_epoch is None:
            raise Fenced(f"lane {lane} was never taken over")
        if self._running:
            self._drop_session()
        if self.crash_points.fails("store.stop"):
            raise Retryable("the stop was not stored")
        session = database.connect()
        try:
            database.lock(session, lane)
        finally:
            database.release(session)
        progress = database.tables.progress.get(lane)
        mine = (self._owner_epoch, self._next_offset)
        if progress is None or (progress.owner_epoch, progress.at.next_offset) != mine:
            raise Fenced(f"lane {lane} has another owner, or another past")
        database.tables.stops[lane] = (code, detail)
        if code in WAITING_FOR_A_TIME:
            database.tables.waiting[lane] = progress.at.next_offset

    def close(self) -> None:
        self.crash_points.point("store.close")
        self._drop_session()

    # ------------------------------------------------------------------ the connection

    def _ask(self, where: str) -> None:
        self.crash_points.point(where)
        assert self.session is not None, "take over first"
        if self.crash_points.fails(where):
            self._drop_session()
            raise Retryable(f"{where}: the connection was lost")

    def _open_session(self) -> Session:
        """Return the connection; one that the server gave up while it was idle is replaced."""
        assert self.session is not None, "take over first"
        if self.session.gone:
            self.session = self.database.connect()
        return self.session

    def _drop_session(self) -> None:
        self._running = False
        if self.session is not None:
            self.database.release(self.session)
            self.session = None


def copy_write(write: BatchWrite) -> BatchWrite:
    """Take the values of a batch as they are now: the book goes on changing its own objects."""
    rows = {
        table: [change._replace(row=copy(change.row)) for change in changes]
        for table, changes in write.changes.rows.items()
    }
    return BatchWrite(
        progress=write.progress,
        journal=list(write.journal),
        changes=Changes(rows=rows, system=dict(write.changes.system)),
        ingress=dict(write.ingress),
        rules=dict(write.rules),
        lane_times=dict(write.lane_times),
        placements=list(write.placements),
        parked=list(write.parked),
        unparked=dict(write.unparked),
        cleared=list(write.cleared),
        arrived=dict(write.arrived),
    )
