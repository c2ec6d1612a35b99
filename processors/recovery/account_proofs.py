"""Proves accounts one by one: each is where its postings lead, without a gap (V4).

For accounts of which nothing is known before: the first proof, a partner who moved, or a sum that is not what it must
be. The rows that MySQL still has are added up; what is before them, or left between them, is the archive's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from processors.faults import Undecodable
from processors.ids import root_of
from processors.lane.placements import Placements
from processors.ledger.rows import Account, AccountKey
from processors.recovery.account_sums import AccountBooks, group_of, moments_of
from processors.recovery.archived_rows import ArchivedBooks, Reach
from processors.recovery.checks import Tally
from processors.recovery.trails import Trail, leads_to, openings_of, opens_right, whole_trail
from processors.routing.buckets import partition_of
from processors.stores.rows import JournalRow
from processors.stores.shard_reader import SliceReader, rows_of_slice
from processors.stores.verify_reader import ShardMoment
from processors.wire.results import Result, decode_result

ACCOUNTS_AT_ONCE = 1_000  # looked up together: many times what is on the way at once, and 300 KB of answers
# Whose postings are added up in one reading of the journal: some 300 MB.
ACCOUNTS_A_READING = 200_000


class TrailBooks(SliceReader, AccountBooks, Protocol):
    """A shard's database (``stores.verify_reader``)."""

    def moment(self) -> ShardMoment:
        """Return where the lanes stand, with all placement keys."""

    def slices(self) -> list[int]:
        """Return the journal's slices."""

    def slice_bounds(self, number: int) -> dict[int, tuple[int, int]]:
        """Return lane -> first and last offset in a slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailParts:
    """What is compared; ``archive`` None believes what has left MySQL (V4)."""

    books: TrailBooks
    lanes: int
    archive: ArchivedBooks | None
    coverage: Reach
    on_progress: Callable[[str, int], None]


@dataclass(slots=True)
class _AddedUp:
    """Accounts of some groups, with how far each lane had decided when a group was read, and their postings before.

    ``trails`` has all that MySQL has of these, ``tails`` those that are not archived yet.
    """

    offsets: dict[int, dict[int, int]] = field(default_factory=dict)
    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    trails: dict[AccountKey, Trail] = field(default_factory=dict)
    tails: dict[AccountKey, Trail] = field(default_factory=dict)


def prove_accounts(parts: TrailParts, groups: Collection[int], tally: Tally) -> set[tuple[int, int]]:
    """Prove all accounts of some groups, and return (group, lane) of those that are not where they must be.

    Without the archive, an account that has no row left is neither proven nor counted. Rows of partners who moved away
    do not count. Of one who came by a move the rows since then do, and the balance before the first of them is believed
    where the archive does not have it yet.
    """
    bad: set[tuple[int, int]] = set()
    reading = _AddedUp()
    for first, end, moment in moments_of(parts.books, groups):
        reading.offsets |= dict.fromkeys(range(first, end), moment.offsets)
        reading.accounts |= {(each.address, each.currency): each for each, is_owned in moment.accounts if is_owned}
        if len(reading.accounts) >= ACCOUNTS_A_READING:
            bad |= _prove(parts, reading, tally)
            reading = _AddedUp()
    return bad | _prove(parts, reading, tally) if reading.offsets else bad


def _prove(parts: TrailParts, reading: _AddedUp, tally: Tally) -> set[tuple[int, int]]:
    here = Placements(parts.books.moment().placements, home=True)  # no other shard has rows of a root without one
    reading.accounts = {key: each for key, each in reading.accounts.items() if here.owns(root_of(key[0]))}
    _add_up(parts, reading, here)
    return _compare(parts, reading, here, tally)


def _add_up(parts: TrailParts, reading: _AddedUp, here: Placements) -> None:
    for count, (row, result) in enumerate(_rows(parts, reading, here), 1):
        is_covered = parts.coverage.has(row.root, row.lane, (row.lane_offset, row.lane_index))
        for posting in result.postings:
            if not (posting.balance_change or posting.held_change):
                continue
            key = (posting.address, result.currency)
            reading.trails.setdefault(key, Trail()).add(posting)
            if parts.archive is not None and not is_covered:
                reading.tails.setdefault(key, Trail()).add(posting)
        parts.on_progress("postings", count)


def _rows(parts: TrailParts, reading: _AddedUp, here: Placements) -> Iterator[tuple[JournalRow, Result]]:
    every = (
        row
        for number in parts.books.slices()
        for lane in parts.books.slice_bounds(number)
        for row in rows_of_slice(parts.books, number, lane)
    )
    for row in every:
        if not _counts(reading, here, row):
            continue
        try:
            yield row, decode_result(row.result)
        except Undecodable:
            continue  # named where the lane's rows are proven; here its account has a gap


def _counts(reading: _AddedUp, here: Placements, row: JournalRow) -> bool:
    """Say whether a row is of one of the groups, was decided before the group was read, and is of this stay."""
    offsets = reading.offsets.get(group_of(row.root)) if row.root else None
    return offsets is not None and row.lane_offset < offsets.get(row.lane, 0) and _is_of_this_stay(here, row)


def _is_of_this_stay(here: Placements, row: JournalRow) -> bool:
    """Say whether a row leads to its partner's accounts as they are here: he is owned, and the row came after him.

    What was decided here before he moved away, and came back, is followed by what another shard decided.
    """
    placed = here.row_of(row.root)
    return here.owns(row.root) and (placed is None or row.lane_offset >= placed.since_offset)


def _compare(parts: TrailParts, reading: _AddedUp, here: Placements, tally: Tally) -> set[tuple[int, int]]:
    bad: set[tuple[int, int]] = set()
    accounts = iter(sorted(reading.accounts.items()))
    while some := [account for _, account in islice(accounts, ACCOUNTS_AT_ONCE)]:
        led = [(account, _trail_of(parts, account, reading)) for account in some]
        openings = None if parts.archive is None else openings_of(parts.archive, led)
        for account, trail in led:
            if openings is None and not trail.count and account.sequence:
                continue  # all its rows have left, and there is nothing to compare it with
            tally.counted += 1
            root = root_of(account.address)
            came_here = here.came_here(root)
            if not (leads_to(trail, account) and opens_right(trail, account, openings, came_here=came_here)):
                key = (account.address, account.currency)
                tally.refute(f"{key}: the account is {account}, its postings lead to {trail}")
                bad.add((group_of(root), partition_of(root, parts.lanes)))
            parts.on_progress("balances", tally.counted)
    for key in reading.trails:
        tally.refute(f"{key}: postings on an account that is not there")
        bad.add((group_of(root_of(key[0])), partition_of(root_of(key[0]), parts.lanes)))
    return bad


def _trail_of(parts: TrailParts, account: Account, reading: _AddedUp) -> Trail:
    """Take an account's trail out of what was read."""
    key = (account.address, account.currency)
    return whole_trail(parts.archive, account, reading.trails.pop(key, None), reading.tails.get(key))
