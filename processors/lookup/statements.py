"""An account's statement of a period, page by page: opening balance, changes, closing balance.

Changes of an account have sequences without a gap (H5), and a later one never has an earlier time: so a period is a
range of sequences. What is archived is looked for there by bisecting; the rest, which waits for the sink, is looked
through in MySQL once (A8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Protocol

from processors.ids import root_of
from processors.ledger.rows import Account
from processors.lookup.history import TAIL_OFFSETS_MAX, ArchivedHistory
from processors.lookup.owners import at_owner
from processors.lookup.service import ServiceReader
from processors.stores.archive_rows import WINDOW_SEQUENCES
from processors.wire.statement_chunk import StatementRow

ROWS_DEFAULT = 1_000
ROWS_MAX = 10_000  # of a page: some 10 MB, and half a second
DAY_MS = 86_400_000
END_OF_TIME_MS = 253_402_300_800_000  # the year 10000
# A change that left MySQL after the archive was asked is there when it is asked again; twice in a row needs a sink that
# archives between any two looks.
_LOOKS_MAX = 3
_LOST_WINDOWS_MAX = 40  # 10,000 changes in a row; `balance verify` tells of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From ``from_ms`` on, until just before ``until_ms``: lane time, ms since the epoch."""

    from_ms: int = 0
    until_ms: int = END_OF_TIME_MS


ALWAYS = Period()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which of a period's changes are wanted: at most ``rows_max``, after the sequence ``after``; or the newest."""

    after: int = 0
    rows_max: int = ROWS_DEFAULT
    newest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Some of an account's changes of a period, in order of sequence, and the balances before and after them.

    The period has ``count`` changes, of which ``before`` come before these. ``missing`` are the sequences of those that
    were found nowhere. With ``sink_behind`` they may be among rows that wait for the sink, too many to look through;
    else they were archived, and the archive does not have them any more. Amounts are minor units.
    """

    opening: int
    opening_held: int
    rows: list[StatementRow]
    count: int
    before: int
    newest: int  # the account's last sequence
    missing: tuple[int, ...] = ()
    sink_behind: bool = False

    @property
    def complete(self) -> bool:
        """Say whether every change is there."""
        return not self.missing

    @property
    def is_of_nothing(self) -> bool:
        """Say whether nothing has ever changed the account."""
        return not (self.newest or self.missing)

    @property
    def closing(self) -> int:
        """Return the balance after the last of these changes."""
        return self.rows[-1].balance if self.rows else self.opening

    @property
    def closing_held(self) -> int:
        """Return what is held after the last of these changes."""
        return self.rows[-1].held if self.rows else self.opening_held

    @property
    def adds_up(self) -> bool:
        """Say whether opening and changes make closing, of balance and held."""
        changes = sum(row.balance_change for row in self.rows), sum(row.held_change for row in self.rows)
        return (self.opening + changes[0], self.opening_held + changes[1]) == (self.closing, self.closing_held)

    @property
    def next_after(self) -> int | None:
        """Return after which sequence the period goes on; None where it does not."""
        shown = self.before + len(self.rows) + len(self.missing)
        last = max([row.sequence for row in self.rows[-1:]] + [*self.missing[-1:]], default=0)
        return last if last and shown < self.count else None


class ShardHistory(Protocol):
    """A shard and the archive, as far as a statement is read from them (``history.Lookup``)."""

    @property
    def archive(self) -> ArchivedHistory:
        """Return the archive."""

    def account(self, address: str, currency: str) -> Account | None:
        """Return the account where its partner is owned."""

    def uncovered(self, root: str) -> range:
        """Return the offsets that wait for the sink."""

    def tail(self, address: str, currency: str, uncovered: range) -> Iterator[StatementRow]:
        """Yield the account's changes among them."""


def statement_of(
    service: ServiceReader, address: str, currency: str, *, period: Period = ALWAYS, part: Part | None = None
) -> Statement | None:
    """Return a part of an account's statement, or None: there is no such account.

    Args:
        service: What to look into.
        address: The account's.
        currency: The account's.
        period: Of which changes.
        part: Which of them; by default the first ``ROWS_DEFAULT``.

    Raises:
        Retryable: Its partner is moving all the while.
        Unavailable: MySQL or Cassandra does not answer.
    """

    def ask(owner: str) -> Statement | None:
        others = [service.lookup(shard) for shard in service.places.shards if shard != owner]
        return read_statement(service.lookup(owner), address, currency, others=others, period=period, part=part)

    return at_owner(service, root_of(address), ask)


def read_statement(
    owner: ShardHistory,
    address: str,
    currency: str,
    *,
    others: Sequence[ShardHistory] = (),
    period: Period = ALWAYS,
    part: Part | None = None,
) -> Statement | None:
    """Return the same of the shard that owns the account's partner; ``others`` are where he may have been before."""
    account = owner.account(address, currency)
    if account is None:
        return None
    wanted = part or Part()
    looks = 0
    while True:
        looks += 1
        changes = _AccountChanges((owner, *others), address, currency, newest=account.sequence)
        found = changes.statement(period, wanted)
        if (found.complete and not changes.unseen) or looks == _LOOKS_MAX or not changes.has_moved():
            return found


@dataclass(kw_only=True)
class _Tail:
    """What a walk through the changes that wait for the sink leaves: borders, and the rows that a part may need."""

    period: Period
    part: Part
    kept: dict[int, StatementRow] = field(default_factory=dict)
    previous: StatementRow | None = None  # the last before the period, or before the part
    last_before: dict[int, int] = field(default_factory=dict)  # time -> the last sequence before it
    first_at: dict[int, int] = field(default_factory=dict)  # time -> the first sequence at it or after it

    def add(self, row: StatementRow) -> None:
        for border_ms in (self.period.from_ms, self.period.until_ms):
            if row.lane_time_ms < border_ms:
                self.last_before[border_ms] = max(row.sequence, self.last_before.get(border_ms, 0))
            else:
                self.first_at[border_ms] = min(row.sequence, self.first_at.get(border_ms, row.sequence))
        if row.lane_time_ms >= self.period.until_ms:
            return
        if row.lane_time_ms < self.period.from_ms or row.sequence <= self.part.after:
            if self.previous is None or row.sequence > self.previous.sequence:
                self.previous = row
            return
        self.kept[row.sequence] = row
        if len(self.kept) > 2 * self.part.rows_max + 2:
            self._drop()

    def _drop(self) -> None:
        """Keep what is wanted, and one more at the side of the opening balance."""
        wanted = sorted(self.kept, reverse=self.part.newest)[: self.part.rows_max + 1]
        self.kept = {sequence: self.kept[sequence] for sequence in wanted}

    @property
    def rows(self) -> dict[int, StatementRow]:
        """Return the rows that are left."""
        return self.kept | ({self.previous.sequence: self.previous} if self.previous else {})


class _AccountChanges:
    """An account's changes at one look. Coverage is read first: what it covers is in the archive afterwards (A8).

    ``unseen``: how many of those that wait for the sink were not found.
    """

    def __init__(self, shards: Sequence[ShardHistory], address: str, currency: str, *, newest: int) -> None:
        self._key = (address, currency)
        self._newest = newest
        self._shards = shards
        self._waiting = [shards[0].uncovered(root_of(address))]
        self._archive = shards[0].archive
        self._archived = self._archived_now()
        self.unseen = 0

    def has_moved(self) -> bool:
        """Say whether the archive has more by now."""
        return self._archived_now() != self._archived

    def _archived_now(self) -> int:
        return min(self._newest, self._archive.newest_sequence(*self._key))

    def statement(self, period: Period, part: Part) -> Statement:
        tail = self._walk(period, part)
        first, _ = self._border(period.from_ms, tail)
        _, end = self._border(period.until_ms, tail)
        start = max(first, end - part.rows_max) if part.newest else max(first, part.after + 1)
        stop = max(start, min(end, start + part.rows_max))
        rows = {row.sequence: row for row in self._read(max(1, start - 1), min(stop - 1, self._archived))}
        rows |= {sequence: row for sequence, row in tail.rows.items() if start - 1 <= sequence < stop}
        found = [rows[sequence] for sequence in range(start, stop) if sequence in rows]
        missing = tuple(sequence for sequence in range(start, stop) if sequence not in rows)
        if start == stop > 1 and start - 1 not in rows:  # nothing says what the balance was
            missing = (start - 1,)
        opening, held = _before(rows.get(start - 1), found)
        return Statement(
            opening=opening,
            opening_held=held,
            rows=found,
            count=end - first,
            before=start - first,
            newest=self._newest,
            missing=missing,
            sink_behind=bool(missing) and any(len(waiting) > TAIL_OFFSETS_MAX for waiting in self._waiting),
        )

    def _walk(self, period: Period, part: Part) -> _Tail:
        """Look through what waits for the sink, unless the period ends before that; end with the account's last."""
        tail, left = _Tail(period=period, part=part), self._newest - self._archived
        if not left or (self._archived and self._last_archived[1] >= period.until_ms):
            return tail
        for row in chain.from_iterable(self._tails()):
            if self._archived < row.sequence <= self._newest:
                tail.add(row)
                left -= 1
            if not left:
                break
        self.unseen = left
        return tail

    def _tails(self) -> Iterator[Iterator[StatementRow]]:
        """Yield what waits for the sink on each shard; where he was before only if that is not all."""
        yield self._shards[0].tail(*self._key, self._waiting[0])
        for shard in self._shards[1:]:
            self._waiting.append(shard.uncovered(root_of(self._key[0])))
            yield shard.tail(*self._key, self._waiting[-1])

    @cached_property
    def _last_archived(self) -> tuple[int, int]:
        """Return sequence and time of the last archived change that is not lost; zeros where too many are."""
        last = self._archived
        for _ in range(_LOST_WINDOWS_MAX):
            begins = max(1, last - last % WINDOW_SEQUENCES)
            for row in sorted(self._read(begins, last), key=lambda row: row.sequence, reverse=True):
                return row.sequence, row.lane_time_ms
            last = begins - 1
        return 0, 0

    def _border(self, time_ms: int, tail: _Tail) -> tuple[int, int]:
        """Return between which changes a period begins or ends: after the last that is known to be before the time.

        The second sequence is that of the first which is known to be at the time or after it. What lies between the two
        was found nowhere, and nobody knows on which side it belongs: it is missing in both periods, or the one that has
        it would be shown as whole.
        """
        if not time_ms:
            return 1, 1
        last, last_ms = self._last_archived if self._archived else (0, -1)
        if last_ms >= time_ms:
            first = self._bisected(time_ms)
            return first, self._next_from(first)[0]
        first = max(last, tail.last_before.get(time_ms, 0)) + 1
        return first, max(first, tail.first_at.get(time_ms, self._newest + 1))

    def _bisected(self, time_ms: int) -> int:
        """Return the sequence after the last change before a time that some archived change has reached.

        Where a day's changes begin is a hint, which is tried: nothing proves that the archive has it (A6).
        """
        day = time_ms // DAY_MS
        low = self._archive.first_sequence(*self._key, day) or 1
        if low > 1 and self._next_from(low - 1)[1] >= time_ms:
            low = 1
        high = min(self._archived, self._archive.first_sequence(*self._key, day + 1) or self._archived)
        if self._next_from(high)[1] < time_ms:
            high = self._archived
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._next_from(middle)[1] >= time_ms else (middle + 1, high)
        return low

    def _next_from(self, sequence: int) -> tuple[int, int]:
        """Return sequence and time of an archived change; where it is lost, of the next one that is there."""
        window_ends = sequence - sequence % WINDOW_SEQUENCES + WINDOW_SEQUENCES - 1
        for first, last in ((sequence, min(window_ends, self._archived)), (window_ends + 1, self._archived)):
            for row in self._read(first, last):
                return row.sequence, row.lane_time_ms
        return self._archived + 1, END_OF_TIME_MS

    def _read(self, first: int, last: int) -> Iterable[StatementRow]:
        if first > last:
            return ()
        return self._archive.statement(*self._key, from_sequence=first, to_sequence=last)


def _before(previous: StatementRow | None, rows: Sequence[StatementRow]) -> tuple[int, int]:
    """Return balance and held before some changes: after the one before them, or by the first one's own word."""
    if previous is not None:
        return previous.balance, previous.held
    if rows:
        return rows[0].balance - rows[0].balance_change, rows[0].held - rows[0].held_change
    return 0, 0
