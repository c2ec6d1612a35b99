"""Ways to break the rules of moves in the code itself; ``test_moves_at_random`` must find each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from processors.lane.decided import Gathered, Receipt
from processors.lane.lane import Lane
from processors.lane.moving import Alone, Mover
from processors.lane.parts import Part, Parts
from processors.lane.placements import Placements, Turn
from processors.lane.publishing import PublishStage
from processors.ledger.commands import Command, Control, HandOff, Installed, LacksAhead, MovePartner, SendAgain
from processors.ledger.rows import SystemKey
from processors.ledger.tables import HOLDS, MOVED_IDS, REFUNDED, AnyTable
from processors.stores.rows import BatchWrite, ParkedRow, PlacementRow, PlacementState
from processors.wire.admission import Admission
from processors.wire.packed_rows import UnpackedRows
from processors.wire.route import Route
from tests.simulation.fakes.lane_store import FakeLaneStore


class SlowMover(Mover):
    """Unparks few records at once, and deletes few rows, so that there are often more; no mutation."""

    records_max = 3
    cleared_rows_max = 2


class ImpatientPlacements(Placements):
    """M1 behind: the owner decides a record while older ones wait."""

    def turn_of(self, route: Route, root: str) -> Turn:
        row = self.rows.get(route.placement_key)
        waits = row is not None and row.parked and row.generation == route.generation and self.owns(root)
        return Turn.HERE if waits else super().turn_of(route, root)


class PartsOfAnyGeneration(Parts):
    """M4 generation: a first part counts whatever generation is here."""

    def is_next(self, command: Part) -> bool:
        return command.number == 0 or super().is_next(command)


class PartsMoreThanOnce(Parts):
    """M4 once: a part that is there already counts again."""

    def is_next(self, command: Part) -> bool:
        row = self._placements.rows.get(command.placement_key)
        is_arriving = row is not None and row.parts > 0 and row.generation == command.generation
        return super().is_next(command) or (is_arriving and command.number < (row.parts if row else 0))


class PartsWithoutDigests(Parts):
    """M4 digest: parts count whatever came before them where they were read."""

    def disagrees(self, command: Command | Control | None) -> bool:  # noqa: ARG002
        return False


class PartsAheadOfAnyMove(Parts):
    """M6 ahead: a hand-off that follows on parts which went ahead is taken by a lane that has others."""

    def is_next(self, command: Part) -> bool:
        row = self._placements.rows.get(command.placement_key)
        if isinstance(command, HandOff) and 0 < command.ahead_parts == command.number:
            return row is not None and row.state is PlacementState.AWAY and command.generation > row.generation
        return super().is_next(command)


class MoverThatBelievesAnyMarker(SlowMover):
    """Ids count as sent ahead although the partner was elsewhere meanwhile: ``test_ids_ahead`` shows it."""

    def _seal(self, admission: Admission, command: MovePartner, *rest: Any) -> None:
        here_from = self._decider.placements.here_from(command.placement_key)
        super()._seal(admission, replace(command, ahead_from_offset=here_from), *rest)


class MoverWithoutTheRest(SlowMover):
    """M6 tail: what was decided after ids had gone ahead stays behind."""

    def _seal(self, admission: Admission, command: MovePartner, *rest: Any) -> None:
        super()._seal(admission, replace(command, ahead_offset=admission.record.offset), *rest)


class MoverThatTellsNoLack(SlowMover):
    """M6 lacks: a target that has other parts than those that went ahead keeps that to itself."""

    def _part(self, admission: Admission, command: HandOff, sums: dict[SystemKey, int], batch: Gathered) -> None:
        super()._part(admission, command, sums, batch)
        batch.handed_over[:] = [
            each for each in batch.handed_over if not (isinstance(each, Receipt) and each.lacks_ahead)
        ]


class MoverThatSendsTheRestAgain(SlowMover):
    """M6 again: what is sent again lacks what went ahead."""

    def _send_again(self, admission: Admission, command: SendAgain | LacksAhead, batch: Gathered) -> None:
        row = self._decider.placements.rows.get(command.placement_key)
        super()._send_again(admission, command, batch)
        if row is not None and row.is_at(PlacementState.SEALED, command.generation):
            self._decider.placements.put(row)
            batch.handed_over[-1] = row


class MoverThatThrowsPostingsAwayToo(SlowMover):
    """M4 thrown away: what is thrown away stays posted."""

    def _discard(
        self,
        admission: Admission,
        command: HandOff,
        sums: dict[SystemKey, int],  # noqa: ARG002
        batch: Gathered,
    ) -> None:
        super()._discard(admission, command, {}, batch)


class MoverWithItsOwnTime(SlowMover):
    """M4 time: the target's lane time stays behind the source's."""

    def _install(self, admission: Admission, command: HandOff, batch: Gathered) -> None:
        super()._install(admission, replace(command, lane_time_ms=0), batch)


class MoverWithItsOwnVersions(SlowMover):
    """M4 version: the target's version stays behind the source's."""

    def _install(self, admission: Admission, command: HandOff, batch: Gathered) -> None:
        super()._install(admission, replace(command, version_us=0), batch)


class MoverThatLooksBack(SlowMover):
    """M5 time: what waited is decided by the time at which it was parked."""

    def _unpark(self, alone: Alone, batch: Gathered) -> None:
        standing = self._decider.standing
        now_ms = standing.lane_time_ms
        if alone.unparked:
            standing.lane_time_ms = min(now_ms, alone.unparked[0][0].record.timestamp_ms)
        super()._unpark(alone, batch)
        standing.lane_time_ms = now_ms


class MoverInReverse(SlowMover):
    """M5 order: what waits is unparked from its end."""

    def prepare(self, admission: Admission) -> Alone:
        alone = super().prepare(admission)
        return replace(alone, unparked=alone.unparked[::-1])


class MoverWithoutOffsets(SlowMover):
    """M5 index: what is unparked is answered under one index."""

    def _unpark(self, alone: Alone, batch: Gathered) -> None:
        for row, admission in alone.unparked:
            super()._unpark(replace(alone, unparked=[(row, admission)]), batch)


class MoverThatBelievesAnyReceipt(SlowMover):
    """M7 generation: a receipt for any generation counts."""

    def _installed(self, admission: Admission, command: Installed, batch: Gathered) -> None:
        row = self._decider.placements.rows.get(command.placement_key)
        generation = command.generation if row is None else row.generation
        super()._installed(admission, replace(command, generation=generation), batch)


class MoverThatLeavesTheOld(SlowMover):
    """M7 leftover: who comes back finds his frozen rows."""

    def _arrive(self, command: HandOff, rows: UnpackedRows, batch: Gathered) -> None:
        super()._arrive(command, rows, batch)
        batch.cleared.clear()

    def left_by(self, admission: Admission) -> PlacementRow | None:  # noqa: ARG002
        return None


class MoverWithoutPostings(SlowMover):
    """M2: what comes and goes is not posted."""

    def _post(self, sums: object) -> None:
        """Post nothing."""


class HastyStage(PublishStage):
    """P3: a hand-off is sent before the results before it, and once only."""

    def step(self) -> bool:
        for batch in self._waiting:
            for handed_over in batch.handed_over:
                self._sender.send([record for record in self._courier.records(handed_over) if record is not None])
            batch.handed_over.clear()
        return super().step()


class CarelessStage(PublishStage):
    """P3 acknowledged: what is handed over is sent after the commit, or never."""

    def step(self) -> bool:
        handed_over = [each for batch in self._waiting for each in batch.handed_over]
        for batch in self._waiting:
            batch.handed_over.clear()
        stepped = super().step()
        for each in handed_over:
            self._sender.send([record for record in self._courier.records(each) if record is not None])
        return stepped


class StoreThatForgetsWhatWasParked(FakeLaneStore):
    """L4 parked: answering again does not know what was parked."""

    def parked_again(self, from_offset: int, to_offset: int) -> list[ParkedRow]:  # noqa: ARG002
        return []


class StoreWithout(FakeLaneStore):
    """M6: a table stays behind."""

    table: AnyTable

    def end(self, write: BatchWrite | None) -> None:
        if write is not None:
            write.arrived.pop(self.table, None)
        super().end(write)


class StoreWithoutIds(StoreWithout):
    """M6 ids."""

    table = MOVED_IDS


class StoreWithoutHolds(StoreWithout):
    """M6 holds."""

    table = HOLDS


class StoreWithoutRefunded(StoreWithout):
    """M6 refunded."""

    table = REFUNDED


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveMutation:
    """What is put in the place of what.

    ``other_parts``: only parts that were read from other rows show it; ``ids_ahead``: only moves before which ids go.
    """

    placements: type[Placements] = Placements
    mover: type[Mover] = SlowMover
    parts: type[Parts] = Parts
    stage: type[PublishStage] = PublishStage
    store: type[FakeLaneStore] = FakeLaneStore
    other_parts: bool = False
    ids_ahead: bool = False

    @property
    def lane(self) -> Callable[..., Lane]:
        """Return the class of a lane that is so mutated."""
        mutation = self

        class MutatedLane(Lane):
            def assign(self) -> None:
                super().assign()
                self._decider.placements.__class__ = mutation.placements
                self._committer._mover.__class__ = mutation.mover
                self._committer._mover._parts.__class__ = mutation.parts
                self.publishing.__class__ = mutation.stage

        return MutatedLane


NOTHING = MoveMutation()
MOVE_MUTATIONS = {
    "M1 behind": MoveMutation(placements=ImpatientPlacements),
    "M2": MoveMutation(mover=MoverWithoutPostings),
    "M4 generation": MoveMutation(parts=PartsOfAnyGeneration),
    "M4 once": MoveMutation(parts=PartsMoreThanOnce),
    "M4 digest": MoveMutation(parts=PartsWithoutDigests, other_parts=True),
    "M4 thrown away": MoveMutation(mover=MoverThatThrowsPostingsAwayToo, other_parts=True),
    "M4 time": MoveMutation(mover=MoverWithItsOwnTime),
    "M4 version": MoveMutation(mover=MoverWithItsOwnVersions),
    "M5 time": MoveMutation(mover=MoverThatLooksBack),
    "M5 order": MoveMutation(mover=MoverInReverse),
    "M5 index": MoveMutation(mover=MoverWithoutOffsets),
    "M6 ids": MoveMutation(store=StoreWithoutIds),
    "M6 ahead": MoveMutation(parts=PartsAheadOfAnyMove, ids_ahead=True),
    "M6 lacks": MoveMutation(mover=MoverThatTellsNoLack, ids_ahead=True),
    "M6 again": MoveMutation(mover=MoverThatSendsTheRestAgain, ids_ahead=True),
    "M6 tail": MoveMutation(mover=MoverWithoutTheRest, ids_ahead=True),
    "M6 holds": MoveMutation(store=StoreWithoutHolds),
    "M6 refunded": MoveMutation(store=StoreWithoutRefunded),
    "M7 generation": MoveMutation(mover=MoverThatBelievesAnyReceipt),
    "M7 leftover": MoveMutation(mover=MoverThatLeavesTheOld),
    "P3": MoveMutation(stage=HastyStage),
    "P3 acknowledged": MoveMutation(stage=CarelessStage),
    "L4 parked": MoveMutation(store=StoreThatForgetsWhatWasParked),
}
