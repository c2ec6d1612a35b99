"""The stages of a move: how each is told from what the two shards' lanes know of a placement key, and what holds in it.

The command line shows them as they pass; the tests that kill processes go through them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from processors.stores.rows import PlacementRow, PlacementState


class Stage(StrEnum):
    """How far a move is (docs/design.md, A move)."""

    ASKED = "ASKED"
    PLACED = "PLACED"
    SEALED = "SEALED"
    ARRIVING = "ARRIVING"
    MOVED = "MOVED"
    SETTLED = "SETTLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRule:
    """What a stage means: ``says`` it in words, ``waits_for`` names who does what begins the next one.

    ``owners`` is how many shards decide the placement key's commands.
    """

    says: str
    waits_for: str
    owners: int

    def waiting_for(self, placement_key: str, source: str, target: str) -> str:
        """Say in words what a move waits for that stays in this stage, and what to look at."""
        return self.waits_for.format(key=placement_key, source=source, target=target)


# A key that was owned is sealed, left, and away once its rows are deleted, each time at the generation it went on with.
_WENT_ON = (PlacementState.SEALED, PlacementState.LEFT, PlacementState.AWAY)

STAGES: dict[Stage, StageRule] = {
    Stage.ASKED: StageRule(
        says="{source} decides its commands; the router has not met the marker yet",
        waits_for="the router: is it running, and how far behind? `balance status`",
        owners=1,
    ),
    Stage.PLACED: StageRule(
        says="the directory names {target}; {source} decides what came before the marker, the rest waits",
        waits_for="a worker of {source}: `balance status`, `balance shard show {source}`",
        owners=1,
    ),
    Stage.SEALED: StageRule(
        says="its rows are frozen in {source}, which hands them over; its commands wait",
        waits_for="a worker of {source}: `balance status`, `balance shard show {source}`. Or the rows were thrown away "
        "in {target}, whose worker has logged move_needs_a_look then: `balance partner move {key} --send-again`",
        owners=0,
    ),
    Stage.ARRIVING: StageRule(
        says="{target} has {parts} parts of the rows; its commands wait",
        waits_for="a worker of {target}: `balance status`, `balance shard show {target}`",
        owners=0,
    ),
    Stage.MOVED: StageRule(
        says="{target} owns it; {parked} commands wait for their turn",
        waits_for="a worker and the expirer of {target}: `balance status`",
        owners=1,
    ),
    Stage.SETTLED: StageRule(says="{target} owns it, and nothing waits", waits_for="nothing", owners=1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSeen:
    """What is known of a move that begins ``generation`` of a placement key: the directory's word, and each lane's row.

    A row is None where the lane has none of the key; what a row says of a later generation is over, too.
    """

    generation: int
    is_placed: bool
    source: PlacementRow | None
    target: PlacementRow | None

    @property
    def stage(self) -> Stage:
        """Say how far it is; one after which the key has gone on is over, whatever waits for it to come back."""
        target = self.target
        if target is not None and self._target_has(PlacementState.OWNED, *_WENT_ON):
            return Stage.MOVED if target.parked and target.generation == self.generation else Stage.SETTLED
        if self._target_has(PlacementState.ARRIVING):
            return Stage.ARRIVING
        source = self.source
        went = (PlacementState.SEALED, PlacementState.LEFT)
        if source is not None and source.state in went and source.generation >= self.generation:
            return Stage.SEALED
        return Stage.PLACED if self.is_placed else Stage.ASKED

    def _target_has(self, *states: PlacementState) -> bool:
        target = self.target
        return target is not None and target.state in states and target.generation >= self.generation

    @property
    def parked(self) -> int:
        """Return how many commands wait in the target."""
        return 0 if self.target is None else self.target.parked

    def told(self, source: str, target: str) -> str:
        """Say in words how far it is; the arguments are the shards' ids."""
        parts = 0 if self.target is None else self.target.parts
        return STAGES[self.stage].says.format(source=source, target=target, parts=parts, parked=self.parked)
