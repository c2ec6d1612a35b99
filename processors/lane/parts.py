"""What a part of a hand-off is to the lane that takes it: its rows, and why it is not taken (M4, M6). No I/O."""

from __future__ import annotations

from dataclasses import replace

from processors.faults import Undecodable
from processors.lane.decided import Receipt
from processors.lane.placements import Placements, digest_so_far
from processors.lane.standing import Standing
from processors.ledger.commands import (
    Command,
    Control,
    HandOff,
    Installed,
    LacksAhead,
    MoveAhead,
    MovePartner,
    SendAgain,
)
from processors.routing.buckets import bucket_of, placement_key_of
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.packed_rows import UnpackedRows, unpack_part
from processors.wire.route import Route

AWAY, ARRIVING = PlacementState.AWAY, PlacementState.ARRIVING
_ELSEWHERE = (AWAY, PlacementState.LEFT)

Part = HandOff | MoveAhead


class Parts:
    """Says what the parts are that come: the next ones, or others. Each is asked for some times, and unpacked once."""

    def __init__(self, placements: Placements) -> None:
        """Look at a lane's placement keys, which have the beginnings of rows."""
        self._placements = placements
        self._last: tuple[Part, UnpackedRows | None] | None = None

    def unpacked(self, command: Part) -> UnpackedRows | None:
        """Return the rows of the next part of a hand-off; None where they are none that this release understands."""
        if self._last is None or self._last[0] is not command:
            row = self._placements.rows.get(command.placement_key)
            began = b"" if row is None or command.number == 0 else row.rest
            try:
                rows = unpack_part(began, command.rows)
            except Undecodable:
                rows = None
            self._last = command, rows
        return self._last[1]

    def is_next(self, command: Part) -> bool:
        """Say whether a part is the next one: the first of a later generation, or that after the last (M4).

        The first of a hand-off may follow on parts that went ahead (M6). Parts go ahead only where neither the key is
        here nor, of a root that is still in it, its bucket.
        """
        row = self._placements.rows.get(command.placement_key)
        if isinstance(command, MoveAhead):
            return self._may_go_ahead(command) and (command.number == 0 or _came_ahead(command, row))
        if row is not None and row.is_at(ARRIVING, command.generation):
            return command.number == row.parts and not _is_of_the_rest(command, row)
        if command.begins_behind_ahead:
            return _came_ahead(command, row)
        return command.number == 0 and (row is None or command.generation > row.generation)

    def _may_go_ahead(self, command: MoveAhead) -> bool:
        placements, key = self._placements, command.placement_key
        row = placements.rows.get(key)
        if row is not None:
            # Where records wait, the move has begun: what goes ahead of it is there, and would be thrown away.
            is_later = command.generation > row.generation and not row.parked
            if not is_later or row.state not in _ELSEWHERE:
                return False
        if command.generation > 1:  # a root has left its bucket by then, wherever that is
            return True
        here = placements.row_of(key)
        return not placements.home if here is None else here.state in _ELSEWHERE

    def goes_on(self, command: Part) -> bool:
        """Say whether a part is the next of some that have come, so that nothing is read for it."""
        row = self._placements.rows.get(command.placement_key)
        if command.number == 0 or row is None or not self.is_next(command) or self.disagrees(command):
            return False
        return isinstance(command, MoveAhead) or row.state is ARRIVING

    def completes(self, command: HandOff) -> bool:
        """Say whether a part is the last one, and all others are here."""
        row = self._placements.rows.get(command.placement_key)
        return self.is_next(command) and command.is_last and row is not None and not self.disagrees(command)

    def disagrees(self, command: Command | Control | None) -> bool:
        """Say whether a part does not follow on those that came: the source sent those from other rows (M4).

        So does a last part with others behind it, and one whose rows this release does not understand. A part that is
        there already tells nothing.
        """
        if not isinstance(command, HandOff):
            return False
        row = self._placements.rows.get(command.placement_key)
        if row is None or not row.is_at(ARRIVING, command.generation) or _is_of_the_rest(command, row):
            return False
        if command.number == row.parts:
            return not follows(command, row) or self.unpacked(command) is None
        return command.is_last and command.number < row.parts


def lacks_ahead(command: HandOff, placements: Placements) -> bool:
    """Say whether a hand-off begins behind parts that went ahead, and this lane has others, or none (M6)."""
    row = placements.rows.get(command.placement_key)
    return command.begins_behind_ahead and (row is None or row.generation < command.generation)


def told_lacking(command: HandOff) -> Receipt:
    """Return what tells a hand-off's source to send all of it, since what went ahead is not here."""
    return Receipt(
        shard=command.source,
        placement_key=command.placement_key,
        generation=command.generation,
        lacks_ahead=True,
    )


def _is_of_the_rest(command: HandOff, row: PlacementRow) -> bool:
    """Say whether a part goes on from ids that went ahead, late: they were lacking, and all is arriving (M6)."""
    return command.ahead_parts > 0 and not row.ahead_generation


def _came_ahead(command: Part, row: PlacementRow | None) -> bool:
    """Say whether the parts before a part, and no others, came ahead of the move (M6)."""
    if row is None or row.state is not AWAY or row.ahead_generation != command.generation:
        return False
    return row.parts == command.number and follows(command, row)


def begun_ahead(command: MoveAhead, row: PlacementRow | None) -> PlacementRow:
    """Return the row of a placement key of which the first part goes ahead; ``row`` is what was known of it (M6).

    A root of which a later generation than the first is to come has left its bucket: that is known now, and what the
    bucket brings of him no longer counts.
    """
    known = row or PlacementRow(placement_key=command.placement_key, generation=command.generation - 1, state=AWAY)
    if known.only_waits and command.generation > 1:
        known = replace(known, generation=command.generation - 1, other_shard=command.source)
    return replace(known.without_ahead(), state=AWAY, ahead_generation=command.generation)


def begun_arriving(command: HandOff, row: PlacementRow | None, standing: Standing) -> PlacementRow:
    """Return the row of a placement key whose first part of a hand-off was met; ``row`` is what was known of it."""
    came_ahead = row if command.number else None
    return PlacementRow(
        placement_key=command.placement_key,
        generation=command.generation,
        state=ARRIVING,
        other_shard=command.source,
        since_offset=standing.next_offset - 1,
        since_time_ms=standing.lane_time_ms,
        parts=0 if came_ahead is None else came_ahead.parts,
        digest=bytes(32) if came_ahead is None else came_ahead.digest,
        ahead_generation=0 if came_ahead is None else came_ahead.ahead_generation,
        parked=0 if row is None else row.parked,
    )


def after_ids_ahead(sealed: PlacementRow, command: MovePartner) -> PlacementRow:
    """Return a seal's row, with what its marker says of ids that went ahead (M6).

    They count if they were read in this stay of the placement key. Where it was elsewhere meanwhile, they lack what was
    decided there: then all ids are handed over.
    """
    if command.ahead_parts == 0 or command.ahead_from_offset != sealed.sealed_from_offset:
        return sealed
    return replace(
        sealed,
        parts=command.ahead_parts,
        digest=command.ahead_digest,
        ahead_generation=command.generation,
        ahead_offset=command.ahead_offset,
    )


def fits_route(command: MovePartner, route: Route, shard: str) -> bool:
    """Say whether a MOVE_OUT is of this shard, and of the placement key by whose generation it was routed (R4)."""
    key = command.placement_key
    if command.source != shard or command.target == shard:
        return False
    if key == route.placement_key:
        return command.generation == route.generation + 1
    return placement_key_of(key) == route.placement_key and command.generation == 1  # it leaves its bucket


def is_plain_part(command: Command | Control | None) -> bool:
    """Say whether a record is a part with others behind it: it stores rows and does nothing else."""
    return isinstance(command, MoveAhead) or (isinstance(command, HandOff) and not command.is_last)


def bucket_of_record(command: Command | Control | None) -> int | None:
    """Return the bucket of the placement key that a record which moves one is about; None for any other record."""
    if isinstance(command, HandOff | Installed | LacksAhead | MoveAhead | MovePartner | SendAgain):
        return bucket_of(command.placement_key)
    return None


def follows(command: Part, row: PlacementRow) -> bool:
    """Say whether a part was read from the rows that have come: it names the digest of what is before it (M4)."""
    return command.digest == digest_so_far(row.digest, row.rest)


def follows_on_others(command: HandOff, offset: int) -> str:
    """Say that a part, which lies at an offset, was read from other rows than those that came."""
    key = command.placement_key
    return (
        f"offset {offset}: part {command.number} of {key} has another digest before it than what came; "
        f"all of it is thrown away: `balance partner move {key} --send-again`"
    )


def not_understood(command: HandOff, offset: int) -> str:
    """Say that a part has no rows that this release understands: a source of a later one may have others."""
    key = command.placement_key
    return (
        f"offset {offset}: the rows of part {command.number} of {key} are none that this release understands; what has "
        f"come is thrown away: look which release {command.source} has, then `balance partner move {key} --send-again`"
    )


def thrown_away(command: HandOff, offset: int) -> str:
    """Say once more that what had come was thrown away at a part, for whichever reason."""
    key = command.placement_key
    return (
        f"offset {offset}: part {command.number} of {key} did not follow on what came, or was not understood: all of "
        f"it was thrown away: look which release {command.source} has, then `balance partner move {key} --send-again`"
    )
