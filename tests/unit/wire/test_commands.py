from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from processors.faults import Undecodable
from processors.ledger.commands import AccountStatus, CaptureHold, Policy, SetLaneTime, Tick, TopUp, UpdateAccount
from processors.wire.avro import long_bytes, sized_bytes
from processors.wire.causes import Cause
from processors.wire.commands import (
    PAYLOAD_BYTES_MAX,
    decode_command,
    encode_command,
    type_of_payload,
)
from processors.wire.schemas import ALL, encode, schema_of
from tests.unit.wire.build import COMMAND_ID, KINDS, OTHER_ID, confluent_framed, example, pay, raw_pay


def cause_of(payload: bytes, **more: Any) -> str:
    with pytest.raises(Undecodable) as refused:
        decode_command(payload, **more)
    return refused.value.cause


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_command_is_read_as_it_was_written(kind: Any) -> None:
    command = example(kind)

    assert decode_command(encode_command(command)) == command


def test_what_may_be_left_out_is_read_as_left_out() -> None:
    update = UpdateAccount(command_id=COMMAND_ID, address="acme", currency="USD")
    capture = CaptureHold(command_id=COMMAND_ID, address="acme", currency="USD", hold_id=OTHER_ID)

    assert decode_command(encode_command(update)) == update
    assert decode_command(encode_command(capture)) == capture


def test_enums_are_read_as_members() -> None:
    read = decode_command(encode_command(example(UpdateAccount)))

    assert isinstance(read, UpdateAccount)
    assert isinstance(read.policy, Policy)
    assert isinstance(read.status, AccountStatus)


def test_the_first_ten_bytes_tell_the_type() -> None:
    assert type_of_payload(encode_command(pay())[:10]) == "PAY"
    assert type_of_payload(encode_command(Tick())) == "TICK"
    assert type_of_payload(encode_command(example(SetLaneTime)) + b"more") == "SET_LANE_TIME"
    assert type_of_payload(b"") is None
    assert type_of_payload(encode_command(pay())[:9]) is None
    assert type_of_payload(schema_of("result").prefix) is None


# ------------------------------------------------------------------ bad input


def test_the_hand_made_payment_is_the_encoders() -> None:
    assert raw_pay() == encode_command(pay())


@pytest.mark.rule("F1")
@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"", Cause.EMPTY),
        (b"\xc3", Cause.UNKNOWN_SCHEMA),
        (b"\x00" * 200, Cause.UNKNOWN_SCHEMA),
        (b"\xc3\x01" + bytes(8) + encode_command(pay())[10:], Cause.UNKNOWN_SCHEMA),
        (b"\xc3\x02" + encode_command(pay())[2:], Cause.UNKNOWN_SCHEMA),
        (schema_of("result").prefix + encode_command(pay())[10:], Cause.UNKNOWN_SCHEMA),
        (raw_pay() + b"\x00", Cause.TRAILING_BYTES),
        (encode_command(Tick()) + b"\x00", Cause.TRAILING_BYTES),
        (raw_pay(b"\x94\x00"), Cause.NOT_CANONICAL),  # 10, in two bytes
        (raw_pay(b"\xff" * 9 + b"\x02"), Cause.MALFORMED),  # 65 bits
        (raw_pay(b"\xff" * 11), Cause.MALFORMED),
        (raw_pay(currency=b"\x05USD"), Cause.MALFORMED),  # a length of -3
        (raw_pay(currency=b"\x06\xff\xff\xff"), Cause.MALFORMED),  # no UTF-8
        (raw_pay(rest=long_bytes(2**40)), Cause.MALFORMED),
    ],
)
def test_a_payload_that_is_no_command_is_refused_with_its_cause(payload: bytes, cause: Cause) -> None:
    assert cause_of(payload) == cause


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Tick], ids=lambda kind: kind.__name__)
def test_a_payload_cut_short_anywhere_is_refused(kind: Any) -> None:
    payload = encode_command(example(kind))

    assert {cause_of(payload[:size]) for size in range(10, len(payload))} == {Cause.MALFORMED}
    assert {cause_of(payload[:size]) for size in range(1, 10)} == {Cause.UNKNOWN_SCHEMA}


@pytest.mark.parametrize("index", [-1, 2, 64, 2**40, -(2**63)])
def test_an_enum_index_out_of_range_is_refused(index: int) -> None:
    good = encode_command(example(UpdateAccount))
    policy = good.index(b"\x02\x02", 10)  # second branch, second symbol
    bad = good[: policy + 1] + long_bytes(index) + good[policy + 2 :]

    assert cause_of(bad) == Cause.MALFORMED


def test_two_is_no_boolean() -> None:
    good = encode_command(example(CaptureHold, final=True, metadata=b""))
    assert good.endswith(b"\x01\x00")

    assert cause_of(good[:-2] + b"\x02\x00") == Cause.NOT_CANONICAL


@pytest.mark.parametrize("size", [2**20, 2**31, 2**40, 2**62, 2**63 - 1])
def test_a_huge_declared_length_takes_no_memory(size: int) -> None:
    payload = raw_pay(rest=long_bytes(size) + b"x" * 100)
    tracemalloc.start()
    try:
        assert cause_of(payload) == Cause.MALFORMED
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.rule("W4")
def test_a_payload_above_the_limit_is_not_looked_at() -> None:
    fits = raw_pay(rest=sized_bytes(b"m" * (PAYLOAD_BYTES_MAX - len(raw_pay(rest=b"")) - 3)))
    assert len(fits) == PAYLOAD_BYTES_MAX == 65_536

    decode_command(fits)
    assert cause_of(fits + b"m") == Cause.TOO_LARGE
    assert cause_of(b"\x00" * 5_000_000) == Cause.TOO_LARGE


def test_a_command_above_the_limit_is_not_written() -> None:
    with pytest.raises(ValueError, match="above 65536"):
        encode_command(pay(metadata=b"m" * PAYLOAD_BYTES_MAX))


@pytest.mark.parametrize(
    "wishes",
    [
        {"amount_minor": 2**63},
        {"amount_minor": -(2**63) - 1},
        {"command_id": b"short"},
        {"address": "acme\ud800"},
    ],
    ids=str,
)
def test_what_does_not_fit_its_schema_is_not_written(wishes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the library's
        encode_command(pay(**wishes))


@pytest.mark.parametrize("amount", [0, -1, 2**63 - 1, -(2**63)])
def test_an_amount_out_of_range_is_read_and_left_to_the_ledger(amount: int) -> None:
    assert decode_command(encode_command(pay(amount_minor=amount))) == pay(amount_minor=amount)


@pytest.mark.parametrize("address", ["", "ACME", "acme::vn", "a:" * 40, "x" * 5_000, "acme\x00", "đồng"])
def test_an_odd_address_is_read_and_left_to_the_ledger(address: str) -> None:
    assert decode_command(encode_command(pay(address=address))) == pay(address=address)


# ------------------------------------------------------------------ a schema registry's framing

IDS = {7: schema_of("pay"), 70_000: schema_of("top_up"), 8: schema_of("tick"), 9: schema_of("result")}


def test_a_registrys_framing_is_read_when_its_ids_are_known() -> None:
    top_up = example(TopUp)

    assert decode_command(confluent_framed(encode_command(pay()), 7), IDS) == pay()
    assert decode_command(confluent_framed(encode_command(top_up), 70_000), IDS) == top_up
    assert decode_command(encode_command(pay()), IDS) == pay()


def test_a_registrys_framing_is_refused_without_its_ids() -> None:
    assert cause_of(confluent_framed(encode_command(pay()), 7)) == Cause.UNKNOWN_SCHEMA
    assert cause_of(confluent_framed(encode_command(pay()), 6), confluent=IDS) == Cause.UNKNOWN_SCHEMA
    assert cause_of(confluent_framed(encode_command(pay()), 9), confluent=IDS) == Cause.UNKNOWN_SCHEMA
    assert cause_of(b"\x00\x00\x00", confluent=IDS) == Cause.UNKNOWN_SCHEMA


def test_the_services_own_records_are_never_framed_by_a_registry() -> None:
    assert cause_of(confluent_framed(encode_command(Tick()), 8), confluent=IDS) == Cause.UNKNOWN_SCHEMA


def test_what_is_framed_is_read_as_strictly() -> None:
    assert cause_of(confluent_framed(raw_pay() + b"\x00", 7), confluent=IDS) == Cause.TRAILING_BYTES


def test_every_schema_that_is_no_commands_is_unknown_here() -> None:
    known = {schema.name for schema in ALL.values() if type_of_payload(schema.prefix)}

    assert len(known) == len(KINDS)
    assert (
        type_of_payload(
            encode(
                schema_of("directory_head"),
                {
                    "directory_id": bytes(16),
                    "ingress_topic_id": bytes(16),
                    "ingress_epoch": 1,
                },
            )
        )
        is None
    )
