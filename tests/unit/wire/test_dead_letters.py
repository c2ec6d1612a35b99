from __future__ import annotations

import hashlib

import pytest

from processors.faults import Undecodable
from processors.wire.causes import Cause
from processors.wire.commands import encode_command
from processors.wire.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from tests.unit.wire.build import START_MS, pay, record, route

PAYLOAD = encode_command(pay())


def test_a_dead_letter_says_why_and_where_from() -> None:
    letter = encode_dead_letter(record(PAYLOAD, []), Cause.BAD_ROUTE, "cut short", route=route())

    assert decode_dead_letter(letter) == DeadLetter(
        cause="BAD_ROUTE",
        detail="cut short",
        topic="balance.shard.s1",
        partition=record(None, []).partition,
        offset=500,
        timestamp_ms=START_MS,
        ingress_epoch=1,
        ingress_partition=3,
        ingress_offset=4_000_000,
        key=b"acme",
        key_size=4,
        payload=PAYLOAD,
        payload_size=len(PAYLOAD),
        payload_sha256=hashlib.sha256(PAYLOAD).digest(),
    )


def test_a_dead_letter_without_a_route_key_and_payload_says_so() -> None:
    letter = decode_dead_letter(encode_dead_letter(record(None, [], None), Cause.EMPTY, ""))

    assert (letter.ingress_epoch, letter.ingress_partition, letter.ingress_offset) == (-1, -1, -1)
    assert (letter.key, letter.key_size, letter.payload, letter.payload_size) == (b"", -1, b"", -1)


@pytest.mark.rule("W4")
def test_a_dead_letter_cuts_what_is_long_and_says_how_long_it_was() -> None:
    payload = bytes(range(256)) * 20_000
    read = record(payload, [], b"k" * 100_000, topic="t" * 249)
    encoded = encode_dead_letter(read, Cause.TOO_LARGE, "€" * 10_000)
    letter = decode_dead_letter(encoded)

    assert len(encoded) < 4_096
    assert (letter.payload, letter.payload_size) == (payload[:1024], 5_120_000)
    assert letter.payload_sha256 == hashlib.sha256(payload).digest()
    assert (letter.key, letter.key_size) == (b"k" * 256, 100_000)
    assert letter.detail == "€" * 512


def test_a_detail_of_any_characters_can_be_written() -> None:
    letter = decode_dead_letter(encode_dead_letter(record(b"x", []), Cause.MALFORMED, "a\x00\n\ud800b"))

    assert letter.detail == "a???b"


def test_the_same_record_refused_again_is_the_same_dead_letter() -> None:
    read = record(b"x", [("trace", b"1")])

    assert encode_dead_letter(read, "MALFORMED", "d") == encode_dead_letter(read, Cause.MALFORMED, "d")


@pytest.mark.parametrize("payload", [b"", b"x", PAYLOAD, bytes(10_000)])
def test_what_is_no_dead_letter_is_refused(payload: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_dead_letter(payload)
