from __future__ import annotations

from dataclasses import MISSING, fields
from typing import get_args

import pytest

from processors.ledger.command_types import (
    OF_THE_SERVICE,
    ROW_OF,
    SIGNED,
    SLICED_BY_LANE_TIME,
    STRAIGHT,
    TYPE_OF,
    TYPES,
    Origin,
    SliceBy,
    TypeRow,
)
from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Command,
    CommandType,
    Control,
    ControlType,
    ExpireHold,
    HandOff,
    Installed,
    LacksAhead,
    MoveAhead,
    MovePartner,
    OpenAccount,
    PartnersCommand,
    Policy,
    RecallOriginal,
    SendAgain,
    ServicesCommand,
    SetLaneTime,
    SetRules,
    Tick,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
    UpdateAccount,
)


def test_every_command_and_every_control_record_has_one_row() -> None:
    assert [row.command for row in TYPES if not row.is_control] == list(TYPE_OF)
    assert len(TYPES) == len(ROW_OF)
    assert set(TYPE_OF) == set(get_args(Command))
    assert {row.command for row in TYPES if row.is_control} == set(get_args(Control))


def test_every_type_has_one_row_in_the_order_of_the_wire() -> None:
    assert [row.type for row in TYPES if not row.is_control] == [kind for kind in CommandType if kind != "CONTROL"]
    assert [row.type for row in TYPES if row.is_control] == list(ControlType)
    assert {row.result_type for row in TYPES} == set(CommandType)


@pytest.mark.parametrize("row", TYPES, ids=lambda row: row.type)
def test_a_type_is_called_as_its_class_is(row: TypeRow) -> None:
    assert row.type.replace("_", "") == row.command.__name__.upper()


@pytest.mark.rule("I3")
def test_a_default_never_changes_since_body_hashes_leave_it_out() -> None:
    defaults = {
        row.command: {field.name: field.default for field in fields(row.command) if field.default is not MISSING}
        for row in TYPES
    }

    assert {command: given for command, given in defaults.items() if set(given) - {"metadata"}} == {
        OpenAccount: {"overdraft_limit": 0, "policy": Policy.CHECKED, "metadata": b""},
        UpdateAccount: {"overdraft_limit": None, "policy": None, "status": None, "metadata": None},
        CaptureHold: {"amount_minor": None, "final": True, "metadata": b""},
        RecallOriginal: {
            "original_type": "",
            "original_accepted": False,
            "original_address": "",
            "original_currency": "",
            "original_amount_minor": 0,
            "original_levels": 0,
        },
        SetRules: {"keys": None, "registry_ids": None},
        SetLaneTime: {"last_offset": None},
        MovePartner: {"ahead_from_offset": 0, "ahead_offset": 0, "ahead_parts": 0, "ahead_digest": b""},
        HandOff: {
            "digest": b"",
            "lane_time_ms": 0,
            "version_us": 0,
            "ids_since_ms": 0,
            "refunds_since_ms": 0,
            "ahead_parts": 0,
        },
    }
    assert {given["metadata"] for command, given in defaults.items() if set(given) == {"metadata"}} == {b""}


@pytest.mark.rule("M6")
def test_the_first_part_of_a_hand_off_behind_ids_that_went_ahead_has_the_number_of_those() -> None:
    def begins(number: int, ahead_parts: int) -> bool:
        part = HandOff("acme", 1, "s1", number, is_last=False, rows=b"", ahead_parts=ahead_parts)
        return part.begins_behind_ahead

    assert begins(3, 3)
    assert [begins(0, 0), begins(2, 3), begins(4, 3), begins(0, 3)] == [False] * 4


@pytest.mark.parametrize("row", TYPES, ids=lambda row: row.type)
def test_what_leaves_a_row_has_an_id_and_a_slice(row: TypeRow) -> None:
    has_id = "command_id" in {field.name for field in fields(row.command)}

    assert row.journalled is (row.slice_by is not None)
    assert has_id is (
        row.journalled and row.command not in (HandOff, Installed, LacksAhead)
    )  # theirs is their place in the log


@pytest.mark.rule("I7")
def test_the_services_own_commands_are_those_that_no_partner_can_repeat() -> None:
    legs = {TransferCredit, TransferCompleted, TransferReturn}
    assert {ExpireHold, RecallOriginal, *legs, Tick, HandOff, Installed, LacksAhead} == OF_THE_SERVICE
    assert set(get_args(ServicesCommand)) == OF_THE_SERVICE & set(TYPE_OF)
    assert set(get_args(PartnersCommand)) == set(TYPE_OF) - OF_THE_SERVICE - {MovePartner}


@pytest.mark.rule("W1")
def test_what_is_signed_and_what_goes_straight_to_the_shards_topic() -> None:
    legs = {TransferCredit, TransferCompleted, TransferReturn}
    assert {Adjust, RecallOriginal, MovePartner, *legs, SetRules, SetLaneTime, SendAgain, MoveAhead} == SIGNED
    assert {Tick, SetRules, SetLaneTime, HandOff, Installed, SendAgain, MoveAhead, LacksAhead, ExpireHold} == STRAIGHT


@pytest.mark.rule("W1")
def test_what_an_operator_asks_for_is_signed() -> None:
    assert {row.command for row in TYPES if row.origin is Origin.OPERATOR} <= SIGNED


@pytest.mark.rule("I7")
@pytest.mark.rule("M9")
def test_a_row_lies_in_the_slice_of_its_id_where_somebody_may_repeat_that() -> None:
    ends = {CommandType.TRANSFER_COMPLETED, CommandType.TRANSFER_RETURN}
    services = {CommandType.EXPIRE_HOLD, CommandType.RECALL_ORIGINAL, CommandType.CONTROL}
    assert {*services, CommandType.MOVE_PARTNER, *ends} == SLICED_BY_LANE_TIME
    assert {row.result_type for row in TYPES if row.slice_by is SliceBy.ID} == set(CommandType) - SLICED_BY_LANE_TIME
