"""An account's statement, from whichever shards decided its changes, and the archive."""

from __future__ import annotations

from processors.ids import root_of
from processors.lookup.history import Statement
from processors.lookup.owners import at_owner
from processors.lookup.service import ServiceReader


def statement_of(
    service: ServiceReader, address: str, currency: str, *, from_day: int | None = None, last: int | None = None
) -> Statement:
    """Return an account's changes.

    Args:
        service: What to look into.
        address: The account's.
        currency: The account's.
        from_day: Days since the epoch, UTC: from that day's first change on; None begins with the first of all.
        last: Only so many, the newest.

    Raises:
        Retryable: Its partner is moving all the while.
        Unavailable: MySQL or Cassandra does not answer.
    """

    def ask(owner: str) -> Statement:
        found = service.lookup(owner).statement(address, currency, from_day=from_day, last=last)
        for shard in service.places.shards:
            if found.missing and shard != owner:  # where he was before, and the sink is not there yet
                found = service.lookup(shard).completed(found, address, currency, from_day=from_day)
        return found

    return at_owner(service, root_of(address), ask)
