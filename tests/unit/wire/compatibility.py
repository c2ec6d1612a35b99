"""Whether readers with one schema understand what was written with another: a small checker of the rules of Avro.

FULL_TRANSITIVE: every version reads every other. Unlike resolution at run time, a value may not be lost or replaced
without notice, so promotions and aliases count as incompatible.

Source: Avro specification, schema resolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations
from typing import Any

_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}


def full_transitive(versions: Iterable[Any]) -> list[str]:
    """Return what is incompatible between any two versions of a schema; nothing if all read each other."""
    found: list[str] = []
    for writer, reader in permutations(versions, 2):
        found += misread(writer, reader, reader["name"], {}, {})
    return found


def misread(writer: Any, reader: Any, place: str, written: dict[str, Any], read: dict[str, Any]) -> Iterator[str]:
    """Yield what a reader cannot understand; ``written`` and ``read`` are the named types met on either side."""
    writer, reader = _resolved(writer, written), _resolved(reader, read)
    if isinstance(writer, list) or isinstance(reader, list):
        yield from _misread_union(writer, reader, place, written, read)
    elif writer["type"] != reader["type"] or writer.get("name") != reader.get("name"):
        yield f"{place}: {_label(writer)} is not {_label(reader)}"
    elif writer["type"] == "record":
        yield from _misread_fields(writer, reader, place, written, read)
    elif writer["type"] == "enum":
        lost = set(writer["symbols"]) - set(reader["symbols"])
        if lost and "default" not in reader:
            yield f"{place}: no symbol {', '.join(sorted(lost))} and no default"
    elif writer["type"] == "fixed" and writer["size"] != reader["size"]:
        yield f"{place}: {writer['size']} bytes are not {reader['size']}"
    elif writer["type"] == "array":
        yield from misread(writer["items"], reader["items"], f"{place}[]", written, read)


def _misread_fields(
    writer: Any, reader: Any, place: str, written: dict[str, Any], read: dict[str, Any]
) -> Iterator[str]:
    there = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        other = there.get(field["name"])
        if other is not None:
            yield from misread(other["type"], field["type"], f"{place}.{field['name']}", written, read)
        elif "default" not in field:
            yield f"{place}.{field['name']}: not written, and no default"


def _misread_union(
    writer: Any, reader: Any, place: str, written: dict[str, Any], read: dict[str, Any]
) -> Iterator[str]:
    branches = reader if isinstance(reader, list) else [reader]
    for branch in writer if isinstance(writer, list) else [writer]:
        if not any(not list(misread(branch, other, place, dict(written), dict(read))) for other in branches):
            yield f"{place}: {_label(branch)} is in no branch of {[_label(other) for other in branches]}"


def _resolved(kind: Any, named: dict[str, Any]) -> Any:
    if isinstance(kind, list):
        return kind
    if isinstance(kind, str):
        return {"type": kind} if kind in _PRIMITIVES else named[kind]
    if "name" in kind:
        named[kind["name"]] = kind
    return kind


def _label(kind: Any) -> str:
    return str(kind if isinstance(kind, str) else kind.get("name", kind["type"]))
