from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import fastavro
import pytest

from processors.faults import Undecodable
from processors.ids import derived_id
from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import (
    AccountStatus,
    Adjust,
    CaptureHold,
    CommandType,
    Direction,
    ExpireHold,
    GetBalance,
    Policy,
    SetRules,
    Tick,
    Transfer,
)
from processors.ledger.outcomes import Contra, Reason, RefusedBy, Status
from processors.ledger.rows import Decision
from processors.ledger.rules import RESULT_VERSION, Rules
from processors.routing.buckets import placement_key_of
from processors.wire.avro import long_bytes
from processors.wire.causes import Cause
from processors.wire.commands import PAYLOAD_BYTES_MAX, body_hash, encode_command
from processors.wire.result_format import RESULT_BYTES_MAX, write_result
from processors.wire.results import (
    Result,
    ResultPointer,
    control_id,
    decision_of,
    decode_result,
    encode_control,
    encode_duplicate,
    headers_of,
    result_headers,
)
from processors.wire.schemas import PREFIX_BYTES, schema_of, symbols_of
from tests.unit.wire.build import (
    COMMAND_ID,
    LANE,
    NOW_MS,
    OTHER_ID,
    RING,
    RULES,
    admission,
    admitted,
    answered,
    example,
    outcome,
    pay,
    posting,
    record,
    signed,
)

FIRST = answered(pay(metadata=b'{ "b": 1, "a": "x" }'), outcome())


@pytest.mark.rule("A1")
def test_a_result_carries_all_that_its_row_knows() -> None:
    assert decode_result(FIRST) == Result(
        incarnation=bytes(range(16)),
        shard="s1",
        lane=LANE.lane,
        lane_offset=500,
        lane_index=0,
        lane_time_ms=NOW_MS,
        version_us=NOW_MS * 1000,
        rules_version=3,
        type=CommandType.PAY,
        status=Status.ACCEPTED,
        reason=Reason.NONE,
        root="acme",
        command_id=COMMAND_ID,
        transaction_id=COMMAND_ID,
        body_hash=body_hash(pay(metadata=b'{"a":"x","b":1}')),
        address="acme",
        currency="USD",
        amount_minor=10,
        journalled=True,
        postings=(posting(),),
        levels=1,
        related_id=b"",
        remaining_minor=0,
        expires_at_ms=0,
        policy=None,
        account_status=None,
        final=True,
        to_address="",
        direction=None,
        explanation="",
        metadata=b'{"a":"x","b":1}',
        control=b"",
        duplicate_of=None,
        refused_by=None,
        unit=placement_key_of("acme"),
        generation=0,
        ingress_epoch=1,
        ingress_partition=3,
        ingress_offset=4_000_000,
        ingress_leader_epoch=2,
    )


@pytest.mark.rule("A1")
def test_a_result_has_an_identity_within_its_partition() -> None:
    result = decode_result(FIRST)

    identity = (result.incarnation, result.lane, result.lane_offset, result.lane_index)
    assert identity == (bytes(range(16)), LANE.lane, 500, 0)


@pytest.mark.rule("A1")
def test_what_only_some_types_have_is_in_their_results() -> None:
    adjusted = decode_result(answered(example(Adjust), outcome()))
    captured = decode_result(answered(example(CaptureHold), outcome(related_id=OTHER_ID, remaining_minor=7)))
    moved = decode_result(answered(example(Transfer), outcome()))
    shown = decode_result(
        answered(example(GetBalance), outcome(policy=Policy.UNCHECKED, account_status=AccountStatus.CLOSED))
    )

    assert (adjusted.direction, adjusted.explanation) == (Direction.DEBIT, "counted again")
    assert (captured.final, captured.related_id, captured.remaining_minor) == (False, OTHER_ID, 7)
    assert moved.to_address == "acme:us"
    assert (shown.policy, shown.account_status) == (Policy.UNCHECKED, AccountStatus.CLOSED)


@pytest.mark.parametrize("kind", TYPE_OF, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("status", Status)
def test_every_type_and_status_can_be_answered(kind: Any, status: Status) -> None:
    result = decode_result(answered(example(kind), outcome(status=status)))

    assert (result.type, result.status) == (TYPE_OF[kind], status)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_can_be_given(reason: Reason) -> None:
    decided = outcome(status=Status.REJECTED, reason=reason, postings=(), journalled=False)

    assert decode_result(answered(pay(), decided, version_us=0)).reason is reason


def test_every_level_has_its_posting_in_the_order_given() -> None:
    postings = tuple(
        posting(address="acme" + ":x" * level, contra=contra, balance=2**63 - 1, balance_change=-(2**63), held=level)
        for level, contra in enumerate(Contra)
    )

    assert decode_result(answered(pay(), outcome(postings=postings))).postings == postings


@pytest.mark.rule("L14")
def test_metadata_is_kept_in_canonical_bytes_and_dropped_where_it_is_none() -> None:
    assert decode_result(answered(pay(metadata=b'{"b":1,"a":[ ]}'), outcome())).metadata == b'{"a":[],"b":1}'
    assert decode_result(answered(pay(metadata=b"{nonsense"), outcome())).metadata == b""
    assert decode_result(answered(pay(), outcome())).metadata == b""


@pytest.mark.rule("W4")
def test_the_largest_commands_result_fits() -> None:
    room = PAYLOAD_BYTES_MAX - len(encode_command(pay(address=""))) - 2
    largest = pay(address="x" * room)
    assert len(encode_command(largest)) == PAYLOAD_BYTES_MAX
    postings = tuple(posting(address="acme:" + "x" * 250, balance=-(2**63), sequence=2**63 - 1) for _ in range(8))

    result = answered(largest, outcome(postings=postings), lane_time_ms=2**47)
    assert decode_result(result).address == "x" * room
    assert len(result) < PAYLOAD_BYTES_MAX + 4_096 < RESULT_BYTES_MAX


def test_a_result_of_a_record_without_a_route_says_so() -> None:
    result = decode_result(answered(example(ExpireHold), outcome()))

    assert (result.unit, result.generation) == ("", 0)
    assert (result.ingress_epoch, result.ingress_partition) == (-1, -1)
    assert (result.ingress_offset, result.ingress_leader_epoch) == (-1, -1)


def test_an_id_that_has_not_16_bytes_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        answered(pay(), outcome(transaction_id=b"short"))


# ------------------------------------------------------------------ versions

# What the first release wrote for a refused TRANSFER: lanes, journals and archives have such bytes for good.
REFUSED_BY_RELEASE_1 = bytes.fromhex(
    "c301febf1be5bb8ad479000102030405060708090a0b0c0d0e0f04733100e80700c0a9ed82b966809c8ca6beada0060618083a0861636d65"
    "0199c82cc0007465ae206279746573210199c82cc0007465ae2062797465732164aa030de0ac519539fbb5485e81c2b10e61636d653a766e"
    "06555344140100020000000000010e61636d653a757300001e7b226f72646572223a22412d31227d0000186275636b65743a333931373200"
    "020680a4e80304"
)
RELEASE_1 = Rules(version=3, release=1, result_version=1)
CAUSE = RefusedBy("acme", 90, 10)
REFUSED = outcome(status=Status.REJECTED, reason=Reason.INSUFFICIENT_FUNDS, postings=(), refused_by=CAUSE)


@pytest.mark.rule("I6")
def test_a_lane_of_the_first_result_version_answers_byte_for_byte_as_the_first_release_did() -> None:
    assert answered(example(Transfer), REFUSED, rules=RELEASE_1) == REFUSED_BY_RELEASE_1


@pytest.mark.rule("I6")
def test_a_result_says_which_account_refused_since_version_2() -> None:
    later = decode_result(answered(example(Transfer), REFUSED))

    assert later.refused_by == CAUSE
    assert replace(later, refused_by=None) == decode_result(REFUSED_BY_RELEASE_1)


@pytest.mark.rule("I6")
@pytest.mark.parametrize("first_rules", [RELEASE_1, RULES], ids=["first 1", "first 2"])
@pytest.mark.parametrize("rules", [RELEASE_1, RULES], ids=["now 1", "now 2"])
def test_a_duplicate_has_the_version_of_the_rules_in_force_whichever_the_first_answer_has(
    first_rules: Rules, rules: Rules
) -> None:
    first = answered(example(Transfer), REFUSED, rules=first_rules)

    again = encode_duplicate(
        LANE, first, offset=900, index=0, lane_time_ms=NOW_MS, rules=rules, admission=admission(example(Transfer))
    )

    assert again.startswith(schema_of("result", rules.result_version).prefix)
    told = first_rules is RULES and rules is RULES
    assert decode_result(again).refused_by == (CAUSE if told else None)
    assert write_result(decode_result(again), rules.result_version) == again


def test_a_newer_result_is_read_by_a_program_that_knows_the_first_version_only() -> None:
    first, newest = schema_of("result", 1), schema_of("result", RESULT_VERSION)
    payload = BytesIO(answered(example(Transfer), REFUSED)[PREFIX_BYTES:])

    read: Any = fastavro.schemaless_reader(payload, newest.parsed, first.parsed)

    assert (read["status"], read["reason"], read["unit"]) == (
        "REJECTED",
        "INSUFFICIENT_FUNDS",
        placement_key_of("acme"),
    )
    assert "refused_by" not in read


# ------------------------------------------------------------------ duplicates


@pytest.mark.rule("I3")
def test_a_duplicate_repeats_the_first_answer_at_a_new_position() -> None:
    again = admission(pay(), ingress_offset=5_000_000, ingress_partition=2, ingress_leader_epoch=9)
    duplicate = encode_duplicate(
        LANE, FIRST, offset=900, index=0, lane_time_ms=NOW_MS + 5, rules=RULES, admission=again
    )

    assert decode_result(duplicate) == replace(
        decode_result(FIRST),
        lane_offset=900,
        lane_time_ms=NOW_MS + 5,
        journalled=False,
        version_us=0,
        duplicate_of=ResultPointer(500, 0),
        ingress_offset=5_000_000,
        ingress_partition=2,
        ingress_leader_epoch=9,
    )


@pytest.mark.rule("I3")
def test_a_duplicate_is_the_same_bytes_whenever_it_is_answered() -> None:
    def answer() -> bytes:
        return encode_duplicate(
            LANE, FIRST, offset=900, index=0, lane_time_ms=NOW_MS, rules=RULES, admission=admission(pay())
        )

    assert answer() == answer()


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"", Cause.UNKNOWN_SCHEMA),
        (encode_command(pay()), Cause.UNKNOWN_SCHEMA),
        *((FIRST[:size], Cause.MALFORMED) for size in range(10, len(FIRST), 7)),
        (FIRST[:-1], Cause.MALFORMED),
        (FIRST + b"\x00", Cause.TRAILING_BYTES),
    ],
)
def test_a_first_answer_that_is_no_result_is_not_repeated(payload: bytes, cause: Cause) -> None:
    with pytest.raises(Undecodable) as refused:
        encode_duplicate(
            LANE, payload, offset=900, index=0, lane_time_ms=NOW_MS, rules=RULES, admission=admission(pay())
        )

    assert refused.value.cause == cause


# ------------------------------------------------------------------ control rows


@pytest.mark.rule("M9")
def test_a_control_row_keeps_its_record_literally() -> None:
    control = example(SetRules)
    payload = encode_command(control)
    read = record(payload, signed(None, payload), None)
    assert admitted(read, ring=RING).command == control

    row = decode_result(
        encode_control(
            LANE,
            offset=500,
            index=0,
            lane_time_ms=NOW_MS,
            version_us=7,
            rules=Rules(version=2),
            record=read,
            control=control,
        )
    )
    assert (row.type, row.status, row.reason) == (CommandType.CONTROL, Status.ACCEPTED, Reason.NONE)
    assert (row.root, row.address, row.currency, row.postings) == ("", "", "", ())
    assert row.command_id == row.transaction_id == control_id(LANE, 500)
    assert (row.journalled, row.version_us, row.rules_version) == (True, 7, 2)
    assert row.control == payload


def test_a_control_rows_id_names_its_shard_lane_and_offset() -> None:
    other_shard = replace(LANE, incarnation=bytes(16))
    other_lane = replace(LANE, lane=LANE.lane + 1)
    ids = {control_id(LANE, 500), control_id(LANE, 501), control_id(other_shard, 500), control_id(other_lane, 500)}

    assert len(ids) == 4
    assert {row_id[6] >> 4 for row_id in ids} == {derived_id("CONTROL", b"")[6] >> 4} == {8}


def test_a_tick_has_no_row() -> None:
    read = record(encode_command(Tick()), [], None)

    with pytest.raises(AssertionError):
        encode_control(LANE, offset=1, index=0, lane_time_ms=1, version_us=1, rules=RULES, record=read, control=Tick())


# ------------------------------------------------------------------ reading


@pytest.mark.rule("H4")
def test_a_row_is_known_to_later_commands_by_its_result() -> None:
    assert decision_of(FIRST) == Decision(
        decode_result(FIRST).body_hash, 500, 0, CommandType.PAY, Status.ACCEPTED, "acme", "USD", 10, 1, FIRST
    )


def test_headers_say_type_status_and_root() -> None:
    headers = [("type", b"PAY"), ("status", b"ACCEPTED"), ("root", b"acme")]

    assert result_headers(CommandType.PAY, Status.ACCEPTED, "acme") == headers
    assert headers_of(FIRST) == headers


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"", Cause.EMPTY),
        (b"x", Cause.UNKNOWN_SCHEMA),
        (encode_command(pay()), Cause.UNKNOWN_SCHEMA),
        (FIRST[:-1], Cause.MALFORMED),
        (FIRST + b"\x00", Cause.TRAILING_BYTES),
        (FIRST + bytes(RESULT_BYTES_MAX), Cause.TOO_LARGE),
    ],
)
def test_what_is_no_result_is_refused(payload: bytes, cause: Cause) -> None:
    with pytest.raises(Undecodable) as refused:
        decode_result(payload)

    assert refused.value.cause == cause


def test_a_symbol_that_only_a_later_release_writes_is_refused() -> None:
    statuses = symbols_of(schema_of("result", RESULT_VERSION))["balance.Status"]
    at = FIRST.index(b"\x0a\x00\x00\x08acme")  # PAY, ACCEPTED, NONE, the root
    unlisted = FIRST[: at + 1] + long_bytes(statuses.index("UNLISTED")) + FIRST[at + 2 :]

    with pytest.raises(Undecodable):
        decode_result(unlisted)


@pytest.mark.parametrize(
    "items", [b"\x01\x04\x02\x02\x00", b"\x02\x02\x02\x02\x02\x02\x00", b"\x04\x02\x02\x02\x02\x00"]
)
def test_an_array_in_blocks_or_with_a_second_duplicate_is_refused(items: bytes) -> None:
    result = decode_result(FIRST)
    marked = write_result(replace(result, duplicate_of=ResultPointer(1, 1)))
    at = marked.index(b"\x02\x02\x02\x00", len(marked) - 60)  # one item of offset 1 and index 1

    with pytest.raises(Undecodable):
        decode_result(marked[:at] + items + marked[at + 4 :])


@pytest.mark.parametrize("count", [2**20, 2**40, 2**63 - 1, -1, -(2**63)])
def test_a_huge_declared_count_costs_nothing(count: int) -> None:
    plain = write_result(replace(decode_result(FIRST), postings=()))
    at = plain.index(b"\x14\x01\x00", 40) + 2  # amount, journalled, no postings

    with pytest.raises(Undecodable):
        decode_result(plain[:at] + long_bytes(count) + plain[at + 1 :])
