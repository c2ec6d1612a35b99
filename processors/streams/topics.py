"""The service's topics: every setting spelled out, made by ``balance init``, checked at each process start.

And the names of the groups that read them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of the driver's stubs
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from processors.faults import Misconfigured, Retryable, Unavailable
from processors.streams.connection import KafkaAddress, Login, answer_of, listed

# Names, without prefix; a shard's are `shard_topic` and `shard_group`.
COMMANDS_TOPIC = "balance.commands"
DIRECTORY_TOPIC = "balance.directory"
RESULTS_TOPIC = "balance.results"
DEAD_LETTERS_TOPIC = "balance.dead-letters"
ARCHIVED_TOPIC = "balance.archived"

# The groups that read them: lag, rights and the check that no worker runs go by the same name as the members.
ROUTER_GROUP = "balance-router"
SINK_GROUP = "balance-sink"
RECALLER_GROUP = "balance-recaller"

DEADLINE_S = 30.0
# Of a poll thread's look at a topic's id, which keeps it from polling; a broker that is well answers in milliseconds.
LOOK_DEADLINE_S = 2.0
_RETRY_S = 0.05
DAY_MS = 86_400_000
KIB = 1024
# W4: an ingress record is 64 KiB of payload and its headers at most before it becomes a stub; what a gateway may
# write is bounded by the topic. Downstream each limit is above what the one before can grow to.
COMMANDS_BYTES_MAX = 1024 * KIB
SHARD_BYTES_MAX = 1280 * KIB
RESULTS_BYTES_MAX = 2048 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as it must be. ``name`` has no prefix yet; ``settings`` are the broker's own names."""

    name: str
    partitions: int
    settings: dict[str, str]


def service_topics(
    *,
    commands: int,
    results: int,
    lanes: Mapping[str, int],
    dead_letters: int,
    archived: int,
    days: dict[str, int],
    min_insync_replicas: int,
) -> list[TopicSpec]:
    """Return every topic of the service.

    Args:
        commands: Partitions of ``balance.commands``; this and the next are powers of two (W3).
        results: Partitions of ``balance.results``.
        lanes: Partitions of each shard's topic, by the shard's id.
        dead_letters: Partitions of ``balance.dead-letters``.
        archived: Partitions of ``balance.archived``.
        days: Retention in days by ``commands``, ``shard``, ``results``, ``dead_letters``, ``archived``.
        min_insync_replicas: Copies that acknowledge a record.
    """
    everywhere = {
        "message.timestamp.type": "LogAppendTime",  # I2
        "min.insync.replicas": str(min_insync_replicas),
        "compression.type": "producer",
        "unclean.leader.election.enable": "false",
    }

    def kept(name: str, partitions: int, bytes_max: int, retention_days: int) -> TopicSpec:
        own = {
            "cleanup.policy": "delete",
            "retention.ms": str(retention_days * DAY_MS),
            "retention.bytes": "-1",
            "max.message.bytes": str(bytes_max),
        }
        return TopicSpec(name=name, partitions=partitions, settings=own | everywhere)

    compacted = {"cleanup.policy": "compact", "max.message.bytes": str(COMMANDS_BYTES_MAX)}
    return [
        TopicSpec(name=DIRECTORY_TOPIC, partitions=1, settings=compacted | everywhere),
        kept(COMMANDS_TOPIC, commands, COMMANDS_BYTES_MAX, days["commands"]),
        *(kept(shard_topic(shard), count, SHARD_BYTES_MAX, days["shard"]) for shard, count in lanes.items()),
        kept(RESULTS_TOPIC, results, RESULTS_BYTES_MAX, days["results"]),
        kept(DEAD_LETTERS_TOPIC, dead_letters, COMMANDS_BYTES_MAX, days["dead_letters"]),
        kept(ARCHIVED_TOPIC, archived, COMMANDS_BYTES_MAX, days["archived"]),
    ]


def shard_topic(shard: str) -> str:
    """Return the name of a shard's topic, without prefix."""
    return f"balance.shard.{shard}"


def shard_group(shard: str) -> str:
    """Return the name of the group of a shard's workers, without prefix."""
    return f"balance-shard-{shard}"


class TopicAdmin:
    """Makes topics, checks them, and asks the broker about them."""

    def __init__(self, address: KafkaAddress) -> None:
        """Connect lazily: the first question does."""
        self._login = Login(address)
        self._admin = AdminClient(address.options())
        self._prefix = address.topic_prefix

    def create(self, specs: list[TopicSpec], *, replication_factor: int) -> list[str]:
        """Make the topics that are missing, and check all of them.

        Returns:
            The names of those that were made.

        Raises:
            Misconfigured: One exists with fewer partitions or another setting; the text says which.
        """
        existing = self._names()
        missing = [spec for spec in specs if self._prefix + spec.name not in existing]
        new = [
            NewTopic(
                self._prefix + spec.name,
                num_partitions=spec.partitions,
                replication_factor=replication_factor,
                config=spec.settings,
            )
            for spec in missing
        ]
        if new:
            asked = self._admin.create_topics(new, operation_timeout=DEADLINE_S, request_timeout=DEADLINE_S)
            for name, made in asked.items():
                answer_of(made, DEADLINE_S, f"making topic {name}", self._admin)
        self._await_listed({self._prefix + spec.name for spec in missing})
        for spec in specs:
            self.check(spec)
        return [spec.name for spec in missing]

    def _await_listed(self, names: set[str]) -> None:
        """Wait until new topics are listed: the controller makes them, each broker learns of them a little later."""
        ends_s = time.monotonic() + DEADLINE_S
        while not names <= self._names().keys():
            if time.monotonic() > ends_s:
                raise Unavailable(f"topics {sorted(names)} were made, but are not listed after {DEADLINE_S} s")
            time.sleep(_RETRY_S)  # nothing tells when a broker has learnt of a topic

    def check(self, spec: TopicSpec) -> None:
        """Refuse a topic that is missing, or is not as it must be; it may have more partitions than it must have (W3).

        Raises:
            Misconfigured: What is wrong, and what to type.
        """
        name = self._prefix + spec.name
        partitions = self._names().get(name)
        if partitions is None:
            raise Misconfigured(f"there is no topic {name}: run `balance init`")
        if partitions < spec.partitions:
            raise Misconfigured(
                f"topic {name} has {partitions} partitions and the settings say {spec.partitions}: a count never "
                "changes, since a key's partition is its order guarantee; correct the settings"
            )
        resource = ConfigResource(ResourceType.TOPIC, name)
        asked = self._admin.describe_configs([resource], request_timeout=DEADLINE_S)
        found = answer_of(asked[resource], DEADLINE_S, f"settings of topic {name}", self._admin)
        wrong = [
            f"{key} is {found[key].value}, must be {value}"
            for key, value in spec.settings.items()
            if found[key].value != value
        ]
        if wrong:
            raise Misconfigured(f"topic {name}: {'; '.join(wrong)}: change it with kafka-configs --alter")

    def topic_id(self, name: str, *, deadline_s: float = DEADLINE_S) -> bytes:
        """Return a topic's id, 16 bytes: another one means another topic under the same name (L3).

        Raises:
            Refused: There is no such topic.
            Unavailable: No answer within ``deadline_s``.
        """
        full = self._prefix + name
        self._login.renew(self._admin)
        asked = self._admin.describe_topics(TopicCollection([full]), request_timeout=deadline_s)
        topic_id = answer_of(asked[full], deadline_s, f"id of topic {full}", self._admin).topic_id
        return base64.urlsafe_b64decode(f"{topic_id}==")  # as Kafka writes it: 22 characters, unpadded

    def exists(self, name: str) -> bool:
        """Say whether there is such a topic now; ``name`` is without prefix."""
        return self._prefix + name in self._names()

    def named(self, beginning: str) -> list[str]:
        """Return the topics whose names begin so, sorted; without prefix."""
        full = self._prefix + beginning
        return sorted(name.removeprefix(self._prefix) for name in self._names() if name.startswith(full))

    def partition_counts(self, names: Collection[str], *, deadline_s: float = DEADLINE_S) -> dict[str, int]:
        """Return how many partitions topics have now, by their names without prefix.

        Raises:
            Misconfigured: There is no such topic.
            Fault: No answer within ``deadline_s``.
        """
        listed = self._names(deadline_s)
        missing = [name for name in names if self._prefix + name not in listed]
        if missing:
            raise Misconfigured(f"there is no topic {self._prefix}{missing[0]}: run `balance init`")
        return {name: listed[self._prefix + name] for name in names}

    def bounds(self, name: str, partition: int) -> tuple[int, int]:
        """Return a partition's first offset that is still there, and the one after its last."""
        place = TopicPartition(self._prefix + name, partition)
        first = self._offset(place, OffsetSpec.earliest())  # type: ignore[no-untyped-call] # of the driver's stubs
        return first, self.end(name, partition)

    def end(self, name: str, partition: int) -> int:
        """Return the offset after a partition's last record."""
        place = TopicPartition(self._prefix + name, partition)
        return self._offset(place, OffsetSpec.latest())  # type: ignore[no-untyped-call] # of the driver's stubs

    def offset_at(self, name: str, partition: int, time_ms: int) -> int:
        """Return the offset of a partition's first record whose stamp is not before a time; its end where none is.

        Args:
            name: Of the topic, without prefix.
            partition: Its number.
            time_ms: The brokers' time, ms since the epoch, UTC.
        """
        place = TopicPartition(self._prefix + name, partition)
        found = self._offset(place, OffsetSpec.for_timestamp(time_ms))
        return self.end(name, partition) if found < 0 else found

    def _offset(self, place: TopicPartition, spec: OffsetSpec) -> int:
        ends_s = time.monotonic() + DEADLINE_S
        while True:
            self._login.renew(self._admin)
            asked = self._admin.list_offsets({place: spec}, request_timeout=DEADLINE_S)
            doing = f"offsets of {place.topic} {place.partition}"
            try:
                return int(answer_of(asked[place], DEADLINE_S, doing, self._admin).offset)
            except Retryable:
                if time.monotonic() > ends_s:
                    raise
            time.sleep(_RETRY_S)  # a new topic's leader is elected, but does not know it yet
            self._names()  # the driver asks with the leader epoch it knows; only a listing makes it learn a newer one

    def _names(self, deadline_s: float = DEADLINE_S) -> dict[str, int]:
        self._login.renew(self._admin)
        found = listed(self._admin, deadline_s, "list of topics")
        return {name: len(topic.partitions) for name, topic in found.items()}
