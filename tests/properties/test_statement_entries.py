"""The straight reader of a statement's entries says what their schema's reader says, of whatever bytes."""

from __future__ import annotations

from random import Random

import pytest

from processors.faults import Undecodable
from processors.wire import guard
from processors.wire.avro import reader_of
from processors.wire.schemas import encode, schema_of
from processors.wire.statement_chunk import StatementRow, decode_statement_entry

SCHEMA = schema_of("statement_entry")
FORMAT = guard.Format(
    schema=SCHEMA, read=reader_of(SCHEMA.parsed, {SCHEMA.parsed["name"]: lambda values: StatementRow(*values)}, {})
)
BYTES_MAX = 128 * 1024
LONGS = (0, 1, -1, 63, -64, 64, 8_191, 8_192, 2**31, -(2**40), 2**63 - 1, -(2**63))


def an_entry(chance: Random) -> bytes:
    """Return an entry whose every field may have any value that its type can have."""
    values = {
        "type": chance.choice(["PAY", "", "EXPIRE_HOLD", "Überweisung", "x" * 70]),
        "command_id": chance.randbytes(16),
        "transaction_id": chance.randbytes(16),
        "contra": chance.choice(["NONE", "SETTLEMENT", ""]),
        **{field["name"]: chance.choice(LONGS) for field in SCHEMA.parsed["fields"] if field["type"] == "long"},
        "metadata": chance.randbytes(chance.choice([0, 1, 63, 64, 200])),
    }
    return encode(SCHEMA, values).removeprefix(SCHEMA.prefix)


def harmed(chance: Random, entry: bytes) -> bytes:
    """Return an entry with a byte changed, put in, or left out, cut short, or with something behind it."""
    at = chance.randrange(len(entry))
    byte = chance.choice([b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", chance.randbytes(1)])
    return chance.choice(
        [entry[:at] + byte + entry[at + 1 :], entry[:at] + byte + entry[at:], entry[:at], entry[:at] + entry[at + 1 :],
         entry + byte, b""]
    )  # fmt: skip


def by_schema(entry: bytes) -> StatementRow | str:
    try:
        row: StatementRow = guard.decode(SCHEMA.prefix + entry, {SCHEMA.prefix: FORMAT}, bytes_max=BYTES_MAX)
    except Undecodable as fault:
        return str(fault)
    return row


def straight(entry: bytes) -> StatementRow | str:
    try:
        return decode_statement_entry(entry)
    except Undecodable as fault:
        return str(fault)


@pytest.mark.rule("A4")
@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_bytes_the_row_or_the_refusal_is_the_schemas(seed: int) -> None:
    chance, refused = Random(seed), 0
    for _ in range(300):
        entry = an_entry(chance)
        assert isinstance(straight(entry), StatementRow)
        assert straight(entry) == by_schema(entry)
        other = harmed(chance, entry)
        assert straight(other) == by_schema(other)
        refused += isinstance(straight(other), str)
    assert 100 < refused < 300


def test_an_entry_above_what_a_result_may_have_is_refused() -> None:
    values: dict[str, object] = {field["name"]: 0 for field in SCHEMA.parsed["fields"]}
    values |= {"type": "PAY", "command_id": bytes(16), "transaction_id": bytes(16), "contra": "NONE"}
    entry = encode(SCHEMA, {**values, "metadata": bytes(BYTES_MAX)}).removeprefix(SCHEMA.prefix)

    assert straight(entry) == by_schema(entry)
    assert isinstance(straight(entry), str)
