"""Values written by their schema, each of its exact type: fastavro would cut 12.50 to 12, and True to 1.

By hand: fastavro beside a check takes twice as long, and ten times as much code, which is what a program that sends now
and then pays for. A property test holds the two to the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from processors.wire.avro import UNLISTED, long_bytes, sized_bytes, text_bytes

Writer = Callable[[Any], bytes]
"""Encodes a value; refuses it with ValueError, named for people, where it is not what its schema says."""

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


def writer_of(kind: Any, enums: Mapping[str, Mapping[str, Any]], name: str) -> Writer:
    """Return what encodes values of a schema's type, and refuses every value that is not exactly of it.

    An int is no bool here, a text no enum's member, a subclass not its base; so nothing is turned into something else
    on its way. A ValueError names the field, its value and type, and what to write instead.

    Args:
        kind: A schema as fastavro parses it, without maps, floats and references to earlier names.
        enums: By full name of an enum: its symbols' members. One that is not here takes texts, members of any StrEnum
            among them, that are its symbols.
        name: Of the value, for people: ``Pay.amount_minor``.

    Raises:
        KeyError: A type that is not known here.
    """
    match kind:
        case [*branches]:
            return _union(branches, enums, name)
        case {"type": "record", "fields": fields}:
            return _record(
                {field["name"]: writer_of(field["type"], enums, f"{name}.{field['name']}") for field in fields}, name
            )
        case {"type": "array", "items": items}:
            return _array(items, writer_of(items, enums, name), name)
        case {"type": "enum", "name": enum, "symbols": symbols}:
            return _enum(symbols, enums[enum], name) if enum in enums else _symbol(symbols, name)
        case {"type": "fixed", "size": size}:
            return _fixed(size, name)
        case {"type": primitive}:
            return _PRIMITIVES[primitive](name)
        case primitive:
            return _PRIMITIVES[primitive](name)


def _refused(name: str, value: Any, write: str) -> ValueError:
    # An int of thousands of digits has no repr (sys.int_info).
    shown = hex(value) if type(value) is int and value.bit_length() > _DECIMAL_BITS_MAX else repr(value)
    if len(shown) > _SHOWN_CHARACTERS_MAX:
        shown = shown[:_SHOWN_CHARACTERS_MAX] + "..."
    article = "an" if type(value).__name__[:1] in "aeiou" else "a"
    return ValueError(f"{name} is {shown}, {article} {type(value).__name__}: {write}")


def _advice(name: str, advices: tuple[tuple[tuple[str, ...], str], ...]) -> str:
    return next(advice for endings, advice in advices if name.endswith(endings))


def _long(name: str) -> Writer:
    advice = _advice(name, _LONGS_BY_NAME)

    def write(value: Any) -> bytes:
        if type(value) is not int:
            raise _refused(name, value, advice)
        try:
            return long_bytes(value)
        except OverflowError:
            raise _refused(name, value, "more than 64 bits; write one from -2**63 to 2**63 - 1") from None

    return write


def _bytes(name: str) -> Writer:
    advice = _advice(name, _BYTES_BY_NAME)

    def write(value: Any) -> bytes:
        if type(value) is not bytes:
            raise _refused(name, value, advice)
        return sized_bytes(value)

    return write


def _text(name: str) -> Writer:
    def write(value: Any) -> bytes:
        if type(value) is not str:
            raise _refused(name, value, "write a str")
        try:
            return text_bytes(value)
        except UnicodeEncodeError:
            advice = "UTF-8 cannot write half of a surrogate pair; write whole characters"
            raise _refused(name, value, advice) from None

    return write


def _boolean(name: str) -> Writer:
    def write(value: Any) -> bytes:
        if type(value) is not bool:
            raise _refused(name, value, "write True or False")
        return b"\x01" if value else b"\x00"

    return write


_PRIMITIVES: Mapping[str, Callable[[str], Writer]] = {
    "boolean": _boolean,
    "long": _long,
    "bytes": _bytes,
    "string": _text,
}


_IN_BULK: Mapping[str, tuple[type, Writer]] = {"long": (int, long_bytes), "bytes": (bytes, sized_bytes)}


def _fixed(size: int, name: str) -> Writer:
    def write(value: Any) -> bytes:
        if type(value) is bytes and len(value) == size:
            return value
        if type(getattr(value, "bytes", None)) is bytes:  # a UUID; what this layer imports draws nothing
            raise _refused(name, value, f"write its {size} bytes, which are its .bytes")
        raise _refused(name, value, f"write {size} bytes, as new_id() makes them and results have them")

    return write


def _enum(symbols: list[str], members: Mapping[str, Any], name: str) -> Writer:
    kind = type(next(iter(members.values())))
    advice = "write " + " or ".join(f"{kind.__name__}.{symbol}" for symbol in members)
    written = {members[symbol]: long_bytes(index) for index, symbol in enumerate(symbols)}

    def write(value: Any) -> bytes:
        if type(value) is not kind or value not in written:
            raise _refused(name, value, advice)
        return written[value]

    return write


def _symbol(symbols: list[str], name: str) -> Writer:
    written = {symbol: long_bytes(index) for index, symbol in enumerate(symbols) if symbol != UNLISTED}

    def write(value: Any) -> bytes:
        if not isinstance(value, str) or value not in written:
            raise _refused(name, value, f"write one of {', '.join(sorted(written))}")
        return written[value]

    return write


def _union(branches: list[Any], enums: Mapping[str, Mapping[str, Any]], name: str) -> Writer:
    """Return the writer of a union of null and one other type: commands have no wider ones (F1)."""
    ((at, other),) = ((at, branch) for at, branch in enumerate(branches) if branch != "null")
    null, mark, write_other = long_bytes(1 - at), long_bytes(at), writer_of(other, enums, name)

    def write(value: Any) -> bytes:
        return null if value is None else mark + write_other(value)

    return write


def _array(items: Any, write_item: Writer, name: str) -> Writer:
    """Return the writer of an array in one block; of nothing but integers, or bytes, in a third of the time."""
    exact, write_exact = _IN_BULK.get(items if isinstance(items, str) else "", (None, write_item))

    def write(value: Any) -> bytes:
        if type(value) not in (list, tuple):
            raise _refused(name, value, "write a list")
        size, end = long_bytes(len(value)), long_bytes(0)
        if {*map(type, value)} == {exact}:
            with contextlib.suppress(OverflowError):  # which is told of below, with the item
                return b"".join([size, *map(write_exact, value), end])
        return b"".join([size, *map(write_item, value), end]) if value else end

    return write


def _record(writers: Mapping[str, Writer], name: str) -> Writer:
    def write(value: Any) -> bytes:
        if type(value) is not dict or value.keys() != writers.keys():
            raise _refused(name, value, f"write a dict of {', '.join(writers)}")
        return b"".join([write_part(value[part]) for part, write_part in writers.items()])

    return write
