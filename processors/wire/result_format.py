"""A result as a value and as bytes: the schemas ``result.v1`` to ``v3`` by hand, since every command passes twice.

Version 2 has one field more, ``refused_by``; version 3 has more symbols. Which one is written is a rule of the lane
(``Rules.result_version``, I6); all are read, since the log, the journal and the archive keep what was written. Each is
written with its own symbols: a later version may have one more in the middle of an enum, so that those behind it are
written with another number.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from processors.faults import Undecodable
from processors.ledger.addresses import ADDRESS_BYTES_MAX
from processors.ledger.commands import AccountStatus, CommandType, Direction, Policy
from processors.ledger.outcomes import Posting, Reason, RefusedBy, Status
from processors.ledger.rules import RESULT_VERSION
from processors.wire import guard
from processors.wire.avro import long_bytes, reader_of, sized_bytes, text_bytes
from processors.wire.causes import Cause
from processors.wire.result_skim import Skimmed, plan_of
from processors.wire.result_symbols import ENUMS, INDEXES, NEWEST, SCHEMAS, keeps_symbols, symbol_bytes, verdict_bytes
from processors.wire.schemas import PREFIX_BYTES

# Twice a command of 64 KiB: a result repeats its texts once, and adds at most 8 postings and numbers (W4).
RESULT_BYTES_MAX = 131_072
ID_BYTES = 16
_LANES_MAX = 64  # of one process; a lane's identity is the same in each of its results
_PARTNERS_MAX = 65_536  # whose texts are remembered: those of the recent batches, 400 bytes each at most


@dataclass(frozen=True, slots=True)
class ResultPointer:
    """A result of the same lane, by the position of the record that it answers."""

    lane_offset: int
    lane_index: int


@dataclass(slots=True)
class Result:
    """A command's result: the fields of ``schemas/avro/result.v3.avsc`` in their order, with its meanings and units.

    ``duplicate_of`` is None for a first result. ``refused_by`` is None where no account is the cause of a refusal, and
    in results of version 1. ``direction``, ``policy`` and ``account_status`` are None where the type has none. ``unit``
    is the placement key (R2). It is empty, and the ingress fields are -1, where the record did not come through the
    router.
    Not frozen: one per command on the hot path, freezing its 40 fields costs 3 µs.
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
    refused_by: RefusedBy | None = None
    unit: str = ""
    generation: int = 0
    ingress_epoch: int = -1
    ingress_partition: int = -1
    ingress_offset: int = -1
    ingress_leader_epoch: int = -1


def decode_result(payload: bytes) -> Result:
    """Decode a result.

    Raises:
        Undecodable: It is none, or of a later release; see ``guard.decode``.
    """
    result: Result = guard.decode(payload, _FORMATS, bytes_max=RESULT_BYTES_MAX)
    return result


def write_result(result: Result, version: int = RESULT_VERSION) -> bytes:
    """Encode a result by a version of its schema, in single-object encoding; what that version lacks is left out.

    By hand: fastavro takes 15 µs for these 40 fields; a property test holds the two to the same bytes.
    """
    return join_result(
        (version, result.incarnation, result.shard, result.lane),
        (result.lane_offset, result.lane_index, result.lane_time_ms, result.version_us, result.rules_version),
        (result.type, result.status, result.reason),
        result.root,
        (result.command_id, result.transaction_id, result.body_hash),
        (result.address, result.currency),
        result.amount_minor,
        result.journalled,
        result.postings,
        (result.levels, result.related_id, result.remaining_minor, result.expires_at_ms),
        extras_bytes(
            policy=result.policy,
            account_status=result.account_status,
            final=result.final,
            to_address=result.to_address,
            direction=result.direction,
            explanation=result.explanation,
            metadata=result.metadata,
            control=result.control,
            duplicate_of=result.duplicate_of,
            refused_by=result.refused_by,
            version=version,
        ),
        (result.unit, result.generation, result.ingress_epoch, result.ingress_partition),
        (result.ingress_offset, result.ingress_leader_epoch),
    )


def join_result(  # noqa: PLR0917 - positional: keywords cost 0.3 µs a command
    lane: tuple[int, bytes, str, int],
    place: tuple[int, int, int, int, int],
    verdict: tuple[CommandType, Status, Reason],
    root: str,
    ids: tuple[bytes, bytes, bytes],
    account: tuple[str, str],
    amount_minor: int,
    journalled: bool,
    postings: tuple[Posting, ...],
    effect: tuple[int, bytes, int, int],
    extras: bytes,
    source: tuple[str, int, int, int],
    ingress: tuple[int, int],
) -> bytes:
    """Encode a result from its fields, in the schema's order; ``lane`` begins with its version, ``extras`` are of it.

    Positional, and what repeats from result to result is remembered: one per command on the hot path, 4 µs instead of
    the 8 that a ``Result`` and its 40 fields one by one take.
    """
    offset, index, lane_time_ms, version_us, rules_version = place
    command_id, transaction_id, body_hash = ids
    assert len(command_id) == len(transaction_id) == len(body_hash) == ID_BYTES
    return b"".join(
        (
            _lane_bytes(lane),
            long_bytes(offset),
            long_bytes(index) if index else b"\x00",
            _same_bytes(lane_time_ms),
            long_bytes(version_us),
            _same_bytes(rules_version),
            verdict_bytes(lane[0], verdict),
            _text_bytes(root),
            command_id,
            transaction_id,
            body_hash,
            _account_bytes(*account),
            long_bytes(amount_minor),
            b"\x01" if journalled else b"\x00",
            _postings_bytes(postings, lane[0]),
            _effect_bytes(*effect),
            extras,
            _source_bytes(source),
            long_bytes(ingress[0]),
            _same_bytes(ingress[1]),
        )
    )


def repeat_result(
    first: bytes,
    lane: tuple[int, bytes, str, int],
    place: tuple[int, int, int],
    source: tuple[str, int, int, int],
    ingress: tuple[int, int],
) -> bytes:
    """Encode a repetition of a first answer: its bytes, but for where it is answered, what for, and by what right.

    Args:
        first: The first answer, of any version of the schema.
        lane: As ``join_result``'s, with the version that the repetition has; ``source`` and ``ingress`` too.
        place: Offset and index of the record that is answered now, and its lane time in ms.
        source: Placement key, generation, ingress epoch and partition of that record.
        ingress: Its ingress offset and leader epoch.

    Raises:
        Undecodable: ``first`` is no result of ours.
    """
    known = skim_result(first)
    offset, index, lane_time_ms = place
    if not keeps_symbols(first[:PREFIX_BYTES], lane[0]):
        return _rewritten(decode_result(first), lane, place, source, ingress)
    return b"".join(
        (
            _lane_bytes(lane),
            long_bytes(offset),
            long_bytes(index),
            _same_bytes(lane_time_ms),
            b"\x00",  # version_us: it leaves no row
            known.between("rules_version", "journalled"),
            b"\x00",  # journalled: false
            known.between("postings", "duplicate_of"),
            _pointer_bytes(ResultPointer(known.value("lane_offset"), known.value("lane_index"))),
            _repeated_cause(known, lane[0]),
            _source_bytes(source),
            long_bytes(ingress[0]),
            _same_bytes(ingress[1]),
        )
    )


def _rewritten(
    first: Result,
    lane: tuple[int, bytes, str, int],
    place: tuple[int, int, int],
    source: tuple[str, int, int, int],
    ingress: tuple[int, int],
) -> bytes:
    """Encode a repetition value by value, where the symbols of the first answer have other numbers in its version."""
    version, incarnation, shard, number = lane
    placement_key, generation, epoch, partition = source
    repeated = replace(
        first,
        incarnation=incarnation,
        shard=shard,
        lane=number,
        lane_offset=place[0],
        lane_index=place[1],
        lane_time_ms=place[2],
        version_us=0,
        journalled=False,
        duplicate_of=ResultPointer(first.lane_offset, first.lane_index),
        unit=placement_key,
        generation=generation,
        ingress_epoch=epoch,
        ingress_partition=partition,
        ingress_offset=ingress[0],
        ingress_leader_epoch=ingress[1],
    )
    return write_result(repeated, version)


def _repeated_cause(first: Skimmed, version: int) -> bytes:
    """Return ``refused_by`` of a repetition: as the first answer has it, if both versions have the field."""
    if version == _WITHOUT_REFUSED_BY:
        return b""
    return first.between("refused_by", "unit") if first.has("refused_by") else b"\x00"


def skim_result(payload: bytes) -> Skimmed:
    """Find a result's fields; ``value`` knows those of ``SKIMMED``.

    Raises:
        Undecodable: It is no result of ours.
    """
    plan = _PLANS.get(payload[:PREFIX_BYTES])
    if plan is None:
        raise Undecodable(Cause.UNKNOWN_SCHEMA, f"begins with {payload[:PREFIX_BYTES].hex()}")
    return Skimmed(payload, plan)


def extras_bytes(
    *,
    policy: Policy | None = None,
    account_status: AccountStatus | None = None,
    final: bool = True,
    to_address: str = "",
    direction: Direction | None = None,
    explanation: str = "",
    metadata: bytes = b"",
    control: bytes = b"",
    duplicate_of: ResultPointer | None = None,
    refused_by: RefusedBy | None = None,
    version: int,
) -> bytes:
    """Encode ``policy`` to ``refused_by``, of which most results have none: ``PLAIN_EXTRAS`` of their version."""
    return b"".join(
        (
            symbol_bytes(version, "balance.ResultPolicy", policy),
            symbol_bytes(version, "balance.ResultAccountStatus", account_status),
            b"\x01" if final else b"\x00",
            text_bytes(to_address),
            symbol_bytes(version, "balance.ResultDirection", direction),
            text_bytes(explanation),
            sized_bytes(metadata),
            sized_bytes(control),
            b"\x00" if duplicate_of is None else _pointer_bytes(duplicate_of),
            b"" if version == _WITHOUT_REFUSED_BY else _refused_by_bytes(refused_by),
        )
    )


@lru_cache(maxsize=_LANES_MAX)
def _lane_bytes(lane: tuple[int, bytes, str, int]) -> bytes:
    version, incarnation, shard, number = lane
    assert len(incarnation) == ID_BYTES
    return SCHEMAS[version].prefix + incarnation + text_bytes(shard) + long_bytes(number)


@lru_cache(maxsize=_PARTNERS_MAX)
def _text_bytes(text: str) -> bytes:
    return text_bytes(text)


@lru_cache(maxsize=_PARTNERS_MAX)
def _same_bytes(value: int) -> bytes:
    """Encode an integer that many results have: a lane time, a version, an epoch."""
    return long_bytes(value)


def _account_bytes(address: str, currency: str) -> bytes:
    # What a refusal quotes may be of any length, and is not remembered.
    if len(address) <= ADDRESS_BYTES_MAX and len(currency) <= ADDRESS_BYTES_MAX:
        return _text_bytes(address) + _text_bytes(currency)
    return text_bytes(address) + text_bytes(currency)


@lru_cache(maxsize=_PARTNERS_MAX)
def _source_bytes(source: tuple[str, int, int, int]) -> bytes:
    placement_key, generation, epoch, partition = source
    return text_bytes(placement_key) + long_bytes(generation) + long_bytes(epoch) + long_bytes(partition)


def _effect_bytes(levels: int, related_id: bytes, remaining_minor: int, expires_at_ms: int) -> bytes:
    if not related_id and not remaining_minor and not expires_at_ms:
        return long_bytes(levels) + b"\x00\x00\x00"
    return long_bytes(levels) + sized_bytes(related_id) + long_bytes(remaining_minor) + long_bytes(expires_at_ms)


def _postings_bytes(postings: tuple[Posting, ...], version: int) -> bytes:
    if not postings:
        return b"\x00"
    parts = [long_bytes(len(postings))]
    contras = INDEXES[version]["balance.Contra"]
    for posting in postings:
        held_change, held, limit = posting.held_change, posting.held, posting.overdraft_limit
        parts += (
            _text_bytes(posting.address),
            contras.get(posting.contra) or symbol_bytes(version, "balance.Contra", posting.contra),
            long_bytes(posting.balance_change),
            long_bytes(held_change) if held_change else b"\x00",
            long_bytes(posting.balance),
            long_bytes(held) if held else b"\x00",
            long_bytes(limit) if limit else b"\x00",
            long_bytes(posting.sequence),
        )
    parts.append(b"\x00")
    return b"".join(parts)


def _pointer_bytes(pointer: ResultPointer) -> bytes:
    return b"\x02" + long_bytes(pointer.lane_offset) + long_bytes(pointer.lane_index) + b"\x00"


def _refused_by_bytes(cause: RefusedBy | None) -> bytes:
    if cause is None:
        return b"\x00"
    amounts = long_bytes(cause.available_minor) + long_bytes(cause.missing_minor)
    return b"\x02" + text_bytes(cause.address) + amounts + b"\x00"


_WITHOUT_REFUSED_BY = 1  # the version of a result schema
PLAIN_EXTRAS = {version: extras_bytes(version=version) for version in SCHEMAS}
_FIELDS = [field.name for field in fields(Result)]
_POSTINGS = _FIELDS.index("postings")
_DUPLICATE_OF = _FIELDS.index("duplicate_of")
_REFUSED_BY = _FIELDS.index("refused_by")
# Read and written in this order.
assert [field["name"] for field in NEWEST.parsed["fields"]] == _FIELDS
assert [field["name"] for field in SCHEMAS[_WITHOUT_REFUSED_BY].parsed["fields"]] == [
    name for name in _FIELDS if name != "refused_by"
]


def _build_first(values: list[Any]) -> Result:
    values.insert(_REFUSED_BY, ())
    return _build(values)


def _build(values: list[Any]) -> Result:
    for place in (_DUPLICATE_OF, _REFUSED_BY):
        items = values[place]
        if len(items) > 1:
            raise Undecodable(Cause.MALFORMED, f"{_FIELDS[place]} has {len(items)} items")
        values[place] = items[0] if items else None
    values[_POSTINGS] = tuple(values[_POSTINGS])
    return Result(*values)


_FORMATS = {
    schema.prefix: guard.Format(
        schema=schema,
        read=reader_of(
            schema.parsed,
            {
                "balance.Result": _build_first if version == _WITHOUT_REFUSED_BY else _build,
                "balance.Posting": lambda values: Posting(*values),
                "balance.ResultPointer": lambda values: ResultPointer(*values),
                "balance.RefusedBy": lambda values: RefusedBy(*values),
            },
            ENUMS,
        ),
    )
    for version, schema in SCHEMAS.items()
}

# What later commands ask a first answer for.
SKIMMED = (
    "lane_offset",
    "lane_index",
    "type",
    "status",
    "body_hash",
    "address",
    "currency",
    "amount_minor",
    "levels",
)
_PLANS = {
    schema.prefix: plan_of(
        schema.parsed["fields"],
        {
            field["name"]: reader_of(field["type"], {}, ENUMS)
            for field in schema.parsed["fields"]
            if field["name"] in SKIMMED
        },
    )
    for schema in SCHEMAS.values()
}
