"""Accounts as they are now, from the shard that owns each one's partner (M11)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from processors.ids import root_of
from processors.ledger.rows import Account
from processors.lookup.owners import at_owner
from processors.lookup.service import ServiceReader
from processors.stores.shard_reader import ShardReader

COUNT_MAX = 100_000  # counted in a twentieth of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsPage:
    """Accounts in the order of their addresses. ``more`` come after the last one.

    ``there`` is how many there are in all; None where they are more than were counted.
    """

    accounts: list[Account]
    more: bool
    there: int | None


def account_of(service: ServiceReader, address: str, currency: str) -> Account | None:
    """Return one account, or None: there is none.

    Raises:
        Retryable: Its partner is moving all the while.
        Fault: A shard's.
    """
    return at_owner(service, root_of(address), lambda owner: service.shard(owner).account(address, currency))


def accounts_below(service: ServiceReader, address: str) -> list[Account]:
    """Return the accounts of an address and of those below it, at most ``RANGE_ROWS``.

    Raises:
        Retryable: Its partner is moving all the while.
        Fault: A shard's.
    """
    return at_owner(service, root_of(address), lambda owner: service.shard(owner).accounts_below(address))


def accounts_page(
    service: ServiceReader, below: str | None, *, after: str, rows_max: int, count_max: int = COUNT_MAX
) -> AccountsPage:
    """Return the next accounts of all shards; raises as ``accounts_below``.

    Args:
        service: What to look into.
        below: Only this address and those below it; None: all.
        after: Only those behind this address.
        rows_max: At most so many, and what is left of the last address's currencies.
        count_max: How many are counted at most, on each shard: a page costs what it shows, and this.
    """

    def ask(shards: Iterable[str]) -> AccountsPage:
        return _page_of([service.shard(shard) for shard in shards], below, after, rows_max, count_max)

    if below is not None:  # asked again where he moved meanwhile, or he would seem to have no account
        return at_owner(service, root_of(below), lambda owner: ask([owner]))
    return ask(service.places.shards)


def _page_of(
    readers: Iterable[ShardReader], below: str | None, after: str, rows_max: int, count_max: int
) -> AccountsPage:
    found: list[Account] = []
    there, more = 0, False
    for reader in readers:
        page = reader.accounts_page(below, after=after, rows_max=rows_max)
        more = more or (bool(page) and bool(reader.accounts_page(below, after=page[-1].address, rows_max=1)))
        there += reader.count_accounts(below, most=count_max + 1)
        found += page
    found.sort(key=lambda account: (account.address, account.currency))
    if len(found) > rows_max:
        last = found[rows_max - 1].address
        kept = [account for account in found if account.address <= last]
        more, found = more or len(kept) < len(found), kept
    return AccountsPage(accounts=found, more=more, there=there if there <= count_max else None)
