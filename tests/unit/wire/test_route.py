from __future__ import annotations

import hashlib

import pytest

from processors.faults import Undecodable
from processors.wire.causes import Cause
from processors.wire.route import (
    RouteKind,
    decode_route,
    decode_stub,
    encode_route,
    encode_stub,
    needed_headers,
)
from processors.wire.signature import SIGNATURE_BYTES_MAX
from tests.unit.wire.build import route

pytestmark = pytest.mark.rule("W2")


def cause_of(value: bytes) -> str:
    with pytest.raises(Undecodable) as refused:
        decode_route(value)
    return refused.value.cause


@pytest.mark.parametrize("kind", RouteKind)
def test_a_route_is_read_as_it_was_written(kind: RouteKind) -> None:
    assert decode_route(encode_route(route(kind=kind))) == route(kind=kind)


@pytest.mark.parametrize(
    "wishes",
    [
        {"ingress_offset": 2**63 - 1, "ingress_partition": 65_535, "ingress_epoch": 2**32 - 1},
        {"ingress_offset": 0, "ingress_leader_epoch": -1, "broker_time_ms": -1},
        {"placement_key": "u", "generation": 2**32 - 1},
        {"placement_key": "x" * 64},
    ],
    ids=str,
)
def test_a_routes_numbers_may_be_as_large_as_kafkas(wishes: dict[str, object]) -> None:
    assert decode_route(encode_route(route(**wishes))) == route(**wishes)


def test_the_layout_is_fixed() -> None:
    assert encode_route(route(placement_key="bucket:9")).hex() == (
        "01" "01" "00000001" "00000003" "00000000003d0900" "00000002" "00000199c82cc000" "00000000" "08"
        "6275636b65743a39"
    )  # fmt: skip


def test_a_route_cut_short_or_with_something_behind_it_is_refused() -> None:
    whole = encode_route(route())

    assert {cause_of(whole[:size]) for size in range(len(whole))} == {Cause.BAD_ROUTE}
    assert cause_of(whole + b"x") == Cause.BAD_ROUTE
    with pytest.raises(Undecodable) as refused:
        decode_route(whole + b"x")
    # in the dead letter, whose bytes stay (I6)
    assert refused.value.detail == f"{len(whole) + 1} bytes, a unit of {len('bucket:39172')}, offset 4000000"


@pytest.mark.parametrize(("index", "byte"), [(0, 0), (0, 2), (1, 0), (1, 5), (1, 255), (10, 0x80), (34, 0), (35, 0x80)])
def test_a_route_of_another_layout_or_kind_or_below_offset_zero_is_refused(index: int, byte: int) -> None:
    value = bytearray(encode_route(route()))
    value[index] = byte

    assert cause_of(bytes(value)) == Cause.BAD_ROUTE


@pytest.mark.parametrize(
    "wishes",
    [{"placement_key": ""}, {"placement_key": "x" * 65}, {"ingress_offset": 2**63}, {"ingress_epoch": -1}],
    ids=str,
)
def test_a_route_out_of_range_is_not_written(wishes: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which number it was is the text's business
        encode_route(route(**wishes))


@pytest.mark.rule("W2")
def test_of_a_producers_headers_only_the_signature_is_kept() -> None:
    names = ["balance-route", "Balance-Route", "BALANCE-anything", "balance-", "trace", "Signature", ""]

    assert needed_headers([(name, b"any") for name in names]) == []
    assert needed_headers([*((name, b"any") for name in names), ("signature", b"k1")]) == [("signature", b"k1")]


@pytest.mark.rule("W2")
def test_signatures_that_are_wrong_stay_wrong_and_take_no_room() -> None:
    too_long = b"k" * 1_000_000

    assert needed_headers([("signature", too_long)] * 100) == [("signature", too_long[: SIGNATURE_BYTES_MAX + 1])] * 2


@pytest.mark.rule("W4")
def test_a_stub_names_size_and_hash_of_what_was_too_large() -> None:
    payload = b"\x00" * 5_000_000
    stub = decode_stub(encode_stub(payload))

    assert (stub.size, stub.sha256) == (5_000_000, hashlib.sha256(payload).digest())


@pytest.mark.parametrize("size", [0, 39, 41])
def test_a_stub_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(Undecodable):
        decode_stub(bytes(size))
