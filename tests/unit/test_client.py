from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.client import CommandIds, Deduplication
from processors.ids import uuid7_time_ms
from processors.ledger.commands import CommandType, GetBalance
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rules import Rules
from processors.wire.admission import Admission
from processors.wire.records import Record
from processors.wire.results import LaneIdentity, Result, decode_result, encode_result

NOW_MS = 1_700_000_000_000


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=200))
def test_ids_rise_whatever_the_clock_does(steps_ms: list[int]) -> None:
    clock_ms = NOW_MS

    def read_clock() -> int:
        return clock_ms

    ids = CommandIds(read_clock)
    made = []
    for step_ms in steps_ms:
        clock_ms += step_ms
        made.append(ids.next())

    assert made == sorted(made)
    assert len(set(made)) == len(made)


@pytest.mark.rule("I5")
def test_an_id_is_a_uuidv7_that_carries_its_time() -> None:
    assert uuid7_time_ms(CommandIds(lambda: NOW_MS).next()) == NOW_MS


def make_result(*, lane: int = 0, incarnation: bytes = b"i" * 16, offset: int = 0, index: int = 0) -> Result:
    command = GetBalance(command_id=bytes(16), address="acme", currency="USD")
    record = Record("t", lane, offset, 0, NOW_MS, True, b"acme", b"", [])
    admission = Admission(record=record, route=None, root="acme", command=command, body_hash=bytes(16), refusal=None)
    encoded = encode_result(
        LaneIdentity(shard="s1", incarnation=incarnation, lane=lane),
        offset=offset,
        index=index,
        lane_time_ms=NOW_MS,
        version_us=1,
        rules=Rules(version=1),
        admission=admission,
        outcome=Outcome(Status.ACCEPTED, Reason.NONE, bytes(16)),
    )
    return decode_result(encoded)


@pytest.mark.rule("A1")
def test_a_result_that_comes_again_is_seen_once() -> None:
    deduplication = Deduplication()
    first, later = make_result(offset=4), make_result(offset=5)

    assert deduplication.is_new(0, first)
    assert deduplication.is_new(0, later)
    assert not deduplication.is_new(0, later)
    assert not deduplication.is_new(0, first)
    assert deduplication.is_new(0, replace(later, lane_index=1))


@pytest.mark.rule("A1")
def test_lanes_incarnations_and_partitions_are_told_apart() -> None:
    deduplication = Deduplication()
    result = make_result(offset=4)

    assert deduplication.is_new(0, result)
    assert deduplication.is_new(1, result)
    assert deduplication.is_new(0, replace(result, lane=1))
    assert deduplication.is_new(0, replace(result, incarnation=b"j" * 16))
    assert result.type is CommandType.GET_BALANCE
