"""Commands to bytes and back, and the hash that tells a repetition from another body (F1, I3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar

from processors.faults import Undecodable
from processors.ledger.addresses import ADDRESS_BYTES_MAX
from processors.ledger.command_types import TYPES, Origin
from processors.ledger.commands import AccountStatus, Command, Control, Direction, MovePartner, Policy, Recalled
from processors.ledger.metadata import canonical_metadata, metadata_bytes
from processors.ledger.rules import RULES_RELEASE
from processors.ledger.trust import read_registry_ids
from processors.wire import guard
from processors.wire.causes import Cause
from processors.wire.exact import Writer, writer_of
from processors.wire.schemas import ALL, MARKER, PREFIX_BYTES, Schema, name_of, refuse_unsafe

PAYLOAD_BYTES_MAX = 65_536  # W4
BODY_HASH_BYTES = 16
_ACCOUNTS_MAX = 65_536  # whose part of a hash is remembered: those of the recent batches, 600 bytes each at most

ConfluentIds = Mapping[int, Schema]
"""A schema registry's ids of the commands' schemas (``schemas.schema_of``)."""

NO_REGISTRY: ConfluentIds = MappingProxyType({})
_CONFLUENT_MARKER = b"\x00"
_CONFLUENT_ID_BYTES = 4
# No schema registry's id stands for one of these: they are told by their first ten bytes.
_BY_PREFIX = {
    str(row.type) for row in TYPES if row.is_control or row.origin is Origin.SERVICE or row.command is MovePartner
}

AnyCommand = TypeVar("AnyCommand", bound=Command | Control)

_CLASS_OF: dict[str, type[Command | Control]] = {str(row.type): row.command for row in TYPES}
_ENUM_CLASSES = (Policy, AccountStatus, Direction, Recalled)
_NAME_OF: dict[type[Command | Control], str] = {kind: name for name, kind in _CLASS_OF.items()}
_MEMBERS: guard.Enums = MappingProxyType(
    {f"balance.{kind.__name__}": {str(member): member for member in kind} for kind in _ENUM_CLASSES}
)


def _schemas() -> dict[str, list[Schema]]:
    """Return the versions of each command's schema by type name, oldest first; each is safe to decode (F1)."""
    found: dict[str, list[Schema]] = {type_name: [] for type_name in _CLASS_OF}
    for schema in sorted(ALL.values(), key=lambda each: each.version):
        if schema.name.upper() in found:
            refuse_unsafe(schema.parsed)
            found[schema.name.upper()].append(schema)
    return found


_SCHEMAS = _schemas()
_FORMATS = {
    schema.prefix: guard.format_of(schema, _CLASS_OF[type_name], _MEMBERS)
    for type_name, versions in _SCHEMAS.items()
    for schema in versions
}
_FORMATS_OF = {
    release: {prefix: known for prefix, known in _FORMATS.items() if known.schema.since_release <= release}
    for release in range(1, RULES_RELEASE + 1)
}
_TYPE_OF_PREFIX = {schema.prefix: type_name for type_name, versions in _SCHEMAS.items() for schema in versions}


def type_of_payload(payload: bytes) -> str | None:
    """Return the type that a payload says it has, from its first ten bytes alone: ``PAY``, ``TICK``, ...; else None."""
    return _TYPE_OF_PREFIX.get(payload[:PREFIX_BYTES])


def prefixes_of(type_name: str) -> tuple[bytes, ...]:
    """Return the first ten bytes of each version of a type's schema."""
    return tuple(prefix for prefix, known in _TYPE_OF_PREFIX.items() if known == type_name)


def encode_command(command: Command | Control, *, release: int = RULES_RELEASE) -> bytes:
    """Encode a command by the newest version of its schema that a release knows, in single-object encoding.

    Args:
        command: Each field exactly of its type: an amount is an ``int``, neither a ``bool`` nor a float that would be
            cut. ``metadata`` may be a dict, which is written as ``metadata_bytes`` writes it.
        release: That of the rules of whoever decides it: what is written by a later version is a dead letter there.

    Raises:
        TypeError: It is no command; the text says what to write.
        ValueError: A field is of another type or does not fit its schema (an amount beyond 64 bits, an id that has not
            16 bytes, a lone surrogate): the text names field, value, type, and what to write. Or the release has no
            word for it, or the payload is above PAYLOAD_BYTES_MAX (W4).
    """
    kind = type(command)
    if kind not in _SHAPES:
        raise TypeError(
            f"{command!r:.60} is a {kind.__name__} and no command: write one of processors.ledger.commands, such as "
            'Pay(command_id=client.new_id(), address="acme:vn", currency="USD", amount_minor=1250)'
        )
    shape = _SHAPES[kind]
    command = with_metadata_as_bytes(command)
    form = shape.form if release >= shape.form.schema.since_release else _form(_schema_of(command, release))
    values = form.values(command)
    payload = b"".join([form.schema.prefix, *[write(value) for write, value in zip(form.writers, values, strict=True)]])
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"{_NAME_OF[kind]}: {len(payload)} bytes are above {PAYLOAD_BYTES_MAX}")
    return payload


def first_release(command: Command | Control) -> int:
    """Return the first release that knows all that a command says: a lane by its rules, or by later ones, reads it."""
    schemas = _SCHEMAS[_NAME_OF[type(command)]]
    return next(schema.since_release for schema in schemas if not _lost(command, schema))


def with_metadata_as_bytes(command: AnyCommand) -> AnyCommand:
    """Return the command that a command with a dict as its metadata stands for, and any other as it is.

    Raises:
        ValueError: The dict holds what JSON would write as something else; see ``metadata_bytes``.
    """
    metadata: object = getattr(command, "metadata", None)
    if type(metadata) is not dict:
        return command
    written: Any = {"metadata": metadata_bytes(metadata)}
    return replace(command, **written)


def _schema_of(command: Command | Control, release: int) -> Schema:
    """Return the newest schema of a release below this one, proven to say all that the command says."""
    name = _NAME_OF[type(command)]
    known = [schema for schema in _SCHEMAS[name] if schema.since_release <= release]
    if not known:
        raise ValueError(f"{name}: release {release} does not know it: `balance rules raise`")
    lost = _lost(command, known[-1])
    if lost:
        raise ValueError(f"{name}: release {release} has no {', '.join(lost)}: `balance rules raise`")
    return known[-1]


def _lost(command: Command | Control, schema: Schema) -> list[str]:
    """Return which fields that say something a version of the schema does not have."""
    said = {field["name"] for field in schema.parsed["fields"]}
    return [
        field.name
        for field in fields(command)
        if field.name not in said and getattr(command, field.name) != field.default
    ]


def decode_command(
    payload: bytes,
    confluent: ConfluentIds = NO_REGISTRY,
    *,
    registry_ids: str | None = None,
    release: int = RULES_RELEASE,
) -> Command | Control:
    """Decode a payload that anybody may have written.

    Args:
        payload: In single-object encoding; or, from producers with a schema registry, in its framing: a zero, the
            schema's id in four bytes, big endian, and the fields. The latter for partners' commands only, since the
            service tells its own by their first ten bytes.
        confluent: The registry's ids of the settings; they count while the log does not name any.
        registry_ids: Those of the rules in force, a text of ``ledger.trust`` (I6).
        release: That of the rules in force. A schema of a later release is as unknown as it was to the releases that
            had not heard of it (I6).

    Returns:
        The command as its record said it, not judged: an amount may be zero, an address malformed.

    Raises:
        Undecodable: See ``guard.decode``.
    """
    if registry_ids is not None:
        payload = _unframed_by_rules(payload, registry_ids, release)
    elif confluent:
        payload = _unframed(payload, confluent)
    command: Command | Control = guard.decode(payload, _FORMATS_OF[release], bytes_max=PAYLOAD_BYTES_MAX)
    return command


def _unframed(payload: bytes, confluent: ConfluentIds) -> bytes:
    end = len(_CONFLUENT_MARKER) + _CONFLUENT_ID_BYTES
    if not payload.startswith(_CONFLUENT_MARKER) or len(payload) < end:
        return payload
    schema = confluent.get(int.from_bytes(payload[len(_CONFLUENT_MARKER) : end], "big"))
    if schema is None or _TYPE_OF_PREFIX.get(schema.prefix) in _BY_PREFIX:
        return payload
    return schema.prefix + payload[end:]


def _unframed_by_rules(payload: bytes, registry_ids: str, release: int) -> bytes:
    end = len(_CONFLUENT_MARKER) + _CONFLUENT_ID_BYTES
    if not payload.startswith(_CONFLUENT_MARKER) or len(payload) < end:
        return payload
    number = int.from_bytes(payload[len(_CONFLUENT_MARKER) : end], "big")
    fingerprint = (read_registry_ids(registry_ids) or {}).get(number)
    if fingerprint is None:
        raise Undecodable(
            Cause.UNKNOWN_SCHEMA, f"registry id {number} is not in the rules: `balance rules set --registry-id`"
        )
    prefix = MARKER + bytes.fromhex(fingerprint)
    known = _FORMATS_OF[release].get(prefix)  # another one is unknown to every release that may decide here
    if known is not None and _TYPE_OF_PREFIX[prefix] in _BY_PREFIX:
        raise Undecodable(Cause.UNKNOWN_SCHEMA, f"registry id {number} stands for a record of the service's own")
    return prefix + payload[end:]


# ------------------------------------------------------------------ body hash

_ACCOUNT_FIELDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How a command is written by a schema: what reads its fields, and what writes each."""

    schema: Schema
    values: Callable[[Any], tuple[Any, ...]]
    writers: tuple[Writer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """How a command's fields are read: all of them for encoding, all but its id for hashing."""

    form: _Form
    head: bytes
    hashed: tuple[tuple[bytes, Any], ...]  # label and default
    body: Callable[[Any], tuple[Any, ...]]
    names_account: bool  # whether the body begins with address and currency
    after_account: Callable[[Any], tuple[Any, ...]]


def _values_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads these attributes of a command; ``attrgetter`` of several is one call of C."""
    return attrgetter(*names) if len(names) > 1 else lambda command: tuple(getattr(command, name) for name in names)


def _form(schema: Schema) -> _Form:
    parts, name = schema.parsed["fields"], name_of(schema.parsed)
    return _Form(
        schema=schema,
        values=_values_of(tuple(part["name"] for part in parts)),
        writers=tuple(writer_of(part["type"], _MEMBERS, f"{name}.{part['name']}") for part in parts),
    )


def _shape(kind: type[Command | Control]) -> _Shape:
    body = [field for field in fields(kind) if field.name != "command_id"]
    form = _form(_SCHEMAS[_NAME_OF[kind]][-1])
    assert len(form.writers) == len(fields(kind)), f"the newest schema of {kind.__name__} does not say all of it"
    names = tuple(field.name for field in body)
    return _Shape(
        form=form,
        head=_NAME_OF[kind].encode(),
        hashed=tuple((b" %b " % field.name.encode(), field.default) for field in body),
        body=_values_of(names),
        names_account=names[:_ACCOUNT_FIELDS] == ("address", "currency"),
        after_account=_values_of(names[_ACCOUNT_FIELDS:]),
    )


@lru_cache(maxsize=_ACCOUNTS_MAX)
def _account_part(head: bytes, address: str, currency: str) -> bytes:
    """Return the beginning of what is hashed of every command of a type about an account."""
    raw = (address.encode(), currency.encode())
    return b"%b address %d:%b currency %d:%b" % (head, len(raw[0]), raw[0], len(raw[1]), raw[1])


_SHAPES = {kind: _shape(kind) for kind in _NAME_OF}
_METADATA = b" metadata "
_SIZES = [b"%d:" % size for size in range(256)]  # formatting them anew takes a quarter of the hash's 2 µs
_RAW: dict[type, Callable[[Any], bytes]] = {
    bytes: lambda value: value,
    str: str.encode,
    bool: lambda value: b"1" if value else b"0",
    int: b"%d".__mod__,
    type(None): lambda _: b"null",
    **dict.fromkeys(_ENUM_CLASSES, str.encode),
}


def body_hash(command: Command) -> bytes:
    """Return the hash by which a repeated id is told from a reused one.

    Hashed are the type and, in the order of the command's fields, each that is not its default: its name, and its
    value as a netstring (length, colon, bytes). Integers are decimal, texts UTF-8, enums their names, metadata
    canonical where it is valid. The id is left out, as are schema version, encoding and headers: the same wish in a
    later version of the schema is still the same wish.

    Returns:
        16 bytes of SHA-256.

    Source: rule I3.
    """
    shape = _SHAPES[type(command)]
    address, currency = command.address, command.currency
    if shape.names_account and len(address) <= ADDRESS_BYTES_MAX and len(currency) <= ADDRESS_BYTES_MAX:
        parts = [_account_part(shape.head, address, currency)]
        labels, values = shape.hashed[_ACCOUNT_FIELDS:], shape.after_account(command)
    else:
        parts = [shape.head]
        labels, values = shape.hashed, shape.body(command)
    for (label, default), value in zip(labels, values, strict=True):
        if value != default:
            raw = _RAW[type(value)](value)
            if label == _METADATA:
                raw = canonical_metadata(raw) or raw
            size = len(raw)
            parts += (label, _SIZES[size] if size < len(_SIZES) else b"%d:" % size, raw)
    return sha256(b"".join(parts)).digest()[:BODY_HASH_BYTES]
