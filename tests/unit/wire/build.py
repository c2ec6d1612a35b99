"""Records, routes and outcomes with everything defaulted, so that what a test says is what it is about."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from processors.ids import make_command_id
from processors.ledger.command_types import TYPES
from processors.ledger.commands import (
    AccountStatus,
    Command,
    Control,
    Direction,
    ExpireHold,
    MovePartner,
    Pay,
    Policy,
    Recalled,
)
from processors.ledger.outcomes import Contra, Outcome, Posting, Reason, Status
from processors.ledger.rules import Rules
from processors.routing.buckets import partition_of, placement_key_of
from processors.wire.admission import Admission, Gate, admit
from processors.wire.avro import long_bytes
from processors.wire.commands import encode_command
from processors.wire.records import Headers, Record
from processors.wire.results import LaneIdentity, encode_result
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, add_key, sign

START_MS = 1_760_000_000_000
NOW_MS = START_MS + 60_000
LANES = 4
RULES = Rules(version=3)
RING: KeyRing = add_key(None, "k1", b"s" * 32)
COMMAND_ID = make_command_id(START_MS, b"ten bytes!")
OTHER_ID = make_command_id(START_MS - 1_000, b"other id!!")
LANE = LaneIdentity(shard="s1", incarnation=bytes(range(16)), lane=partition_of("acme", LANES))

_EXAMPLES: dict[str, Any] = {
    "command_id": COMMAND_ID,
    "address": "acme:vn",
    "currency": "USD",
    "amount_minor": 1250,
    "overdraft_limit": 500,
    "policy": Policy.UNCHECKED,
    "status": AccountStatus.FROZEN,
    "metadata": b'{"order":"A-1"}',
    "direction": Direction.DEBIT,
    "explanation": "counted again",
    "expires_in_ms": 60_000,
    "hold_id": OTHER_ID,
    "final": False,
    "original_id": OTHER_ID,
    "refund_id": OTHER_ID,
    "recalled": Recalled.FOUND,
    "original_type": "PAY",
    "original_accepted": True,
    "original_address": "acme:vn",
    "original_currency": "USD",
    "original_amount_minor": 1250,
    "original_levels": 3,
    "to_address": "acme:us",
    "version": 2,
    "release": 1,
    "window_ms": 21_600_000,
    "skew_ms": 300_000,
    "future_limit_ms": 86_400_000,
    "refund_period_ms": 15_552_000_000,
    "longest_hold_ms": 2_592_000_000,
    "result_version": 1,
    "keys": "k1=00112233445566778899aabbccddeeff",
    "registry_ids": "7=0123456789abcdef",
    "lane_offset": 77,
    "last_offset": 99_999,
    "time_ms": START_MS,
    "from_address": "other:vn",
    "transfer_id": OTHER_ID,
    "reason": "ACCOUNT_CLOSED",
    "placement_key": "acme",
    "generation": 3,
    "source": "s1",
    "target": "s2",
    "number": 2,
    "is_last": True,
    "rows": b"packed",
    "digest": bytes(range(32)),
    "lane_time_ms": START_MS,
    "version_us": START_MS * 1000,
    "ids_since_ms": START_MS - 21_600_000,
    "refunds_since_ms": START_MS - 15_552_000_000,
    "ahead_from_offset": 11,
    "ahead_offset": 66,
    "ahead_parts": 2,
    "ahead_digest": bytes(range(32)),
}

FILE_DECIDES = Rules(version=1)  # not the log
KINDS = tuple(row.command for row in TYPES)


def example(kind: type[Command | Control], **wishes: Any) -> Any:
    """Return a command of a kind with no field at its default."""
    return kind(**{**{field.name: _EXAMPLES[field.name] for field in fields(kind)}, **wishes})


def pay(**wishes: Any) -> Pay:
    given: dict[str, Any] = {
        "command_id": COMMAND_ID,
        "address": "acme",
        "currency": "USD",
        "amount_minor": 10,
        **wishes,
    }
    return Pay(**given)


def raw_pay(amount: bytes = long_bytes(10), *, currency: bytes = b"\x06USD", rest: bytes = b"\x00") -> bytes:
    """Return a PAY payload of hand-made fields, right or wrong."""
    return encode_command(pay())[:10] + COMMAND_ID + b"\x08acme" + currency + amount + rest


def route(**wishes: Any) -> Route:
    given: dict[str, Any] = {
        "kind": RouteKind.COMMAND,
        "ingress_epoch": 1,
        "ingress_partition": 3,
        "ingress_offset": 4_000_000,
        "ingress_leader_epoch": 2,
        "broker_time_ms": START_MS,
        "placement_key": placement_key_of("acme"),
        "generation": 0,
        **wishes,
    }
    return Route(**given)


def routed(**wishes: Any) -> Headers:
    return [(ROUTE_HEADER, encode_route(route(**wishes)))]


def signed(key: bytes | None, payload: bytes, ring: KeyRing = RING) -> Headers:
    return [(SIGNATURE_HEADER, sign(ring, key, payload))]


def record(value: bytes | None, headers: Headers, key: bytes | None = b"acme", **wishes: Any) -> Record:
    given: dict[str, Any] = {
        "topic": "balance.shard.s1",
        "partition": LANE.lane,
        "offset": 500,
        "leader_epoch": 1,
        "timestamp_ms": START_MS,
        "append_time": True,
        **wishes,
    }
    return Record(**given, key=key, value=value, headers=headers)


def admitted(
    read: Record, lane: int | None = None, ring: KeyRing = RING, rules: Rules = FILE_DECIDES, **wishes: Any
) -> Admission:
    gate = Gate(keyring=ring, lane=read.partition if lane is None else lane, lanes=LANES, **wishes)
    return admit(read, rules, gate)


def admission(command: Command, **wishes: Any) -> Admission:
    """Return the admission of a command of ``acme`` that came as it must; wishes are about its route."""
    payload = encode_command(command)
    if isinstance(command, MovePartner):
        wishes.setdefault("kind", RouteKind.MOVE_OUT)
    way = [] if isinstance(command, ExpireHold) else routed(**wishes)
    return admitted(record(payload, [*way, *signed(b"acme", payload)]))


def posting(**wishes: Any) -> Posting:
    given: dict[str, Any] = {
        "address": "acme",
        "contra": Contra.SETTLEMENT,
        "balance_change": -10,
        "held_change": 0,
        "balance": 90,
        "held": 0,
        "overdraft_limit": 0,
        "sequence": 2,
        **wishes,
    }
    return Posting(**given)


def outcome(**wishes: Any) -> Outcome:
    given: dict[str, Any] = {
        "status": Status.ACCEPTED,
        "reason": Reason.NONE,
        "transaction_id": COMMAND_ID,
        "amount_minor": 10,
        "postings": (posting(),),
        "levels": 1,
        **wishes,
    }
    return Outcome(**given)


def answered(command: Any, decided: Outcome, **wishes: Any) -> bytes:
    """Return a result's bytes."""
    given: dict[str, Any] = {
        "offset": 500,
        "index": 0,
        "lane_time_ms": NOW_MS,
        "version_us": NOW_MS * 1000,
        "rules": RULES,
        **wishes,
    }
    given.setdefault("admission", admission(command))
    return encode_result(LANE, **given, outcome=decided)


def confluent_framed(payload: bytes, schema_id: int) -> bytes:
    """Return a payload of single-object encoding in a schema registry's framing, under its schema's id there."""
    return b"\x00" + schema_id.to_bytes(4, "big") + payload[10:]
