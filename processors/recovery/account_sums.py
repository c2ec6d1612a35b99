"""Sums over accounts, by which a proof goes on without having kept each account as it was.

The sum of a group of accounts is that of the hashes of each one's address, currency, sequence, balance and held. A
posting says what its account was before and after, so it changes the sum by a difference; over postings that follow on
each other all between cancels out. So from the sum at one offset and the postings since, the sum at another is known,
and with one account that is not where its postings lead, one posting missing, or one changed by hand, it is another.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from processors.ids import root_of
from processors.ledger.addresses import at_levels, level_of
from processors.ledger.outcomes import Posting
from processors.ledger.rows import Account, AccountKey, OpenRow
from processors.recovery.checks import Tally
from processors.routing.buckets import BUCKETS, bucket_of
from processors.stores.lane_proofs import GROUPS
from processors.stores.verify_reader import BucketsMoment

GROUP_BUCKETS = BUCKETS // GROUPS
ROWS_A_MOMENT = 50_000  # read within half a second; of a single group there may be more, which is as of one moment, too
_MASK = 2**256 - 1


class AccountBooks(Protocol):
    """A shard's accounts (``stores.verify_reader``)."""

    def accounts_and_more(self) -> int:
        """Return about how many rows accounts and what is open on them are."""

    def buckets(self, first: int, end: int) -> BucketsMoment:
        """Return the accounts of some buckets with what is open on them, as of one moment."""


def group_of(root: str) -> int:
    """Return the group of a root's accounts: 0 to 255."""
    return bucket_of(root) // GROUP_BUCKETS


def state_sum(address: str, currency: str, sequence: int, balance: int, held: int) -> int:
    """Return what an account in some state adds to its group's sum; nothing before its first change.

    >>> state_sum("acme", "USD", 0, 0, 0)
    0
    """
    if not (sequence or balance or held):
        return 0
    told = f"{address} {currency} {sequence} {balance} {held}".encode()
    return int.from_bytes(hashlib.sha256(told).digest(), "big")


def change_sum(posting: Posting, currency: str) -> int:
    """Return by how much a posting that changes its account changes its group's sum."""
    address, balance, held = posting.address, posting.balance, posting.held
    before = state_sum(
        address, currency, posting.sequence - 1, balance - posting.balance_change, held - posting.held_change
    )
    return state_sum(address, currency, posting.sequence, balance, held) - before


@dataclass(slots=True)
class AccountScan:
    """What all accounts of a shard were, group by group, each as of a moment.

    ``offsets`` has by group how far each lane had decided then; ``sums`` and ``counts`` by group and lane the sum of
    owned accounts and how many they are; ``totals`` by lane, level and currency the sum of balances.
    """

    offsets: list[dict[int, int]] = field(default_factory=list)
    sums: list[Counter[int]] = field(default_factory=list)
    counts: list[Counter[int]] = field(default_factory=list)
    totals: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    lanes: set[int] = field(default_factory=set)


def scan_accounts(
    books: AccountBooks, lanes: int, held: Tally, *, on_progress: Callable[[str, int], None]
) -> AccountScan:
    """Read all accounts with what is open on them, and prove that they hold and count what is open.

    Of owned partners: of one who arrives only some of the rows are there yet.
    """
    scan = AccountScan()
    for first, end, moment in moments_of(books, range(GROUPS)):
        prove_open_rows(moment, held)
        groups = [Counter[int]() for _ in range(first, end)]
        counts = [Counter[int]() for _ in range(first, end)]
        for account, is_owned in moment.accounts:
            bucket = bucket_of(root_of(account.address))
            lane = bucket & (lanes - 1)
            scan.lanes.add(lane)
            scan.totals[lane, level_of(account.address), account.currency] += account.balance
            if is_owned:
                groups[bucket // GROUP_BUCKETS - first][lane] += state_sum_of(account)
                counts[bucket // GROUP_BUCKETS - first][lane] += 1
        scan.sums += [Counter({lane: total & _MASK for lane, total in group.items()}) for group in groups]
        scan.counts += counts
        on_progress("accounts", held.counted)
        scan.offsets += [moment.offsets] * (end - first)
    return scan


def moments_of(books: AccountBooks, groups: Iterable[int]) -> Iterator[tuple[int, int, BucketsMoment]]:
    """Yield some groups' accounts: the first group and the one after the last of each moment, and what was read."""
    rows = max(books.accounts_and_more(), 1)
    at_once = max(1, ROWS_A_MOMENT * GROUPS // rows)
    waiting = sorted(groups)
    while waiting:
        first = waiting[0]
        some = [group for place, group in enumerate(waiting[:at_once]) if group == first + place]
        del waiting[: len(some)]
        yield first, first + len(some), books.buckets(first * GROUP_BUCKETS, (first + len(some)) * GROUP_BUCKETS)


def state_sum_of(account: Account) -> int:
    """Return what an account adds to its group's sum as it is."""
    return state_sum(account.address, account.currency, account.sequence, account.balance, account.held)


def modulo(total: int) -> int:
    """Return a sum as it is kept: 256 bits."""
    return total & _MASK


def prove_open_rows(moment: BucketsMoment, tally: Tally) -> None:
    """Prove that what accounts hold is what open holds say, and that they count what is open."""
    held, opened, in_transit = Counter[AccountKey](), Counter[AccountKey](), Counter[AccountKey]()
    for hold in moment.holds:
        for address in at_levels(hold.address, hold.levels):
            held[address, hold.currency] += hold.remaining_minor
    for transfer in moment.transfers:
        for address in at_levels(transfer.address, transfer.levels):
            in_transit[address, transfer.currency] += transfer.amount_minor
    rows: list[OpenRow] = [*moment.holds, *moment.refunds, *moment.transfers]
    for row in rows:
        for address in at_levels(row.address, row.levels):
            opened[address, row.currency] += 1
    for account, is_owned in moment.accounts:
        if not is_owned:
            continue
        key = (account.address, account.currency)
        said = (account.held, account.open_count, account.in_transit_minor)
        found = (held[key], opened.pop(key, 0), in_transit[key])
        tally.counted += 1
        if said != found:
            tally.refute(f"{key}: held, open count and in transit are {said}, open rows say {found}")
    for key in opened:
        tally.refute(f"{key}: something is open on an account that is not there")
