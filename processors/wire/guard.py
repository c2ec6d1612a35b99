"""The one guard that every payload from outside passes, before anything in it is believed (DESIGN section 9)."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, TypeVar

from fastavro import schemaless_reader, schemaless_writer

from processors.faults import Undecodable
from processors.wire.causes import Cause, bounded
from processors.wire.schemas import PREFIX_BYTES, Schema

Format = TypeVar("Format", bound=Schema)


def decode(payload: bytes, known: Mapping[bytes, Format], *, bytes_max: int) -> tuple[Format, dict[str, Any]]:
    """Decode a payload in single-object encoding, and prove that it is the one encoding of what was decoded.

    fastavro trusts its input: an enum's index of -1 is the last symbol, a string of negative length is tried, bytes after
    the last field are ignored, an integer of 80 bits wraps. Encoding again shows all of these at the price of a second
    pass, and whatever fastavro raises is the payload's fault. Work and memory are bounded by ``bytes_max``, because no
    schema has a type of no bytes in an array (F1), and reading from memory allocates what is there, not what is declared.

    Args:
        payload: Any bytes.
        known: The schemas that may be met, by prefix.
        bytes_max: The longest payload to look at.

    Returns:
        The payload's schema and its fields by name.

    Raises:
        Undecodable: EMPTY, TOO_LARGE, UNKNOWN_SCHEMA, MALFORMED, TRAILING_BYTES or NOT_CANONICAL.
    """
    schema = known.get(payload[:PREFIX_BYTES])
    if schema is None or len(payload) > bytes_max:
        raise _no_format(payload, bytes_max)
    source = BytesIO(payload)
    source.seek(PREFIX_BYTES)
    again = BytesIO()
    again.write(schema.prefix)
    try:
        values: dict[str, Any] = schemaless_reader(source, schema.parsed, None)  # type: ignore[assignment]
        if source.tell() != len(payload):
            raise Undecodable(Cause.TRAILING_BYTES, f"{len(payload) - source.tell()} bytes after the last field")
        schemaless_writer(again, schema.parsed, values)
    except Undecodable:
        raise
    except Exception as error:  # IndexError, EOFError, UnicodeDecodeError, OverflowError and more: it does not say
        detail = bounded(f"{type(error).__name__} in {schema.name}.v{schema.version}: {error}")
        raise Undecodable(Cause.MALFORMED, detail) from error
    if again.getvalue() != payload:
        raise Undecodable(Cause.NOT_CANONICAL, f"{schema.name}.v{schema.version} would be encoded in other bytes")
    return schema, values


def _no_format(payload: bytes, bytes_max: int) -> Undecodable:
    if not payload:
        return Undecodable(Cause.EMPTY, "no payload")
    if len(payload) > bytes_max:
        return Undecodable(Cause.TOO_LARGE, f"{len(payload)} bytes, at most {bytes_max} are read")
    return Undecodable(Cause.UNKNOWN_SCHEMA, f"begins with {payload[:PREFIX_BYTES].hex()}")
