"""What the archive's keys need of a result, read without making values of its other fields.

The archive keeps a result's bytes literally, so most of its 40 fields are only stepped over: each run of integers and
symbols by a pattern, which accepts exactly the encodings that ``avro`` accepts. Whatever is not as a journal row's
result usually is (a repetition, a transfer's second address, damage) is left to the full decoder, which tells what it
is, or raises its fault. A property test holds the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from processors.faults import Undecodable
from processors.ledger.outcomes import Posting
from processors.wire.avro import UNLISTED, long_bytes, read_bytes, read_long, read_text, sized_bytes, text_bytes
from processors.wire.result_format import ID_BYTES, RESULT_BYTES_MAX, Result, decode_result
from processors.wire.result_symbols import SCHEMAS
from processors.wire.schemas import PREFIX_BYTES, Schema, symbols_of

_LANES_MAX = 4_096  # of all shards, whose first bytes are remembered: 1 MB
_TIMES_MAX = 4_096  # lane times that are remembered: many results have the same
_LONG_SIZE = 0x81  # a length that has one of these bits in its first byte is negative, or goes on in another byte
_NONE_OR_ONE = (0, 2)  # items of an array
_HEAD_BYTES = PREFIX_BYTES + ID_BYTES
_IDS_BYTES = 3 * ID_BYTES  # command, transaction, body hash

LaneKey = tuple[bytes, str, int]
"""The shard's incarnation, the shard, the lane."""


class Change(NamedTuple):
    """One change of an account (H5). Texts are UTF-8, ``entry`` is a ``schemas/avro/statement_entry``."""

    address: bytes
    currency: bytes
    sequence: int
    entry: bytes


class ResultKeys(NamedTuple):
    """What the archive's keys need of a result; where it is not ``journalled``, nothing of it is archived (A1).

    ``version`` is A2's, in its encoding still, since few are asked for: ``long_of`` reads it. ``root`` is UTF-8.
    """

    lane: LaneKey
    lane_offset: int
    lane_index: int
    lane_time_ms: int
    version: bytes
    root: bytes
    command_id: bytes
    transaction_id: bytes
    journalled: bool
    changes: tuple[Change, ...]


class _Odd(Exception):  # noqa: N818 - no fault: the full decoder says whether it is one
    """A result is not as a journal row's usually is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pattern:
    """How one version of the schema is stepped over: its runs of fields, in their order."""

    head: re.Pattern[bytes]  # lane to reason
    amount: re.Pattern[bytes]  # amount_minor, journalled
    posting: re.Pattern[bytes]  # contra to sequence
    effect: re.Pattern[bytes]  # levels to explanation, of which neither to_address nor explanation is there
    missing: re.Pattern[bytes]  # what follows refused_by's address
    end: re.Pattern[bytes]  # generation to ingress_leader_epoch
    types: Mapping[bytes, bytes]  # a symbol -> its name, as an entry has it
    contras: Mapping[bytes, bytes]
    has_refused_by: bool


def result_keys(payload: bytes) -> ResultKeys:
    """Return what the archive's keys need of a result. Work and memory are bounded by the payload's size.

    Raises:
        Undecodable: As ``decode_result`` raises it for the same bytes.
    """
    pattern = _PATTERNS.get(payload[:PREFIX_BYTES])
    if pattern is not None and len(payload) <= RESULT_BYTES_MAX:
        try:
            return _read(payload, pattern)
        except (_Odd, Undecodable, IndexError, UnicodeDecodeError):
            pass
    return keys_of(decode_result(payload))


def keys_of(result: Result) -> ResultKeys:
    """Return the same of a decoded result."""
    currency = result.currency.encode()
    return ResultKeys(
        (result.incarnation, result.shard, result.lane),
        result.lane_offset,
        result.lane_index,
        result.lane_time_ms,
        long_bytes(result.version_us),
        result.root.encode(),
        result.command_id,
        result.transaction_id,
        result.journalled,
        tuple(
            Change(posting.address.encode(), currency, posting.sequence, _entry_of(result, posting))
            for posting in result.postings
            if posting.balance_change or posting.held_change  # H5: only then its sequence is a new one
        ),
    )


def long_of(encoded: bytes) -> int:
    """Return what the bytes of one integer say, which were met as one before.

    >>> [long_of(bytes.fromhex(each)) for each in ("00", "01", "8001", "ffffffffffffffffff01")]
    [0, -1, 64, -9223372036854775808]
    """
    bits = 0
    for byte in reversed(encoded):
        bits = bits << 7 | byte & 0x7F
    return (bits >> 1) ^ -(bits & 1)


def _entry_of(result: Result, posting: Posting) -> bytes:
    numbers = (
        posting.balance_change,
        posting.held_change,
        posting.balance,
        posting.held,
        posting.overdraft_limit,
        posting.sequence,
        result.lane_time_ms,
    )
    return b"".join(
        (
            text_bytes(result.type),
            result.command_id,
            result.transaction_id,
            text_bytes(posting.contra),
            *map(long_bytes, numbers),
            sized_bytes(result.metadata),
        )
    )


# ------------------------------------------------------------------ reading


def _read(payload: bytes, pattern: _Pattern) -> ResultKeys:
    head = _met(pattern.head, payload, _after_sized(payload, _HEAD_BYTES))
    offset, index, time, version, type_ = head.groups()
    root_at = head.end()
    root_end = _after_text(payload, root_at)
    ids = payload[root_end : root_end + 2 * ID_BYTES]
    currency_at = _after_text(payload, root_end + _IDS_BYTES)  # behind the address
    currency_end = _after_text(payload, currency_at)
    at = _met(pattern.amount, payload, currency_end).end()
    journalled = payload[at - 1] == 1
    places, at = _changes(payload, at, pattern)
    metadata_at = _met(pattern.effect, payload, at).end()
    metadata_end = _after_sized(payload, metadata_at)
    _end(payload, _after_sized(payload, metadata_end), pattern)
    begin = pattern.types[type_] + ids
    after = time + payload[metadata_at:metadata_end]
    currency = _sized(payload, currency_at, currency_end)
    return ResultKeys(
        _lane_of(payload[PREFIX_BYTES : head.start(1)]),
        long_of(offset),
        0 if index == b"\x00" else long_of(index),
        _time_of(time),
        version,
        _sized(payload, root_at, root_end),
        ids[:ID_BYTES],
        ids[ID_BYTES:],
        journalled,
        tuple(
            [
                Change(address, currency, long_of(sequence), begin + contra + numbers + after)
                for address, sequence, contra, numbers in places
            ]
        ),
    )


def _changes(payload: bytes, at: int, pattern: _Pattern) -> tuple[list[tuple[bytes, bytes, bytes, bytes]], int]:
    """Return address, sequence, contra and numbers of postings that change something, and where they end."""
    count = payload[at]
    at += 1
    if count == 0:
        return [], at
    if count & _LONG_SIZE:
        raise _Odd
    places = []
    for _ in range(count >> 1):
        end = _after_text(payload, at)
        posting = _met(pattern.posting, payload, end)
        contra, numbers, balance_change, held_change, sequence = posting.groups()
        if balance_change != b"\x00" or held_change != b"\x00":
            places.append((_sized(payload, at, end), sequence, pattern.contras[contra], numbers))
        at = posting.end()
    if payload[at] != 0:
        raise _Odd
    return places, at + 1


def _end(payload: bytes, at: int, pattern: _Pattern) -> None:
    """Step over what follows ``control``; what has a duplicate_of has no journal row."""
    if payload[at] != 0:
        raise _Odd
    at += 1
    if pattern.has_refused_by:
        count = payload[at]
        at = at + 1 if count == 0 else _met(pattern.missing, payload, _after_text(payload, at + 1)).end()
        if count not in _NONE_OR_ONE:
            raise _Odd
    if pattern.end.fullmatch(payload, _after_text(payload, at)) is None:  # behind the placement key
        raise _Odd


def _met(pattern: re.Pattern[bytes], payload: bytes, at: int) -> re.Match[bytes]:
    met = pattern.match(payload, at)
    if met is None:
        raise _Odd
    return met


def _after_sized(payload: bytes, at: int) -> int:
    """Return the index behind a length and what it declares, which may lie behind the payload's end."""
    size = payload[at]
    if size & _LONG_SIZE:
        return read_bytes(payload, at)[1]
    return at + 1 + (size >> 1)


def _after_text(payload: bytes, at: int) -> int:
    size = payload[at]
    if size == 0:
        return at + 1
    end = _after_sized(payload, at)
    text = payload[at + 1 : end]
    if size & _LONG_SIZE:
        read_text(payload, at)
    elif not text.isascii():
        text.decode()
    return end


def _sized(payload: bytes, at: int, end: int) -> bytes:
    if payload[at] & _LONG_SIZE:
        return read_bytes(payload, at)[0]
    return payload[at + 1 : end]


_time_of = lru_cache(maxsize=_TIMES_MAX)(long_of)


@lru_cache(maxsize=_LANES_MAX)
def _lane_of(encoded: bytes) -> LaneKey:
    shard, at = read_text(encoded, ID_BYTES)
    return encoded[:ID_BYTES], shard, read_long(encoded, at)[0]


# ------------------------------------------------------------------ patterns


_LONG = rb"(?>[\x00-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f]|[\x80-\xff]{9}\x01)"  # of 64 bits, in as few bytes as it needs
_NOTHING = rb"\x00"  # an empty text, or an array's end
_BOOLEAN = rb"[\x00\x01]"
_ID_OR_NOTHING = rb"(?>\x00|\x20[\x00-\xff]{16})"  # related_id


def _pattern(schema: Schema) -> _Pattern:
    symbols = {name.rpartition(".")[2]: _names(found) for name, found in symbols_of(schema).items()}
    one_of = {name: b"[" + b"".join(map(re.escape, names)) + b"]" for name, names in symbols.items()}
    numbers = b"((%b)(%b)%b%b%b(%b))" % ((_LONG,) * 6)
    account = (one_of["ResultPolicy"], one_of["ResultAccountStatus"], _BOOLEAN, _NOTHING, one_of["ResultDirection"])
    verdict = b"(%b)%b%b" % tuple(one_of[name] for name in ("CommandType", "Status", "Reason"))
    return _Pattern(
        head=re.compile(b"%b(%b)(%b)(%b)(%b)%b" % ((_LONG,) * 6) + verdict),
        amount=re.compile(_LONG + _BOOLEAN),
        posting=re.compile(b"(%b)" % one_of["Contra"] + numbers),
        effect=re.compile(b"".join((_LONG, _ID_OR_NOTHING, _LONG, _LONG, *account, _NOTHING))),
        missing=re.compile(_LONG * 2 + _NOTHING),
        end=re.compile(_LONG * 5),
        types=symbols["CommandType"],
        contras=symbols["Contra"],
        has_refused_by="refused_by" in {field["name"] for field in schema.parsed["fields"]},
    )


def _names(symbols: list[str]) -> dict[bytes, bytes]:
    """Return what each symbol is written as, and its name as an entry has it; enums have fewer than 64 symbols."""
    return {long_bytes(index): text_bytes(name) for index, name in enumerate(symbols) if name != UNLISTED}


_PATTERNS = {schema.prefix: _pattern(schema) for schema in SCHEMAS.values()}
assert all(len(symbol) == 1 for pattern in _PATTERNS.values() for symbol in pattern.types)
