"""The rows that hold a partner's state, and how each is named. Amounts are in minor units."""

from __future__ import annotations

from dataclasses import dataclass

from processors.ledger.commands import AccountStatus, CommandType, Policy
from processors.ledger.outcomes import Contra, Status

AccountKey = tuple[str, str]  # address, currency
TransactionKey = tuple[str, bytes]  # root, id of the command that began it
DecisionKey = tuple[str, bytes]  # root, command id
SystemKey = tuple[int, Contra, str]  # level, name, currency


@dataclass(slots=True)
class Account:
    """An account's row; amounts in minor units.

    ``open_count`` counts open holds, refunds and transfers (H5), ``in_transit_minor`` is what open transfers took (T3).
    """

    address: str
    currency: str
    balance: int = 0
    held: int = 0
    overdraft_limit: int = 0
    policy: Policy = Policy.CHECKED
    status: AccountStatus = AccountStatus.ACTIVE
    sequence: int = 0
    open_count: int = 0
    metadata: bytes = b""
    in_transit_minor: int = 0

    @property
    def available(self) -> int:
        """Return what may still be spent or held, in minor units."""
        return self.balance - self.held + self.overdraft_limit


@dataclass(slots=True)
class Hold:
    """An open hold, or one that expired: then ``remaining_minor`` is 0, and it is kept for a window (H2).

    ``levels`` is the bit mask of the chain's levels it took from (H1).
    """

    address: str
    currency: str
    amount_minor: int
    remaining_minor: int
    levels: int
    expires_at_ms: int


@dataclass(slots=True)
class OpenRefund:
    """A refund that waits for its original (H4). ``levels`` are those whose ``open_count`` it raised."""

    address: str
    currency: str
    original_id: bytes
    amount_minor: int
    levels: int


@dataclass(slots=True)
class OpenTransfer:
    """A transfer whose money is on its way to another tree (T1). ``levels`` are those that it took from."""

    address: str
    currency: str
    to_address: str
    amount_minor: int
    levels: int


OpenRow = Hold | OpenRefund | OpenTransfer
"""A transaction that has not ended."""


@dataclass(slots=True)
class Refunded:
    """An original that has refunds: its amount and what was given back so far, minor units (H3)."""

    amount_minor: int
    refunded_minor: int


@dataclass(slots=True)
class MovedId:
    """The result of a command that another shard decided, within the window, before the root moved here (M6)."""

    result: bytes


@dataclass(slots=True)
class Decision:
    """A journal row as later commands see it: the answer to a duplicate (I3), and a refund's original (H4).

    ``lane_offset`` and ``lane_index`` say which row it is. ``result`` is empty from when it is decided until it is
    encoded: whoever reads it has all encoded first (``lane.deciding``). Not frozen: one per command on the hot path.
    """

    body_hash: bytes
    lane_offset: int
    lane_index: int
    type: CommandType
    status: Status
    address: str
    currency: str
    amount_minor: int
    levels: int
    result: bytes
