"""Results: one answer to one command, encoded exactly once; the same bytes are journal row, record and archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from processors.faults import Undecodable
from processors.ids import derived_id
from processors.ledger.book import Decision
from processors.ledger.commands import TYPE_OF, AccountStatus, CommandType, Control, Direction, Policy, Tick
from processors.ledger.metadata import canonical_metadata
from processors.ledger.outcomes import Contra, Outcome, Posting, Reason, Status
from processors.wire import guard
from processors.wire.admission import Admission
from processors.wire.causes import Cause
from processors.wire.records import Headers, Record
from processors.wire.schemas import encode, schema_of

# A command of 64 KiB whose texts it repeats, 8 postings, and numbers, with room (W4: sizes rise downstream).
RESULT_BYTES_MAX = 131_072
TYPE_HEADER = "type"
STATUS_HEADER = "status"
ROOT_HEADER = "root"

_SCHEMA = schema_of("result", 1)
_KNOWN = {_SCHEMA.prefix: _SCHEMA}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneIdentity:
    """Which lane of which life of a shard: ``incarnation`` is the id of its topic, 16 bytes (A1)."""

    shard: str
    incarnation: bytes
    lane: int


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An answer, decoded; ``schemas/avro/result.v1.avsc`` says what each field means and its unit.

    ``duplicate_of`` is None for a first answer. ``direction``, ``policy`` and ``account_status`` are None where the type has
    none. The ingress fields are -1, and ``unit`` empty, where the record came straight to the shard's topic.
    """

    incarnation: bytes
    shard: str
    lane: int
    lane_offset: int
    lane_index: int
    type: CommandType
    status: Status
    reason: Reason
    root: str
    address: str
    currency: str
    amount_minor: int
    command_id: bytes
    transaction_id: bytes
    body_hash: bytes
    journalled: bool
    duplicate_of: ResultPointer | None
    lane_time_ms: int
    version_us: int
    rules_version: int
    unit: str
    generation: int
    ingress_epoch: int
    ingress_partition: int
    ingress_offset: int
    ingress_leader_epoch: int
    postings: tuple[Posting, ...]
    levels: int
    related_id: bytes
    remaining_minor: int
    expires_at_ms: int
    final: bool
    to_address: str
    direction: Direction | None
    explanation: str
    policy: Policy | None
    account_status: AccountStatus | None
    metadata: bytes
    control: bytes

    @property
    def result_id(self) -> ResultId:
        """Return what a consumer tells repetitions by, together with the results partition."""
        return ResultId(
            incarnation=self.incarnation, lane=self.lane, lane_offset=self.lane_offset, lane_index=self.lane_index
        )


def encode_result(
    lane: LaneIdentity,
    *,
    offset: int,
    index: int,
    lane_time_ms: int,
    version_us: int,
    rules_version: int,
    admission: Admission,
    outcome: Outcome,
) -> bytes:
    """Encode the first answer to a command.

    Args:
        lane: Where it was decided.
        offset: Of the record that was decided, in the lane.
        index: Counts the results of one record, from 0.
        lane_time_ms: Lane time of the decision, ms since the epoch (I2).
        version_us: The journal row's version (A2); 0 where there is none.
        rules_version: Of the rules it was decided by.
        admission: The record's, with a partner's command.
        outcome: What was decided.
    """
    command = admission.command
    assert command is not None
    values = {
        **_ABSENT,
        **_position(lane, offset, index, lane_time_ms),
        **_source(admission),
        "type": TYPE_OF[type(command)],  # type: ignore[index]
        "status": outcome.status,
        "reason": outcome.reason,
        "root": admission.root,
        "address": command.address,  # type: ignore[union-attr]
        "currency": command.currency,  # type: ignore[union-attr]
        "amount_minor": outcome.amount_minor,
        "command_id": command.command_id,  # type: ignore[union-attr]
        "transaction_id": outcome.transaction_id,
        "body_hash": admission.body_hash,
        "journalled": outcome.journalled,
        "version_us": version_us,
        "rules_version": rules_version,
        "postings": [_posting_values(posting) for posting in outcome.postings],
        "levels": outcome.levels,
        "related_id": outcome.related_id,
        "remaining_minor": outcome.remaining_minor,
        "expires_at_ms": outcome.expires_at_ms,
        "final": getattr(command, "final", True),
        "to_address": getattr(command, "to_address", ""),
        "direction": getattr(command, "direction", "NONE"),
        "explanation": getattr(command, "explanation", ""),
        "policy": outcome.policy or "NONE",
        "account_status": outcome.account_status or "NONE",
        "metadata": canonical_metadata(getattr(command, "metadata", None) or b"") or b"",
    }
    return encode(_SCHEMA, values)


def encode_duplicate(
    lane: LaneIdentity, first: bytes, *, offset: int, index: int, lane_time_ms: int, admission: Admission
) -> bytes:
    """Encode the answer to a command that was answered before: the first answer's content, at a new position (I3).

    The result is a function of the arguments: the same bytes whenever the record is answered again.

    Args:
        lane: Where it is answered.
        first: The first answer, from the journal.
        offset: Of the record that is answered now.
        index: Counts the results of one record, from 0.
        lane_time_ms: Lane time of that record, ms since the epoch.
        admission: That record's.

    Raises:
        Undecodable: ``first`` is no result of ours.
    """
    values = _decoded(first)
    pointer = {"lane_offset": values["lane_offset"], "lane_index": values["lane_index"]}
    values.update(_position(lane, offset, index, lane_time_ms))
    values.update(_source(admission))
    values.update(journalled=False, version_us=0, duplicate_of=[pointer])
    return encode(_SCHEMA, values)


def control_id(lane: LaneIdentity, offset: int) -> bytes:
    """Return the id of a control record's row: its position, since an operator may send the same record twice (M9, I7)."""
    return derived_id("CONTROL", b"%b.%d.%d" % (lane.incarnation, lane.lane, offset))


def encode_control(
    lane: LaneIdentity,
    *,
    offset: int,
    index: int,
    lane_time_ms: int,
    version_us: int,
    rules_version: int,
    record: Record,
    control: Control,
) -> bytes:
    """Encode the row of an operator's record: type CONTROL, no root, the record's payload in ``control`` (A1, M9).

    Args:
        lane: Where it took effect.
        offset: The record's, in the lane.
        index: 0.
        lane_time_ms: Lane time, ms since the epoch.
        version_us: The row's version (A2).
        rules_version: In force after it.
        record: Its payload is kept literally.
        control: Decoded; a tick leaves no row.
    """
    assert not isinstance(control, Tick)
    row_id = control_id(lane, offset)
    values = {
        **_ABSENT,
        **_position(lane, offset, index, lane_time_ms),
        "type": CommandType.CONTROL,
        "command_id": row_id,
        "transaction_id": row_id,
        "version_us": version_us,
        "rules_version": rules_version,
        "control": record.value or b"",
    }
    return encode(_SCHEMA, values)


def decode_result(payload: bytes) -> Result:
    """Decode a result.

    Raises:
        Undecodable: It is none, or of a later release; see ``guard.decode``.
    """
    values = _decoded(payload)
    try:
        for name, members in _ENUMS.items():
            values[name] = members[values[name]]
        values["postings"] = tuple(_posting(posting) for posting in values["postings"])
    except KeyError as unlisted:
        raise Undecodable(Cause.MALFORMED, f"{unlisted} is written by a later release only") from unlisted
    pointers = values["duplicate_of"]
    if len(pointers) > 1:
        raise Undecodable(Cause.MALFORMED, f"duplicate_of has {len(pointers)} items")
    values["duplicate_of"] = ResultPointer(**pointers[0]) if pointers else None
    return Result(**values)


def decision_of(payload: bytes) -> Decision:
    """Return a journal row's result as later commands see it: as the first answer, or as a refund's original (I3, H4)."""
    values = _decoded(payload)
    return Decision(
        values["body_hash"],
        values["lane_offset"],
        values["lane_index"],
        CommandType(values["type"]),
        Status(values["status"]),
        values["address"],
        values["currency"],
        values["amount_minor"],
        values["levels"],
        payload,
    )


def result_headers(command_type: CommandType, status: Status, root: str) -> Headers:
    """Return the headers by which consumers filter results without decoding them."""
    return [
        (TYPE_HEADER, command_type.encode()),
        (STATUS_HEADER, status.encode()),
        (ROOT_HEADER, root.encode()),
    ]


def headers_of(payload: bytes) -> Headers:
    """Return a stored result's headers, made from its bytes."""
    values = _decoded(payload)
    return result_headers(CommandType(values["type"]), Status(values["status"]), values["root"])


# ------------------------------------------------------------------ parts

_ABSENT: Mapping[str, Any] = MappingProxyType(
    {
        "status": Status.ACCEPTED,
        "reason": Reason.NONE,
        "root": "",
        "address": "",
        "currency": "",
        "amount_minor": 0,
        "body_hash": bytes(16),
        "journalled": True,
        "duplicate_of": [],
        "unit": "",
        "generation": 0,
        "ingress_epoch": -1,
        "ingress_partition": -1,
        "ingress_offset": -1,
        "ingress_leader_epoch": -1,
        "postings": [],
        "levels": 0,
        "related_id": b"",
        "remaining_minor": 0,
        "expires_at_ms": 0,
        "final": True,
        "to_address": "",
        "direction": "NONE",
        "explanation": "",
        "policy": "NONE",
        "account_status": "NONE",
        "metadata": b"",
        "control": b"",
    }
)


def _members(kind: type[StrEnum], *, absent: bool = False) -> Mapping[str, StrEnum | None]:
    """Return an enum's members by the symbols of the schema; UNLISTED is none of them."""
    members: dict[str, StrEnum | None] = {str(member): member for member in kind}
    return {"NONE": None, **members} if absent else members


_ENUMS = MappingProxyType(
    {
        "type": _members(CommandType),
        "status": _members(Status),
        "reason": _members(Reason),
        "direction": _members(Direction, absent=True),
        "policy": _members(Policy, absent=True),
        "account_status": _members(AccountStatus, absent=True),
    }
)
_CONTRAS = {str(contra): contra for contra in Contra}


def _decoded(payload: bytes) -> dict[str, Any]:
    _, values = guard.decode(payload, _KNOWN, bytes_max=RESULT_BYTES_MAX)
    return values


def _position(lane: LaneIdentity, offset: int, index: int, lane_time_ms: int) -> dict[str, Any]:
    return {
        "incarnation": lane.incarnation,
        "shard": lane.shard,
        "lane": lane.lane,
        "lane_offset": offset,
        "lane_index": index,
        "lane_time_ms": lane_time_ms,
    }


def _source(admission: Admission) -> dict[str, Any]:
    route = admission.route
    if route is None:
        return {
            "unit": "",
            "generation": 0,
            "ingress_epoch": -1,
            "ingress_partition": -1,
            "ingress_offset": -1,
            "ingress_leader_epoch": -1,
        }
    return {
        "unit": route.unit,
        "generation": route.generation,
        "ingress_epoch": route.ingress_epoch,
        "ingress_partition": route.ingress_partition,
        "ingress_offset": route.ingress_offset,
        "ingress_leader_epoch": route.ingress_leader_epoch,
    }


def _posting_values(posting: Posting) -> dict[str, Any]:
    return {
        "address": posting.address,
        "contra": posting.contra,
        "balance_change": posting.balance_change,
        "held_change": posting.held_change,
        "balance": posting.balance,
        "held": posting.held,
        "overdraft_limit": posting.overdraft_limit,
        "sequence": posting.sequence,
    }


def _posting(values: dict[str, Any]) -> Posting:
    return Posting(**{**values, "contra": _CONTRAS[values["contra"]]})
