"""Writes a directory that was lost: its records, then the routers' commits, and its head last (R8).

As long as it has no head, nobody takes it for a directory. So a run that was cut off is begun anew, and finds what it
wrote; and no router goes on before the commits name the new directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.faults import Misconfigured, Unavailable
from processors.routing.directory import Directory
from processors.streams.connection import KafkaAddress, Login, answer_of
from processors.streams.directory import place
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
)
from processors.wire.routed import RoutedBy

DEADLINE_S = 30.0  # as for any other change of a group
RECORDS_TOGETHER = 10_000  # written and acknowledged within a second; between them it is told how far it is


def missing_records(address: KafkaAddress, wanted: Sequence[DirectoryRecord]) -> list[DirectoryRecord]:
    """Return what of some records the topic does not have yet; all of them where there is no such topic.

    Raises:
        Misconfigured: It has others: what is left of the lost directory.
        Fault: Kafka cannot be reached.
    """
    topics = TopicAdmin(address)
    if not topics.exists(DIRECTORY_TOPIC):
        return list(wanted)
    start, end = topics.bounds(DIRECTORY_TOPIC, DIRECTORY_PARTITION)
    found = chain.from_iterable(read_range(address, DIRECTORY_TOPIC, DIRECTORY_PARTITION, start, end))
    known = {decode_directory(record.value or b"") for record in found}
    # What was noted under another epoch counts for nothing.
    strange = [each for each in known - set(wanted) if not isinstance(each, PositionRecord)]
    if strange:
        raise Misconfigured(
            f"{address.topic_prefix}{DIRECTORY_TOPIC} has no head, and {len(strange)} records that the shards say "
            f"otherwise, such as {strange[0]}: it is what was left of the lost one; delete the topic, and run this "
            "again. Nothing was written"
        )
    return [record for record in wanted if record not in known]


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
        head: With an id that no other directory has.
        committed: Where the routers' group stands, by ingress partition: it is told that the new directory counts.
        tell: Told how many records are written so far, now and then.

    Raises:
        Misconfigured: As ``missing_records``.
        Refused: READ on the routers' group is not given.
        Fault: Kafka cannot be reached, or a router came into the group; run it again.
    """
    missing = missing_records(address, records)
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
