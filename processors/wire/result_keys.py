"""What the archive's keys need of a result, read without making values of its other fields.

The archive keeps a result's bytes literally, so most of its 40 fields are only stepped over: each run of integers and
symbols by a pattern, which accepts exactly the encodings that ``avro`` accepts. Whatever is not as a journal row's
result usually is (a repetition, a transfer's second address, a text of more than 63 bytes, damage) is left to the full
decoder, which tells what it is, or raises its fault. A property test holds the two against each other.
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
_TEXT_BYTES_MAX = 63  # whose length is one byte; whatever is longer is left to the decoder
_POSTINGS_MAX = 8  # levels of an address
_NOTHING = b"\x00"
_TRUE = b"\x01"
_HEAD_BYTES = PREFIX_BYTES + ID_BYTES

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
    """How one version of the schema is stepped over: in four runs, between which are postings and the metadata."""

    head: re.Pattern[bytes]  # shard to the number of postings
    posting: re.Pattern[bytes]
    effect: re.Pattern[bytes]  # levels to explanation, of which neither to_address nor explanation is there
    end: re.Pattern[bytes]  # behind control
    types: Mapping[bytes, bytes]  # a symbol -> its name, as an entry has it
    contras: Mapping[bytes, bytes]


def result_keys(payload: bytes) -> ResultKeys:
    """Return what the archive's keys need of a result. Work and memory are bounded by the payload's size.

    Raises:
        Undecodable: As ``decode_result`` raises it for the same bytes.
    """
    pattern = _PATTERNS.get(payload[:PREFIX_BYTES])
    if pattern is not None and len(payload) <= RESULT_BYTES_MAX:
        try:
            return _read(payload, pattern)
        except _Odd:
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
    head = _met(pattern.head, payload, _HEAD_BYTES)
    lane, offset, index, time, version, type_, root, command_id, transaction_id, currency, journalled, count = (
        head.groups()
    )
    at = head.end()
    postings = []
    if count != _NOTHING:
        for _ in range(count[0] >> 1):
            posting = _met(pattern.posting, payload, at)
            postings.append(posting.groups())
            at = posting.end()
        if payload[at : at + 1] != _NOTHING:
            raise _Odd
        at += 1
    metadata_at = _met(pattern.effect, payload, at).end()
    metadata_end = _after_sized(payload, metadata_at)
    if pattern.end.fullmatch(payload, _after_sized(payload, metadata_end)) is None:  # behind control
        raise _Odd
    begin = pattern.types[type_] + command_id + transaction_id
    after = time + payload[metadata_at:metadata_end]
    return ResultKeys(
        _lane_of(payload[PREFIX_BYTES:_HEAD_BYTES], lane),
        long_of(offset),
        0 if index == _NOTHING else long_of(index),
        _time_of(time),
        version,
        root[1:],
        command_id,
        transaction_id,
        journalled == _TRUE,
        tuple(
            [
                Change(address[1:], currency[1:], long_of(sequence), begin + pattern.contras[contra] + numbers + after)
                for address, contra, numbers, balance_change, held_change, sequence in postings
                if balance_change != _NOTHING or held_change != _NOTHING
            ]
        ),
    )


def _met(pattern: re.Pattern[bytes], payload: bytes, at: int) -> re.Match[bytes]:
    met = pattern.match(payload, at)
    if met is None:
        raise _Odd
    return met


def _after_sized(payload: bytes, at: int) -> int:
    """Return the index behind a length and what it declares, which may lie behind the payload's end."""
    if payload[at : at + 1] == _NOTHING:
        return at + 1
    try:
        return read_bytes(payload, at)[1]
    except (Undecodable, IndexError):
        raise _Odd from None


_time_of = lru_cache(maxsize=_TIMES_MAX)(long_of)


@lru_cache(maxsize=_LANES_MAX)
def _lane_of(incarnation: bytes, encoded: bytes) -> LaneKey:
    shard, at = read_text(encoded, 0)
    return incarnation, shard, read_long(encoded, at)[0]


# ------------------------------------------------------------------ patterns


_LONG = rb"(?>[\x00-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f]|[\x80-\xff]{9}\x01)"  # of 64 bits, in as few bytes as it needs
_ID = rb"[\x00-\xff]{16}"
_ID_OR_NOTHING = rb"(?>\x00|\x20%b)" % _ID  # related_id
_NONE = rb"\x00"  # an empty text or array
_BOOLEAN = rb"[\x00\x01]"
# An ASCII text of up to 63 bytes, after its length: one branch for each, since a pattern cannot count by what it met.
_TEXT = rb"(?>\x00|%b)" % b"|".join(
    re.escape(bytes([2 * size])) + rb"[\x00-\x7f]{%d}" % size for size in range(1, _TEXT_BYTES_MAX + 1)
)
_COUNT = b"([" + b"".join(re.escape(bytes([2 * count])) for count in range(_POSTINGS_MAX + 1)) + b"])"


def _pattern(schema: Schema) -> _Pattern:
    symbols = {name.rpartition(".")[2]: _names(found) for name, found in symbols_of(schema).items()}
    one_of = {name: b"[" + b"".join(map(re.escape, names)) + b"]" for name, names in symbols.items()}
    verdict = b"(%b)%b%b" % tuple(one_of[name] for name in ("CommandType", "Status", "Reason"))
    place = b"(%b)(%b)(%b)(%b)%b" % ((_LONG,) * 5)
    of_whom = b"(%b)(%b)(%b)%b%b(%b)" % (_TEXT, _ID, _ID, _ID, _TEXT, _TEXT)  # root to currency
    account = (one_of["ResultPolicy"], one_of["ResultAccountStatus"], _BOOLEAN, _NONE, one_of["ResultDirection"])
    refused_by = rb"(?>\x00|\x02%b%b%b\x00)" % (_TEXT, _LONG, _LONG)
    has_refused_by = "refused_by" in {field["name"] for field in schema.parsed["fields"]}
    return _Pattern(
        head=re.compile(b"(%b%b)" % (_TEXT, _LONG) + place + verdict + of_whom + _LONG + b"(%b)" % _BOOLEAN + _COUNT),
        posting=re.compile(b"(%b)(%b)((%b)(%b)%b%b%b(%b))" % (_TEXT, one_of["Contra"], *(_LONG,) * 6)),
        effect=re.compile(b"".join((_LONG, _ID_OR_NOTHING, _LONG, _LONG, *account, _NONE))),
        end=re.compile(b"".join((_NONE, refused_by if has_refused_by else b"", _TEXT, _LONG * 5))),
        types=symbols["CommandType"],
        contras=symbols["Contra"],
    )


def _names(symbols: list[str]) -> dict[bytes, bytes]:
    """Return what each symbol is written as, and its name as an entry has it; enums have fewer than 64 symbols."""
    return {long_bytes(index): text_bytes(name) for index, name in enumerate(symbols) if name != UNLISTED}


_PATTERNS = {schema.prefix: _pattern(schema) for schema in SCHEMAS.values()}
assert all(len(symbol) == 1 for pattern in _PATTERNS.values() for symbol in pattern.types)
