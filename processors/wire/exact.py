"""Values held against their schema by exact type before they are written: fastavro cuts 12.50 to 12, and True to 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from processors.wire.avro import UNLISTED

Check = Callable[[str, Any], None]
"""Refuses a value, named for people, with ValueError where it is not what its schema says."""

_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1
_SHOWN_CHARACTERS_MAX = 60
_DECIMAL_BITS_MAX = 128
_LONGS_BY_NAME = (
    (("_minor", "_limit"), "write an int, in minor units of the currency: 1250 is 12.50 USD"),
    (("_ms",), "write an int, in milliseconds: 900000 is a quarter of an hour"),
    (("",), "write an int"),
)
_BYTES_BY_NAME = (
    (("metadata",), "write the bytes of a JSON object, or a dict"),
    (("",), "write bytes"),
)


def check_of(kind: Any, enums: Mapping[str, Mapping[str, Any]]) -> Check:
    """Return what refuses every value that is not exactly of a schema's type.

    An int is no bool here, a text no enum's member, a subclass not its base; so nothing is turned into something else
    on its way. A ValueError names the field, its value and type, and what to write instead.

    Args:
        kind: A schema as fastavro parses it, without maps, floats and references to earlier names.
        enums: By full name of an enum: its symbols' members. One that is not here takes texts, members of any StrEnum
            among them, that are its symbols.

    Raises:
        KeyError: A type that is not known here.
    """
    match kind:
        case [*branches]:
            return _union(branches, enums)
        case {"type": "record", "fields": fields}:
            return _record({field["name"]: check_of(field["type"], enums) for field in fields})
        case {"type": "array", "items": items}:
            return _array(check_of(items, enums))
        case {"type": "enum", "name": name, "symbols": symbols}:
            return _enum(enums[name]) if name in enums else _symbol(symbols)
        case {"type": "fixed", "size": size}:
            return _fixed(size)
        case {"type": name}:
            return _PRIMITIVES[name]
        case name:
            return _PRIMITIVES[name]


def _refused(name: str, value: Any, write: str) -> ValueError:
    # An int of thousands of digits has no repr (sys.int_info).
    shown = hex(value) if type(value) is int and value.bit_length() > _DECIMAL_BITS_MAX else repr(value)
    if len(shown) > _SHOWN_CHARACTERS_MAX:
        shown = shown[:_SHOWN_CHARACTERS_MAX] + "..."
    article = "an" if type(value).__name__[:1] in "aeiou" else "a"
    return ValueError(f"{name} is {shown}, {article} {type(value).__name__}: {write}")


def _wish(name: str, wishes: tuple[tuple[tuple[str, ...], str], ...]) -> str:
    return next(wish for endings, wish in wishes if name.endswith(endings))


def _long(name: str, value: Any) -> None:
    if type(value) is not int:
        raise _refused(name, value, _wish(name, _LONGS_BY_NAME))
    if not _LONG_MIN <= value <= _LONG_MAX:
        raise _refused(name, value, "more than 64 bits; write one from -2**63 to 2**63 - 1")


def _bytes(name: str, value: Any) -> None:
    if type(value) is not bytes:
        raise _refused(name, value, _wish(name, _BYTES_BY_NAME))


def _text(name: str, value: Any) -> None:
    if type(value) is not str:
        raise _refused(name, value, "write a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(name, value, "UTF-8 cannot write half of a surrogate pair; write whole characters") from None


def _boolean(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise _refused(name, value, "write True or False")


def _null(name: str, value: Any) -> None:
    if value is not None:
        raise _refused(name, value, "write None")


_PRIMITIVES: Mapping[str, Check] = {
    "null": _null,
    "boolean": _boolean,
    "long": _long,
    "bytes": _bytes,
    "string": _text,
}


def _fixed(size: int) -> Check:
    def check(name: str, value: Any) -> None:
        if type(getattr(value, "bytes", None)) is bytes:  # a UUID; what this layer imports draws nothing
            raise _refused(name, value, f"write its {size} bytes, which are its .bytes")
        if type(value) is not bytes or len(value) != size:
            raise _refused(name, value, f"write {size} bytes, as new_id() makes them and results have them")

    return check


def _enum(members: Mapping[str, Any]) -> Check:
    kind = type(next(iter(members.values())))
    wish = "write " + " or ".join(f"{kind.__name__}.{name}" for name in members)

    def check(name: str, value: Any) -> None:
        if type(value) is not kind:
            raise _refused(name, value, wish)

    return check


def _symbol(symbols: list[str]) -> Check:
    allowed = frozenset(symbols) - {UNLISTED}

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise _refused(name, value, f"write one of {', '.join(sorted(allowed))}")

    return check


def _union(branches: list[Any], enums: Mapping[str, Mapping[str, Any]]) -> Check:
    """Return the check of a union of null and one other type: commands have no wider ones (F1)."""
    (other,) = (branch for branch in branches if branch != "null")
    check_other = check_of(other, enums)

    def check(name: str, value: Any) -> None:
        if value is not None:
            check_other(name, value)

    return check


def _array(check_item: Check) -> Check:
    def check(name: str, value: Any) -> None:
        if type(value) not in (list, tuple):
            raise _refused(name, value, "write a list")
        for item in value:
            check_item(name, item)

    return check


def _record(checks: Mapping[str, Check]) -> Check:
    def check(name: str, value: Any) -> None:
        if type(value) is not dict or value.keys() != checks.keys():
            raise _refused(name, value, f"write a dict of {', '.join(checks)}")
        for part, check_part in checks.items():
            check_part(f"{name}.{part}", value[part])

    return check
