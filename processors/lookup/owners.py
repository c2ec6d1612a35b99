"""Which shard has a partner's balances now: the one that decides his commands (M11)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from processors.faults import Fault, Retryable
from processors.lane.placements import Placements
from processors.lookup.service import ServiceReader
from processors.lookup.times import show_time
from processors.routing.buckets import partition_of
from processors.stores.rows import PlacementRow, PlacementState

T = TypeVar("T")

# A move takes some tenths of a second, one of a partner with 10,000 holds under two (docs/performance.md, A move): who
# asks meanwhile waits that long. One that waits for a server or a worker takes as long as that is away.
MOVING_S = 3.0
_LOOK_S = 0.2
_NEVER_MOVED = (False, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedAt:
    """What a shard knows of a root: the rows of its own placement key and its bucket's."""

    rows: Mapping[str, PlacementRow]
    home: bool

    def owns(self, root: str) -> bool:
        """Say whether the shard decides the root's commands."""
        return Placements(self.rows, home=self.home).owns(root)

    def generation(self, root: str) -> tuple[bool, int]:
        """Return the last generation of a root that the shard knows of: of its own placement key, or its bucket's.

        Those of its own come after all of its bucket's: a root that has left its bucket never comes back to it.
        """
        row = Placements(self.rows, home=self.home).row_of(root)
        return _NEVER_MOVED if row is None else (row.placement_key == root, row.generation)


def owner_of(service: ServiceReader, root: str) -> str:
    """Return the shard that owns a root, by what the shards themselves say; the directory may be ahead of them.

    At most one shard owns it. While it moves none does; that is waited for, up to MOVING_S.

    Raises:
        Retryable: It is moving all the while; the text says from where to where, since when, and what to do.
        Fault: A shard does not answer, and none of the others is the owner.
    """
    if len(service.places.shards) == 1:
        return service.places.home_shard
    ends_s = time.monotonic() + MOVING_S
    while True:
        owner, moving = _look(service, root)
        if owner is not None:
            return owner
        if time.monotonic() > ends_s:
            raise Retryable(
                f"{root} is moving{moving}, and no shard has his balances meanwhile; it ends by itself once everything "
                "runs that it needs: `balance status` shows how far it is, and what is down"
            )
        time.sleep(_LOOK_S)


def at_owner(service: ServiceReader, root: str, ask: Callable[[str], T]) -> T:
    """Return what the shard says that owns a root; asked again where the root moved meanwhile.

    Raises:
        Retryable: It is moving all the while.
        Fault: A shard's.
    """
    while True:  # each turn takes a whole move
        owner = owner_of(service, root)
        answer = ask(owner)
        if owner_of(service, root) == owner:
            return answer


def _look(service: ServiceReader, root: str) -> tuple[str | None, str]:
    """Return the owner, if there is one; else from where to where the root is moving, as far as a shard says."""
    fault: Fault | None = None
    found: dict[str, PlacedAt] = {}
    for shard in service.places.shards:
        try:
            found[shard] = _placed_at(service, shard, root)
        except Fault as silent:
            fault = silent
    owner = owner_among(found, root)
    if owner is None and fault is not None:
        raise fault
    moving = [told for shard, placed in found.items() if (told := told_of_move(placed, shard, root))]
    return owner, moving[-1] if moving else ""


def owner_among(found: Mapping[str, PlacedAt], root: str) -> str | None:
    """Return which of some shards owns a root; None where none does, or another one knows of a later generation.

    A shard that was restored from a backup says that it owns who has moved since, until it has decided that move again.
    """
    latest = max((placed.generation(root) for placed in found.values()), default=_NEVER_MOVED)
    owners = [name for name, placed in found.items() if placed.owns(root) and placed.generation(root) == latest]
    return owners[0] if owners else None


def told_of_move(placed: PlacedAt, shard: str, root: str) -> str:
    """Say from where to where a root moves, and since when, by a shard from which it goes; else nothing."""
    row = Placements(placed.rows, home=placed.home).row_of(root)
    if row is None or row.state is not PlacementState.SEALED:
        return ""
    return f" from {shard} to {row.other_shard} since {show_time(row.since_time_ms)}"


def _placed_at(service: ServiceReader, shard: str, root: str) -> PlacedAt:
    known = service.row(shard)
    return PlacedAt(
        rows=service.shard(shard).placements_of(root, partition_of(root, known.lanes)),
        home=known.home,
    )
