"""``balance.directory``: made by ``balance init``, read by the router before its first record (R1, R2, R8)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from processors.faults import Misconfigured, Undecodable
from processors.routing.directory import HOME_UNIT, Directory
from processors.streams.connection import KafkaAddress
from processors.streams.producer import IdempotentProducer
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, Topics, shard_topic
from processors.wire.directory import (
    DirectoryHead,
    DirectoryRecord,
    PlacementRecord,
    ShardRecord,
    decode_directory,
    encode_directory,
)
from processors.wire.records import OutRecord

_DIRECTORY_PARTITION = 0  # it has one: R1 reads it up to one end offset
_DIRECTORY_ID_BYTES = 16
# A few records, all of them acknowledged before `balance init` says that it is done.
_WRITE_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryContents:
    """The directory up to ``end_offset``: its head, who owns what, and each shard's topic by the shard's id."""

    head: DirectoryHead
    directory: Directory
    shards: dict[str, ShardRecord]
    end_offset: int


def read_directory(address: KafkaAddress) -> DirectoryContents:
    """Read the directory up to its end as it is now.

    Raises:
        Misconfigured: It has no head, two heads that cannot both be, a record of no known kind, or two placements of
            one generation (R8).
        Fault: Kafka cannot be reached.
    """
    contents = _read(address)
    if contents is None:
        raise Misconfigured(
            f"{address.topic_prefix}{DIRECTORY_TOPIC} does not say whose directory it is: run `balance init`; if "
            "there was one before, restore the topic from a copy instead; this release cannot make it again"
        )
    return contents


def write_directory_head(address: KafkaAddress, *, home_shard: str, shards: Sequence[str]) -> DirectoryContents:
    """Write the directory's head, its shards, and the home shard; what is there already stays as it is.

    Args:
        address: The brokers; the topics are there.
        home_shard: Owns generation 0 of every unit.
        shards: Every shard's id, the home shard's too.

    Returns:
        The directory afterwards.

    Raises:
        Misconfigured: The ingress topic, or a shard's, was made again since the directory was written; or the
            directory has another home shard.
        Fault: Kafka cannot be reached; do it again.

    Source: R8.
    """
    topics = Topics(address)
    known = _read(address)
    ingress_topic_id = topics.topic_id(COMMANDS_TOPIC)
    missing: list[DirectoryRecord] = []
    if known is None:
        head = DirectoryHead(
            directory_id=secrets.token_bytes(_DIRECTORY_ID_BYTES),
            ingress_topic_id=ingress_topic_id,
            ingress_epoch=_new_epoch(),
        )
        missing.append(head)  # R8: the first record
    else:
        head = known.head
        refuse_other_ingress(head, ingress_topic_id)
    wanted = [
        ShardRecord(shard=shard, topic=shard_topic(shard), topic_id=topics.topic_id(shard_topic(shard)))
        for shard in shards
    ]
    missing += _missing_shards(known.shards if known else {}, wanted)
    missing += _missing_home(known.directory.home_shard if known else None, home_shard)
    _write(address, missing)
    written = read_directory(address)
    if written.head != head:
        raise Misconfigured("another `balance init` ran at the same time: run it again")
    return written


def _new_epoch() -> int:
    """Return an ingress epoch that no lane has met: seconds since 1970, which fit its 32 bits until 2106.

    Counted from 1, a directory that is made again, with its ingress, would begin with an epoch in which the lanes have
    positions already; they would drop its commands in silence, up to those offsets (L10).
    """
    return int(time.time())


def _missing_shards(known: Mapping[str, ShardRecord], wanted: Sequence[ShardRecord]) -> list[ShardRecord]:
    for shard in wanted:
        found = known.get(shard.shard, shard)
        if found != shard:
            raise Misconfigured(
                f"the directory knows shard {shard.shard} by topic {found.topic} with id {found.topic_id.hex()}, and "
                f"the topic now has id {shard.topic_id.hex()}: it was made again, and what it held is gone; restore "
                "it, or recover the shard under another id"
            )
    return [shard for shard in wanted if shard.shard not in known]


def _missing_home(known: str | None, wanted: str) -> list[PlacementRecord]:
    if known not in (None, wanted):
        raise Misconfigured(
            f"the directory's home shard is {known} and the settings say {wanted}: it never changes, since every "
            "partner lives there and this release moves none; correct the settings"
        )
    home = PlacementRecord(unit=HOME_UNIT, generation=0, shard=wanted, ingress_partition=0, since=0)
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


def _read(address: KafkaAddress) -> DirectoryContents | None:
    start, end = Topics(address).bounds(DIRECTORY_TOPIC, _DIRECTORY_PARTITION)
    head: DirectoryHead | None = None
    directory = Directory()
    shards: dict[str, ShardRecord] = {}
    for records in read_range(address, DIRECTORY_TOPIC, _DIRECTORY_PARTITION, start, end):
        for record in records:
            try:
                entry = decode_directory(record.value or b"")
            except Undecodable as fault:
                raise Misconfigured(
                    f"record {record.offset} of {DIRECTORY_TOPIC} is none of this release's: {fault}"
                ) from fault
            if isinstance(entry, DirectoryHead):
                head = _later(head, entry)
            elif isinstance(entry, PlacementRecord):
                directory.add(
                    unit=entry.unit,
                    generation=entry.generation,
                    shard=entry.shard,
                    ingress_partition=entry.ingress_partition,
                    since=entry.since,
                )
            else:
                shards[entry.shard] = entry
    return None if head is None else DirectoryContents(head=head, directory=directory, shards=shards, end_offset=end)


def _later(known: DirectoryHead | None, met: DirectoryHead) -> DirectoryHead:
    """Return the head that holds: the one with the higher ingress epoch, of one and the same directory (R8)."""
    if known is None or known == met:
        return met
    if known.directory_id != met.directory_id or met.ingress_epoch <= known.ingress_epoch:
        raise Misconfigured(
            f"{DIRECTORY_TOPIC} has two heads: directory {known.directory_id.hex()} at ingress epoch "
            f"{known.ingress_epoch}, then {met.directory_id.hex()} at {met.ingress_epoch}"
        )
    return met


def _write(address: KafkaAddress, records: Sequence[DirectoryRecord]) -> None:
    if not records:
        return
    producer = IdempotentProducer(address)
    try:
        for record in records:
            producer.send(
                OutRecord(
                    address.topic_prefix + DIRECTORY_TOPIC,
                    _DIRECTORY_PARTITION,
                    record.key,
                    encode_directory(record),
                    [],
                )
            )
        producer.flush(_WRITE_DEADLINE_S)
    finally:
        producer.close()
