"""Transfers between trees in the reference ledger (T1 to T5): what was sent is remembered until its end comes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from processors.ledger.commands import Transfer, TransferCompleted, TransferCredit, TransferReturn
from processors.ledger.outcomes import Contra, Outcome, Posting, Reason, RefusedBy, Status
from tests.properties.reference_fields import mask
from tests.properties.reference_rows import Change, Key, Objection, SentTransfer

if TYPE_CHECKING:
    from tests.properties.reference import Reference


def derived(type_name: str, sender: str, transfer_id: bytes) -> bytes:
    """Return the id of a leg: what it is about, hashed and marked as UUIDv8; a credit's begins with the time."""
    hashed = hashlib.sha256(type_name.encode() + b"\0" + sender.encode() + b"\0" + transfer_id).digest()
    marked = hashed[:6] + bytes([hashed[6] % 16 + 0x80, hashed[7], hashed[8] % 64 + 0x80]) + hashed[9:16]
    return transfer_id[:6] + marked[6:] if type_name == "TRANSFER_CREDIT" else marked


def legs_of(addresses: list[str], named: Key, amount: int, parents: Contra) -> list[Change]:
    return [Change((each, named[1]), Contra.TRANSIT if each == named[0] else parents, amount, 0) for each in addresses]


def send(ledger: Reference, command: Transfer, root: str) -> tuple[Outcome, list[str]]:
    named, amount = (command.address, command.currency), command.amount_minor
    addresses = ledger.chain(*named)
    legs = legs_of(addresses, named, -amount, Contra.SETTLEMENT)
    found = ledger.against(legs, funds=True)
    for leg in legs:
        if ledger.in_transit(leg.key) + amount >= 2**63:
            found.append((Reason.BALANCE_OVERFLOW, leg.key))
    order = {address: place for place, address in enumerate(addresses)}
    found.sort(key=lambda each: order[each[1][0]] if each[1] else 0)
    if found:
        return ledger.refused(command, found), []
    postings = ledger.book(legs)
    ledger.sent[root, command.command_id] = SentTransfer(named, command.to_address, amount, addresses)
    return Outcome(Status.OPEN, Reason.NONE, command.command_id, amount, postings, mask(addresses)), []


def answer(
    ledger: Reference, command: TransferCredit | TransferCompleted | TransferReturn, root: str, now_ms: int
) -> Outcome | None:
    if isinstance(command, TransferCredit):
        return _credit(ledger, command, root, now_ms)
    row = ledger.sent.get((root, command.transfer_id))
    is_completed = isinstance(command, TransferCompleted)
    type_name = "TRANSFER_COMPLETED" if is_completed else "TRANSFER_RETURN"
    if row is None or command.command_id != derived(type_name, root, command.transfer_id):
        return None
    if (command.address, command.currency) != row.key or command.to_address != row.to_address:
        return None
    del ledger.sent[root, command.transfer_id]
    levels = mask(row.addresses)
    if isinstance(command, TransferReturn):
        postings = ledger.book(legs_of(row.addresses, row.key, row.amount, Contra.SETTLEMENT))
        reason = Reason(command.reason) if command.reason in list(Reason) else Reason.NONE
        return Outcome(Status.RETURNED, reason, command.transfer_id, row.amount, postings, levels)
    shown: tuple[Posting, ...] = tuple(ledger.posting((each, row.key[1]), Contra.NONE, 0, 0) for each in row.addresses)
    return Outcome(Status.COMPLETED, Reason.NONE, command.transfer_id, row.amount, shown, levels)


def _credit(ledger: Reference, command: TransferCredit, root: str, now_ms: int) -> Outcome | None:
    sender, transfer_id, amount = command.from_address.split(":")[0], command.transfer_id, command.amount_minor
    if command.command_id != derived("TRANSFER_CREDIT", sender, transfer_id) or root != command.address.split(":")[0]:
        return None
    if now_ms - int.from_bytes(transfer_id[:6], "big") > ledger.rules.window_ms:
        return _no(command, Reason.TRANSFER_TOO_OLD, None, journalled=False)
    if (root, command.command_id) in ledger.credited:
        return None
    ledger.credited.add((root, command.command_id))
    named = (command.address, command.currency)
    if named not in ledger.accounts:
        return _no(command, Reason.UNKNOWN_ACCOUNT, RefusedBy(command.address, 0, 0))
    addresses = ledger.chain(*named)
    legs = legs_of(addresses, named, amount, Contra.FUNDING)
    found: list[Objection] = ledger.against(legs, funds=False)
    found += [(Reason.ACCOUNT_FROZEN, leg.key) for leg in legs if ledger.status[leg.key] == "FROZEN"]
    if found:
        refused = ledger.refused(command, found)
        return _no(command, refused.reason, refused.refused_by)
    postings = ledger.book(legs)
    return Outcome(Status.ACCEPTED, Reason.NONE, transfer_id, amount, postings, mask(addresses))


def _no(command: TransferCredit, reason: Reason, cause: RefusedBy | None, *, journalled: bool = True) -> Outcome:
    return Outcome(
        Status.REJECTED,
        reason,
        command.transfer_id,
        command.amount_minor,
        journalled=journalled,
        refused_by=cause,
    )
