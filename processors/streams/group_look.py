"""A look at a consumer group from outside: how far it committed, and whether anybody is in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from processors.streams.connection import KafkaAddress, Login, answer_of

DEADLINE_S = 5.0  # a question; a broker that is well answers in milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLook:
    """A group as its coordinator knows it.

    ``offsets`` has the next offset of each partition that the group committed. ``members`` counts who is in it; one
    that ended without a word, as every process of the service does (P4), stays for its session timeout.
    """

    offsets: dict[int, int]
    members: int


def committed_positions(
    address: KafkaAddress, group: str, topic: str, partitions: Collection[int]
) -> dict[int, tuple[int, str]]:
    """Return offset and metadata of what a group committed, by partition; one of which it committed none is missing.

    Args:
        address: The brokers.
        group: Name without prefix.
        topic: Name without prefix.
        partitions: Of the topic.

    Raises:
        Refused: DESCRIBE on the group is not given.
        Fault: The brokers do not answer.
    """
    admin, full = AdminClient(address.options()), address.topic_prefix + group
    Login(address).renew(admin)
    found = _committed(admin, full, [TopicPartition(address.topic_prefix + topic, each) for each in partitions])
    return {place.partition: (place.offset, place.metadata or "") for place in found}


def look_at_group(address: KafkaAddress, group: str, topic: str, partitions: Collection[int]) -> GroupLook:
    """Ask for a group's offsets and members; a group that is not there (any more) has none of either.

    Args:
        address: The brokers.
        group: Name without prefix.
        topic: Name without prefix.
        partitions: Of the topic.

    Raises:
        Refused: DESCRIBE on the group is not given.
        Fault: The brokers do not answer.
    """
    admin, full = AdminClient(address.options()), address.topic_prefix + group
    Login(address).renew(admin)
    places = [TopicPartition(address.topic_prefix + topic, partition) for partition in partitions]
    offsets = {place.partition: place.offset for place in _committed(admin, full, places)}
    described = admin.describe_consumer_groups([full], request_timeout=DEADLINE_S)
    members = answer_of(described[full], DEADLINE_S, f"members of group {full}", admin).members
    return GroupLook(offsets=offsets, members=len(members))


def _committed(admin: AdminClient, group: str, places: list[TopicPartition]) -> list[TopicPartition]:
    wanted = ConsumerGroupTopicPartitions(group, places)
    asked = admin.list_consumer_group_offsets([wanted], request_timeout=DEADLINE_S)
    found = answer_of(asked[group], DEADLINE_S, f"offsets of group {group}", admin).topic_partitions or []
    return [place for place in found if place.offset >= 0]
