"""Dead letters: what became of a record that is no command, with its beginning for whoever looks into it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from processors.wire import guard
from processors.wire.causes import bounded
from processors.wire.records import Record
from processors.wire.route import Route
from processors.wire.schemas import encode, schema_of

__all__ = ["DeadLetter", "decode_dead_letter", "encode_dead_letter"]

KEY_BYTES_MAX = 256
PAYLOAD_BYTES_MAX = 1_024  # W4
# The two above, the detail in UTF-8, a topic's name of 249 characters, and numbers, with room.
_LETTER_BYTES_MAX = 8_192
_SCHEMA = schema_of("dead_letter")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A dead letter. Sizes in bytes, of what the record had before cutting; -1 where it had none.

    The ingress position is -1 where it is unknown. ``timestamp_ms`` is the record's, ms since the epoch.
    """

    cause: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    ingress_epoch: int
    ingress_partition: int
    ingress_offset: int
    key: bytes
    key_size: int
    payload: bytes
    payload_size: int
    payload_sha256: bytes


def encode_dead_letter(
    record: Record, cause: str, detail: str, *, route: Route | None = None, ingress_epoch: int = -1
) -> bytes:
    """Return a record's dead letter: the same bytes whenever the same record is refused for the same cause.

    Args:
        record: The record as it was read; its payload is cut to 1 KiB, its key to 256 bytes.
        cause: One of ``Cause``.
        detail: For people; cut to 512 characters.
        route: Where it came from, if that could be read.
        ingress_epoch: Where the record is one of the ingress itself, which life of it; it then is its own source.
    """
    source = (-1, -1, -1)
    if route is not None:
        source = (route.ingress_epoch, route.ingress_partition, route.ingress_offset)
    elif ingress_epoch >= 0:
        source = (ingress_epoch, record.partition, record.offset)
    payload = record.value or b""
    key = record.key or b""
    return encode(
        _SCHEMA,
        {
            "cause": str(cause),
            "detail": bounded(detail),
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "ingress_epoch": source[0],
            "ingress_partition": source[1],
            "ingress_offset": source[2],
            "key": key[:KEY_BYTES_MAX],
            "key_size": -1 if record.key is None else len(key),
            "payload": payload[:PAYLOAD_BYTES_MAX],
            "payload_size": -1 if record.value is None else len(payload),
            "payload_sha256": hashlib.sha256(payload).digest(),
        },
    )


def decode_dead_letter(payload: bytes) -> DeadLetter:
    """Decode a dead letter.

    Raises:
        Undecodable: It is none; see ``guard.decode``.
    """
    letter: DeadLetter = guard.decode(payload, _KNOWN, bytes_max=_LETTER_BYTES_MAX)
    return letter


_KNOWN = {_SCHEMA.prefix: guard.format_of(_SCHEMA, DeadLetter)}
