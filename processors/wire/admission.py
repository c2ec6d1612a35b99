"""The lane's first stage, pure: from a record to a command, or to the reason why it is none (W1 to W4, F3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

from processors.faults import LaneStopped, StopCode, Undecodable
from processors.ledger.addresses import is_root
from processors.ledger.command_types import CONTROLS, SIGNED, STRAIGHT
from processors.ledger.commands import Command, Control, MovePartner
from processors.ledger.rules import Rules
from processors.ledger.trust import read_keys, write_keys
from processors.routing.buckets import bucket_named, bucket_of
from processors.wire.causes import Cause, bounded
from processors.wire.commands import BODY_HASH_BYTES, NO_REGISTRY, ConfluentIds, body_hash, decode_command
from processors.wire.records import Record
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, decode_route, decode_stub
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, key_id_of, verify, why_lacking

_NO_HASH = bytes(BODY_HASH_BYTES)
MOVES_SINCE = 3  # the release of the rules since which placement keys move
AHEAD_SINCE = 4  # and since which ids go ahead of a move (M6)
_ROOTS_MAX = 65_536  # whose keys are remembered; what is no root raises, and is not


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record is no command; it becomes a dead letter."""

    cause: Cause
    detail: str


@dataclass(slots=True)
class Admission:
    """A record and what it asks for: exactly one of ``command`` and ``refusal`` is there.

    ``route`` is given also with a refusal, if it could be read: a redelivery is silent whatever it holds (L10).
    ``root`` is the key, empty for control records and refusals; ``body_hash`` has 16 bytes, zeros where there is no
    command of a partner. Not frozen and positional: one per command on the hot path.
    """

    record: Record
    route: Route | None
    root: str
    command: Command | Control | None
    body_hash: bytes
    refusal: Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a process brings to the admission of a lane's records; what decides is in the rules (I6).

    ``lane`` is the partition that is read, ``lanes`` how many the shard's topic has, a power of two. ``keyring`` has
    the secrets. Which of its keys count, and what a schema registry's ids stand for, the rules say; while they do not,
    as in a shard of release 1, all keys of ``keyring`` count, and the ids of ``confluent``. ``has_verified`` says that
    the records were admitted before, when they were parked: a key that has ended since does not make them wrong (M5).
    """

    keyring: KeyRing
    lane: int
    lanes: int
    confluent: ConfluentIds = field(default_factory=lambda: NO_REGISTRY)
    has_verified: bool = False


def admit(record: Record, rules: Rules, gate: Gate) -> Admission:
    """Decode a record of a shard's topic, and check what it must carry to be believed.

    Args:
        record: Any record: whoever can write to the topic may have written it.
        rules: In force at the record's offset. What a record is depends on it and on them, never on the release, the
            keys file or the settings of the process that looks (I6).
        gate: The process's.

    Returns:
        A command, not judged: an address under another root than the key's is the ledger's to refuse (F3); or a
        refusal.

    Raises:
        LaneStopped: KEY_MISSING: it is signed by a key that counts, and whose secret the keys file does not have.

    Source: rules W1 to W4, F3, I6, M1.
    """
    route = None
    try:
        route = _route_of(record)
        command = _command_of(record, route, rules, gate)
        if type(command) in SIGNED and not gate.has_verified and not _is_move_out(route):
            _refuse_unsigned(record, rules, gate.keyring)
        if type(command) in CONTROLS:
            _refuse_key(record.key)
            return Admission(record, None, "", command, _NO_HASH, None)
        root = _root_of(record.key, gate.lane, gate.lanes, may_be_bucket=type(command) is MovePartner)
        if isinstance(command, MovePartner):
            _refuse_other_key(command, root)
        return Admission(record, route, root, command, body_hash(cast("Command", command)), None)
    except Undecodable as fault:
        return Admission(record, route, "", None, _NO_HASH, Refusal(Cause(fault.cause), bounded(fault.detail)))


def partners_command(admission: Admission) -> Command | None:
    """Return a record's command, a partner's or the service's own; None where it has none, or is a control record.

    By its type alone: asking whether a value is one of a union's six classes takes 0.2 us, six times a command.
    """
    command = admission.command
    return None if type(command) in CONTROLS else cast("Command | None", command)


def refusal_of_generation(route: Route) -> Refusal:
    """Return why a record is refused whose generation can never be here (M1).

    What a dead letter says is part of its bytes, which no later release may give otherwise (I6).
    """
    return Refusal(Cause.UNEXPECTED_GENERATION, f"generation {route.generation} of unit {route.placement_key}")


def _is_move_out(route: Route | None) -> bool:
    """Say whether a record is a marker that the router found good (R3).

    Whose signature it has is the router's to judge, once: the partner's next records go to the target already.
    """
    return route is not None and route.kind is RouteKind.MOVE_OUT


def _is_known(route: Route, rules: Rules) -> bool:
    """Say whether rules know what the router did with a record: earlier releases knew no markers (I6)."""
    return route.kind is RouteKind.COMMAND or (route.kind is not RouteKind.STUB and rules.release >= MOVES_SINCE)


def _route_of(record: Record) -> Route | None:
    headers = record.headers
    if len(headers) == 1 and headers[0][0] == ROUTE_HEADER:  # as the router leaves nearly all
        return decode_route(headers[0][1] or b"")
    values = [value for name, value in headers if name == ROUTE_HEADER]
    if not values:
        return None
    if len(values) > 1:  # W2
        raise Undecodable(Cause.BAD_ROUTE, f"{len(values)} headers {ROUTE_HEADER}")
    return decode_route(values[0] or b"")


def _command_of(record: Record, route: Route | None, rules: Rules, gate: Gate) -> Command | Control:
    """Decode the payload, and hold what it is against the way it came (W1)."""
    payload = record.value
    if route is not None and not _is_known(route, rules):
        raise _no_command(route, payload or b"")
    command = decode_command(payload or b"", gate.confluent, registry_ids=rules.registry_ids, release=rules.release)
    if type(command) in STRAIGHT:
        if route is not None:
            raise Undecodable(Cause.UNEXPECTED_ROUTE, f"{type(command).__name__} does not come through the router")
        return command
    if route is None:
        raise Undecodable(Cause.MISSING_ROUTE, f"{type(command).__name__} comes through the router only")
    if isinstance(command, MovePartner) is (route.kind is RouteKind.COMMAND):  # R3: what the router did not judge
        raise Undecodable(Cause.UNEXPECTED_ROUTE, f"{type(command).__name__} came as {route.kind.name}")
    if route.generation != 0 and rules.release < MOVES_SINCE:  # M1: earlier releases moved nothing
        refusal = refusal_of_generation(route)
        raise Undecodable(refusal.cause, refusal.detail)
    return command


def _no_command(route: Route, payload: bytes) -> Undecodable:
    if route.kind is RouteKind.STUB:  # W4
        stub = decode_stub(payload)
        return Undecodable(Cause.TOO_LARGE, f"{stub.size} bytes with SHA-256 {stub.sha256.hex()}")
    return Undecodable(Cause.UNEXPECTED_ROUTE, f"{route.kind.name} is not known to this release")


def _refuse_unsigned(record: Record, rules: Rules, keyring: KeyRing) -> None:
    values = [value for name, value in record.headers if name == SIGNATURE_HEADER]
    if len(values) == 1 and rules.keys is not None:
        _refuse_key_without_trust(key_id_of(values[0] or b""), rules.keys, keyring)
    if len(values) != 1 or not verify(keyring, record.key, record.value or b"", values[0] or b""):
        raise Undecodable(Cause.BAD_SIGNATURE, f"{len(values)} headers {SIGNATURE_HEADER}, none that is right")


def _refuse_key_without_trust(key_id: str, keys: str, keyring: KeyRing) -> None:
    """Refuse a key that the rules do not have, or whose life has ended, whatever the keys file says of it (I6)."""
    trusted = (read_keys(keys) or {}).get(key_id)
    if trusted is None:
        raise Undecodable(Cause.BAD_SIGNATURE, f"key {key_id!r} is not in the rules: `balance key announce`")
    if trusted.ended:
        raise Undecodable(Cause.BAD_SIGNATURE, f"key {key_id} has ended")
    lacking = why_lacking(keyring, write_keys({key_id: trusted}))
    if lacking is not None:
        raise LaneStopped(StopCode.KEY_MISSING, lacking)


def _refuse_key(key: bytes | None) -> None:
    if key:
        raise Undecodable(Cause.BAD_KEY, "a control record has no key")


def _refuse_other_key(command: MovePartner, key: str) -> None:
    if command.placement_key != key:
        raise Undecodable(Cause.BAD_KEY, f"{key} is the key of a marker of {bounded(command.placement_key)}")


@lru_cache(maxsize=_ROOTS_MAX)
def _root_of(key: bytes | None, lane: int, lanes: int, *, may_be_bucket: bool = False) -> str:
    """Return the key as a root of this lane, or as a bucket of it where it may be one (W3)."""
    try:
        root = (key or b"").decode("ascii")
    except UnicodeDecodeError:
        root = ""
    if not is_root(root) and not (may_be_bucket and bucket_named(root) is not None):
        raise Undecodable(Cause.BAD_KEY, f"{(key or b'')[:64]!r} is no root")
    if bucket_of(root) & (lanes - 1) != lane:
        raise Undecodable(Cause.WRONG_PARTITION, f"{root} belongs to lane {bucket_of(root) & (lanes - 1)}, not {lane}")
    return root
