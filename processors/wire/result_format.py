"""A result as a value and as bytes: the schema ``result.v1`` by hand, since every command passes here twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import lru_cache
from typing import Any

from processors.faults import Undecodable
from processors.ledger.commands import AccountStatus, CommandType, Direction, Policy
from processors.ledger.outcomes import Contra, Posting, Reason, Status
from processors.wire import guard
from processors.wire.avro import UNLISTED, long_bytes, reader_of, sized_bytes, text_bytes
from processors.wire.causes import Cause
from processors.wire.schemas import schema_of, symbols_of

# Twice a command of 64 KiB: a result repeats its texts once, and adds at most 8 postings and numbers (W4).
RESULT_BYTES_MAX = 131_072
ID_BYTES = 16
_LANES_MAX = 64  # of one process; a lane's identity is the same in each of its results


@dataclass(frozen=True, slots=True)
class ResultPointer:
    """A result of the same lane, by the position of the record that it answers."""

    lane_offset: int
    lane_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultId:
    """A result's identity within its results partition (A1)."""

    incarnation: bytes
    lane: int
    lane_offset: int
    lane_index: int


@dataclass(slots=True)
class Result:
    """An answer. Fields, their meanings and units are those of ``schemas/avro/result.v1.avsc``, in the same order.

    ``duplicate_of`` is None for a first answer. ``direction``, ``policy`` and ``account_status`` are None where the
    type has none. The ingress fields are -1, and ``unit`` empty, where the record came straight to the shard's topic.
    Not frozen: one per command on the hot path, freezing its 39 fields costs 3 µs.
    """

    incarnation: bytes
    shard: str
    lane: int
    lane_offset: int
    lane_index: int
    lane_time_ms: int
    version_us: int
    rules_version: int
    type: CommandType
    status: Status
    reason: Reason
    root: str
    command_id: bytes
    transaction_id: bytes
    body_hash: bytes
    address: str
    currency: str
    amount_minor: int
    journalled: bool = True
    postings: tuple[Posting, ...] = ()
    levels: int = 0
    related_id: bytes = b""
    remaining_minor: int = 0
    expires_at_ms: int = 0
    policy: Policy | None = None
    account_status: AccountStatus | None = None
    final: bool = True
    to_address: str = ""
    direction: Direction | None = None
    explanation: str = ""
    metadata: bytes = b""
    control: bytes = b""
    duplicate_of: ResultPointer | None = None
    unit: str = ""
    generation: int = 0
    ingress_epoch: int = -1
    ingress_partition: int = -1
    ingress_offset: int = -1
    ingress_leader_epoch: int = -1

    @property
    def result_id(self) -> ResultId:
        """Return what a consumer tells repetitions by, together with the results partition."""
        return ResultId(
            incarnation=self.incarnation, lane=self.lane, lane_offset=self.lane_offset, lane_index=self.lane_index
        )


def decode_result(payload: bytes) -> Result:
    """Decode a result.

    Raises:
        Undecodable: It is none, or of a later release; see ``guard.decode``.
    """
    result: Result = guard.decode(payload, _FORMATS, bytes_max=RESULT_BYTES_MAX)
    return result


def write_result(result: Result) -> bytes:
    """Encode a result by its schema, in single-object encoding.

    By hand: fastavro takes 15 µs for these 39 fields, this 6; a property test holds the two to the same bytes.
    """
    assert len(result.command_id) == len(result.transaction_id) == len(result.body_hash) == ID_BYTES
    duplicate_of = result.duplicate_of
    return b"".join(
        (
            _lane_bytes(result.incarnation, result.shard, result.lane),
            long_bytes(result.lane_offset),
            long_bytes(result.lane_index),
            long_bytes(result.lane_time_ms),
            long_bytes(result.version_us),
            long_bytes(result.rules_version),
            _TYPES[result.type],
            _STATUSES[result.status],
            _REASONS[result.reason],
            text_bytes(result.root),
            result.command_id,
            result.transaction_id,
            result.body_hash,
            text_bytes(result.address),
            text_bytes(result.currency),
            long_bytes(result.amount_minor),
            b"\x01" if result.journalled else b"\x00",
            _postings_bytes(result.postings),
            long_bytes(result.levels),
            sized_bytes(result.related_id),
            long_bytes(result.remaining_minor),
            long_bytes(result.expires_at_ms),
            _POLICIES[result.policy],
            _ACCOUNT_STATUSES[result.account_status],
            b"\x01" if result.final else b"\x00",
            text_bytes(result.to_address),
            _DIRECTIONS[result.direction],
            text_bytes(result.explanation),
            sized_bytes(result.metadata),
            sized_bytes(result.control),
            b"\x00" if duplicate_of is None else _pointer_bytes(duplicate_of),
            text_bytes(result.unit),
            long_bytes(result.generation),
            long_bytes(result.ingress_epoch),
            long_bytes(result.ingress_partition),
            long_bytes(result.ingress_offset),
            long_bytes(result.ingress_leader_epoch),
        )
    )


@lru_cache(maxsize=_LANES_MAX)
def _lane_bytes(incarnation: bytes, shard: str, lane: int) -> bytes:
    assert len(incarnation) == ID_BYTES
    return _SCHEMA.prefix + incarnation + text_bytes(shard) + long_bytes(lane)


def _postings_bytes(postings: tuple[Posting, ...]) -> bytes:
    if not postings:
        return b"\x00"
    parts = [long_bytes(len(postings))]
    for posting in postings:
        parts += (
            text_bytes(posting.address),
            _CONTRAS[posting.contra],
            long_bytes(posting.balance_change),
            long_bytes(posting.held_change),
            long_bytes(posting.balance),
            long_bytes(posting.held),
            long_bytes(posting.overdraft_limit),
            long_bytes(posting.sequence),
        )
    parts.append(b"\x00")
    return b"".join(parts)


def _pointer_bytes(pointer: ResultPointer) -> bytes:
    return b"\x02" + long_bytes(pointer.lane_offset) + long_bytes(pointer.lane_index) + b"\x00"


def _members(name: str, kind: type[StrEnum]) -> Mapping[str, Any]:
    """Return what each symbol of the schema stands for, in its order; NONE is None where the enum has none so named.

    Raises:
        ValueError: The schema lacks a member, or has a symbol that is none: a release like that may not start.
    """
    known = {str(member): member for member in kind}
    symbols = [symbol for symbol in symbols_of(_SCHEMA)[name] if symbol != UNLISTED]
    if set(symbols) | {"NONE"} != set(known) | {"NONE"}:
        odd = sorted(set(symbols) ^ set(known))
        raise ValueError(f"{kind.__name__} and {name} in {_SCHEMA.name}.v{_SCHEMA.version}.avsc differ: {odd}")
    return {symbol: known.get(symbol) for symbol in symbols}


def _indexes(name: str) -> Mapping[Any, bytes]:
    return {member: long_bytes(index) for index, member in enumerate(_ENUMS[name].values())}


_SCHEMA = schema_of("result", 1)
_ENUMS = {
    name: _members(name, kind)
    for name, kind in (
        ("balance.CommandType", CommandType),
        ("balance.Status", Status),
        ("balance.Reason", Reason),
        ("balance.Contra", Contra),
        ("balance.ResultPolicy", Policy),
        ("balance.ResultAccountStatus", AccountStatus),
        ("balance.ResultDirection", Direction),
    )
}
_TYPES = _indexes("balance.CommandType")
_STATUSES = _indexes("balance.Status")
_REASONS = _indexes("balance.Reason")
_CONTRAS = _indexes("balance.Contra")
_POLICIES = _indexes("balance.ResultPolicy")
_ACCOUNT_STATUSES = _indexes("balance.ResultAccountStatus")
_DIRECTIONS = _indexes("balance.ResultDirection")
_FIELDS = [field.name for field in fields(Result)]
_POSTINGS = _FIELDS.index("postings")
_DUPLICATE_OF = _FIELDS.index("duplicate_of")
assert [field["name"] for field in _SCHEMA.parsed["fields"]] == _FIELDS  # read and written in this order


def _build(values: list[Any]) -> Result:
    pointers = values[_DUPLICATE_OF]
    if len(pointers) > 1:
        raise Undecodable(Cause.MALFORMED, f"duplicate_of has {len(pointers)} items")
    values[_DUPLICATE_OF] = pointers[0] if pointers else None
    values[_POSTINGS] = tuple(values[_POSTINGS])
    return Result(*values)


_FORMATS = {
    _SCHEMA.prefix: guard.Format(
        schema=_SCHEMA,
        read=reader_of(
            _SCHEMA.parsed,
            {
                "balance.Result": _build,
                "balance.Posting": lambda values: Posting(*values),
                "balance.ResultPointer": lambda values: ResultPointer(*values),
            },
            _ENUMS,
        ),
    )
}
