"""Writes a directory that was lost: its records, then the routers' commits, and its head last (R8).

As long as it has no head, nobody takes it for a directory. So a run that was cut off is begun anew, and finds what it
wrote; and no router goes on before the commits name the new directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.faults import Misconfigured, Unavailable
from processors.routing.directory import Directory
from processors.streams.connection import KafkaAddress, Login, answer_of
from processors.streams.directory_records import DIRECTORY_PARTITION, write_records
from processors.streams.group_look import committed_positions
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, DIRECTORY_TOPIC, ROUTER_GROUP, TopicAdmin
from processors.wire.directory import (
    DirectoryHead,
    DirectoryRecord,
    PlacementRecord,
    PositionRecord,
    decode_directory,
    place,
)
from processors.wire.routed import RoutedBy

DEADLINE_S = 30.0  # as for any other change of a group
RECORDS_TOGETHER = 10_000  # written and acknowledged within a second; between them it is told how far it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What the topic has of a directory that is to be written: ``head`` None where it has none.

    ``missing`` are the wanted records that are not there; ``strange`` those that are there and say something else:
    what is left of the lost directory.
    """

    head: DirectoryHead | None
    missing: list[DirectoryRecord]
    strange: Sequence[DirectoryRecord]


def remains_of(address: KafkaAddress, wanted: Sequence[DirectoryRecord]) -> Remains:
    """Compare what the directory's topic has with the records that it is to have, without its head.

    Raises:
        Misconfigured: It has a record that is none of a directory's.
        Fault: Kafka cannot be reached.
    """
    topics = TopicAdmin(address)
    if not topics.exists(DIRECTORY_TOPIC):
        return Remains(head=None, missing=list(wanted), strange=[])
    start, end = topics.bounds(DIRECTORY_TOPIC, DIRECTORY_PARTITION)
    found = chain.from_iterable(read_range(address, DIRECTORY_TOPIC, DIRECTORY_PARTITION, start, end))
    known = {decode_directory(record.value or b"") for record in found}
    heads = [each for each in known if isinstance(each, DirectoryHead)]
    # What was noted under another epoch counts for nothing.
    strange = [each for each in known - set(wanted) if not isinstance(each, PositionRecord | DirectoryHead)]
    return Remains(
        head=heads[0] if heads else None,
        missing=[record for record in wanted if record not in known],
        strange=strange,
    )


def why_in_the_way(address: KafkaAddress, remains: Remains) -> str:
    """Say why nothing can be written into a topic with such remains, and what to do; nothing where it can."""
    topic = f"{address.topic_prefix}{DIRECTORY_TOPIC}"
    delete = f"delete the topic (kafka-topics.sh --bootstrap-server ... --delete --topic {topic})"
    if remains.head is not None:
        return (
            f"there is directory {remains.head.directory_id.hex()} in {topic}: nothing is to be made again. If it has "
            f"lost placements, as a router says then, and a look shows what it was, {delete}, and run this again"
        )
    if remains.strange:
        return (
            f"{topic} has no head, and {len(remains.strange)} records that the shards say otherwise, such as "
            f"{remains.strange[0]}: it is what was left of the lost one. If a look shows what it was, {delete}, and "
            "run this again"
        )
    return ""


def write_rebuilt(
    address: KafkaAddress,
    records: Sequence[DirectoryRecord],
    head: DirectoryHead,
    committed: Mapping[int, int],
    tell: Callable[[int], None],
) -> None:
    """Write a directory whose topic is there; safe to begin again wherever it was cut off.

    Args:
        address: The brokers.
        records: All of it but the head.
        head: Its id follows from the topic's: whoever else writes this directory at the same time has the same.
        committed: Where the routers' group stands, by ingress partition: it is told that the new directory counts.
        tell: Told how many records are written so far, now and then.

    Raises:
        Misconfigured: The topic has something else, from before or by now.
        Refused: READ on the routers' group is not given.
        Fault: Kafka cannot be reached, or a router came into the group; run it again.
    """
    remains = remains_of(address, records)
    why = why_in_the_way(address, remains) if remains.head != head else ""
    if why:
        raise Misconfigured(f"{why}. Nothing was written")
    missing = remains.missing
    for first in range(0, len(missing), RECORDS_TOGETHER):
        together = missing[first : first + RECORDS_TOGETHER]
        write_records(address, together)
        tell(first + len(together))
    directory = Directory()
    for record in records:
        if isinstance(record, PlacementRecord):
            place(directory, record)
    end = TopicAdmin(address).end(DIRECTORY_TOPIC, DIRECTORY_PARTITION)
    notes = {
        partition: RoutedBy(directory_id=head.directory_id, end=end, moves=directory.moves_in(partition)).text
        for partition in committed
    }
    _commit(address, {partition: (offset, notes[partition]) for partition, offset in committed.items()})
    write_records(address, [head])
    written = remains_of(address, records)
    if written.head != head or written.missing or written.strange:
        raise Misconfigured(
            "somebody else wrote into the directory at the same time: leave the routers stopped, and "
            f"{why_in_the_way(address, written)}"
        )


def _commit(address: KafkaAddress, wanted: Mapping[int, tuple[int, str]]) -> None:
    """Have the routers' group say which directory it goes on with."""
    if not wanted:
        return
    admin, group = AdminClient(address.options()), address.topic_prefix + ROUTER_GROUP
    Login(address).renew(admin)
    topic = address.topic_prefix + COMMANDS_TOPIC
    places = [TopicPartition(topic, partition, offset, metadata=note) for partition, (offset, note) in wanted.items()]
    asked = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, places)], request_timeout=DEADLINE_S
    )
    answer_of(asked[group], DEADLINE_S, f"offsets of group {group}", admin)
    if committed_positions(address, ROUTER_GROUP, COMMANDS_TOPIC, list(wanted)) != wanted:
        raise Unavailable(f"group {group} does not have the offsets that were written: run it again")
