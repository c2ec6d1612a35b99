"""What can be asked of the ledger: one value per command, named as the wire names it.

A command holds what its record said, decoded but not yet judged: an amount may still be zero, an address malformed.
``ledger.validity`` says what is wrong with it, as a rejection. Nothing changes a command; the classes are not frozen,
and take their fields by position from the decoder, because that saves 1.7 µs of the 45 that a command takes.

``ledger.command_types`` is the table of their types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CommandType(StrEnum):
    """Every type of result and journal row; the order is the enum's on the wire and never changes."""

    OPEN_ACCOUNT = "OPEN_ACCOUNT"
    UPDATE_ACCOUNT = "UPDATE_ACCOUNT"
    TOP_UP = "TOP_UP"
    COLLECT = "COLLECT"
    ADJUST = "ADJUST"
    PAY = "PAY"
    PLACE_HOLD = "PLACE_HOLD"
    CAPTURE_HOLD = "CAPTURE_HOLD"
    VOID_HOLD = "VOID_HOLD"
    EXPIRE_HOLD = "EXPIRE_HOLD"
    REFUND = "REFUND"
    RECALL_ORIGINAL = "RECALL_ORIGINAL"
    TRANSFER = "TRANSFER"
    GET_BALANCE = "GET_BALANCE"
    CONTROL = "CONTROL"  # journal rows of records that concern a lane and no partner (A1)
    MOVE_PARTNER = "MOVE_PARTNER"
    TRANSFER_CREDIT = "TRANSFER_CREDIT"
    TRANSFER_COMPLETED = "TRANSFER_COMPLETED"
    TRANSFER_RETURN = "TRANSFER_RETURN"


class ControlType(StrEnum):
    """Every type of record that concerns a lane and no partner."""

    TICK = "TICK"
    SET_RULES = "SET_RULES"
    SET_LANE_TIME = "SET_LANE_TIME"
    HAND_OFF = "HAND_OFF"
    INSTALLED = "INSTALLED"
    SEND_AGAIN = "SEND_AGAIN"
    MOVE_AHEAD = "MOVE_AHEAD"
    LACKS_AHEAD = "LACKS_AHEAD"


class Policy(StrEnum):
    """What an account does where available funds do not cover an amount."""

    CHECKED = "CHECKED"  # prepaid: available must cover the amount
    UNCHECKED = "UNCHECKED"  # recorded, never refused for funds


class AccountStatus(StrEnum):
    """What an account still takes part in (H5)."""

    ACTIVE = "ACTIVE"
    FROZEN = "FROZEN"  # no new debits and holds
    CLOSED = "CLOSED"  # final


class Direction(StrEnum):
    """Which way an operator's correction goes."""

    CREDIT = "CREDIT"
    DEBIT = "DEBIT"


@dataclass(slots=True)
class OpenAccount:
    """Open an account with a balance of zero. ``overdraft_limit`` in minor units, 0 to 2**63 - 1."""

    command_id: bytes
    address: str
    currency: str
    overdraft_limit: int = 0
    policy: Policy = Policy.CHECKED
    metadata: bytes = b""


@dataclass(slots=True)
class UpdateAccount:
    """None leaves a field as it is."""

    command_id: bytes
    address: str
    currency: str
    overdraft_limit: int | None = None
    policy: Policy | None = None
    status: AccountStatus | None = None
    metadata: bytes | None = None


@dataclass(slots=True)
class TopUp:
    """Money in, on the named account alone. ``amount_minor`` 1 to 2**63 - 1, here and everywhere."""

    command_id: bytes
    address: str
    currency: str
    amount_minor: int
    metadata: bytes = b""


@dataclass(slots=True)
class Collect:
    """Money collected for the partner, on the named account alone."""

    command_id: bytes
    address: str
    currency: str
    amount_minor: int
    metadata: bytes = b""


@dataclass(slots=True)
class Adjust:
    """An operator's correction of the named account alone, signed (W1)."""

    command_id: bytes
    address: str
    currency: str
    amount_minor: int
    direction: Direction
    explanation: str  # 1 to 256 characters: why the operator did it
    metadata: bytes = b""


@dataclass(slots=True)
class Pay:
    """Check and take an amount, on every level of the chain."""

    command_id: bytes
    address: str
    currency: str
    amount_minor: int
    metadata: bytes = b""


@dataclass(slots=True)
class PlaceHold:
    """Check and reserve an amount, on every level. ``expires_in_ms`` 1 to the rules' longest hold."""

    command_id: bytes
    address: str
    currency: str
    amount_minor: int
    expires_in_ms: int
    metadata: bytes = b""


@dataclass(slots=True)
class CaptureHold:
    """``amount_minor`` None takes all that is left of the hold."""

    command_id: bytes
    address: str
    currency: str
    hold_id: bytes
    amount_minor: int | None = None
    final: bool = True
    metadata: bytes = b""


@dataclass(slots=True)
class VoidHold:
    """Free all that is left of a hold."""

    command_id: bytes
    address: str
    currency: str
    hold_id: bytes
    metadata: bytes = b""


@dataclass(slots=True)
class ExpireHold:
    """The service's own (I7); ``command_id`` is ``derived_id("EXPIRE_HOLD", hold_id)``."""

    command_id: bytes
    address: str
    currency: str
    hold_id: bytes


@dataclass(slots=True)
class Refund:
    """Give back part or all of a payment or of a capture."""

    command_id: bytes
    address: str
    currency: str
    original_id: bytes  # command id of a PAY or a CAPTURE_HOLD (H3)
    amount_minor: int
    metadata: bytes = b""


class Recalled(StrEnum):
    """Whether the archive has a refund's original (H4)."""

    FOUND = "FOUND"
    NOT_FOUND = "NOT_FOUND"


@dataclass(slots=True)
class RecallOriginal:
    """The service's own (I7), signed: what the archive says about a refund's original.

    The ``original_*`` fields count only when FOUND. ``original_levels`` is a bit mask: bit 0 is the root's level 1.
    """

    command_id: bytes  # derived_id("RECALL_ORIGINAL", refund_id)
    address: str
    currency: str
    refund_id: bytes
    original_id: bytes
    recalled: Recalled
    original_type: str = ""  # CommandType of the original's row
    original_accepted: bool = False
    original_address: str = ""
    original_currency: str = ""
    original_amount_minor: int = 0
    original_levels: int = 0


@dataclass(slots=True)
class Transfer:
    """Move an amount between two accounts of one currency, of one tree or of two (T1)."""

    command_id: bytes
    address: str
    currency: str
    to_address: str
    amount_minor: int
    metadata: bytes = b""


@dataclass(slots=True)
class GetBalance:
    """Read the balances of a chain, in order with the writes."""

    command_id: bytes
    address: str
    currency: str


@dataclass(slots=True)
class MovePartner:
    """The marker of a move, an operator's (R3): a placement key goes from the shard ``source`` to ``target``.

    ``command_id`` is ``derived_id("MOVE_PARTNER", b"KEY.GENERATION.SOURCE.TARGET")``, ``generation`` the one that it
    begins.

    The target may have ids already (M6): all that the source knew before its lane's ``ahead_offset``, in a stay that
    began at ``ahead_from_offset``. They came in ``ahead_parts`` parts, with the 32 bytes of ``ahead_digest`` over them
    (``MoveAhead``); none did where there are 0.
    """

    command_id: bytes
    placement_key: str
    generation: int
    source: str
    target: str
    ahead_from_offset: int = 0
    ahead_offset: int = 0
    ahead_parts: int = 0
    ahead_digest: bytes = b""

    @property
    def address(self) -> str:
        """Return what stands for an address in its result: the placement key."""
        return self.placement_key

    @property
    def currency(self) -> str:
        """Return nothing: it concerns every currency."""
        return ""


@dataclass(slots=True)
class TransferCredit:
    """The service's own, signed: the money of a transfer for the receiver, who lives in another tree (T2).

    ``command_id`` carries the transfer's time (T5). ``transfer_id`` is the TRANSFER's, under the sender's root.
    """

    command_id: bytes
    address: str
    currency: str
    from_address: str
    transfer_id: bytes
    amount_minor: int
    metadata: bytes = b""


@dataclass(slots=True)
class TransferCompleted:
    """The service's own (I7), signed: the receiver has the money of the sender's transfer (T3)."""

    command_id: bytes
    address: str
    currency: str
    to_address: str
    transfer_id: bytes


@dataclass(slots=True)
class TransferReturn:
    """The service's own (I7), signed: the receiver did not take the money (T3). ``reason`` is a ``Reason``'s name."""

    command_id: bytes
    address: str
    currency: str
    to_address: str
    transfer_id: bytes
    reason: str


PartnersCommand = (
    OpenAccount
    | UpdateAccount
    | TopUp
    | Collect
    | Adjust
    | Pay
    | PlaceHold
    | CaptureHold
    | VoidHold
    | Refund
    | Transfer
    | GetBalance
)
ServicesCommand = ExpireHold | RecallOriginal | TransferCredit | TransferCompleted | TransferReturn
Command = PartnersCommand | ServicesCommand | MovePartner


@dataclass(slots=True)
class Tick:
    """Moves an idle lane's time on; leaves no row and no result."""


@dataclass(slots=True)
class SetRules:
    """An operator's change of the rules, one record in every lane (I6). ``version`` must be the lane's plus one.

    ``keys`` and ``registry_ids``: texts of ``ledger.trust``, the whole lists; None, as in the schema's first version,
    leaves them as they are.
    """

    command_id: bytes
    version: int
    release: int
    window_ms: int
    skew_ms: int
    future_limit_ms: int
    refund_period_ms: int
    longest_hold_ms: int
    result_version: int
    keys: str | None = None
    registry_ids: str | None = None


@dataclass(slots=True)
class SetLaneTime:
    """An operator's time override (I2): the time of records whose broker's clock was wrong, from ``lane_offset`` on.

    ``last_offset`` is the last of them; None in the first version of its schema, which is about one record.
    """

    command_id: bytes
    lane_offset: int
    time_ms: int
    last_offset: int | None = None


@dataclass(slots=True)
class HandOff:
    """A part of a placement key's hand-off: rows of the shard ``source``, for this lane, packed and compressed (M3).

    ``digest``: 32 bytes over all that comes before the part (``placements.digest_so_far``); the last has no rows, so
    that its digest is over all of them (M8). The fields behind it count in the last part only: the source's lane time
    and version (A2) at the seal; from which id time on it knows every id, and what was given back of every original,
    in ms since the epoch, UTC. ``ahead_parts`` went ahead, and ``number`` goes on from them.
    """

    placement_key: str
    generation: int
    source: str
    number: int
    is_last: bool
    rows: bytes
    digest: bytes = b""
    lane_time_ms: int = 0
    version_us: int = 0
    ids_since_ms: int = 0
    refunds_since_ms: int = 0
    ahead_parts: int = 0

    @property
    def begins_behind_ahead(self) -> bool:
        """Say whether it is the first behind parts that went ahead."""
        return 0 < self.ahead_parts == self.number


@dataclass(slots=True)
class Installed:
    """The receipt of a hand-off: the target has the rows of a placement key (M7)."""

    placement_key: str
    generation: int


@dataclass(slots=True)
class SendAgain:
    """An operator's word that a sealed placement key's parts are to be sent again, by the lane that sealed it (M4).

    ``generation`` is the one that began with the move.
    """

    command_id: bytes
    placement_key: str
    generation: int


@dataclass(slots=True)
class MoveAhead:
    """A part of what goes ahead of a hand-off, which an operator's tool reads and sends: ids of the window alone (M6).

    As a ``HandOff``, to the lane in which ``generation`` will begin; ``number`` 0 has whatever went before thrown away.
    """

    command_id: bytes
    placement_key: str
    generation: int
    source: str
    number: int
    rows: bytes
    digest: bytes


@dataclass(slots=True)
class LacksAhead:
    """The target's word that it has other parts than those that went ahead of a hand-off, or none: send all (M6)."""

    placement_key: str
    generation: int


OperatorsControl = SetRules | SetLaneTime | SendAgain | MoveAhead
Control = Tick | SetRules | SetLaneTime | HandOff | Installed | SendAgain | MoveAhead | LacksAhead
