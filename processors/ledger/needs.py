"""Which rows a command needs, computed from the command alone, so that a batch loads them all before it decides."""

from __future__ import annotations

from typing import assert_never

from processors.ids import root_of
from processors.ledger.addresses import chain
from processors.ledger.book import Keys
from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Collect,
    Command,
    ExpireHold,
    GetBalance,
    MovePartner,
    OpenAccount,
    Pay,
    PlaceHold,
    RecallOriginal,
    Refund,
    TopUp,
    Transfer,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.currencies import has_form_of_code

# The service's own acts on open rows and not on ids (I7); a credit is known by its id (T2).
_OF_OPEN_ROWS = {ExpireHold, RecallOriginal, TransferCompleted, TransferReturn}


def collect_needs(command: Command, root: str, needs: Keys) -> None:
    """Add to ``needs`` every row that deciding ``command`` may read.

    Args:
        command: Decoded, not judged. An address that is malformed or of another root, or a currency that is none by
            its form, is refused before any account is looked at, and needs none: it must not lock another lane's rows,
            nor fill a statement with what a partner made up.
        root: The record's key, under which the command's id is known (I1).
        needs: Grows by the chain's accounts (all levels, H1), the hold, the original and the id's first decision; also
            by the row that the command may open, so that the book keeps it while it is decided but not committed (L9).
    """
    if isinstance(command, MovePartner):  # it is refused as it is (R3), or seals whatever rows there are (M2)
        return
    _need_accounts(command.address, command.currency, root, needs)
    if type(command) not in _OF_OPEN_ROWS:
        needs.decisions[root, command.command_id] = None
    match command:
        case Pay() | TopUp() | Collect() | Adjust() | OpenAccount() | UpdateAccount() | GetBalance():
            pass  # its chain is all
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
        case Transfer() if root_of(command.to_address) == root:
            _need_accounts(command.to_address, command.currency, root, needs)
        case Transfer():
            needs.open_transfers[root, command.command_id] = None
        case TransferCredit():
            pass  # its chain, and its first decision
        case TransferCompleted() | TransferReturn():
            needs.open_transfers[root, command.transfer_id] = None
        case _ as never:
            assert_never(never)


def _need_accounts(address: str, currency: str, root: str, needs: Keys) -> None:
    levels = chain(address)
    if levels and levels[0] == root and has_form_of_code(currency):
        for level in levels:
            needs.accounts[level, currency] = None
