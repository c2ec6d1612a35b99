"""Any command, result and record that the wire may carry, for property tests; and what fastavro makes of bytes."""

from __future__ import annotations

from dataclasses import fields, replace
from io import BytesIO
from typing import Any

import fastavro
from hypothesis import strategies as st

from processors.ledger.command_types import TYPES
from processors.ledger.commands import (
    AccountStatus,
    CaptureHold,
    Command,
    CommandType,
    Control,
    Direction,
    Policy,
    Recalled,
    SetLaneTime,
    SetRules,
    UpdateAccount,
)
from processors.ledger.outcomes import Contra, Posting, Reason, RefusedBy, Status
from processors.ledger.rules import RESULT_VERSION
from processors.wire.results import Result, ResultPointer
from processors.wire.schemas import PREFIX_BYTES, Schema, schema_of, symbols_of

KINDS = tuple(row.command for row in TYPES)
LONGS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-70, 70),
    st.sampled_from([2**63 - 1, -(2**63), 8191, 8192, -8192, -8193, 2**53]),
)
TEXTS = st.one_of(st.text(max_size=80), st.sampled_from(["", "acme", "acme:vn:shop", "USD", "x" * 64, "é" * 32]))
BYTES = st.one_of(st.binary(max_size=80), st.sampled_from([b"", b'{"a":1}', b"x" * 64, b"\x00" * 5_000]))
IDS = st.binary(min_size=16, max_size=16)

_OF_FIELD: dict[str, st.SearchStrategy[Any]] = {
    "policy": st.sampled_from(Policy),
    "status": st.sampled_from(AccountStatus),
    "direction": st.sampled_from(Direction),
    "recalled": st.sampled_from(Recalled),
    "final": st.booleans(),
    "original_accepted": st.booleans(),
    "metadata": BYTES,
    "explanation": TEXTS,
    "original_type": TEXTS,
    **dict.fromkeys(("placement_key", "source", "target", "reason"), TEXTS),
    **dict.fromkeys(("rows", "digest", "ahead_digest"), BYTES),
    "is_last": st.booleans(),
    "keys": TEXTS,
    "registry_ids": TEXTS,
}
_MAY_BE_ABSENT = {
    *((UpdateAccount, name) for name in ("overdraft_limit", "policy", "status", "metadata")),
    *((SetRules, name) for name in ("keys", "registry_ids")),
    (CaptureHold, "amount_minor"),
    (SetLaneTime, "last_offset"),
}


def _of_field(kind: type, name: str) -> st.SearchStrategy[Any]:
    values = _OF_FIELD.get(name)
    if values is None:
        values = IDS if name.endswith("_id") else TEXTS if name.endswith(("address", "currency")) else LONGS
    return st.none() | values if (kind, name) in _MAY_BE_ABSENT else values


def commands(kinds: tuple[type[Command | Control], ...] = KINDS) -> st.SearchStrategy[Any]:
    """Return any command that its schema can hold, sensible or not."""
    return st.one_of(
        [st.builds(kind, **{field.name: _of_field(kind, field.name) for field in fields(kind)}) for kind in kinds]
    )


POSTINGS = st.builds(Posting, TEXTS, st.sampled_from(Contra), LONGS, LONGS, LONGS, LONGS, LONGS, LONGS)
_OF_RESULT: dict[str, st.SearchStrategy[Any]] = {
    "incarnation": IDS,
    "body_hash": IDS,
    "command_id": IDS,
    "transaction_id": IDS,
    "related_id": BYTES,
    "metadata": BYTES,
    "control": BYTES,
    "type": st.sampled_from(CommandType),
    "status": st.sampled_from(Status),
    "reason": st.sampled_from(Reason),
    "policy": st.none() | st.sampled_from(Policy),
    "account_status": st.none() | st.sampled_from(AccountStatus),
    "direction": st.none() | st.sampled_from(Direction),
    "journalled": st.booleans(),
    "final": st.booleans(),
    "postings": st.lists(POSTINGS, max_size=9).map(tuple),
    "duplicate_of": st.none() | st.builds(ResultPointer, LONGS, LONGS),
    "refused_by": st.none() | st.builds(RefusedBy, TEXTS, LONGS, LONGS),
    **dict.fromkeys(("shard", "root", "address", "currency", "to_address", "explanation", "unit"), TEXTS),
}
RESULTS = st.builds(Result, **{field.name: _OF_RESULT.get(field.name, LONGS) for field in fields(Result)})


def _with_symbols_of(version: int) -> st.SearchStrategy[Result]:
    """Return any result all of whose symbols a version of the schema has."""
    known = symbols_of(schema_of("result", version))
    types = st.sampled_from([kind for kind in CommandType if kind in known["balance.CommandType"]])
    reasons = st.sampled_from([reason for reason in Reason if reason in known["balance.Reason"]])
    return st.builds(replace, RESULTS, type=types, reason=reasons)


VERSIONED_RESULTS = st.integers(1, RESULT_VERSION).flatmap(
    lambda version: st.tuples(_with_symbols_of(version), st.just(version))
)


def by_fastavro(schema: Schema, payload: bytes) -> dict[str, Any] | None:
    """Return what fastavro reads, where it uses every byte and writes the same ones again; else None."""
    source, again = BytesIO(payload), BytesIO()
    source.seek(PREFIX_BYTES)
    again.write(payload[:PREFIX_BYTES])
    try:
        values: Any = fastavro.schemaless_reader(source, schema.parsed, None)
        fastavro.schemaless_writer(again, schema.parsed, values)
    except Exception:  # noqa: BLE001 - it raises whatever comes up: that is why it is not the guard
        return None
    return values if again.getvalue() == payload and source.tell() == len(payload) else None
