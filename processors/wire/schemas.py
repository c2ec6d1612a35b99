"""The Avro schemas of ``schemas/avro``: parsed once, named by fingerprint, and proven safe to decode from outside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from processors.shipped import SCHEMAS
from processors.wire.exact import Writer, writer_of

FOLDER = SCHEMAS / "avro"
MARKER = b"\xc3\x01"  # Avro specification, single-object encoding
PREFIX_BYTES = len(MARKER) + 8  # and the fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """One version of one type.

    ``name`` is the file's (``pay`` for ``pay.v1.avsc``). ``prefix`` is what a payload of it begins with: the marker and
    CRC-64-AVRO of the Parsing Canonical Form, little endian. ``parsed`` is fastavro's own form of ``text``. ``write``
    encodes a dict of values, and refuses those that are not exactly of its types. ``since_release`` is the release that
    first knew it, the file's attribute of that name, 1 where it has none: a lane whose rules are of an earlier one does
    not know it either (I6).
    """

    name: str
    version: int
    text: str
    parsed: Any
    prefix: bytes
    write: Writer
    since_release: int

    @property
    def fingerprint(self) -> str:
        """Return the prefix without its marker: 16 hexadecimal digits."""
        return self.prefix[len(MARKER) :].hex()


class UnsafeSchema(ValueError):  # noqa: N818 - named as what it says
    """A schema whose payloads could cost more than their size, or that valid encoders may write in several ways."""


def refuse_unsafe(definition: Any) -> None:
    """Refuse a command schema that the guard could not bound.

    Fields are of primitive types, enums, fixed of at least one byte, or a union of null and one of these. So each
    byte of a payload is read once, nothing is decoded from no bytes, and every valid encoder writes the same bytes.

    Args:
        definition: A record schema as JSON reads it. It may have no fields at all: its payloads are then empty.

    Raises:
        UnsafeSchema: It has an array, map, nested record, wider union, null or float, and where.

    Source: rule F1.
    """
    names: set[str] = set()
    for field in definition["fields"]:
        _refuse_unsafe_type(field["type"], f"{definition['name']}.{field['name']}", names)


_SAFE_PRIMITIVES = {"boolean", "long", "bytes", "string"}


def _refuse_unsafe_type(kind: Any, place: str, names: set[str]) -> None:
    match kind:
        case ["null", other]:
            if other == "null":
                raise UnsafeSchema(f"{place}: null beside null")
            _refuse_unsafe_type(other, place, names)
        case {"type": "fixed", "name": str(name), "size": int(size)} if size > 0 and "logicalType" not in kind:
            names.add(name)
        case {"type": "enum", "name": str(name), "symbols": [_, *_]}:
            names.add(name)
        case str(name) if name in _SAFE_PRIMITIVES or name in names:
            pass
        case _:
            raise UnsafeSchema(f"{place}: {json.dumps(kind)} may not be in a command (F1)")


def name_of(parsed: Any) -> str:
    """Return a record's name for people, without its namespace."""
    return str(parsed["name"].rpartition(".")[2])


def parse(name: str, version: int, text: str) -> Schema:
    """Parse one schema's text; its fingerprint is over the Parsing Canonical Form, so that docs may be mended."""
    definition = json.loads(text)
    canonical = to_parsing_canonical_form(definition)
    digest = bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
    parsed = fastavro.parse_schema(definition)
    return Schema(
        name=name,
        version=version,
        text=text,
        parsed=parsed,
        prefix=MARKER + digest,
        write=writer_of(parsed, {}, name_of(parsed)),
        since_release=definition.get("since_release", 1),
    )


def _load() -> dict[tuple[str, int], Schema]:
    found = {}
    for path in sorted(FOLDER.glob("*.avsc")):
        name, version = path.stem.rsplit(".v", 1)
        found[name, int(version)] = parse(name, int(version), path.read_text(encoding="utf-8"))
    return found


ALL = MappingProxyType(_load())
"""Every schema by (name, version)."""


def schema_of(name: str, version: int = 1) -> Schema:
    """Return one schema.

    >>> schema_of("pay").prefix.hex()[:4]
    'c301'
    """
    return ALL[name, version]


def symbols_of(schema: Schema) -> dict[str, list[str]]:
    """Return the symbols of every enum that a schema defines, by full name."""
    found: dict[str, list[str]] = {}
    waiting = [schema.parsed]
    while waiting:
        match waiting.pop():
            case {"type": "enum", "name": name, "symbols": symbols}:
                found[name] = symbols
            case {"fields": parts}:
                waiting.extend(part["type"] for part in parts)
            case {"items": items}:
                waiting.append(items)
            case [*branches]:
                waiting.extend(branches)
            case _:
                pass
    return found


def encode(schema: Schema, values: dict[str, Any]) -> bytes:
    """Encode values by a schema, in single-object encoding.

    Args:
        schema: The writer's.
        values: A value for each field, by name.

    Raises:
        ValueError: A value is not exactly of its field's type, and which (``exact.writer_of``).
    """
    return schema.prefix + schema.write(values)
