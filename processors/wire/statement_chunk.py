"""Chunks of archived statements: changes of one account, many in one blob (A4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from processors.faults import Undecodable
from processors.wire import guard
from processors.wire.avro import read_bytes, read_long, read_text, reader_of
from processors.wire.causes import Cause
from processors.wire.result_format import RESULT_BYTES_MAX
from processors.wire.schemas import encode, schema_of

# A chunk is closed at 256 KiB; the change that closes it may have another 128, the rest is room for numbers.
CHUNK_BYTES_MAX = 512 * 1024
_ID_BYTES = 16


class StatementRow(NamedTuple):
    """One change of an account: amounts in minor units, signed; balance, held and limit after it; time in ms.

    A tuple, in the order of ``schemas/avro/statement_entry``: a statement has hundreds, and a dataclass takes 3 µs.
    """

    type: str
    command_id: bytes
    transaction_id: bytes
    contra: str
    balance_change: int
    held_change: int
    balance: int
    held: int
    overdraft_limit: int
    sequence: int
    lane_time_ms: int
    metadata: bytes


@dataclass(slots=True)
class _Changes:
    sequences: list[int]
    entries: list[bytes]


_CHUNK = schema_of("statement_chunk")
_ENTRY = schema_of("statement_entry")
_CHUNKS = {_CHUNK.prefix: guard.format_of(_CHUNK, _Changes)}
_ENTRY_BYTES_MAX = RESULT_BYTES_MAX - len(_ENTRY.prefix)
_FIELDS = tuple(field["name"] for field in _ENTRY.parsed["fields"])
assert StatementRow._fields == _FIELDS
_ENTRIES = {
    _ENTRY.prefix: guard.Format(
        schema=_ENTRY,
        read=reader_of(_ENTRY.parsed, {_ENTRY.parsed["name"]: lambda values: StatementRow(*values)}, {}),
    )
}


def encode_statement_chunk(changes: Sequence[tuple[int, bytes]]) -> bytes:
    """Encode changes of one account, in the order given.

    Args:
        changes: At least one; its sequence, and its entry (``result_keys.Change``).
    """
    sequences, entries = zip(*changes, strict=True)
    return encode(_CHUNK, {"sequences": sequences, "entries": entries})


def decode_statement_chunk(payload: bytes) -> list[tuple[int, bytes]]:
    """Return the changes of a chunk: each change's sequence, and its entry.

    Raises:
        Undecodable: It is none; see ``guard.decode``.
    """
    columns: _Changes = guard.decode(payload, _CHUNKS, bytes_max=CHUNK_BYTES_MAX)
    if len(columns.sequences) != len(columns.entries):
        counts = sorted((len(columns.sequences), len(columns.entries)))
        raise Undecodable(Cause.MALFORMED, f"the columns of a chunk have {counts} changes")
    return list(zip(columns.sequences, columns.entries, strict=True))


def decode_statement_entry(entry: bytes) -> StatementRow:
    """Return the change that an entry says.

    What does not read straight is left to the schema's own reader, which says what is wrong with it.

    Raises:
        Undecodable: It is none; see ``guard.decode``.
    """
    try:
        row, end = _read_entry(entry)
        if end == len(entry) <= _ENTRY_BYTES_MAX:
            return row
    except (IndexError, Undecodable):
        pass
    refused: StatementRow = guard.decode(_ENTRY.prefix + entry, _ENTRIES, bytes_max=RESULT_BYTES_MAX)
    return refused


def _read_entry(entry: bytes) -> tuple[StatementRow, int]:
    """Read the fields in the schema's order; a list of them, and a row made of it, would take a third more."""
    type_, at = read_text(entry, 0)
    transaction_at, contra_at = at + _ID_BYTES, at + 2 * _ID_BYTES
    contra, after = read_text(entry, contra_at)
    balance_change, after = read_long(entry, after)
    held_change, after = read_long(entry, after)
    balance, after = read_long(entry, after)
    held, after = read_long(entry, after)
    overdraft_limit, after = read_long(entry, after)
    sequence, after = read_long(entry, after)
    lane_time_ms, after = read_long(entry, after)
    metadata, after = read_bytes(entry, after)
    row = StatementRow(
        type_,
        entry[at:transaction_at],
        entry[transaction_at:contra_at],
        contra,
        balance_change,
        held_change,
        balance,
        held,
        overdraft_limit,
        sequence,
        lane_time_ms,
        metadata,
    )
    return row, after
