"""What a part of a hand-off is to the lane that takes it: its rows, and why it is not taken (M4). No I/O."""

from __future__ import annotations

from processors.faults import Undecodable
from processors.lane.placements import Placements, digest_so_far
from processors.ledger.commands import Command, Control, HandOff, Installed, MovePartner, SendAgain
from processors.routing.buckets import bucket_of
from processors.stores.rows import PlacementRow
from processors.wire.packed_rows import UnpackedRows, unpack_part


class Parts:
    """Unpacks the parts that come next: each is asked for some times, and unpacked once."""

    def __init__(self, placements: Placements) -> None:
        """Look at a lane's placement keys, which have the beginnings of rows."""
        self._placements = placements
        self._last: tuple[HandOff, UnpackedRows | None] | None = None

    def unpacked(self, command: HandOff) -> UnpackedRows | None:
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


def is_plain_part(command: Command | Control | None) -> bool:
    """Say whether a record is a part of a hand-off with others behind it: it stores rows and does nothing else."""
    return isinstance(command, HandOff) and not command.is_last


def bucket_of_record(command: Command | Control | None) -> int | None:
    """Return the bucket of the placement key that a record which moves one is about; None for any other record."""
    if isinstance(command, HandOff | Installed | MovePartner | SendAgain):
        return bucket_of(command.placement_key)
    return None


def follows(command: HandOff, row: PlacementRow) -> bool:
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
