"""Commands and the records of operators and service, to bytes and back, and the hash that tells a repetition from another body."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from processors.ledger.commands import (
    TYPE_OF,
    AccountStatus,
    Command,
    Control,
    Direction,
    Policy,
    Recalled,
    SetLaneTime,
    SetRules,
    Tick,
)
from processors.ledger.metadata import canonical_metadata
from processors.wire import guard
from processors.wire.schemas import ALL, PREFIX_BYTES, Schema, encode, refuse_unsafe, schema_of

PAYLOAD_BYTES_MAX = 65_536  # W4
BODY_HASH_BYTES = 16

_CLASS_OF: dict[str, type[Command | Control]] = {
    **{type_name: kind for kind, type_name in TYPE_OF.items()},
    "TICK": Tick,
    "SET_RULES": SetRules,
    "SET_LANE_TIME": SetLaneTime,
}
_NAME_OF: dict[type[Command | Control], str] = {kind: name for name, kind in _CLASS_OF.items()}
_ENUMS: Mapping[str, type[StrEnum]] = MappingProxyType(
    {"policy": Policy, "status": AccountStatus, "direction": Direction, "recalled": Recalled}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format(Schema):
    """A command's schema and the value it becomes; ``enums`` turn symbols into members."""

    type_name: str
    kind: type[Command | Control]
    enums: tuple[tuple[str, Mapping[str, StrEnum]], ...]


def _format(schema: Schema, type_name: str) -> _Format:
    refuse_unsafe(schema.parsed)  # F1: at import, so that no release can start with such a schema
    kind = _CLASS_OF[type_name]
    return _Format(
        name=schema.name,
        version=schema.version,
        text=schema.text,
        parsed=schema.parsed,
        prefix=schema.prefix,
        type_name=type_name,
        kind=kind,
        enums=tuple(
            (field.name, {str(member): member for member in _ENUMS[field.name]})
            for field in fields(kind)
            if field.name in _ENUMS
        ),
    )


_FORMATS: dict[bytes, _Format] = {
    schema.prefix: _format(schema, schema.name.upper()) for schema in ALL.values() if schema.name.upper() in _CLASS_OF
}
_TYPE_OF_PREFIX = {prefix: each.type_name for prefix, each in _FORMATS.items()}


def type_of_payload(payload: bytes) -> str | None:
    """Return the type that a payload says it has, from its first ten bytes alone: ``PAY``, ``TICK``, ...; else None."""
    return _TYPE_OF_PREFIX.get(payload[:PREFIX_BYTES])


def encode_command(command: Command | Control) -> bytes:
    """Encode a command by the newest version of its schema, in single-object encoding.

    Raises:
        ValueError: A field does not fit its schema (an amount beyond 64 bits, an id that has not 16 bytes, a lone
            surrogate), or the payload is above PAYLOAD_BYTES_MAX (W4).
    """
    kind = type(command)
    shape = _SHAPES[kind]
    values = dict(zip(shape.names, shape.values(command), strict=True))
    try:
        payload = encode(shape.schema, values)
    except (OverflowError, TypeError) as error:
        raise ValueError(f"{_NAME_OF[kind]}: {error}") from error
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"{_NAME_OF[kind]}: {len(payload)} bytes are above {PAYLOAD_BYTES_MAX}")
    return payload


def decode_command(payload: bytes) -> Command | Control:
    """Decode a payload that anybody may have written.

    Returns:
        The command as its record said it, not judged: an amount may be zero, an address malformed.

    Raises:
        Undecodable: See ``guard.decode``.
    """
    schema, values = guard.decode(payload, _FORMATS, bytes_max=PAYLOAD_BYTES_MAX)
    for name, members in schema.enums:
        symbol = values[name]
        values[name] = None if symbol is None else members[symbol]
    return schema.kind(**values)


# ------------------------------------------------------------------ body hash


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """How a command's fields are read: all of them in order for encoding, all but its id for hashing."""

    schema: Schema
    names: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]
    head: bytes
    hashed: tuple[tuple[bytes, Any], ...]  # label and default
    body: Callable[[Any], tuple[Any, ...]]


def _values_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda command: ()
    if len(names) == 1:
        getter = attrgetter(names[0])
        return lambda command: (getter(command),)
    return attrgetter(*names)


def _shape(kind: type[Command | Control]) -> _Shape:
    versions = {schema.version: schema for schema in ALL.values() if schema.name.upper() == _NAME_OF[kind]}
    every = fields(kind)
    body = [field for field in every if field.name != "command_id"]
    return _Shape(
        schema=schema_of(_NAME_OF[kind].lower(), max(versions)),
        names=tuple(field.name for field in every),
        values=_values_of(tuple(field.name for field in every)),
        head=_NAME_OF[kind].encode(),
        hashed=tuple((b" %b " % field.name.encode(), field.default) for field in body),
        body=_values_of(tuple(field.name for field in body)),
    )


_SHAPES = {kind: _shape(kind) for kind in _NAME_OF}

_RAW: dict[type, Callable[[Any], bytes]] = {
    bytes: lambda value: value,
    str: str.encode,
    bool: lambda value: b"1" if value else b"0",
    int: b"%d".__mod__,
    type(None): lambda _: b"null",
    **{kind: str.encode for kind in _ENUMS.values()},
}


def body_hash(command: Command) -> bytes:
    """Return the hash by which a repeated id is told from a reused one.

    Hashed are the type and, in the order of the command's fields, each that is not its default: name, and value as a
    netstring (length, colon, bytes). Integers are decimal, texts UTF-8, enums their names, metadata canonical where it is
    valid. The id is left out, as are schema version, encoding and headers: the same wish in a later version of the schema
    is still the same wish.

    Returns:
        16 bytes of SHA-256.

    Source: rule I3.
    """
    shape = _SHAPES[type(command)]
    parts = [shape.head]
    for (label, default), value in zip(shape.hashed, shape.body(command), strict=True):
        if value != default:
            raw = _RAW[type(value)](value)
            if label == _METADATA:
                raw = canonical_metadata(raw) or raw
            parts.append(b"%b%d:%b" % (label, len(raw), raw))
    return hashlib.sha256(b"".join(parts)).digest()[:BODY_HASH_BYTES]


_METADATA = b" metadata "
assert all(
    default is MISSING or default is None or type(default) in _RAW for s in _SHAPES.values() for _, default in s.hashed
)
