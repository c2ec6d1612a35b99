"""What the reference ledger says about a command's id and fields: everything that is wrong with them at once."""

from __future__ import annotations

import re
from typing import Any

from processors.ledger.commands import Transfer
from processors.ledger.currencies import EXPONENTS
from processors.ledger.outcomes import Outcome, Reason, RefusedBy, Status
from processors.ledger.rules import Rules

METADATA = {b"": b"", b'{ "b": 1, "a": [] }': b'{"a":[],"b":1}', b"[1]": None, b'{"a": 1.0}': None}
"""What commands carry as metadata, and how it is stored; None where it is refused."""


def wrong_fields(command: Any, root: str, rules: Rules) -> list[Reason]:
    """Return all that is wrong with a command's fields."""
    amount = getattr(command, "amount_minor", 1)
    limit = getattr(command, "overdraft_limit", 0)
    to_address = getattr(command, "to_address", command.address)
    metadata = getattr(command, "metadata", b"") or b""
    found = {
        Reason.KEY_IS_NOT_ROOT: command.address.split(":")[0] != root,
        Reason.INVALID_ADDRESS: not (is_address(command.address) and is_address(to_address)),
        Reason.UNKNOWN_CURRENCY: command.currency not in EXPONENTS,
        Reason.INVALID_AMOUNT: amount is not None and not 1 <= amount <= 2**63 - 1,
        Reason.INVALID_OVERDRAFT_LIMIT: limit is not None and not 0 <= limit <= 2**63 - 1,
        Reason.INVALID_EXPIRY: not 1 <= getattr(command, "expires_in_ms", 1) <= rules.longest_hold_ms,
        Reason.INVALID_EXPLANATION: not 1 <= len(getattr(command, "explanation", "x")) <= 256,
        Reason.INVALID_METADATA: METADATA[metadata] is None,
        Reason.SAME_ACCOUNT: isinstance(command, Transfer) and to_address == command.address,
        Reason.TRANSFER_BETWEEN_TREES: rules.release < 3 and to_address.split(":")[0] != command.address.split(":")[0],
    }
    return [reason for reason, applies in found.items() if applies]


def rejected(command: Any, reasons: list[Reason], address: str = "", available: int = 0) -> Outcome:
    """Return the rejection with the first of some reasons; nonsense where there are none.

    ``address`` is that of the account that is the cause, with what is available there; empty where none is.
    """
    reason = min(reasons, key=list(Reason).index, default=Reason.NONE)
    if reason is Reason.COMMAND_FROM_FUTURE:
        return Outcome(Status.REJECTED, reason, command.command_id)
    amount = getattr(command, "amount_minor", 0) or 0
    missing = amount - available if reason is Reason.INSUFFICIENT_FUNDS else 0
    cause = RefusedBy(address, within_64_bits(available), within_64_bits(missing))
    return Outcome(
        Status.REJECTED,
        reason,
        command.command_id,
        amount,
        related_id=getattr(command, "hold_id", getattr(command, "original_id", b"")),
        refused_by=cause if address else None,
    )


def within_64_bits(amount: int) -> int:
    return sorted((-(2**63), amount, 2**63 - 1))[1]


def time_of(command_id: bytes) -> int | None:
    """Read a UUIDv7's time by its text."""
    text = command_id.hex()
    return int(text[:12], 16) if text[12] == "7" and text[16] in "89ab" else None


def is_address(text: str) -> bool:
    segments = text.split(":")
    good = all(re.fullmatch("[a-z0-9._-]{1,64}", segment) for segment in segments)
    return good and len(segments) <= 8 and len(text) <= 255


def mask(addresses: list[str]) -> int:
    return sum({2 ** address.count(":") for address in addresses})
