"""Commits one batch while the next is decided and the one after it is read; the lane and its replay share it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, takewhile
from typing import Protocol

from processors.faults import LaneStopped, Retryable
from processors.lane.decided import Decided, UndecidedError
from processors.lane.deciding import Decider
from processors.lane.moving import ALONE, TOGETHER_MAX, Alone, Mover, MovesStore
from processors.ledger.book import Keys, Rows
from processors.ledger.commands import HandOff, MoveAhead
from processors.ledger.rules import Rules
from processors.stores.rows import BatchWrite, LaneState, PlacementState, Progress, RowsOf
from processors.wire.admission import Admission
from processors.wire.records import Record

# A batch of so many records shows that the lane has a backlog. Then the batch's rows are read in the transaction that
# writes the batch before it, so that MySQL always has work. A smaller batch is read, decided and written in a single
# transaction, so that its commands are answered sooner.
AHEAD_FROM = 1_000

_MAY_HAVE_FROZEN_ROWS = (PlacementState.SEALED, PlacementState.LEFT)


class BatchStore(MovesStore, Protocol):
    """A lane's rows, one transaction at a time (``stores.lane_store``)."""

    def begin(self, fence: Progress, write: BatchWrite | None, load: Keys, *, open_end: bool = False) -> None:
        """Start a transaction: check the fence, read the rows asked for, write, and commit.

        With ``open_end`` what it writes is given later, to ``end``, and may depend on the rows.
        """

    def loaded(self) -> Rows:
        """Wait for the rows that ``begin`` was asked for."""

    def end(self, write: BatchWrite | None) -> None:
        """Say what the transaction with an open end writes before it is committed; None: nothing."""

    def finish(self) -> None:
        """Wait until what ``begin`` started is committed."""

    def is_written(self) -> bool:
        """Say whether ``finish`` would not have to wait."""

    def delete_left(self, fence: Progress, rows: RowsOf, *, rows_max: int) -> int:
        """Delete some frozen rows of a placement key in a transaction of their own; return how many (M7).

        It stores P as the fence has it: without the rows nobody answers again what lies before the key's seal (L4).
        """


@dataclass(frozen=True, slots=True)
class _LoadedBatch:
    """The next records to decide; the rows that they need are in the book.

    The records were admitted under ``rules``, and may only be decided while those rules are in force (I6).
    """

    admissions: list[Admission]
    needs: Keys
    rules: Rules


class Committer:
    """Takes each batch through three steps: its rows are read, it is decided, it is written (docs/design.md, A lane).

    Three batches are on their way at once. While one transaction writes batch N and reads the rows of batch N+2, batch
    N+1 is decided, as if N were committed already. N+1 is written only after N really is. ``fence`` is the state after
    the last commit, which the locking read of the next transaction must find (L1).

    A small batch with nothing on its way before it takes all three steps in a single transaction, and is answered
    sooner.

    What a record is depends on the rules at its offset (I6). So where a record changes the rules its batch ends with
    it, and the records after it, which were admitted under the old rules, are admitted and have their rows read again.
    A record that moves a placement key is decided apart from all but its like, with nothing on its way before it
    (``Mover``): it changes whose records are decided here. But for a part of a hand-off that has begun to arrive
    nothing is read, so it is decided while what is before it is being written: a hand-off takes as long as its rows
    take in MySQL.
    """

    def __init__(
        self,
        store: BatchStore,
        decider: Decider,
        state: LaneState,
        *,
        admit: Callable[[Record, Rules], Admission],
        admit_parked: Callable[[Record, Rules], Admission],
        book_accounts_max: int,
        ahead_from: int = AHEAD_FROM,
        publishes: bool = True,
        seals_show_published: bool = False,
        on_committed: Callable[[Decided], None],
    ) -> None:
        """Begin after the state that was taken over.

        Args:
            store: Its rows were taken over with ``state``.
            decider: Made from the same state.
            state: What ``take_over`` returned.
            admit: Says what a record is under some rules; called in the lane's thread, while the server writes.
            admit_parked: Says it of a record that was admitted before it was parked (M5).
            book_accounts_max: Accounts that may stay in the book between batches.
            ahead_from: Records in a batch from which its rows are read one step ahead of its decisions. That costs it
                the time of a transaction, and lets MySQL work without a pause: worth it where there is a backlog.
            publishes: Whether what is decided is published, and answered again by whoever takes the lane over.
            seals_show_published: Whether P is at the newest seal which the records show to have been published (M7),
                since nobody else says it: in a replay of a lane whose group has no offset.
            on_committed: Told each batch once it is durable, in order.
        """
        self.fence = state.progress
        self.awaits_publication = False
        self._publishes = publishes
        self._seals_show_published = seals_show_published
        self.cut_before: int | None = None
        self._store = store
        self._decider = decider
        self._mover = Mover(decider, store, admit_parked)
        self._admit = admit
        self._book_accounts_max = book_accounts_max
        self._ahead_from = ahead_from
        self._on_committed = on_committed
        self._read: _LoadedBatch | None = None  # its rows are in the book
        self._decided: Decided | None = None
        self._writing: Decided | None = None
        # Records that were admitted before a record changed the rules, and must be admitted anew: the rest of that
        # record's batch, and the batch whose rows were read meanwhile; and what lies behind a record among them that is
        # decided alone. No other records are taken before they are decided.
        self._read_before_rules: deque[list[Record]] = deque()

    @property
    def idle(self) -> bool:
        """Say whether every record that was taken is decided and committed."""
        nothing_in_flight = self._read is None and self._decided is None and self._writing is None
        return nothing_in_flight and not self._read_before_rules

    @property
    def writes_parts(self) -> bool:
        """Say whether parts of a hand-off are being written just now: those behind them can be decided meanwhile."""
        return self._writing is not None and bool(self._writing.write.arrived) and not self._store.is_written()

    @property
    def undecided(self) -> list[Record]:
        """Return the records that were taken and are not decided."""
        read = [] if self._read is None else [admission.record for admission in self._read.admissions]
        return [*read, *chain.from_iterable(self._read_before_rules)]

    @property
    def next_offset(self) -> int:
        """Return the offset after the last record that was taken."""
        if self._read_before_rules:
            return self._read_before_rules[-1][-1].offset + 1
        return self._decider.standing.next_offset if self._read is None else self._read.admissions[-1].record.offset + 1

    def advance(self, records: list[Record], *, published: tuple[int, int], check: Callable[[], None]) -> int:
        """Take some records, and move the batches before them on by one step.

        A batch may still be on its way to MySQL when this returns.

        Args:
            records: The next ones; may be empty, to move on only. Call until ``idle`` to have all committed.
            published: P and the lane time there, stored with the batch that is decided (L4).
            check: Called once records are decided; what it raises throws them away.

        Returns:
            How many of them were taken: all, or those before a record that is decided alone, or none where others
            must come first, or where ``awaits_publication`` says so: then call again once more is published.

        Raises:
            LaneStopped: The first record to be decided cannot be, or ``check`` says so.
            Retryable: A later one cannot; ``cut_before`` says which, and what precedes it can.
            Fault: The store's; nothing is known of the batch that was written.
        """
        self.awaits_publication = False
        again = bool(self._read_before_rules)
        offered = self._read_before_rules.popleft() if again else records
        coming, alone = self._admitted(offered)
        if self._seals_show_published:
            published = self._at_seals_shown(alone, published)
        missing = Keys() if coming is None else self._decider.book.missing(coming.needs)
        nothing_precedes = self._read is None and self._decided is None
        if alone and nothing_precedes and self._mover.reads_nothing(alone[0]):
            taken = self._decide_parts(alone, published, check)
        elif alone and nothing_precedes:
            taken = self._decide_alone(self._before_unpublished(alone, published), published, check)
        else:
            self.settle()
            self._move_on(coming, missing, published, check)
            taken = 0 if coming is None else len(coming.admissions)
        if not again:
            return taken
        self._admit_later(offered[taken:])
        return 0

    def _admit_later(self, records: list[Record]) -> None:
        """Keep records that were taken, to be admitted anew, in the order of the log."""
        if records:
            waiting = [*self._read_before_rules, records]
            self._read_before_rules = deque(sorted(waiting, key=lambda each: each[0].offset))

    def _move_on(
        self, coming: _LoadedBatch | None, missing: Keys, published: tuple[int, int], check: Callable[[], None]
    ) -> None:
        """Read a batch's rows, if one comes, decide the one before it, and write the one before that."""
        deciding, self._read = self._read, None
        writing, self._decided = self._decided, None
        nothing_precedes = deciding is None and writing is None
        in_one = coming is not None and nothing_precedes and len(coming.admissions) < self._ahead_from
        if writing is not None or coming is not None:
            write = None if writing is None else writing.write
            self._store.begin(self.fence, write, missing, open_end=in_one)
        self._writing = writing  # not before: a batch whose transaction never began is not there to be settled
        try:
            if deciding is not None:
                self._decided = self._decide(deciding, published, check)
            if coming is not None:
                self._decider.book.add(missing, self._store.loaded())
                self._take(coming, deciding, published, check)
        except BaseException:
            if in_one:
                self._store.end(None)
            self.settle()  # whatever became of the others, the batch before them is committed and may be published
            raise
        if in_one:
            decided, self._decided = self._decided, None
            self._store.end(None if decided is None else decided.write)
            self._writing = decided
            self.settle()  # told at once: it is published while the next batch is decided
        in_flight = [batch.needs for batch in (self._decided, self._read) if batch is not None]
        self._decider.book.forget(in_flight, self._book_accounts_max)

    def _admitted(self, records: list[Record]) -> tuple[_LoadedBatch | None, list[Admission]]:
        """Say what records are, if nothing before them changes the rules: those before one that is decided alone.

        Returns:
            The records that are decided together, None where there are none; and the first, if it is decided alone,
            or if one behind it is and all before that are parked, with some of those behind it. No others are looked
            at: they are offered again.
        """
        rules = self._decider.book.rules
        together: list[Admission] = []
        for record in records:
            admission = self._admit(record, rules)
            if type(admission.command) in ALONE and self._mover.is_alone(admission):
                if all(map(self._mover.waits, together)):  # they need nothing read either
                    behind = self._apart_behind(records[len(together) + 1 : TOGETHER_MAX], rules)
                    return None, [*together, admission, *behind]
                break
            together.append(admission)
        if not together:
            return None, []
        return _LoadedBatch(together, self._decider.needs_of(together), rules), []

    def _apart_behind(self, records: list[Record], rules: Rules) -> Iterator[Admission]:
        """Yield the first of some records that may be decided with one that is decided apart from others."""
        for record in records:
            admission = self._admit(record, rules)
            if type(admission.command) not in ALONE and not self._mover.waits(admission):
                return
            yield admission

    def _decide_alone(self, admissions: list[Admission], published: tuple[int, int], check: Callable[[], None]) -> int:
        """Decide a record that is decided apart from others, and have it committed before this returns.

        Returns:
            How many records were decided: more than one where those behind it could be written with it.
        """
        self.settle()
        if not admissions:
            self.awaits_publication = True
            return 0
        clear = partial(self._clear, published)
        clear(admissions[0])
        alone = self._mover.prepare(admissions[0])
        if alone.unparked:
            self._decide_unparking(alone, published, check)
            taken = 1
        else:
            taken = self._decide_together(alone, admissions[1:], published, check, clear=clear)
        self.settle()
        self._decider.book.forget([], self._book_accounts_max)
        return taken

    def _decide_unparking(self, alone: Alone, published: tuple[int, int], check: Callable[[], None]) -> None:
        """Decide a record with what it unparks, whose rows are read in the transaction that writes it."""
        missing = self._decider.book.missing(alone.needs)
        self._store.begin(self.fence, None, missing, open_end=True)
        with self._settled_where_it_fails(alone.admission, end=lambda: self._store.end(None)):
            self._decider.book.add(missing, self._store.loaded())
            decided = self._mover.decide(alone, published=published)
            check()
        self._store.end(decided.write)
        self._writing = decided

    def _before_unpublished(self, admissions: list[Admission], published: tuple[int, int]) -> list[Admission]:
        """Return records up to one that brings a placement key back whose seal may have to be answered again (M7, L4).

        What lies before the seal is answered by the ids that came along, and these go with the frozen rows. A database
        that went back, and whose group has no offset any more, publishes again what it has, and may decide meanwhile.
        """

        def waits(admission: Admission) -> bool:
            left = self._mover.left_by(admission)
            if left is None or left.state is PlacementState.AWAY or not self._publishes:
                return False
            return published[0] <= left.since_offset

        return list(takewhile(lambda admission: not waits(admission), admissions))

    def _at_seals_shown(self, admissions: list[Admission], published: tuple[int, int]) -> tuple[int, int]:
        """Return P, which is at least at the seal of each placement key that some records bring back (P3, M7).

        Parts are sent once all before their seal is published: so that a key comes back shows that it was. Whoever goes
        on in the replayed database would otherwise answer again what lies before the seal, and without the rows that
        are deleted now. The row of what was thrown away (M4) is no seal's, and shows nothing.
        """
        rows = [row for row in map(self._mover.left_by, admissions) if row is not None and row.version_us]
        seals = [(row.since_offset, row.since_time_ms) for row in rows if row.state in _MAY_HAVE_FROZEN_ROWS]
        return max(published, (self.fence.published_offset, self.fence.published_time_ms), *seals)

    def _clear(self, published: tuple[int, int], admission: Admission) -> None:
        """Delete what is left of frozen rows before a first part brings the key back, or ids that go ahead (M7, M6).

        In stretches: a large partner who comes back soon would otherwise make one transaction of all his rows. What
        stops half-way is found again by whoever decides the record; and nobody needs the rows, since that record shows
        that the other shard had them, and owned them.
        """
        command, rows_max = admission.command, self._mover.cleared_rows_max
        if self._mover.left_by(admission) is None or not isinstance(command, HandOff | MoveAhead):
            return
        offset, time_ms = min(published, (self.fence.at.next_offset, self.fence.at.lane_time_ms))
        self.fence = replace(self.fence, published_offset=offset, published_time_ms=time_ms)
        rows = self._decider.placements.rows_of(command.placement_key)
        while self._store.delete_left(self.fence, rows, rows_max=rows_max) == rows_max:
            pass

    def _decide_parts(self, admissions: list[Admission], published: tuple[int, int], check: Callable[[], None]) -> int:
        """Decide parts of a hand-off while the batch before them is being written, and begin to write them.

        Returns:
            How many records were decided.
        """
        return self._decide_together(self._mover.prepare(admissions[0]), admissions[1:], published, check, clear=None)

    def _decide_together(
        self,
        alone: Alone,
        behind: list[Admission],
        published: tuple[int, int],
        check: Callable[[], None],
        *,
        clear: Callable[[Admission], None] | None,
    ) -> int:
        """Decide a record and some behind it, and begin to write them; the arguments are as ``Mover`` takes them."""
        with self._settled_where_it_fails(alone.admission):
            decided = self._mover.decide_together(alone, behind, published=published, clear=clear)
            check()
        self.settle()
        self._store.begin(self.fence, decided.write, Keys())
        self._writing = decided
        return decided.taken

    def _take(
        self, coming: _LoadedBatch, deciding: _LoadedBatch | None, published: tuple[int, int], check: Callable[[], None]
    ) -> None:
        """Decide records whose rows are there at once, keep them for the next step, or have them admitted again."""
        if coming.rules is not self._decider.book.rules:
            self._admit_later([admission.record for admission in coming.admissions])
        elif deciding is None and (self._writing is None or len(coming.admissions) < self._ahead_from):
            self._decided = self._decide(coming, published, check)
        else:
            self._read = coming

    def _decide(self, batch: _LoadedBatch, published: tuple[int, int], check: Callable[[], None]) -> Decided:
        assert batch.rules is self._decider.book.rules, "admitted under other rules"
        try:
            decided = self._decider.decide(batch.admissions, batch.needs, published=published)
        except UndecidedError as undecided:
            raise self._stop_of(undecided, batch.admissions[0]) from undecided
        if decided.taken < len(batch.admissions):
            self._admit_later([admission.record for admission in batch.admissions[decided.taken :]])
        check()
        return decided

    @contextmanager
    def _settled_where_it_fails(self, first: Admission, end: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Where a batch cannot be decided, ``end`` its transaction: the one before it is committed, and may be told."""
        try:
            yield
        except BaseException as fault:
            end()
            self.settle()
            if isinstance(fault, UndecidedError):
                raise self._stop_of(fault, first) from fault
            raise

    def _stop_of(self, undecided: UndecidedError, first: Admission) -> LaneStopped | Retryable:
        """Return why a batch is not decided: what precedes the record that cannot be decided is committed first."""
        if undecided.offset == first.record.offset:
            return undecided.stop
        self.cut_before = undecided.offset
        return Retryable(f"offset {undecided.offset} cannot be decided; what precedes it comes first")

    def settle(self) -> None:
        """Wait until the batch that is being written is durable, and tell of it; at once where none is.

        Raises:
            Fault: The store's; nothing is known of the batch, and it is settled no more.
        """
        written, self._writing = self._writing, None
        self._store.finish()
        if written is not None:
            self.fence = written.write.progress
            self._on_committed(written)
