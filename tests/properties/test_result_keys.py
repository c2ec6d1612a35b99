"""What the sink reads of a result is what the full decoder says, for any bytes, and costs no more than their size."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.faults import Undecodable
from processors.ledger.outcomes import RefusedBy
from processors.wire import result_keys as subject
from processors.wire.result_format import RESULT_BYTES_MAX, decode_result, write_result
from processors.wire.result_keys import ResultKeys, keys_of, result_keys
from processors.wire.results import Result
from processors.wire.schemas import schema_of
from tests.properties.test_wire_fuzz import CPU_MS_MAX, RESULTS, mutated
from tests.properties.wire_values import LONGS, VERSIONED_RESULTS, by_fastavro

PAYLOADS = 60_000
SEED = 7


def told(payload: bytes, *, fully: bool) -> ResultKeys | str:
    """Return what is read of a payload, or the fault's whole text."""
    try:
        return keys_of(decode_result(payload)) if fully else result_keys(payload)
    except Undecodable as fault:
        return f"{fault.cause}: {fault.detail}"


NAMES = st.text(st.characters(max_codepoint=127), max_size=63)
CAUSES = st.none() | st.builds(RefusedBy, NAMES, LONGS, LONGS)


def usual(result: Result, cause: RefusedBy | None, name: str) -> Result:
    """Return a result with what the full decoder is not needed for."""
    postings = tuple(replace(posting, address=name[::-1]) for posting in result.postings)
    texts: dict[str, Any] = dict.fromkeys(("shard", "root", "address", "currency", "unit"), name)
    return replace(
        result,
        **texts,
        postings=postings[:8],
        to_address="",
        explanation="",
        related_id=b"",
        duplicate_of=None,
        refused_by=cause,
    )


@pytest.mark.rule("A4")
@settings(max_examples=500)
@given(VERSIONED_RESULTS, CAUSES, NAMES, st.booleans())
def test_of_any_result_of_any_version_the_keys_are_those_of_its_values(
    versioned: tuple[Result, int], cause: RefusedBy | None, name: str, odd: bool
) -> None:
    result, version = versioned
    payload = write_result(result if odd else usual(result, cause, name), version)

    assert told(payload, fully=False) == told(payload, fully=True)


@settings(max_examples=200)
@given(VERSIONED_RESULTS, CAUSES, NAMES)
def test_a_usual_result_is_read_without_the_full_decoder(
    versioned: tuple[Result, int], cause: RefusedBy | None, name: str
) -> None:
    result, version = versioned
    payload = write_result(usual(result, cause, name), version)

    read = subject._read(payload, subject._PATTERNS[payload[:10]])

    assert read == keys_of(decode_result(payload))


@settings(max_examples=200)
@given(VERSIONED_RESULTS)
def test_any_entry_is_written_as_fastavro_writes_it(versioned: tuple[Result, int]) -> None:
    schema = schema_of("statement_entry")
    for change in result_keys(write_result(*versioned)).changes:
        values = by_fastavro(schema, schema.prefix + change.entry)
        assert values is not None
        assert values["sequence"] == change.sequence


def test_damaged_bytes_give_the_full_decoders_fault_and_cost_no_more_than_their_size() -> None:
    chance = random.Random(SEED)
    read = 0
    for number in range(PAYLOADS):
        payload = mutated(chance, RESULTS)
        began_s = time.thread_time()
        keys = told(payload, fully=False)
        took_ms = (time.thread_time() - began_s) * 1_000
        name = f"seed {SEED}, number {number}: {payload[:200].hex()} ({len(payload)} bytes)"
        assert keys == told(payload, fully=True), name
        assert took_ms < CPU_MS_MAX, name
        read += isinstance(keys, ResultKeys)
    assert 0 < read < PAYLOADS


@pytest.mark.parametrize("size", [RESULT_BYTES_MAX, RESULT_BYTES_MAX + 1])
def test_a_result_that_is_too_large_is_refused_as_the_full_decoder_refuses_it(size: int) -> None:
    payload = write_result(replace(decode_result(RESULTS[0]), metadata=b""))
    payload = write_result(replace(decode_result(RESULTS[0]), metadata=b" " * (size - len(payload) - 2)))

    assert len(payload) == size
    assert told(payload, fully=False) == told(payload, fully=True)
