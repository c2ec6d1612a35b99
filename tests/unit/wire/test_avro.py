from __future__ import annotations

import random
from functools import partial
from io import BytesIO

import fastavro
import pytest

from processors.faults import Undecodable
from processors.wire.avro import (
    Reader,
    array_reader,
    long_bytes,
    read_boolean,
    read_bytes,
    read_long,
    read_null,
    read_text,
    sized_bytes,
    text_bytes,
    union_reader,
)
from processors.wire.causes import Cause

EDGES = sorted({sign * (1 << bits) + off for bits in range(64) for sign in (1, -1) for off in (-1, 0, 1)})
LONGS = [value for value in EDGES if -(2**63) <= value < 2**63]


def by_fastavro(kind: str, value: object) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, {"type": kind}, value)
    return out.getvalue()


def test_an_integer_is_written_as_fastavro_writes_it_and_read_back() -> None:
    for value in LONGS:
        encoded = long_bytes(value)
        assert encoded == by_fastavro("long", value)
        assert read_long(b"." + encoded + b".", 1) == (value, 1 + len(encoded))


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, -(2**80)])
def test_an_integer_beyond_64_bits_is_not_written(value: int) -> None:
    with pytest.raises(OverflowError):
        long_bytes(value)


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"\x80\x00", Cause.NOT_CANONICAL),  # zero in two bytes
        (b"\x82\x80\x00", Cause.NOT_CANONICAL),
        (b"\xff" * 9 + b"\x02", Cause.MALFORMED),  # 65 bits
        (b"\xff" * 10 + b"\x01", Cause.MALFORMED),  # eleven bytes
        (b"\x80" * 65_000, Cause.MALFORMED),
    ],
)
def test_an_integer_in_other_than_its_fewest_bytes_is_refused(payload: bytes, cause: Cause) -> None:
    with pytest.raises(Undecodable) as refused:
        read_long(payload, 0)

    assert refused.value.cause == cause


@pytest.mark.parametrize("text", ["", "acme", "đồng", "x" * 63, "x" * 64, "é" * 32, "x" * 9_000])
def test_a_text_is_written_as_fastavro_writes_it_and_read_back(text: str) -> None:
    encoded = text_bytes(text)

    assert encoded == by_fastavro("string", text) == sized_bytes(text.encode())
    assert read_text(encoded, 0) == (text, len(encoded))


@pytest.mark.parametrize("size", [-1, -64, -(2**63), 1, 64, 2**31, 2**62, 2**63 - 1])
def test_a_length_that_is_not_there_costs_nothing(size: int) -> None:
    with pytest.raises(Undecodable) as refused:
        read_bytes(long_bytes(size), 0)

    assert refused.value.cause == Cause.MALFORMED


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_a_text_that_is_not_utf_8_is_refused(raw: bytes) -> None:
    with pytest.raises(Undecodable) as refused:
        read_text(sized_bytes(raw), 0)

    assert refused.value.cause == Cause.MALFORMED


def test_a_boolean_is_zero_or_one() -> None:
    assert read_boolean(b"\x00\x01", 0) == (False, 1)
    assert read_boolean(b"\x00\x01", 1) == (True, 2)
    with pytest.raises(Undecodable):
        read_boolean(b"\x02", 0)


def test_an_array_is_one_block_of_its_items_and_an_end() -> None:
    assert array_reader(read_long)(b"\x00", 0) == ([], 1)
    assert array_reader(read_long)(b"\x04\x02\x04\x00.", 0) == ([1, 2], 4)


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b"\x01\x00", Cause.NOT_CANONICAL),  # a negative count
        (b"\x01\x02\x02\x00", Cause.NOT_CANONICAL),  # as some encoders write it, with the block's size
        (b"\x02\x02\x02\x04\x00", Cause.NOT_CANONICAL),  # two blocks
        (b"\x08\x02\x02\x00", Cause.MALFORMED),  # more items than bytes
        (long_bytes(2**62) + b"\x02", Cause.MALFORMED),
    ],
)
def test_an_array_in_other_than_one_block_is_refused(payload: bytes, cause: Cause) -> None:
    with pytest.raises(Undecodable) as refused:
        array_reader(read_long)(payload, 0)

    assert refused.value.cause == cause


@pytest.mark.parametrize("branch", [-1, -2, 2, 2**40])
def test_a_branch_that_a_union_has_not_is_refused(branch: int) -> None:
    read = union_reader([read_null, read_long])

    assert read(b"\x00", 0) == (None, 1)
    assert read(b"\x02\x0e", 0) == (7, 2)
    with pytest.raises(Undecodable):
        read(long_bytes(branch) + b"\x0e", 0)


@pytest.mark.parametrize("read_item", [read_long, read_bytes], ids=["integers", "bytes"])
def test_arrays_that_are_read_without_a_call_an_item_are_read_as_strictly(read_item: Reader) -> None:
    chance = random.Random(3)
    quick, plain = array_reader(read_item), array_reader(partial(read_item))  # partial: unknown, so one by one
    sizes = (0, 1, 63, 64, 200, 8_191, 8_192)
    items = [sized_bytes(b"x" * size) for size in sizes]
    if read_item is read_long:
        items = [long_bytes(value) for value in (0, -1, 63, 64, 2**20, -(2**63))]

    def told(read: Reader, payload: bytes) -> object:
        try:
            return read(payload, 0)
        except Undecodable as fault:
            return fault.cause
        except IndexError:
            return None

    for _ in range(3_000):
        some = [chance.choice(items) for _ in range(chance.randint(1, 5))]
        payload = bytearray(long_bytes(len(some)) + b"".join(some) + b"\x00")
        assert told(quick, bytes(payload)) == told(plain, bytes(payload))
        for _ in range(chance.randint(1, 2)):
            payload[chance.randrange(min(len(payload), 12))] = chance.choice((0, 1, 0x7F, 0x80, 0x81, 0xFF))
        damaged = bytes(payload[: chance.randint(0, len(payload))] if chance.random() < 0.3 else payload)
        assert told(quick, damaged) == told(plain, damaged), damaged[:20].hex()
