"""Where the fields of a result lie in its bytes, found without making values of all of them.

A repetition has the first result's bytes at another place, and a later command asks a first result for a few fields
only. Decoding every field for that, and encoding them anew, made a repetition cost twice what a new payment does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from processors.faults import Undecodable
from processors.wire.avro import Reader, read_long
from processors.wire.causes import Cause
from processors.wire.schemas import PREFIX_BYTES

_MORE = 0x80  # this bit of an integer's byte says that it goes on
_LONG = 0  # the step over an integer, or over an enum's index
_SIZED = -1  # over a text or bytes: their length, then themselves
_BOOLEAN = 1  # a positive step is that many bytes

Step = int | tuple["Step", ...]
"""How to get from a field to the next; a tuple is an array's, one step for each field of its items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkimPlan:
    """How one version of the schema is stepped over. ``places`` and ``readers`` are by field name."""

    steps: tuple[Step, ...]
    places: Mapping[str, int]
    readers: Mapping[str, Reader]


def plan_of(fields: Sequence[Mapping[str, Any]], readers: Mapping[str, Reader]) -> SkimPlan:
    """Return the plan of a record.

    Args:
        fields: As fastavro parses them: integers, enums, booleans, fixed, texts, bytes, and arrays of records of these.
        readers: By field name: what reads a field that ``Skimmed.value`` is asked for.

    Raises:
        ValueError: A field has another type.
    """
    return SkimPlan(
        steps=tuple(_step(field["type"]) for field in fields),
        places={field["name"]: place for place, field in enumerate(fields)},
        readers=readers,
    )


def _step(kind: Any) -> Step:
    match kind:
        case "long" | {"type": "long" | "enum"}:
            return _LONG
        case "string" | "bytes" | {"type": "string" | "bytes"}:
            return _SIZED
        case "boolean" | {"type": "boolean"}:
            return _BOOLEAN
        case {"type": "fixed", "size": int(size)}:
            return size
        case {"type": "array", "items": {"type": "record", "fields": fields}}:
            return tuple(_step(field["type"]) for field in fields)
        case _:
            raise ValueError(f"no step over {kind}")


class Skimmed:
    """A result's bytes, and where each of its fields begins."""

    __slots__ = ("_plan", "_starts", "payload")

    def __init__(self, payload: bytes, plan: SkimPlan) -> None:
        """Step over every field once.

        Raises:
            Undecodable: MALFORMED, or TRAILING_BYTES: the bytes are no such record.
        """
        self.payload = payload
        self._plan = plan
        self._starts: list[int] = []
        try:
            end = _walk(payload, PREFIX_BYTES, plan.steps, self._starts)
        except IndexError:
            raise Undecodable(Cause.MALFORMED, f"a result's {len(payload)} bytes end within a field") from None
        if end != len(payload):
            raise Undecodable(Cause.TRAILING_BYTES, f"a result has {len(payload)} bytes, its fields end at {end}")

    def value(self, name: str) -> Any:
        """Return a field's value; only for fields that the plan has a reader for."""
        return self._plan.readers[name](self.payload, self.start(name))[0]

    def start(self, name: str) -> int:
        """Return the index of a field's first byte."""
        return self._starts[self._plan.places[name]]

    def between(self, first: str, beyond: str) -> bytes:
        """Return the bytes from one field's beginning to another's."""
        return self.payload[self.start(first) : self.start(beyond)]

    def has(self, name: str) -> bool:
        """Say whether the version of the schema that the bytes are of has a field."""
        return name in self._plan.places


def _walk(payload: bytes, at: int, steps: tuple[Step, ...], starts: list[int]) -> int:
    for step in steps:
        starts.append(at)
        if step == _LONG:
            while payload[at] >= _MORE:
                at += 1
            at += 1
        elif step == _SIZED:
            at = _after_sized(payload, at)
        elif isinstance(step, int):
            at += step
        else:
            at = _after_array(payload, at, step)
    return at


def _after_sized(payload: bytes, at: int) -> int:
    size, at = read_long(payload, at)
    if size < 0:
        raise Undecodable(Cause.MALFORMED, f"a length of {size} before byte {at} of a result")
    return at + size


def _after_array(payload: bytes, at: int, steps: tuple[Step, ...]) -> int:
    """Step over an array's one block, as ``avro.array_reader`` reads it."""
    count, at = read_long(payload, at)
    if not 0 <= count <= len(payload) - at:
        raise Undecodable(Cause.MALFORMED, f"{count} items before byte {at} of a result of {len(payload)} bytes")
    if count == 0:
        return at
    for _ in range(count):
        at = _walk(payload, at, steps, [])
    if payload[at] != 0:
        raise Undecodable(Cause.NOT_CANONICAL, f"an array in several blocks at byte {at} of a result")
    return at + 1
