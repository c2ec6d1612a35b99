"""The table of the types: who asks for each command, how it comes, and which slice of the journal has its row."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Collect,
    Command,
    CommandType,
    Control,
    ControlType,
    ExpireHold,
    GetBalance,
    HandOff,
    Installed,
    LacksAhead,
    MoveAhead,
    MovePartner,
    OpenAccount,
    Pay,
    PlaceHold,
    RecallOriginal,
    Refund,
    SendAgain,
    SetLaneTime,
    SetRules,
    Tick,
    TopUp,
    Transfer,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
    UpdateAccount,
    VoidHold,
)


class Origin(StrEnum):
    """Who asks for it."""

    PARTNER = "PARTNER"  # through a gateway, or whoever else may write to `balance.commands`
    OPERATOR = "OPERATOR"  # a person, by the command line
    SERVICE = "SERVICE"  # a process of the service; no partner repeats its id: only a credit's has a time (I7, T5)


class SliceBy(StrEnum):
    """Which slice of the journal has the row."""

    ID = "ID"  # that of the time in its command's id, where a repetition of the id looks (I1)
    LANE_TIME = "LANE_TIME"  # that of the time when it was decided (I7, M9)


@dataclass(frozen=True, slots=True)
class TypeRow:
    """What all commands of one type have in common; positional, since the rows below are read as a table.

    ``signed`` says whether its record has a signature, ``routed`` whether it comes through `balance.commands` and the
    router, or straight to the shard's topic (W1). ``journalled`` says whether it may leave a row and a result, and
    ``slice_by`` is None where it may not.
    """

    command: type[Command | Control]
    type: CommandType | ControlType
    origin: Origin
    signed: bool
    routed: bool
    journalled: bool
    slice_by: SliceBy | None

    @property
    def is_control(self) -> bool:
        """Say whether it concerns a lane and no partner: its record has no key."""
        return isinstance(self.type, ControlType)

    @property
    def result_type(self) -> CommandType:
        """Return the type of its result and of its journal row (A1)."""
        return CommandType.CONTROL if isinstance(self.type, ControlType) else self.type


# fmt: off
TYPES = (
    #       command         type                           origin         signed routed journalled, in the slice of
    TypeRow(OpenAccount,    CommandType.OPEN_ACCOUNT,      Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(UpdateAccount,  CommandType.UPDATE_ACCOUNT,    Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(TopUp,          CommandType.TOP_UP,            Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(Collect,        CommandType.COLLECT,           Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(Adjust,         CommandType.ADJUST,            Origin.OPERATOR, True,  True,  True,  SliceBy.ID),
    TypeRow(Pay,            CommandType.PAY,               Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(PlaceHold,      CommandType.PLACE_HOLD,        Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(CaptureHold,    CommandType.CAPTURE_HOLD,      Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(VoidHold,       CommandType.VOID_HOLD,         Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(ExpireHold,     CommandType.EXPIRE_HOLD,       Origin.SERVICE,  False, False, True,  SliceBy.LANE_TIME),
    TypeRow(Refund,         CommandType.REFUND,            Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(RecallOriginal, CommandType.RECALL_ORIGINAL,   Origin.SERVICE,  True,  True,  True,  SliceBy.LANE_TIME),
    TypeRow(Transfer,       CommandType.TRANSFER,          Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(GetBalance,     CommandType.GET_BALANCE,       Origin.PARTNER,  False, True,  True,  SliceBy.ID),
    TypeRow(MovePartner,    CommandType.MOVE_PARTNER,      Origin.OPERATOR, True,  True,  True,  SliceBy.LANE_TIME),
    TypeRow(TransferCredit, CommandType.TRANSFER_CREDIT,   Origin.SERVICE,  True,  True,  True,  SliceBy.ID),
    TypeRow(TransferCompleted, CommandType.TRANSFER_COMPLETED, Origin.SERVICE, True, True, True, SliceBy.LANE_TIME),
    TypeRow(TransferReturn, CommandType.TRANSFER_RETURN,   Origin.SERVICE,  True,  True,  True,  SliceBy.LANE_TIME),
    TypeRow(Tick,           ControlType.TICK,              Origin.SERVICE,  False, False, False, None),
    TypeRow(SetRules,       ControlType.SET_RULES,         Origin.OPERATOR, True,  False, True,  SliceBy.LANE_TIME),
    TypeRow(SetLaneTime,    ControlType.SET_LANE_TIME,     Origin.OPERATOR, True,  False, True,  SliceBy.LANE_TIME),
    TypeRow(HandOff,        ControlType.HAND_OFF,          Origin.SERVICE,  False, False, True,  SliceBy.LANE_TIME),
    TypeRow(Installed,      ControlType.INSTALLED,         Origin.SERVICE,  False, False, True,  SliceBy.LANE_TIME),
    TypeRow(SendAgain,      ControlType.SEND_AGAIN,        Origin.OPERATOR, True,  False, True,  SliceBy.LANE_TIME),
    TypeRow(MoveAhead,      ControlType.MOVE_AHEAD,        Origin.OPERATOR, True,  False, True,  SliceBy.LANE_TIME),
    TypeRow(LacksAhead,     ControlType.LACKS_AHEAD,       Origin.SERVICE,  False, False, True,  SliceBy.LANE_TIME),
)
# fmt: on

# What lanes ask of each record, made from the table once: a look costs 25 ns; `isinstance` of the union `Control` 190.
ROW_OF = {row.command: row for row in TYPES}
TYPE_OF = cast("dict[type[Command], CommandType]", {row.command: row.type for row in TYPES if not row.is_control})
CONTROLS = frozenset(row.command for row in TYPES if row.is_control)
OF_THE_SERVICE = frozenset(row.command for row in TYPES if row.origin is Origin.SERVICE)
SIGNED = frozenset(row.command for row in TYPES if row.signed)
STRAIGHT = frozenset(row.command for row in TYPES if not row.routed)
SLICED_BY_LANE_TIME = frozenset(row.result_type for row in TYPES if row.slice_by is SliceBy.LANE_TIME)
