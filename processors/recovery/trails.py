"""Adds up an account's postings, so that they can be compared with the account as it is (V4).

An account's postings are numbered 1, 2, 3 and so on by their ``sequence``. They are read slice by slice, and so not in
that order. Their count, the sum of their numbers, and the first and the last number prove that none between these is
missing. What is missing because its slice was removed from MySQL is read from the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from processors.ledger.outcomes import Posting
from processors.ledger.rows import Account
from processors.stores.archive_reader import ChangeKey
from processors.wire.statement_chunk import StatementRow, decode_statement_entry


class Statements(Protocol):
    """The archive's statements (``stores.archive_reader``)."""

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        """Yield an account's changes."""

    def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
        """Return the entries of some changes: one each, or several that differ; of one that is not there, none."""


@dataclass(slots=True)
class Trail:
    """The postings of one account, added up in any order: numbers, changes, and the balance before the first."""

    count: int = 0
    sequences: int = 0  # their sum
    first: int = 0
    last: int = 0
    before: int = 0  # the balance before the first
    held_before: int = 0
    balance_change: int = 0  # the sum of all
    held_change: int = 0

    def add(self, posting: Posting) -> None:
        """Add a posting that changed the account."""
        if not self.count or posting.sequence < self.first:
            self.first = posting.sequence
            self.before = posting.balance - posting.balance_change
            self.held_before = posting.held - posting.held_change
        self.last = max(self.last, posting.sequence)
        self.count += 1
        self.sequences += posting.sequence
        self.balance_change += posting.balance_change
        self.held_change += posting.held_change

    @property
    def is_gapless(self) -> bool:
        """Say whether each sequence from first to last is there once."""
        return self.count == self.last - self.first + 1 and 2 * self.sequences == (self.first + self.last) * self.count

    def followed_by(self, later: Trail) -> Trail:
        """Return this trail and one whose postings all come later, as one."""
        if not self.count:
            return later
        return Trail(
            count=self.count + later.count,
            sequences=self.sequences + later.sequences,
            first=self.first,
            last=later.last,
            before=self.before,
            held_before=self.held_before,
            balance_change=self.balance_change + later.balance_change,
            held_change=self.held_change + later.held_change,
        )


def whole_trail(archive: Statements | None, account: Account, trail: Trail | None, tail: Trail | None) -> Trail:
    """Return an account's trail, with the gaps that removed slices left filled from the archive.

    A row that is not archived yet is still in MySQL, and comes after every row that is archived. So the archive is read
    up to the first such row.

    Args:
        archive: None leaves gaps as they are.
        account: One without postings begins and ends where it is.
        trail: Of all its postings that are in MySQL, if there are any.
        tail: Of those among them that are not archived yet, if there are any.
    """
    if trail is None:
        sequence = account.sequence
        return Trail(first=sequence + 1, last=sequence, before=account.balance, held_before=account.held)
    if trail.is_gapless or archive is None:
        return trail
    last = trail.last if tail is None else tail.first - 1
    filled = _trail_of(
        archive.statement(account.address, account.currency, from_sequence=trail.first, to_sequence=last)
    )
    return filled if tail is None else filled.followed_by(tail)


def leads_to(trail: Trail, account: Account) -> bool:
    """Say whether a trail has no gap, and ends where the account is."""
    return (
        trail.is_gapless
        and trail.last == account.sequence
        and trail.before + trail.balance_change == account.balance
        and trail.held_before + trail.held_change == account.held
    )


def openings_of(archive: Statements, led: list[tuple[Account, Trail]]) -> dict[ChangeKey, set[StatementRow]]:
    """Return the archived changes that precede trails which don't begin with the account; several where copies differ.

    Raises:
        Undecodable: The archive has one that is none.
    """
    found = archive.entries_at([_opening_key(trail, account) for account, trail in led if trail.first > 1])
    return {key: set(map(decode_statement_entry, entries)) for key, entries in found.items()}


def _opening_key(trail: Trail, account: Account) -> ChangeKey:
    return ChangeKey(account.address, account.currency, trail.first - 1)


def opens_right(
    trail: Trail, account: Account, openings: dict[ChangeKey, set[StatementRow]] | None, *, came_here: bool = False
) -> bool:
    """Say whether a trail begins at nothing, or where the archived change before it ended (V4).

    Of an account that ``came_here`` by a move, another shard made that change: it may not be archived yet.
    """
    before = (trail.before, trail.held_before)
    if trail.first == 1:
        return before == (0, 0)
    if openings is None:  # V4: what has left is believed
        return True
    rows = openings.get(_opening_key(trail, account))
    if rows is None:
        return came_here
    return {before} == {(row.balance, row.held) for row in rows}


def _trail_of(rows: Iterable[StatementRow]) -> Trail:
    trail = Trail()
    for row in rows:
        if not trail.count:
            trail.first, trail.before = row.sequence, row.balance - row.balance_change
            trail.held_before = row.held - row.held_change
        trail.last = row.sequence
        trail.count += 1
        trail.sequences += row.sequence
        trail.balance_change += row.balance_change
        trail.held_change += row.held_change
    return trail
