"""``balance.directory``: made by ``balance init``, read by the router before its first record (R1, R2, R8)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import assert_never

from processors.faults import Misconfigured, Refused, Undecodable
from processors.ledger.rules import Rules
from processors.ledger.trust import TrustedKey
from processors.routing.directory import HOME_PLACEMENT_KEY, Directory
from processors.streams.connection import KafkaAddress
from processors.streams.directory_records import DIRECTORY_PARTITION, write_records
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, TopicAdmin, shard_topic
from processors.wire.directory import (
    COUNTS_AFTER_MS,
    DirectoryHead,
    DirectoryKey,
    DirectoryRecord,
    FirstRulesRecord,
    PlacementRecord,
    PositionRecord,
    ShardRecord,
    SigningKeyRecord,
    TopicRecord,
    Vouched,
    decode_directory,
    place,
)
from processors.wire.records import Record

DIRECTORY_ID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryContents:
    """The directory up to ``end_offset``: its head, who owns what, and each shard's topic by the shard's id.

    ``partitions`` says of each topic, named without prefix, how many partitions the service uses; it lacks them where
    `balance init` was last run by a release that did not write them. ``positions`` are the routers' own, in the head's
    ingress epoch: of each ingress partition an offset before which everything is forwarded. ``vouched`` is what
    markers are judged by. ``topic_id`` is the directory's topic's own. ``first_rules`` are those with which a shard
    began, by its id; of one that an earlier release made they are missing until `balance migrate` has told them.
    """

    head: DirectoryHead
    directory: Directory
    shards: dict[str, ShardRecord]
    partitions: dict[str, int]
    end_offset: int
    positions: dict[int, int] = field(default_factory=dict)
    vouched: Vouched = field(default_factory=Vouched)
    topic_id: bytes = b""
    first_rules: dict[str, Rules] = field(default_factory=dict)

    def lanes_of(self, shard: str) -> int | None:
        """Return how many lanes one of ``shards`` has, its own number; None where an earlier release did not say."""
        return self.partitions.get(self.shards[shard].topic)


def read_directory(address: KafkaAddress, known: DirectoryContents | None = None) -> DirectoryContents:
    """Read the directory up to its end as it is now (R1).

    Args:
        address: The brokers.
        known: What was read of it before, whose ``directory`` is added to: only what came since is read. It grows only,
            and with all buckets placed it takes a second to read.

    Raises:
        Misconfigured: It has no head, two heads that cannot both be, a record of no known kind, or two placements of
            one generation; or it is not the one that was read before, or has lost its end since (R8).
        Fault: Kafka cannot be reached.
    """
    contents = _read(address, known)
    if contents is None:
        raise _no_directory(address)
    return contents


def _no_directory(address: KafkaAddress) -> Misconfigured:
    return Misconfigured(
        f"{address.topic_prefix}{DIRECTORY_TOPIC} is not there, or does not say whose directory it is: run `balance "
        "init`; if there was one before, have it made again from the shards instead (`balance directory rebuild`)"
    )


def find_directory(address: KafkaAddress) -> DirectoryContents | None:
    """Return the directory up to its end as it is now; None where there is none yet.

    Raises:
        Misconfigured: Its records contradict each other (R8).
        Fault: Kafka cannot be reached.
    """
    return _read(address) if TopicAdmin(address).exists(DIRECTORY_TOPIC) else None


def read_placements(address: KafkaAddress) -> list[tuple[PlacementRecord, int]]:
    """Return every placement of the directory as it is now, for people.

    Returns:
        Each with the broker's time of its first record that is left, ms since the epoch, UTC; the home shard's, too.

    Raises:
        Misconfigured: There is no directory, or a record is of no known kind.
        Fault: Kafka cannot be reached.
    """
    topics = TopicAdmin(address)
    if not topics.exists(DIRECTORY_TOPIC):
        raise _no_directory(address)
    start, end = topics.bounds(DIRECTORY_TOPIC, DIRECTORY_PARTITION)
    found: dict[PlacementRecord, int] = {}
    for record in chain.from_iterable(read_range(address, DIRECTORY_TOPIC, DIRECTORY_PARTITION, start, end)):
        entry = _entry_of(record)
        if isinstance(entry, PlacementRecord):
            found.setdefault(entry, record.timestamp_ms)
    return list(found.items())


def write_keys(address: KafkaAddress, keys: Mapping[str, TrustedKey]) -> list[str]:
    """Write which keys count on markers, and which have ended, as far as that is missing; return the ids written.

    Args:
        address: The brokers.
        keys: As the rules of a lane have them, by id.

    Raises:
        Misconfigured: There is no directory, or it knows one of them by another secret.
        Fault: Kafka cannot be reached; do it again.
    """
    contents = read_directory(address)
    known = dict(contents.vouched.keys)
    missing = _missing_keys(known, keys)
    for key in missing:
        _vouch(known, key, 0)  # refuses another secret
    write_records(address, missing)
    return sorted({record.key_id for record in missing})


def _missing_keys(known: Mapping[str, DirectoryKey], wanted: Mapping[str, TrustedKey]) -> list[SigningKeyRecord]:
    missing: list[SigningKeyRecord] = []
    for key_id, key in wanted.items():
        found = known.get(key_id)
        if found is None or found.fingerprint != key.fingerprint:
            missing.append(SigningKeyRecord(key_id=key_id, fingerprint=key.fingerprint, ended=False))
        if key.ended and (found is None or found.ended_from_ms is None):
            missing.append(SigningKeyRecord(key_id=key_id, fingerprint=key.fingerprint, ended=True))
    return missing


def write_directory_head(
    address: KafkaAddress,
    *,
    home_shard: str,
    shards: Sequence[str],
    partitions: Mapping[str, int],
    keys: Mapping[str, TrustedKey],
) -> DirectoryContents:
    """Write the directory's head, its shards and topics, and the home shard; what is there already stays as it is.

    Args:
        address: The brokers; the topics are there.
        home_shard: Owns generation 0 of every placement key.
        shards: Every shard's id, the home shard's too.
        partitions: Of each topic, named without prefix, how many the service is to use.
        keys: The signing keys that count for every marker, by id; only a new directory is given them (``write_keys``).

    Returns:
        The directory afterwards.

    Raises:
        Misconfigured: The ingress topic, or a shard's, was made again since the directory was written; or the
            directory has another home shard or another count of partitions; or a topic of a new directory has.
        Fault: Kafka cannot be reached; do it again.

    Source: R8.
    """
    topics = TopicAdmin(address)
    known = _read(address)
    ingress_topic_id = topics.topic_id(COMMANDS_TOPIC)
    missing: list[DirectoryRecord] = []
    if known is None:
        _refuse_other_counts(topics.partition_counts(list(partitions)), partitions)
        head = _new_head(ingress_topic_id)
        missing.append(head)  # R8: the first record
        missing += _missing_keys({}, keys)
    else:
        head = known.head
        refuse_other_ingress(head, ingress_topic_id)
    topic_of = {shard: shard_topic(shard) for shard in shards}
    wanted = [ShardRecord(shard=each, topic=name, topic_id=topics.topic_id(name)) for each, name in topic_of.items()]
    missing += _missing_shards(known.shards if known else {}, wanted)
    missing += _missing_topics(known.partitions if known else {}, partitions)
    missing += _missing_home(known.directory.home_shard if known else None, home_shard)
    write_records(address, missing)
    written = read_directory(address)
    if written.head != head:
        raise Misconfigured("another `balance init` ran at the same time: run it again")
    return written


def write_shard(address: KafkaAddress, *, shard: str, lanes: int) -> bool:
    """Write a further shard, whose topic is there, and its number of lanes; say whether it was missing.

    Raises:
        Misconfigured: There is no directory, or it knows the shard by another topic or with other lanes.
        Fault: Kafka cannot be reached; do it again.
    """
    topic = shard_topic(shard)
    contents = read_directory(address)
    wanted = ShardRecord(shard=shard, topic=topic, topic_id=TopicAdmin(address).topic_id(topic))
    # The count first: who knows the shard knows its lanes.
    missing: list[DirectoryRecord] = [*_missing_topics(contents.partitions, {topic: lanes})]
    missing += _missing_shards(contents.shards, [wanted])
    write_records(address, missing)
    return bool(missing)


def _new_head(ingress_topic_id: bytes) -> DirectoryHead:
    """Return a head with an ingress epoch that no lane has met: seconds since 1970, which fit its 32 bits until 2106.

    Counted from 1, a directory that is made again, with its ingress, would begin with an epoch in which the lanes have
    positions already; they would drop its commands in silence, up to those offsets (L10).
    """
    directory_id = secrets.token_bytes(DIRECTORY_ID_BYTES)
    return DirectoryHead(directory_id=directory_id, ingress_topic_id=ingress_topic_id, ingress_epoch=int(time.time()))


def _missing_shards(known: Mapping[str, ShardRecord], wanted: Sequence[ShardRecord]) -> list[ShardRecord]:
    for shard in wanted:
        if shard.shard in known:
            _refuse_other_topic(known[shard.shard], shard.topic_id)
    return [shard for shard in wanted if shard.shard not in known]


def refuse_unknown_shard(contents: DirectoryContents, shard: str) -> None:
    """Refuse a shard that the directory does not have.

    Raises:
        Misconfigured: Says which ones it has.
    """
    if shard not in contents.shards:
        raise Misconfigured(
            f"there is no shard {shard}; there are {', '.join(sorted(contents.shards))} (`balance shard add {shard}` "
            "makes one)"
        )


def refuse_other_topic(contents: DirectoryContents, shard: str, topic_id: bytes | None) -> None:
    """Refuse a topic that is not the one by which the directory knows a shard.

    Args:
        contents: Of a directory that knows the shard.
        shard: Its id.
        topic_id: The topic's, 16 bytes; None where there is no such topic.

    Raises:
        Misconfigured: It was made again, or is gone.
    """
    _refuse_other_topic(contents.shards[shard], topic_id)


def _refuse_other_topic(known: ShardRecord, topic_id: bytes | None) -> None:
    if topic_id != known.topic_id:
        now = "there is no such topic now" if topic_id is None else f"the topic now has id {topic_id.hex()}"
        raise Misconfigured(
            f"the directory knows shard {known.shard} by topic {known.topic} with id {known.topic_id.hex()}, and "
            f"{now}: it was {'deleted' if topic_id is None else 'made again'}, and what it held is gone; restore it, "
            "or recover the shard under another id"
        )


def _refuse_other_counts(found: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Refuse a topic of another count than a new directory would say: somebody else made it for something else."""
    for topic, partitions in wanted.items():
        if found[topic] != partitions:
            raise Misconfigured(
                f"topic {topic} has {found[topic]} partitions and the settings say {partitions}: correct the settings, "
                "or delete the topic if nothing was ever written to it"
            )


def _missing_topics(known: Mapping[str, int], wanted: Mapping[str, int]) -> list[TopicRecord]:
    for topic, partitions in wanted.items():
        if known.get(topic, partitions) != partitions:
            raise Misconfigured(
                f"the service uses {known[topic]} partitions of topic {topic}, as its directory says, and the settings "
                f"say {partitions}: a count never changes, since a key's partition is its order guarantee; correct the "
                "settings"
            )
    return [
        TopicRecord(topic=topic, partitions=partitions) for topic, partitions in wanted.items() if topic not in known
    ]


def _missing_home(known: str | None, wanted: str) -> list[PlacementRecord]:
    if known not in (None, wanted):
        raise Misconfigured(
            f"the directory's home shard is {known} and the settings say {wanted}: it never changes: it "
            "owns every partner who was not moved; correct the settings"
        )
    home = PlacementRecord(unit=HOME_PLACEMENT_KEY, generation=0, shard=wanted, ingress_partition=0, since=0)
    return [home] if known is None else []


def refuse_other_ingress(head: DirectoryHead, ingress_topic_id: bytes) -> None:
    """Refuse an ingress topic that is not the one the directory's offsets speak of (R8).

    Raises:
        Misconfigured: It was made again under the same name.
    """
    if head.ingress_topic_id != ingress_topic_id:
        raise Misconfigured(
            f"{COMMANDS_TOPIC} has id {ingress_topic_id.hex()} and the directory was made for "
            f"{head.ingress_topic_id.hex()}: the topic was made again, so every offset means another record. A new "
            "ingress epoch is needed before anything is routed; nothing was written or read"
        )


def _read(address: KafkaAddress, known: DirectoryContents | None = None) -> DirectoryContents | None:
    topics = TopicAdmin(address)
    try:
        topic_id = topics.topic_id(DIRECTORY_TOPIC)
    except Refused as refused:  # waited for: a right may be given, and a copy of the topic restored
        raise Refused(f"{refused}. If the topic is lost: docs/recovery.md, A lost directory") from refused
    start, end = topics.bounds(DIRECTORY_TOPIC, DIRECTORY_PARTITION)
    if known is not None:
        if topic_id != known.topic_id or end < known.end_offset:
            raise Misconfigured(
                f"{DIRECTORY_TOPIC} was read up to its offset {known.end_offset} under id {known.topic_id.hex()}, and "
                f"now ends at {end} under id {topic_id.hex()}: placements are lost"
            )
        start = known.end_offset
    stretches = read_range(address, DIRECTORY_TOPIC, DIRECTORY_PARTITION, start, end)
    contents = contents_of(chain.from_iterable(stretches), end, known)
    return None if contents is None else replace(contents, topic_id=topic_id)


def contents_of(
    records: Iterable[Record], end_offset: int, known: DirectoryContents | None = None
) -> DirectoryContents | None:
    """Return what the records of the directory's topic say.

    Args:
        records: All of them before ``end_offset``, in order; compaction may have left the last one of each key.
        end_offset: Where the topic ended when its reader began.
        known: What those before ``records`` say; its ``directory`` is added to.

    Returns:
        The directory; None where it has no head.

    Raises:
        Misconfigured: See ``read_directory``.
    """
    reading = _Reading() if known is None else _Reading.after(known)
    for record in records:
        reading.take(_entry_of(record), record.timestamp_ms)
    return None if reading.head is None else reading.contents(reading.head, end_offset)


@dataclass(slots=True)
class _Reading:
    """What the records of the directory have said so far; ``positions`` by ingress epoch and partition."""

    head: DirectoryHead | None = None
    directory: Directory = field(default_factory=Directory)
    shards: dict[str, ShardRecord] = field(default_factory=dict)
    partitions: dict[str, int] = field(default_factory=dict)
    positions: dict[tuple[int, int], int] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    keys: dict[str, DirectoryKey] = field(default_factory=dict)
    first_rules: dict[str, Rules] = field(default_factory=dict)

    @classmethod
    def after(cls, known: DirectoryContents) -> _Reading:
        epoch = known.head.ingress_epoch
        return cls(
            head=known.head,
            directory=known.directory,
            shards=dict(known.shards),
            partitions=dict(known.partitions),
            positions={(epoch, part): offset for part, offset in known.positions.items()},
            targets=dict(known.vouched.targets),
            keys=dict(known.vouched.keys),
            first_rules=dict(known.first_rules),
        )

    def take(self, entry: DirectoryRecord, stamp_ms: int) -> None:
        # Nobody routes anything before there is a home shard, so what stands before it counts for every marker.
        counts_from_ms = 0 if self.directory.home_shard is None else stamp_ms + COUNTS_AFTER_MS
        match entry:
            case DirectoryHead():
                self.head = _later(self.head, entry)
            case PlacementRecord():
                place(self.directory, entry)
            case TopicRecord():
                _count(self.partitions, entry)
            case PositionRecord():
                key = (entry.ingress_epoch, entry.ingress_partition)
                self.positions[key] = max(entry.next_offset, self.positions.get(key, 0))  # each of them is true (R6)
            case ShardRecord():
                self.shards[entry.shard] = entry
                self.targets.setdefault(entry.shard, counts_from_ms)
            case SigningKeyRecord():
                _vouch(self.keys, entry, counts_from_ms)
            case FirstRulesRecord():
                self.first_rules.setdefault(entry.shard, entry.rules)  # what was said first is true
            case _:
                assert_never(entry)

    def contents(self, head: DirectoryHead, end_offset: int) -> DirectoryContents:
        return DirectoryContents(
            head=head,
            directory=self.directory,
            shards=self.shards,
            partitions=self.partitions,
            end_offset=end_offset,
            positions={part: offset for (epoch, part), offset in self.positions.items() if epoch == head.ingress_epoch},
            vouched=Vouched(keys=self.keys, targets=self.targets),
            first_rules=self.first_rules,
        )


def _entry_of(record: Record) -> DirectoryRecord:
    try:
        return decode_directory(record.value or b"")
    except Undecodable as fault:
        raise Misconfigured(
            f"record {record.offset} of {DIRECTORY_TOPIC} is none of this release's: {fault}"
        ) from fault


def _vouch(keys: dict[str, DirectoryKey], entry: SigningKeyRecord, counts_from_ms: int) -> None:
    """Note that a key counts, or has ended, from a marker's stamp on; what was said first stays said."""
    known = keys.setdefault(entry.key_id, DirectoryKey(fingerprint=entry.fingerprint, counts_from_ms=counts_from_ms))
    if known.fingerprint != entry.fingerprint:
        raise Misconfigured(
            f"{DIRECTORY_TOPIC} gives key {entry.key_id} two secrets, with fingerprints {known.fingerprint} and "
            f"{entry.fingerprint}: no marker is judged until one is proven wrong"
        )
    if entry.ended and known.ended_from_ms is None:
        keys[entry.key_id] = replace(known, ended_from_ms=counts_from_ms)


def _count(partitions: dict[str, int], entry: TopicRecord) -> None:
    known = partitions.setdefault(entry.topic, entry.partitions)
    if known != entry.partitions:  # W3
        raise Misconfigured(
            f"{DIRECTORY_TOPIC} gives topic {entry.topic} {known} partitions, then {entry.partitions}: nothing is "
            "routed until one is proven wrong"
        )


def _later(known: DirectoryHead | None, met: DirectoryHead) -> DirectoryHead:
    """Return the head that counts: of two heads of one directory, that with the higher ingress epoch (R8)."""
    if known is None or known == met:
        return met
    if known.directory_id != met.directory_id or met.ingress_epoch <= known.ingress_epoch:
        raise Misconfigured(
            f"{DIRECTORY_TOPIC} has two heads: directory {known.directory_id.hex()} at ingress epoch "
            f"{known.ingress_epoch}, then {met.directory_id.hex()} at {met.ingress_epoch}"
        )
    return met
