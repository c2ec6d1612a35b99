"""Which rows a command needs, computed from the command alone, so that a batch loads them all before it decides."""

from __future__ import annotations

from processors.ledger.addresses import chain
from processors.ledger.book import Keys
from processors.ledger.commands import (
    CaptureHold,
    Command,
    ExpireHold,
    PlaceHold,
    RecallOriginal,
    Refund,
    Transfer,
    VoidHold,
)


def collect_needs(command: Command, root: str, needs: Keys) -> None:
    """Add to ``needs`` every row that deciding ``command`` may read.

    Args:
        command: Decoded, not judged: an address may be malformed, and then needs no account.
        root: The record's key, under which the command's id is known (I1).
        needs: Grows by the chain's accounts (all levels, H1), the hold, the original and the id's first decision; also
            by the row that the command may open, so that the book keeps it while it is decided but not committed (L9).
    """
    currency = command.currency
    for address in chain(command.address):
        needs.accounts[address, currency] = None
    if not isinstance(command, ExpireHold | RecallOriginal):  # the service's own act on open rows, not on ids (I7)
        needs.decisions[root, command.command_id] = None
    match command:
        case PlaceHold():
            needs.holds[root, command.command_id] = None
        case CaptureHold() | VoidHold() | ExpireHold():
            needs.holds[root, command.hold_id] = None
        case Refund():
            needs.open_refunds[root, command.command_id] = None
            needs.decisions[root, command.original_id] = None
            needs.refunded[root, command.original_id] = None
        case RecallOriginal():
            needs.open_refunds[root, command.refund_id] = None
            needs.refunded[root, command.original_id] = None
        case Transfer():
            for address in chain(command.to_address):
                needs.accounts[address, currency] = None
        case _:
            pass
