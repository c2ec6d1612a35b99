"""Which moves are under way: those that the directory has and that are not settled, by what both shards know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

from processors.ops.stages import STAGES, MoveSeen, Stage
from processors.routing.directory import Directory, Move
from processors.stores.rows import PlacementRow

BegunMs = Mapping[tuple[str, int], int]
"""When the router met a move's marker, by placement key and generation; ms since the epoch, UTC."""

RowsOfShards = Mapping[str, Mapping[str, PlacementRow]]
"""What each shard's lanes know of placement keys, by shard and key."""

# A move takes some tenths of a second, of a large partner some (docs/performance.md, A move); one that has not ended by
# now waits for something.
LATE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStatus:
    """A move that is not settled: a placement key begins ``generation`` in ``target``.

    ``stage`` is None where the source does not answer and may be further than the target knows. ``parts`` of its rows
    have come to the target, where ``parked`` records wait. ``begun_ms`` is when the router met its marker, ms since the
    epoch, UTC; 0 where that is not known.
    """

    placement_key: str
    generation: int
    source: str
    target: str
    stage: Stage | None
    begun_ms: int
    parts: int
    parked: int

    def is_late(self, now_ms: int) -> bool:
        """Say whether it takes longer than a move does that waits for nobody."""
        return self.begun_ms > 0 and now_ms - self.begun_ms > LATE_MS

    @property
    def waits_for(self) -> str:
        """Say in words what it waits for, and what to look at."""
        if self.stage is None:
            return f"{self.source} does not answer, so it is not known"
        return STAGES[self.stage].waiting_for(self.placement_key, self.source, self.target)


def moves_under_way(directory: Directory, rows: RowsOfShards, begun: Callable[[], BegunMs]) -> list[MoveStatus]:
    """Return the moves that are not settled, those that began first before others.

    Args:
        directory: Has every marker that a router has met.
        rows: Of the shards that answer; of moves to another nothing is known.
        begun: Called if there are any, since it takes a while.
    """
    found = [
        (move, seen)
        for newest in directory.newest_moves()
        for move, seen in takewhile(_is_under_way, _seen(newest, directory, rows))
    ]
    times = begun() if found else {}
    moves = []
    for move, seen in found:
        source, began = directory.source_of(move), (move.placement.placement_key, move.placement.generation)
        moves.append(_status(move, seen, source, is_known=source in rows, begun_ms=times.get(began, 0)))
    return sorted(moves, key=lambda each: (each.begun_ms, each.placement_key, each.generation))


def _is_under_way(found: tuple[Move, MoveSeen]) -> bool:
    return found[1].stage is not Stage.SETTLED


def _seen(newest: Move, directory: Directory, rows: RowsOfShards) -> Iterator[tuple[Move, MoveSeen]]:
    """Yield a placement key's moves, the newest first: one may wait for the one before."""
    for move in directory.moves_of(newest.placement.placement_key):
        placement = move.placement
        if placement.shard in rows:
            yield (
                move,
                MoveSeen(
                    generation=placement.generation,
                    is_placed=True,
                    source=rows.get(directory.source_of(move), {}).get(placement.placement_key),
                    target=rows[placement.shard].get(placement.placement_key),
                ),
            )


def _status(move: Move, seen: MoveSeen, source: str, *, is_known: bool, begun_ms: int) -> MoveStatus:
    placement = move.placement
    return MoveStatus(
        placement_key=placement.placement_key,
        generation=placement.generation,
        source=source,
        target=placement.shard,
        stage=seen.stage if is_known or seen.stage is not Stage.PLACED else None,
        begun_ms=begun_ms,
        parts=0 if seen.target is None else seen.target.parts,
        parked=seen.parked,
    )
