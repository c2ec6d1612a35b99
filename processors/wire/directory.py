"""The records of ``balance.directory``: head, shards, their first rules, topics' partitions, keys, placements (R8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from processors.ledger.rules import Rules
from processors.routing.directory import Directory
from processors.wire import guard
from processors.wire.schemas import encode, schema_of

HEAD_KEY = b"head"
# The first rules: keys and registry ids of 8,192 bytes each, a shard's id, and numbers, with room.
_RECORD_BYTES_MAX = 17_408


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryHead:
    """The directory's first record. Ids have 16 bytes; ``ingress_epoch`` names a life of the ingress, and rises."""

    directory_id: bytes
    ingress_topic_id: bytes
    ingress_epoch: int

    @property
    def key(self) -> bytes:
        """Return its record's key."""
        return HEAD_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRecord:
    """The shard of a placement key (``unit``) from an ingress offset on: one a generation, never overwritten (R2)."""

    unit: str
    generation: int
    shard: str
    ingress_partition: int
    since: int

    @property
    def key(self) -> bytes:
        """Return its record's key: one for each placement key and generation."""
        return b"placement/%b/%d" % (self.unit.encode(), self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """A shard: its id, its topic, and the topic's id (16 bytes), which is the shard's incarnation."""

    shard: str
    topic: str
    topic_id: bytes

    @property
    def key(self) -> bytes:
        """Return its record's key."""
        return b"shard/" + self.shard.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRecord:
    """How many partitions of a topic, named without prefix, the service uses, for good (W3)."""

    topic: str
    partitions: int

    @property
    def key(self) -> bytes:
        """Return its record's key."""
        return b"topic/" + self.topic.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionRecord:
    """How far an ingress partition is forwarded: everything before ``next_offset`` was acknowledged (R6)."""

    ingress_epoch: int
    ingress_partition: int
    next_offset: int

    @property
    def key(self) -> bytes:
        """Return its record's key: one for each partition, so that the last one stays."""
        return b"position/%d" % self.ingress_partition


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRecord:
    """A key whose signatures count on markers, by its secret's fingerprint; or, ``ended``, that they no longer do."""

    key_id: str
    fingerprint: str
    ended: bool

    @property
    def key(self) -> bytes:
        """Return its record's key: a key's end does not take the place of its beginning."""
        return (b"key-ended/%b" if self.ended else b"key/%b") % self.key_id.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRulesRecord:
    """The rules with which each lane of a shard began (I6); whatever changed them since is in the shard's topic.

    The fields are those of ``ledger.rules.Rules``, as version 1 has them: without floors.
    """

    shard: str
    release: int
    window_ms: int
    skew_ms: int
    future_limit_ms: int
    refund_period_ms: int
    longest_hold_ms: int
    result_version: int
    keys: str | None
    registry_ids: str | None

    @property
    def key(self) -> bytes:
        """Return its record's key."""
        return b"rules/" + self.shard.encode()

    @property
    def rules(self) -> Rules:
        """Return them as the lanes know them."""
        return Rules(version=1, **{name: getattr(self, name) for name in _FIRST_RULES})


_FIRST_RULES = [field.name for field in fields(FirstRulesRecord) if field.name != "shard"]


def first_rules_record(shard: str, rules: Rules) -> FirstRulesRecord:
    """Return the record of the rules with which a shard begins, or began."""
    assert rules.version == 1, f"rules {rules.version} are not the first"
    return FirstRulesRecord(shard=shard, **{name: getattr(rules, name) for name in _FIRST_RULES})


DirectoryRecord = (
    DirectoryHead | PlacementRecord | ShardRecord | TopicRecord | PositionRecord | SigningKeyRecord | FirstRulesRecord
)

# A shard or key of the directory counts for markers that are so much younger, by the brokers' stamps. By then every
# router has read it that judges one, if the clocks of two brokers differ by less than this, but for
# ``workers.router.FRESH_S``: clocks that NTP sets differ by some milliseconds.
COUNTS_AFTER_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryKey:
    """A signing key, and the stamps of markers for which it counts: from the first on, before the second.

    ``ended_from_ms`` is None for a key that has not ended.
    """

    fingerprint: str
    counts_from_ms: int
    ended_from_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What the directory says by which markers are judged, each from a marker's stamp on, ms since the epoch (R3).

    ``keys`` are by id. ``targets`` has each shard, with the first stamp of a marker that may move somebody there.
    """

    keys: Mapping[str, DirectoryKey] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)


_SCHEMA_OF = {
    DirectoryHead: schema_of("directory_head"),
    PlacementRecord: schema_of("placement"),
    ShardRecord: schema_of("shard"),
    TopicRecord: schema_of("topic"),
    PositionRecord: schema_of("position"),
    SigningKeyRecord: schema_of("signing_key"),
    FirstRulesRecord: schema_of("first_rules"),
}
_KNOWN = {schema.prefix: guard.format_of(schema, kind) for kind, schema in _SCHEMA_OF.items()}


def encode_directory(record: DirectoryRecord) -> bytes:
    """Encode a record of the directory; its key is ``record.key``."""
    return encode(_SCHEMA_OF[type(record)], asdict(record))


def decode_directory(payload: bytes) -> DirectoryRecord:
    """Decode a record of the directory.

    Raises:
        Undecodable: It is none; see ``guard.decode``.
    """
    record: DirectoryRecord = guard.decode(payload, _KNOWN, bytes_max=_RECORD_BYTES_MAX)
    return record


def place(directory: Directory, entry: PlacementRecord) -> None:
    """Take a placement's record into the directory in memory.

    Raises:
        Misconfigured: There is another placement of its generation (R8).
    """
    directory.add(
        placement_key=entry.unit,
        generation=entry.generation,
        shard=entry.shard,
        ingress_partition=entry.ingress_partition,
        since=entry.since,
    )
