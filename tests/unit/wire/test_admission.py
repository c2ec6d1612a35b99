from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import (
    Adjust,
    ExpireHold,
    HandOff,
    Installed,
    LacksAhead,
    MoveAhead,
    MovePartner,
    RecallOriginal,
    SendAgain,
    SetLaneTime,
    SetRules,
    Tick,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
)
from processors.ledger.rules import RULES_RELEASE
from processors.routing.buckets import bucket_of
from processors.wire.admission import Admission, Refusal
from processors.wire.causes import Cause
from processors.wire.commands import PAYLOAD_BYTES_MAX, body_hash, encode_command, first_release
from processors.wire.records import Headers
from processors.wire.route import ROUTE_HEADER, RouteKind, encode_route, encode_stub
from processors.wire.schemas import schema_of
from processors.wire.signature import add_key, retire_key
from tests.unit.wire.build import (
    LANE,
    LANES,
    RING,
    RULES,
    admitted,
    confluent_framed,
    example,
    pay,
    record,
    route,
    routed,
    signed,
)

PAY = encode_command(pay())
STRAIGHT = [Tick, SetRules, SetLaneTime, SendAgain, MoveAhead, LacksAhead, ExpireHold]
SIGNED = [
    Adjust,
    RecallOriginal,
    TransferCredit,
    TransferCompleted,
    TransferReturn,
    SetRules,
    SetLaneTime,
    SendAgain,
    MoveAhead,
]
ROUTED = [kind for kind in TYPE_OF if kind not in (ExpireHold, MovePartner)]
CONTROL = [Tick, SetRules, SetLaneTime, SendAgain, MoveAhead, LacksAhead]


def key_of(kind: Any) -> bytes | None:
    return None if kind in CONTROL else b"acme"


def headers_of(kind: Any, payload: bytes) -> Headers:
    """Return all that a record of this type must carry."""
    return [
        *([] if kind in STRAIGHT else routed()),
        *(signed(key_of(kind), payload) if kind in SIGNED else []),
    ]


def refusal(admission: Admission) -> Refusal:
    """Return the refusal of an admission that holds nothing else."""
    assert admission.refusal is not None
    assert (admission.command, admission.root, admission.body_hash) == (None, "", bytes(16))
    return admission.refusal


def cause(value: bytes | None, headers: Headers, key: bytes | None = b"acme", **wishes: Any) -> Cause:
    return refusal(admitted(record(value, headers, key), **wishes)).cause


# ------------------------------------------------------------------ what is let in


@pytest.mark.rule("W1")
@pytest.mark.parametrize("kind", ROUTED, ids=lambda kind: kind.__name__)
def test_a_command_that_came_the_right_way_is_let_in(kind: Any) -> None:
    command = example(kind)
    payload = encode_command(command)
    read = record(payload, headers_of(kind, payload))

    assert admitted(read) == Admission(read, route(), "acme", command, body_hash(command), None)


@pytest.mark.rule("W1")
@pytest.mark.parametrize("kind", CONTROL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("key", [None, b""])
def test_a_control_record_has_no_root_and_belongs_to_every_lane(kind: Any, key: bytes | None) -> None:
    control = example(kind)
    payload = encode_command(control)
    read = record(payload, headers_of(kind, payload), key)

    for lane in range(LANES):
        assert admitted(read, lane) == Admission(read, None, "", control, bytes(16), None)


@pytest.mark.rule("W1")
def test_the_expirers_record_needs_no_signature_and_no_route() -> None:
    command = example(ExpireHold)
    read = record(encode_command(command), [])

    assert admitted(read) == Admission(read, None, "acme", command, body_hash(command), None)


NO_IDS_AHEAD = {"ahead_from_offset": 0, "ahead_offset": 0, "ahead_parts": 0, "ahead_digest": b""}
SINCE_3 = [
    *map(example, [TransferCredit, TransferCompleted, TransferReturn, Installed, SendAgain]),
    example(MovePartner, **NO_IDS_AHEAD),
    example(HandOff, ahead_parts=0),
]
SINCE_4 = [*map(example, [MovePartner, HandOff, MoveAhead, LacksAhead])]
LATER = [(command, 3) for command in SINCE_3] + [(command, 4) for command in SINCE_4]


@pytest.mark.rule("I6")
@pytest.mark.parametrize(("command", "since"), LATER, ids=[f"{type(each).__name__}-{since}" for each, since in LATER])
def test_to_a_lane_of_an_earlier_release_what_a_later_one_says_is_no_schema(command: Any, since: int) -> None:
    assert first_release(command) == since
    payload = encode_command(command, release=since)
    read = record(payload, headers_of(type(command), payload))

    for release in range(1, since):
        found = refusal(admitted(read, rules=replace(RULES, release=release)))
        assert found == Refusal(Cause.UNKNOWN_SCHEMA, f"begins with {payload[:10].hex()}")
    for release in range(since, RULES_RELEASE + 1):
        refused = admitted(read, rules=replace(RULES, release=release)).refusal
        assert refused is None or refused.cause is not Cause.UNKNOWN_SCHEMA


@pytest.mark.rule("F3")
def test_a_key_that_is_not_the_root_is_left_to_the_ledger_where_the_command_decodes() -> None:
    command = pay(address="beta:vn")
    admission = admitted(record(encode_command(command), routed()))

    assert (admission.root, admission.command, admission.refusal) == ("acme", command, None)


def test_a_producers_own_headers_do_not_matter() -> None:
    read = record(PAY, [("trace", b"1"), *routed(), ("trace", b"2"), ("signature", b"not asked for")])

    assert admitted(read).refusal is None


def test_a_registrys_framing_is_let_in_where_its_ids_are_given() -> None:
    read = record(confluent_framed(PAY, 7), routed())

    assert admitted(read, confluent={7: schema_of("pay")}).command == pay()
    assert refusal(admitted(read)).cause is Cause.UNKNOWN_SCHEMA


# ------------------------------------------------------------------ the route


@pytest.mark.rule("W1")
@pytest.mark.parametrize("kind", ROUTED, ids=lambda kind: kind.__name__)
def test_a_partners_command_without_a_route_is_refused(kind: Any) -> None:
    payload = encode_command(example(kind))

    assert cause(payload, signed(b"acme", payload)) is Cause.MISSING_ROUTE


@pytest.mark.rule("W1")
@pytest.mark.parametrize("kind", STRAIGHT, ids=lambda kind: kind.__name__)
def test_a_service_record_with_a_route_is_refused(kind: Any) -> None:
    payload = encode_command(example(kind))
    key = key_of(kind)

    assert cause(payload, [*routed(), *signed(key, payload)], key) is Cause.UNEXPECTED_ROUTE


@pytest.mark.rule("W2")
@pytest.mark.parametrize(
    "headers",
    [
        routed() + routed(),
        [*routed(), (ROUTE_HEADER, b"")],
        [(ROUTE_HEADER, b"")],
        [(ROUTE_HEADER, encode_route(route())[:-1])],
        [(ROUTE_HEADER, encode_route(route()) + b"x")],
        [(ROUTE_HEADER, b"\xff" * 40)],
    ],
)
def test_a_route_twice_or_cut_short_is_refused(headers: Headers) -> None:
    assert cause(PAY, headers) is Cause.BAD_ROUTE


@pytest.mark.rule("W2")
def test_a_header_without_a_value_is_refused_and_not_a_bug() -> None:
    absent: Any = None

    assert cause(PAY, [(ROUTE_HEADER, absent)]) is Cause.BAD_ROUTE
    assert cause(encode_command(example(SetRules)), [("signature", absent)], None) is Cause.BAD_SIGNATURE


@pytest.mark.rule("W2")
def test_a_forged_header_beside_the_routers_is_not_looked_at() -> None:
    assert admitted(record(PAY, [("balance-forged", b"x"), ("Balance-Route", b"x"), *routed()])).route == route()


@pytest.mark.rule("L10")
@pytest.mark.parametrize(
    ("value", "key"), [(b"", b"acme"), (None, b"acme"), (b"garbage", b"acme"), (PAY + b"x", b"acme"), (PAY, b"A")]
)
def test_a_route_is_given_also_with_a_refusal(value: bytes | None, key: bytes) -> None:
    admission = admitted(record(value, routed(), key))

    assert admission.refusal is not None
    assert admission.route == route()


@pytest.mark.rule("W4")
def test_a_stub_is_refused_with_size_and_hash_of_what_was_too_large() -> None:
    stub = encode_stub(b"\x00" * 70_000)

    refused = refusal(admitted(record(stub, routed(kind=RouteKind.STUB))))
    assert refused.cause is Cause.TOO_LARGE
    assert refused.detail.startswith("70000 bytes with SHA-256 ")
    assert cause(stub[:-1], routed(kind=RouteKind.STUB)) is Cause.MALFORMED
    assert cause(PAY + bytes(PAYLOAD_BYTES_MAX), routed()) is Cause.TOO_LARGE


@pytest.mark.parametrize("kind", [RouteKind.MOVE_OUT, RouteKind.MOVE_REFUSED])
def test_a_moves_marker_is_refused_by_a_release_that_moves_nothing(kind: RouteKind) -> None:
    assert cause(PAY, routed(kind=kind)) is Cause.UNEXPECTED_ROUTE


@pytest.mark.rule("M1")
def test_a_shard_of_an_earlier_release_refuses_every_generation_but_the_first() -> None:
    refused = refusal(admitted(record(PAY, routed(generation=1)), rules=replace(RULES, release=2)))

    assert refused.cause is Cause.UNEXPECTED_GENERATION
    assert refused.detail == "generation 1 of unit bucket:39172"  # in the dead letter, whose bytes stay (I6)


# ------------------------------------------------------------------ the payload


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Cause.EMPTY),
        (b"", Cause.EMPTY),
        (b"{}", Cause.UNKNOWN_SCHEMA),
        (PAY[:-1], Cause.MALFORMED),
        (PAY + b"\x00", Cause.TRAILING_BYTES),
    ],
)
def test_a_payload_that_is_no_command_is_refused(value: bytes | None, expected: Cause) -> None:
    assert cause(value, routed()) is expected
    assert cause(value, []) is expected


# ------------------------------------------------------------------ the signature


@pytest.mark.rule("W1")
@pytest.mark.parametrize("kind", SIGNED, ids=lambda kind: kind.__name__)
def test_a_forged_internal_command_is_refused(kind: Any) -> None:
    payload = encode_command(example(kind))
    other = encode_command(example(kind, command_id=b"another id 16 b."))
    key = key_of(kind)
    way = [] if kind in STRAIGHT else routed()
    right = signed(key, payload)
    stranger = add_key(None, "k1", b"x" * 32)

    assert admitted(record(payload, [*way, *right], key)).refusal is None
    for forged in ([], [*right, *right], signed(key, other), signed(b"beta", payload), signed(key, payload, stranger)):
        assert cause(payload, [*way, *forged], key) is Cause.BAD_SIGNATURE


@pytest.mark.rule("W1")
def test_a_record_signed_with_a_key_that_was_retired_since_is_let_in_by_a_replay() -> None:
    payload = encode_command(example(Adjust))
    later = retire_key(add_key(RING, "k2", b"2" * 32), "k1")

    assert admitted(record(payload, [*routed(), *signed(b"acme", payload)]), ring=later).refusal is None


# ------------------------------------------------------------------ the key


@pytest.mark.rule("W3")
@pytest.mark.parametrize(
    "key", [None, b"", b"ACME", b"acme:vn", b"a b", b"acme\n", b"\xff", "đồng".encode(), b"x" * 65, b"x" * 5_000]
)
def test_a_key_that_is_no_root_is_refused(key: bytes | None) -> None:
    assert cause(PAY, routed(), key) is Cause.BAD_KEY
    assert cause(encode_command(example(ExpireHold)), [], key) is Cause.BAD_KEY


@pytest.mark.rule("W3")
@pytest.mark.parametrize("lane", range(LANES))
def test_a_record_of_another_lane_is_refused(lane: int) -> None:
    admission = admitted(record(PAY, routed()), lane)

    if lane == LANE.lane == bucket_of("acme") & (LANES - 1):
        assert admission.refusal is None
    else:
        assert refusal(admission).cause is Cause.WRONG_PARTITION


@pytest.mark.rule("W1")
@pytest.mark.parametrize("kind", CONTROL, ids=lambda kind: kind.__name__)
def test_a_control_record_with_a_key_is_refused(kind: Any) -> None:
    payload = encode_command(example(kind))

    assert cause(payload, signed(b"acme", payload) if kind in SIGNED else [], b"acme") is Cause.BAD_KEY


def test_what_a_refusal_quotes_is_short_and_printable() -> None:
    refused = refusal(admitted(record(PAY, routed(), b"\x00\n\xff" * 10_000)))

    assert len(refused.detail) <= 512
    assert refused.detail.isprintable()
