"""A router on real topics, driven step by step, and what it wrote."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from processors.ledger.trust import read_keys
from processors.routing.buckets import partition_of
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.directory import read_directory, write_directory_head
from processors.streams.group import GroupConsumer
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import COMMANDS_TOPIC, TopicAdmin, service_topics, shard_topic
from processors.streams.unused_partitions import PartitionWatch
from processors.wire.dead_letters import DeadLetter, decode_dead_letter
from processors.wire.records import Record
from processors.wire.route import ROUTE_HEADER, Route, decode_route, needed_headers
from processors.wire.signature import KeyRing, trusted_keys
from processors.workers.router import Router, RouterConfig, RouterParts
from tests.kafka_log import KafkaLog
from tests.waiting import DEADLINE_S, eventually

INGRESS_PARTITIONS = 4
LANES = 2
SHARD = "s1"
KEYRING = KeyRing(signing="k1", keys={"k1": bytes(32)})
KEYS = read_keys(trusted_keys(KEYRING)) or {}
GROUP = "balance-router"
DEAD_LETTERS = "balance.dead-letters"
COUNTS = {COMMANDS_TOPIC: INGRESS_PARTITIONS, shard_topic(SHARD): LANES}


def make_topics(address: KafkaAddress, *shards: str) -> TopicAdmin:
    """Make the service's topics, small, and nothing in the directory."""
    days = dict.fromkeys(("commands", "shard", "results", "dead_letters", "archived"), 1)
    topics = TopicAdmin(address)
    specs = service_topics(
        commands=INGRESS_PARTITIONS,
        results=1,
        lanes=dict.fromkeys(shards or (SHARD,), LANES),
        dead_letters=1,
        archived=1,
        days=days,
        min_insync_replicas=1,
    )
    topics.create(specs, replication_factor=1)
    return topics


def make_service(address: KafkaAddress) -> None:
    """Make topics and directory, as ``balance init`` does."""
    make_topics(address)
    write_directory_head(address, home_shard=SHARD, shards=[SHARD], partitions=COUNTS, keys=KEYS)


def root_in(partition: int, *, partitions: int = INGRESS_PARTITIONS, number: int = 0) -> str:
    """Return the ``number``-th root of a partition."""
    found = (f"partner-{n}" for n in range(100_000) if partition_of(f"partner-{n}", partitions) == partition)
    for _ in range(number):
        next(found)
    return next(found)


@dataclass(slots=True)
class Running:
    """A router of this process: the place of one instance in the group."""

    address: KafkaAddress
    instance: str = "a"
    group: str = GROUP
    batch_records_max: int = 4_000
    stop_deadline_s: float = DEADLINE_S
    clock_s: Callable[[], float] = time.monotonic
    met: int = 0
    producer: IdempotentProducer = field(init=False)
    consumer: GroupConsumer = field(init=False)
    router: Router = field(init=False)
    watch: PartitionWatch = field(init=False)

    def __enter__(self) -> Self:
        address = self.address
        topics = TopicAdmin(address)
        self.producer = IdempotentProducer(address)
        self.watch = PartitionWatch(
            {COMMANDS_TOPIC: INGRESS_PARTITIONS},
            lambda: topics.partition_counts([COMMANDS_TOPIC]),
            time.monotonic,
            process="router",
        )
        config = RouterConfig(
            ingress_partitions=INGRESS_PARTITIONS,
            lanes=LANES,
            topic_prefix=address.topic_prefix,
            dead_letters_topic=DEAD_LETTERS,
            batch_records_max=self.batch_records_max,
            stop_deadline_s=self.stop_deadline_s,
        )
        self.router = Router(
            config,
            RouterParts(
                join=self._join,
                producer=self.producer,
                read_directory=lambda known: read_directory(address, known),
                read_ingress_id=lambda: topics.topic_id(COMMANDS_TOPIC),
                read_keyring=lambda: KEYRING,
                clock_s=self.clock_s,
                watch=self.watch,
            ),
        )
        return self

    def _join(self, assigned: object, revoked: object) -> GroupConsumer:
        group = GroupOptions(group=self.group, instance=self.instance)
        self.consumer = GroupConsumer(
            self.address,
            COMMANDS_TOPIC,
            group,
            on_assigned=assigned,  # type: ignore[arg-type]
            on_revoked=revoked,  # type: ignore[arg-type]
            needed_headers=needed_headers,
        )
        return self.consumer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.consumer.close()
        self.producer.close()

    def step(self) -> int:
        met = self.router.step()
        self.met += met
        return met

    def forward(self, count: int) -> None:
        """Step until that many records were met in all, and everything is acknowledged and committed."""
        eventually(lambda: bool(self.step() or self.met >= count) and self.met >= count, f"{count} records were met")
        self.router.finish()


def forwarded(log: KafkaLog, *, lanes: int = LANES) -> list[Record]:
    """Return what stands in the shard's topic, lane by lane."""
    return [record for lane in range(lanes) for record in log.read(shard_topic(SHARD), partition=lane)]


def letters(log: KafkaLog) -> list[DeadLetter]:
    return [decode_dead_letter(record.value or b"") for record in log.read(DEAD_LETTERS)]


def route_of(record: Record) -> Route:
    (value,) = [value for name, value in record.headers if name == ROUTE_HEADER]
    return decode_route(value or b"")
