"""The numbers that a journal row has for its type, status and reason; the view ``journal_text`` has their names.

A number is the place of its name in its list, from 1 on. So a list only grows, at its end, and with it comes a new file
of schemas/mysql that makes the view anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Status

# The order of ``Reason`` is that of precedence, amid which a new one may come; that of the two others never changes.
REASONS = (
    "NONE", "IMPLAUSIBLE_ID", "COMMAND_TOO_OLD", "COMMAND_ID_REUSED", "COMMAND_FROM_FUTURE", "TRANSFER_TOO_OLD",
    "KEY_IS_NOT_ROOT", "INVALID_ADDRESS", "UNKNOWN_CURRENCY", "INVALID_AMOUNT", "INVALID_OVERDRAFT_LIMIT",
    "INVALID_EXPIRY", "INVALID_EXPLANATION", "INVALID_METADATA", "SAME_ACCOUNT", "TRANSFER_BETWEEN_TREES",
    "MOVE_REFUSED", "ACCOUNT_EXISTS", "UNKNOWN_ACCOUNT", "UNKNOWN_HOLD", "HOLD_MISMATCH", "HOLD_EXPIRED",
    "CAPTURE_ABOVE_HOLD", "ORIGINAL_TOO_OLD", "UNKNOWN_ORIGINAL", "ORIGINAL_NOT_REFUNDABLE", "ORIGINAL_MISMATCH",
    "REFUND_ABOVE_ORIGINAL", "ACCOUNT_CLOSED", "ACCOUNT_FROZEN", "ACCOUNT_NOT_EMPTY", "INSUFFICIENT_FUNDS",
    "BALANCE_OVERFLOW",
)  # fmt: skip


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names, 1)}


# A row that names anything else is a bug, and fails where its number is looked for instead of in the journal.
TYPE_NUMBERS = _numbered(CommandType)
STATUS_NUMBERS = _numbered(Status)
REASON_NUMBERS = _numbered(REASONS)
