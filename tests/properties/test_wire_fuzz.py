"""Mutated payloads: each is refused or is the one encoding of what it says, and costs no more than its size.

``FUZZ_PAYLOADS`` sets how many (half a million), ``FUZZ_SEED`` where they begin; a failure
names its seed, its number and the payload.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.faults import Undecodable
from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import Command
from processors.ledger.outcomes import RefusedBy
from processors.ledger.rules import RESULT_VERSION, Rules
from processors.wire.avro import long_bytes
from processors.wire.commands import PAYLOAD_BYTES_MAX, body_hash, decode_command, encode_command, type_of_payload
from processors.wire.dead_letters import decode_dead_letter, encode_dead_letter
from processors.wire.records import Headers, Record
from processors.wire.result_format import decode_result, write_result
from processors.wire.route import ROUTE_HEADER, encode_route, needed_headers
from processors.wire.schemas import ALL, MARKER, PREFIX_BYTES, schema_of, symbols_of
from processors.wire.signature import SIGNATURE_HEADER
from tests.properties.wire_values import by_fastavro
from tests.unit.wire.build import (
    KINDS,
    LANE,
    admission,
    admitted,
    answered,
    example,
    outcome,
    pay,
    posting,
    record,
    route,
    signed,
)

PAYLOADS = int(os.environ.get("FUZZ_PAYLOADS", "500000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
# A hundred times what the largest payload takes, so that a busy machine fails no test and a payload that runs away
# (for seconds, or minutes) does. It is this thread's processor time: a pause of the machine is not the payload's.
CPU_MS_MAX = 200

COMMANDS = [encode_command(example(kind)) for kind in KINDS] + [
    encode_command(pay(metadata=b"m" * 4_000)),
    encode_command(pay(address="x" * 60_000)),
]
SCHEMA_OF = {schema.prefix: schema for schema in ALL.values()}
RESULT_OF = {schema_of("result", version).prefix: version for version in range(1, RESULT_VERSION + 1)}
TYPES_OF = {version: symbols_of(schema_of("result", version))["balance.CommandType"] for version in RESULT_OF.values()}


def answered_in(version: int) -> list[type[Command]]:
    """Return the commands that lanes answer with this version of the result."""
    return [kind for kind, type_ in TYPE_OF.items() if type_ in TYPES_OF[version]]


RESULTS = [
    answered(
        example(kind),
        outcome(
            postings=tuple(posting(sequence=level) for level in range(levels)),
            refused_by=RefusedBy("acme", 90, 10) if levels % 2 else None,
        ),
        rules=Rules(version=1, result_version=version),
    )
    for version in RESULT_OF.values()
    for levels, kind in enumerate(kind for kind in TYPE_OF if TYPE_OF[kind] in TYPES_OF[version])
]
NUMBERS = [long_bytes(n) for n in (0, -1, 1, 2, 63, 64, -64, 2**20, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))]
FRAGMENTS = [*NUMBERS, b"\xff" * 12, b"\x80" * 40, b"\x80\x00", b"\x00" * 30, b"\xed\xa0\x80", MARKER, b"", b"{}"]


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """Return one of the seeds after one to four changes."""
    payload = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        _change(chance, payload, seeds)
    return bytes(payload)


def _change(chance: random.Random, payload: bytearray, seeds: list[bytes]) -> None:
    # Most changes leave the first ten bytes alone: without them nothing further is looked at.
    begin = 0 if chance.random() < 0.05 else min(PREFIX_BYTES, len(payload))
    at = chance.randint(begin, max(begin, len(payload) - 1))
    end = at + chance.choice((0, 1, 1, 2, 3, 8, 16))
    match chance.randrange(7):
        case 0 if at < len(payload):
            payload[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(payload):
            payload[at] = chance.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF))
        case 2:
            del payload[at:end]
        case 3:
            payload[at:end] = chance.choice(FRAGMENTS)
        case 4:
            del payload[at:]
        case 5:
            payload[at:at] = payload[at:end] * chance.choice((1, 2, 1_000))
        case _:
            other = chance.choice(seeds)
            payload[at:] = other[chance.randint(0, len(other)) :]


def payloads(seeds: list[bytes], count: int) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(SEED)
    for number in range(count):
        payload = mutated(chance, seeds)
        yield f"seed {SEED}, number {number}: {payload[:200].hex()} ({len(payload)} bytes)", payload


def check_command(payload: bytes) -> bool:
    """Hold the guard against fastavro; say whether the payload was accepted."""
    schema = SCHEMA_OF.get(payload[:PREFIX_BYTES]) if type_of_payload(payload) else None
    known = schema is not None and len(payload) <= PAYLOAD_BYTES_MAX
    expected = by_fastavro(schema, payload) if known and schema is not None else None
    try:
        command = decode_command(payload)
    except Undecodable:
        assert expected is None
        return False
    assert expected is not None
    assert schema is not None
    assert encode_command(command, release=schema.since_release) == payload
    return True


def check_result(payload: bytes) -> bool:
    version = RESULT_OF.get(payload[:PREFIX_BYTES])
    expected = None if version is None else by_fastavro(schema_of("result", version), payload)
    lists = ("duplicate_of", "refused_by")
    if expected is not None and ("UNLISTED" in str(expected) or any(len(expected.get(name, "")) > 1 for name in lists)):
        expected = None
    try:
        result = decode_result(payload)
    except Undecodable:
        assert expected is None
        return False
    assert expected is not None
    assert version is not None
    assert write_result(result, version) == payload
    return True


@pytest.mark.rule("F1")
def test_a_mutated_command_is_refused_or_is_the_one_encoding_of_what_it_says() -> None:
    accepted = 0
    for story, payload in payloads(COMMANDS, PAYLOADS):
        try:
            accepted += check_command(payload)
        except Exception as error:
            raise AssertionError(story) from error

    assert PAYLOADS // 100 < accepted < PAYLOADS  # the mutations reach both


def test_a_mutated_result_is_refused_or_is_the_one_encoding_of_what_it_says() -> None:
    count = PAYLOADS // 4
    accepted = 0
    for story, payload in payloads(RESULTS, count):
        try:
            accepted += check_result(payload)
        except Exception as error:
            raise AssertionError(story) from error

    assert count // 100 < accepted < count


def headers_for(chance: random.Random, payload: bytes) -> Headers:
    """Return headers of the router and of a signer, each now and then missing, twice or mutated."""
    good = [(ROUTE_HEADER, encode_route(route())), *signed(b"acme", payload)]
    headers = [(name, mutated(chance, [value]) if chance.random() < 0.1 else value) for name, value in good]
    return headers * chance.choice((0, 1, 1, 1, 1, 1, 1, 2))


@pytest.mark.rule("W2")
def test_a_mutated_record_is_admitted_or_refused_within_a_bounded_time() -> None:
    chance = random.Random(SEED)
    slowest_ms, slowest = 0.0, ""
    letters = 0
    for story, payload in payloads(COMMANDS, PAYLOADS):
        key = b"acme" if chance.random() < 0.9 else mutated(chance, [b"acme", b"beta", b""])
        read = record(payload, headers_for(chance, payload), key)
        began = time.thread_time_ns()
        try:
            letters += settle(read)
        except Exception as error:
            raise AssertionError(f"{story}, headers {read.headers}, key {read.key!r}") from error
        took_ms = (time.thread_time_ns() - began) / 1_000_000
        if took_ms > slowest_ms:
            slowest_ms, slowest = took_ms, story

    assert slowest_ms < CPU_MS_MAX, slowest
    assert PAYLOADS // 4 < letters < PAYLOADS


def settle(read: Record) -> bool:
    """Do with a record what a lane does before it decides; say whether it became a dead letter."""
    answer = admitted(read, LANE.lane)
    assert (answer.command is None) is not (answer.refusal is None)
    if answer.refusal is None:
        return False
    letter = encode_dead_letter(read, answer.refusal.cause, answer.refusal.detail, route=answer.route)
    assert decode_dead_letter(letter).cause == answer.refusal.cause
    assert len(letter) < 8_192
    return True


@settings(max_examples=500)
@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_any_bytes_behind_a_known_prefix_are_refused_or_read(kind: type, body: bytes) -> None:
    check_command(encode_command(example(kind))[:PREFIX_BYTES] + body)


@settings(max_examples=300)
@given(
    st.binary(max_size=100) | st.none(),
    st.binary(max_size=60) | st.none(),
    st.lists(
        st.tuples(st.sampled_from([ROUTE_HEADER, SIGNATURE_HEADER, "Balance-Route", "x"]), st.binary(max_size=60)),
        max_size=4,
    ),
)
def test_any_record_at_all_is_refused(value: bytes | None, key: bytes | None, headers: Headers) -> None:
    assert settle(record(value, headers, key))


@pytest.mark.rule("W2")
@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=5))))
def test_of_any_headers_the_signature_alone_is_kept(headers: Headers) -> None:
    signed = [(SIGNATURE_HEADER, b"k1")]

    assert needed_headers([header for header in headers if header[0] != SIGNATURE_HEADER] + signed) == signed


def test_the_hash_of_a_command_of_any_size_takes_a_bounded_time() -> None:
    began = time.thread_time_ns()
    for payload in COMMANDS:
        command = decode_command(payload)
        if hasattr(command, "address"):
            body_hash(command)  # type: ignore[arg-type]

    assert (time.thread_time_ns() - began) / 1_000_000 < CPU_MS_MAX
    assert admission(pay()).refusal is None
