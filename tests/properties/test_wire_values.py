from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import Command, Control
from processors.ledger.outcomes import Posting, RefusedBy
from processors.wire.commands import PAYLOAD_BYTES_MAX, body_hash, decode_command, encode_command
from processors.wire.journal_chunk import ChunkRow, decode_chunk, encode_chunk
from processors.wire.result_format import SKIMMED, decode_result, write_result
from processors.wire.results import Result, ResultPointer, decision_of, encode_duplicate
from processors.wire.schemas import ALL, encode, schema_of
from tests.properties.wire_values import BYTES, IDS, LONGS, RESULTS, TEXTS, VERSIONED_RESULTS, by_fastavro, commands
from tests.unit.wire.build import LANE, RULES, admission, pay


def as_fastavro_writes(result: Result) -> dict[str, Any]:
    """Return a result's values as the newest schema names them."""
    pointer, cause = result.duplicate_of, result.refused_by
    postings = [{name: getattr(each, name) for name in _names(each)} for each in result.postings]
    values = {field.name: getattr(result, field.name) for field in fields(Result)}
    absent = {name: "NONE" for name in ("policy", "account_status", "direction") if values[name] is None}
    pointers = [] if pointer is None else [{"lane_offset": pointer.lane_offset, "lane_index": pointer.lane_index}]
    causes = [] if cause is None else [{name: getattr(cause, name) for name in _names(cause)}]
    return {**values, **absent, "postings": postings, "duplicate_of": pointers, "refused_by": causes}


def _names(value: Posting | RefusedBy) -> list[str]:
    return [field.name for field in fields(value)]


@settings(max_examples=300)
@given(commands())
def test_any_command_is_read_as_it_was_written(command: Command | Control) -> None:
    payload = encode_command(command)

    assert len(payload) <= PAYLOAD_BYTES_MAX
    assert decode_command(payload) == command


@settings(max_examples=300)
@given(commands())
def test_any_command_is_written_as_fastavro_writes_it(command: Command | Control) -> None:
    payload = encode_command(command)
    schema = next(schema for schema in ALL.values() if payload.startswith(schema.prefix))

    values = by_fastavro(schema, payload)
    assert values is not None
    assert values.keys() == {field.name for field in fields(command)}


@settings(max_examples=100)
@given(st.lists(st.tuples(LONGS, LONGS, BYTES), min_size=1, max_size=20))
def test_any_chunk_is_written_as_fastavro_writes_it(rows: list[ChunkRow]) -> None:
    payload = encode_chunk(rows)

    assert by_fastavro(schema_of("journal_chunk"), payload) is not None
    assert decode_chunk(payload) == rows


@pytest.mark.rule("I3")
@settings(max_examples=200)
@given(commands(tuple(TYPE_OF)), IDS)
def test_the_body_hash_is_over_what_was_decoded_and_not_the_id(command: Any, command_id: bytes) -> None:
    again: Any = decode_command(encode_command(command))

    assert body_hash(again) == body_hash(command) == body_hash(replace(command, command_id=command_id))


@pytest.mark.rule("I3")
@settings(max_examples=200)
@given(commands(tuple(TYPE_OF)), commands(tuple(TYPE_OF)))
def test_two_commands_have_one_body_hash_only_where_they_say_the_same(one: Any, other: Any) -> None:
    if replace(one, command_id=bytes(16)) != replace(other, command_id=bytes(16)):
        assert body_hash(one) != body_hash(other)


@settings(max_examples=300)
@given(VERSIONED_RESULTS)
def test_any_result_is_written_as_fastavro_writes_it(versioned: tuple[Result, int]) -> None:
    result, version = versioned
    payload, schema = write_result(result, version), schema_of("result", version)

    values = as_fastavro_writes(result)
    assert payload == encode(schema, {field["name"]: values[field["name"]] for field in schema.parsed["fields"]})
    assert by_fastavro(schema, payload) is not None


@settings(max_examples=300)
@given(VERSIONED_RESULTS)
def test_any_result_is_read_as_it_was_written_and_written_again_as_the_same_bytes(
    versioned: tuple[Result, int],
) -> None:
    result, version = versioned
    payload = write_result(result, version)

    assert decode_result(payload) == (replace(result, refused_by=None) if version == 1 else result)
    assert write_result(decode_result(payload), version) == payload
    assert decision_of(payload).result is payload


@pytest.mark.rule("H4")
@settings(max_examples=300)
@given(RESULTS)
def test_a_later_command_sees_of_any_result_what_it_says(result: Result) -> None:
    decision = decision_of(write_result(result))

    assert [getattr(decision, name) for name in SKIMMED] == [getattr(result, name) for name in SKIMMED]


@pytest.mark.rule("I3")
@settings(max_examples=100)
@given(RESULTS, LONGS, LONGS)
def test_a_duplicate_of_any_result_keeps_its_content(first: Result, offset: int, now_ms: int) -> None:
    answer = encode_duplicate(
        LANE, write_result(first), offset=offset, index=0, lane_time_ms=now_ms, rules=RULES, admission=admission(pay())
    )
    result = decode_result(answer)
    kept = {"type", "status", "reason", "root", "address", "currency", "command_id", "transaction_id", "body_hash",
            "amount_minor", "postings", "levels", "related_id", "remaining_minor", "expires_at_ms", "policy",
            "account_status", "final", "to_address", "direction", "explanation", "metadata", "control",
            "rules_version", "refused_by"}  # fmt: skip

    assert {name: getattr(result, name) for name in kept} == {name: getattr(first, name) for name in kept}
    assert result.duplicate_of == ResultPointer(first.lane_offset, first.lane_index)
    assert (result.journalled, result.version_us, result.lane_offset, result.lane_time_ms) == (False, 0, offset, now_ms)


@pytest.mark.rule("A1")
@settings(max_examples=50)
@given(RESULTS, TEXTS)
def test_two_results_that_differ_have_different_bytes(result: Result, text: str) -> None:
    if text != result.address:
        assert write_result(replace(result, address=text)) != write_result(result)
