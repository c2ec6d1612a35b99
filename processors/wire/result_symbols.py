"""The symbols of each version of the result: what a member of an enum is written as, and what stands for it when read.

A later version may have one more amid an enum, so that those behind it are written with another number there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

from processors.ledger.commands import AccountStatus, CommandType, Direction, Policy
from processors.ledger.outcomes import Contra, Reason, Status
from processors.ledger.rules import RESULT_VERSION
from processors.wire.avro import UNLISTED, long_bytes
from processors.wire.schemas import Schema, schema_of, symbols_of

_SYMBOLS_MAX = 16_384  # versions times types, statuses and reasons that occur together: some hundreds


@lru_cache(maxsize=_SYMBOLS_MAX)
def symbol_bytes(version: int, enum: str, member: Any) -> bytes:
    """Encode one symbol; one that its version lacks is a bug, since rules of that version decide nothing with it."""
    found = INDEXES[version][enum].get(member)
    assert found is not None, f"version {version} of the result has no symbol {member} in {enum}"
    return found


@lru_cache(maxsize=_SYMBOLS_MAX)
def verdict_bytes(version: int, verdict: tuple[CommandType, Status, Reason]) -> bytes:
    """Encode type, status and reason, which stand side by side in a result."""
    type_, status, reason = verdict
    return b"".join(
        (
            symbol_bytes(version, "balance.CommandType", type_),
            symbol_bytes(version, "balance.Status", status),
            symbol_bytes(version, "balance.Reason", reason),
        )
    )


@lru_cache(maxsize=_SYMBOLS_MAX)
def keeps_symbols(prefix: bytes, version: int) -> bool:
    """Say whether every symbol of the result that begins with ``prefix`` has the same number in ``version``."""
    first = next(known for known, schema in SCHEMAS.items() if schema.prefix == prefix)
    return all(indexes.items() <= INDEXES[version][enum].items() for enum, indexes in INDEXES[first].items())


def _members(name: str, kind: type[StrEnum]) -> Mapping[str, Any]:
    """Return what each symbol of the schema stands for, in its order; NONE is None where the enum has none so named.

    Raises:
        ValueError: The schema lacks a member, or has a symbol that is none: a release like that may not start.
    """
    known = {str(member): member for member in kind}
    symbols = [symbol for symbol in symbols_of(NEWEST)[name] if symbol != UNLISTED]
    if set(symbols) | {"NONE"} != set(known) | {"NONE"}:
        odd = sorted(set(symbols) ^ set(known))
        raise ValueError(f"{kind.__name__} and {name} in {NEWEST.name}.v{NEWEST.version}.avsc differ: {odd}")
    return {symbol: known.get(symbol) for symbol in symbols}


def _indexes(schema: Schema) -> dict[str, dict[Any, bytes]]:
    """Return by enum what each member is written as in one version; UNLISTED, the last symbol, is never written."""
    return {
        name: {
            ENUMS[name][symbol]: long_bytes(index)
            for index, symbol in enumerate(symbols_of(schema)[name])
            if symbol != UNLISTED
        }
        for name in ENUMS
    }


SCHEMAS = {version: schema_of("result", version) for version in range(1, RESULT_VERSION + 1)}
NEWEST = SCHEMAS[RESULT_VERSION]
ENUMS = {
    name: _members(name, kind)
    for name, kind in (
        ("balance.CommandType", CommandType),
        ("balance.Status", Status),
        ("balance.Reason", Reason),
        ("balance.Contra", Contra),
        ("balance.ResultPolicy", Policy),
        ("balance.ResultAccountStatus", AccountStatus),
        ("balance.ResultDirection", Direction),
    )
}
INDEXES = {version: _indexes(schema) for version, schema in SCHEMAS.items()}
