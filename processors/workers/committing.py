"""Commits one batch while the next is decided; shared by the lane that serves and the lane that is replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from processors.faults import Retryable
from processors.ledger.book import Keys, Rows
from processors.stores.rows import BatchWrite, Fence, LaneState
from processors.wire.admission import Admission
from processors.workers.deciding import Decided, Decider, UndecidedError, needs_of


class BatchStore(Protocol):
    """A lane's rows, one transaction at a time (``stores.lane_store``)."""

    def begin(self, fence: Fence, write: BatchWrite | None, load: Keys) -> Rows:
        """Start a transaction: check the fence, return the rows asked for, write and commit meanwhile."""

    def finish(self) -> None:
        """Wait until what ``begin`` started is committed."""


class Committer:
    """Decides batch N+1 on N's outcome while N is written; N+1 is written only after N (DESIGN section 5).

    ``fence`` is the state of the last commit: what the next transaction's locking read must find (L1).
    """

    def __init__(
        self,
        store: BatchStore,
        decider: Decider,
        state: LaneState,
        *,
        book_accounts_max: int,
        on_committed: Callable[[Decided], None],
    ) -> None:
        """Begin after the state that was taken over.

        Args:
            store: Its rows were taken over with ``state``.
            decider: Made from the same state.
            state: What ``take_over`` returned.
            book_accounts_max: Accounts that may stay in the book between batches.
            on_committed: Told each batch once it is durable, in order.
        """
        progress = state.progress
        self.fence = Fence(next_offset=progress.next_offset, digest=progress.digest, owner_epoch=progress.owner_epoch)
        self.cut_before: int | None = None
        self._store = store
        self._decider = decider
        self._book_accounts_max = book_accounts_max
        self._on_committed = on_committed
        self._pending: Decided | None = None

    @property
    def idle(self) -> bool:
        """Say whether everything decided is committed."""
        return self._pending is None

    def advance(self, admissions: list[Admission], *, published: tuple[int, int], check: Callable[[], None]) -> None:
        """Decide some records, and commit the batch that was decided before them.

        Args:
            admissions: The next records, without a gap; may be empty, to commit only.
            published: P and the lane time there, stored with the batch (L4).
            check: Called once the records are decided; what it raises throws them away.

        Raises:
            LaneStopped: The first record cannot be decided, or ``check`` says so.
            Retryable: A later one cannot; ``cut_before`` says which, and what precedes it can.
            Fault: The store's; nothing is known of the batch before.
        """
        pending = self._pending
        if pending is None and not admissions:
            return
        book = self._decider.book
        needs = needs_of(admissions)
        missing = book.missing(needs)
        rows = self._store.begin(self.fence, None if pending is None else pending.write, missing)
        book.add(missing, rows)
        decided = None
        try:
            if admissions:
                decided = self._decider.decide(admissions, needs, published=published)
                check()
        except UndecidedError as undecided:
            if undecided.offset == admissions[0].record.offset:
                raise undecided.stop from undecided
            self.cut_before = undecided.offset
            raise Retryable(f"offset {undecided.offset} cannot be decided; what precedes it comes first") from undecided
        finally:
            # Whatever became of the new records, the batch before them is committed and may be published.
            self._store.finish()
            self._settle(pending)
        self._pending = decided
        book.forget([needs], self._book_accounts_max)

    def _settle(self, pending: Decided | None) -> None:
        self._pending = None
        if pending is None:
            return
        progress = pending.write.progress
        self.fence = Fence(next_offset=progress.next_offset, digest=progress.digest, owner_epoch=progress.owner_epoch)
        self._on_committed(pending)
