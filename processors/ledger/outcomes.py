"""What the ledger decides: a status, a reason in order of precedence, and the postings that were made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from processors.ledger.commands import AccountStatus, Policy


class Status(StrEnum):
    """How a command ended; the order is the enum's on the wire and never changes."""

    ACCEPTED = "ACCEPTED"  # applied, a hold too
    OPEN = "OPEN"  # a later result of the same transaction ends it
    COMPLETED = "COMPLETED"  # ends an open transaction well
    RETURNED = "RETURNED"  # ends a transfer, the money is back
    REJECTED = "REJECTED"  # not applied; also ends an open refund
    UNKNOWN = "UNKNOWN"  # not decided now, perhaps decided before: look it up (I4)


class Contra(StrEnum):
    """The lane's system account on the other side of a posting (docs/design.md, Money)."""

    NONE = "NONE"  # the posting moves nothing between accounts (holds, balance reads)
    FUNDING = "FUNDING"
    SETTLEMENT = "SETTLEMENT"
    ADJUSTMENT = "ADJUSTMENT"
    TRANSIT = "TRANSIT"
    MOVED = "MOVED"


@dataclass(slots=True)
class Posting:
    """One leg: what changed on one account, and what the account was after.

    Amounts in minor units, signed; ``sequence`` after the change (H5). Not frozen and positional: built once
    per level of every payment, freezing costs 0.6 µs each.
    """

    address: str
    contra: Contra
    balance_change: int
    held_change: int
    balance: int
    held: int
    overdraft_limit: int
    sequence: int


class Reason(StrEnum):
    """Why not. The first that applies is given: the order here is the order of precedence.

    Each has a paragraph in docs/rejections.md and a golden scenario of the same name.
    """

    NONE = "NONE"
    # who and when (I3 to I5, F3)
    IMPLAUSIBLE_ID = "IMPLAUSIBLE_ID"
    COMMAND_TOO_OLD = "COMMAND_TOO_OLD"
    COMMAND_ID_REUSED = "COMMAND_ID_REUSED"
    COMMAND_FROM_FUTURE = "COMMAND_FROM_FUTURE"
    TRANSFER_TOO_OLD = "TRANSFER_TOO_OLD"  # T2
    # what was asked, looked at alone
    KEY_IS_NOT_ROOT = "KEY_IS_NOT_ROOT"
    INVALID_ADDRESS = "INVALID_ADDRESS"
    UNKNOWN_CURRENCY = "UNKNOWN_CURRENCY"
    INVALID_AMOUNT = "INVALID_AMOUNT"
    INVALID_OVERDRAFT_LIMIT = "INVALID_OVERDRAFT_LIMIT"
    INVALID_EXPIRY = "INVALID_EXPIRY"
    INVALID_EXPLANATION = "INVALID_EXPLANATION"
    INVALID_METADATA = "INVALID_METADATA"
    SAME_ACCOUNT = "SAME_ACCOUNT"
    TRANSFER_BETWEEN_TREES = "TRANSFER_BETWEEN_TREES"  # before release 3 of the rules
    MOVE_REFUSED = "MOVE_REFUSED"  # R3
    # what the accounts say
    ACCOUNT_EXISTS = "ACCOUNT_EXISTS"
    UNKNOWN_ACCOUNT = "UNKNOWN_ACCOUNT"
    # what it refers to
    UNKNOWN_HOLD = "UNKNOWN_HOLD"
    HOLD_MISMATCH = "HOLD_MISMATCH"
    HOLD_EXPIRED = "HOLD_EXPIRED"
    CAPTURE_ABOVE_HOLD = "CAPTURE_ABOVE_HOLD"
    ORIGINAL_TOO_OLD = "ORIGINAL_TOO_OLD"
    UNKNOWN_ORIGINAL = "UNKNOWN_ORIGINAL"
    ORIGINAL_NOT_REFUNDABLE = "ORIGINAL_NOT_REFUNDABLE"
    ORIGINAL_MISMATCH = "ORIGINAL_MISMATCH"
    REFUND_ABOVE_ORIGINAL = "REFUND_ABOVE_ORIGINAL"
    # what the accounts allow, every level of the chain
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    ACCOUNT_FROZEN = "ACCOUNT_FROZEN"
    ACCOUNT_NOT_EMPTY = "ACCOUNT_NOT_EMPTY"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    BALANCE_OVERFLOW = "BALANCE_OVERFLOW"

    @property
    def paragraph(self) -> str:
        """Return where the documentation says what the reason means and what to do next.

        >>> Reason.INSUFFICIENT_FUNDS.paragraph
        'docs/rejections.md#insufficient_funds'
        """
        return f"docs/rejections.md#{self.lower()}"


PRECEDENCE: dict[Reason, int] = {reason: place for place, reason in enumerate(Reason)}
"""A reason's place in the order; where several apply, the lowest is given."""


@dataclass(slots=True)
class RefusedBy:
    """The account that a rejection comes from: the first, root first, that has the reason given.

    ``available_minor`` is what was available there, and ``missing_minor`` what it lacked of the amount
    (INSUFFICIENT_FUNDS; 0 for other reasons), both cut to 64 bits: balance, held and limit together may need 66. Of an
    address without an account (UNKNOWN_ACCOUNT) both are 0.
    """

    address: str
    available_minor: int
    missing_minor: int


@dataclass(slots=True)
class Outcome:
    """What the ledger decided of one command. As an event on Kafka it is a result (``wire.results``).

    ``transaction_id`` is the id of the command that began the transaction; a refused command began none but its own.
    ``amount_minor`` is what was moved, held or freed, or asked for where it was refused; 0 where the command names
    none. ``related_id`` is the hold or the original that the command names, empty where it names none.
    ``remaining_minor`` is what is left of the hold, or of the original to refund. ``levels`` is the bit mask of the
    levels of the named address that were touched. ``journalled`` is False where the outcome leaves no journal row (I4,
    I5, a reused id). ``policy`` and ``account_status`` are those of the named account after OPEN_ACCOUNT,
    UPDATE_ACCOUNT and GET_BALANCE, None otherwise. ``refused_by`` is None where no account is the cause of a rejection.
    Not frozen: one per command on the hot path.
    """

    status: Status
    reason: Reason
    transaction_id: bytes
    amount_minor: int = 0
    postings: tuple[Posting, ...] = ()
    levels: int = 0
    related_id: bytes = b""
    remaining_minor: int = 0
    expires_at_ms: int = 0
    policy: Policy | None = None
    account_status: AccountStatus | None = None
    journalled: bool = True
    refused_by: RefusedBy | None = None
