"""What the records that move placement keys are about, and what a part of a hand-off is (M4). No I/O."""

from __future__ import annotations

from processors.ledger.commands import Command, Control, HandOff, Installed, MovePartner, SendAgain
from processors.routing.buckets import bucket_of


def is_plain_part(command: Command | Control | None) -> bool:
    """Say whether a record is a part of a hand-off with others behind it: it stores rows and does nothing else."""
    return isinstance(command, HandOff) and not command.is_last


def bucket_of_record(command: Command | Control | None) -> int | None:
    """Return the bucket of the placement key that a record which moves one is about; None for any other record."""
    if isinstance(command, HandOff | Installed | MovePartner | SendAgain):
        return bucket_of(command.placement_key)
    return None
