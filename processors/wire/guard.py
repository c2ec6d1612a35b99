"""The one guard that every payload from outside passes, before anything in it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from sys import intern
from typing import Any

from processors.faults import Undecodable
from processors.wire.avro import Reader, reader_of
from processors.wire.causes import Cause
from processors.wire.schemas import PREFIX_BYTES, Schema

Enums = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A schema, and what reads its payloads into a value."""

    schema: Schema
    read: Reader


def format_of(schema: Schema, kind: type, enums: Enums | None = None) -> Format:
    """Return the format that builds a dataclass, field by field, of what a schema describes.

    Args:
        schema: Its fields are named as the dataclass's. An older version may lack some that have a default.
        kind: The dataclass.
        enums: By full name of an enum: what its symbols stand for.

    Raises:
        ValueError: The schema has a field that the dataclass has not, or lacks one that must be given.
    """
    names = [intern(field["name"]) for field in schema.parsed["fields"]]
    known = [field.name for field in fields(kind)]
    must = {field.name for field in fields(kind) if field.default is MISSING}
    if not must <= set(names) <= set(known):
        raise ValueError(f"{schema.name}.v{schema.version} does not fit {kind.__name__}: it has {names}")

    def build(values: list[Any]) -> Any:
        return kind(**dict(zip(names, values, strict=True)))

    def build_in_order(values: list[Any]) -> Any:  # commands, one each on the hot path: 1 us less
        return kind(*values)

    in_order = names == known[: len(names)] and not any(field.kw_only for field in fields(kind))
    read = reader_of(schema.parsed, {schema.parsed["name"]: build_in_order if in_order else build}, enums or {})
    return Format(schema=schema, read=read)


def decode(payload: bytes, known: Mapping[bytes, Format], *, bytes_max: int) -> Any:
    """Decode a payload in single-object encoding, and prove that it is the one encoding of what was decoded.

    Work and memory are bounded by the payload's size: each byte is read once, and what is declared is held against
    what is there before anything is made of it.

    Args:
        payload: Any bytes.
        known: The formats that may be met, by prefix.
        bytes_max: The longest payload to look at.

    Raises:
        Undecodable: EMPTY, TOO_LARGE, UNKNOWN_SCHEMA, MALFORMED, TRAILING_BYTES or NOT_CANONICAL.
    """
    known_format = known.get(payload[:PREFIX_BYTES])
    if known_format is None or len(payload) > bytes_max:
        raise _no_format(payload, bytes_max)
    try:
        value, end = known_format.read(payload, PREFIX_BYTES)
    except IndexError:
        schema = known_format.schema
        raise Undecodable(Cause.MALFORMED, f"{len(payload)} bytes end within {schema.name}.v{schema.version}") from None
    if end != len(payload):
        raise Undecodable(Cause.TRAILING_BYTES, f"{len(payload) - end} bytes after the last field")
    return value


def _no_format(payload: bytes, bytes_max: int) -> Undecodable:
    if not payload:
        return Undecodable(Cause.EMPTY, "no payload")
    if len(payload) > bytes_max:
        return Undecodable(Cause.TOO_LARGE, f"{len(payload)} bytes, at most {bytes_max} are read")
    return Undecodable(Cause.UNKNOWN_SCHEMA, f"begins with {payload[:PREFIX_BYTES].hex()}")
