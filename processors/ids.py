"""Command ids that carry their own time (UUIDv7), ids derived from them (UUIDv8), and the journal's time slices."""

from __future__ import annotations

import hashlib

COMMAND_ID_BYTES = 16
# One hour: the window (6 h) and twice the future limit (a day) then need 54 partitions, far below MySQL's limit of
# 8,192 and A7's of 1,000. Fixed for the life of a shard (I6): the slice is part of the journal's unique key.
SLICE_MS = 3_600_000
SLICES_MAX = 1_000  # that a journal may have at once (A7)
_TIME_MS_MAX = (1 << 48) - 1
_RANDOM_BYTES = 10
_VERSION_7 = 7  # the upper half of byte 6
_VERSION_8 = 8
_VARIANT = 0b10  # the upper two bits of byte 8


def make_command_id(time_ms: int, random_bytes: bytes) -> bytes:
    """Build a UUIDv7 from a time and ten random bytes.

    Args:
        time_ms: Milliseconds since the epoch, UTC, 0 to 2**48 - 1.
        random_bytes: Ten bytes; six of their bits are replaced by version and variant.

    Returns:
        16 bytes.

    Raises:
        ValueError: ``time_ms`` does not fit 48 bits, or there are not ten bytes.

    Source: RFC 9562 section 5.7.

    >>> make_command_id(1_700_000_000_000, bytes(10)).hex()
    '018bcfe5680070008000000000000000'
    """
    if not 0 <= time_ms <= _TIME_MS_MAX or len(random_bytes) != _RANDOM_BYTES:
        raise ValueError(f"a UUIDv7 takes a time of 48 bits and 10 random bytes, not {time_ms} and {len(random_bytes)}")
    tail = bytearray(random_bytes)
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    return time_ms.to_bytes(6, "big") + bytes(tail)


def uuid7_time_ms(command_id: bytes) -> int | None:
    """Return the time that a UUIDv7 carries, in ms since the epoch, or None where the bytes are no UUIDv7.

    Source: RFC 9562 section 5.7; rule I5.

    >>> uuid7_time_ms(make_command_id(1_700_000_000_000, bytes(10)))
    1700000000000
    >>> uuid7_time_ms(bytes(16)) is None
    True
    """
    if len(command_id) != COMMAND_ID_BYTES or command_id[6] >> 4 != _VERSION_7 or command_id[8] >> 6 != _VARIANT:
        return None
    return int.from_bytes(command_id[:6], "big")


def id_time_ms(command_id: bytes) -> int | None:
    """Return the time that an id carries, ms since the epoch: a UUIDv7, or a transfer's credit, which is a UUIDv8 (T5).

    Of any other UUIDv8 it is a number without a meaning, and no row has it; None where the bytes are neither.
    """
    if command_id[6:7] and command_id[6] >> 4 == _VERSION_8 and command_id[8] >> 6 == _VARIANT:
        return int.from_bytes(command_id[:6], "big")
    return uuid7_time_ms(command_id)


def lowest_id(time_ms: int) -> bytes:
    """Return a lower bound of the ids with a time, ms since the epoch: any of them is at or above it (RFC 9562).

    >>> lowest_id(2) < make_command_id(2, bytes(10)) < lowest_id(3)
    True
    """
    return time_ms.to_bytes(6, "big") + bytes(10)


def derived_id(type_name: str, transaction_id: bytes) -> bytes:
    """Return the id of what the service itself sends about a transaction: the same on every repeat (I7).

    Returns:
        16 bytes of SHA-256 over type and transaction id, marked as UUIDv8.
    """
    digest = bytearray(hashlib.sha256(type_name.encode() + b"\x00" + transaction_id).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def slice_of(time_ms: int) -> int:
    """Return the journal slice a time lies in: whole hours since the epoch."""
    return time_ms // SLICE_MS


def slice_of_id(command_id: bytes) -> int:
    """Return the journal slice of an id with a time: the caller knows that it is a UUIDv7, or a transfer's credit (T5).

    >>> slice_of_id(make_command_id(2 * SLICE_MS, bytes(10)))
    2
    """
    return int.from_bytes(command_id[:6], "big") // SLICE_MS


def root_of(address: str) -> str:
    """Return an address's first segment: the key of its records on Kafka.

    >>> root_of("acme:vn:shop-17")
    'acme'
    """
    return address.partition(":")[0]


def id_text(command_id: bytes) -> str:
    """Return an id in the usual hyphenated form, for people.

    >>> id_text(bytes(16))
    '00000000-0000-0000-0000-000000000000'
    """
    text = command_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
