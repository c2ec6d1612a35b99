"""Commands for the benchmarks, made ahead of time so that a backlog is written faster than anything reads it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from processors.ids import make_command_id
from processors.ledger.commands import Command, OpenAccount, Pay, TopUp
from processors.routing.buckets import bucket_of, partition_of, placement_key_of
from processors.streams.connection import MESSAGE_BYTES_MAX, KafkaAddress
from processors.streams.consumer import consumed
from processors.streams.ends import TopicEnds
from processors.streams.tail import QUEUE_KIB_MAX, READ_RECORDS
from processors.wire.commands import encode_command
from processors.wire.route import ROUTE_HEADER, Route, RouteKind, encode_route

_REST_S = 0.1
LINGER_MS = 5  # for a backlog
PLENTY = 10**15  # minor units: no payment of a benchmark is refused


def new_id() -> bytes:
    """Return a UUIDv7 of now."""
    return make_command_id(time.time_ns() // 1_000_000, secrets.token_bytes(10))


def roots(count: int, *, lane: int, lanes: int) -> list[str]:
    """Return partners that all live in one lane."""
    names = (f"p{number}" for number in range(10**9))
    return [
        name for name, _ in zip((n for n in names if bucket_of(n) & (lanes - 1) == lane), range(count), strict=False)
    ]


def in_its_bucket(root: str) -> tuple[str, int]:
    """Return the placement key and generation of a root that never moved."""
    return placement_key_of(root), 0


def openings(addresses: list[str]) -> Iterator[Command]:
    """Yield what makes accounts that can pay."""
    for address in addresses:
        yield OpenAccount(command_id=new_id(), address=address, currency="USD")
        yield TopUp(command_id=new_id(), address=address, currency="USD", amount_minor=PLENTY)


def payments(addresses: list[str], count: int) -> Iterator[Command]:
    """Yield payments over some addresses in turn."""
    for number in range(count):
        address = addresses[number % len(addresses)]
        yield Pay(command_id=new_id(), address=address, currency="USD", amount_minor=1 + number % 100)


class ShardBacklog:
    """Writes commands to a shard's topic as the router would, with the route header."""

    def __init__(
        self,
        address: KafkaAddress,
        topic: str,
        lanes: int,
        *,
        placed_as: Callable[[str], tuple[str, int]] = in_its_bucket,
    ) -> None:
        """Write for partners who live in their buckets, unless they are ``placed_as`` something else.

        Args:
            address: The brokers.
            topic: The shard's, without the prefix.
            lanes: Of the shard.
            placed_as: Returns the placement key of a root, and its generation there.
        """
        self._placed_as = placed_as
        self._topic = address.topic_prefix + topic
        self._lanes = lanes
        self._offset = 0
        self._producer = _producer(address)

    def write(self, commands: Iterator[Command]) -> int:
        """Write commands and wait until they are acknowledged; return how many."""
        count = 0
        for command in commands:
            root = command.address.partition(":")[0]
            route = Route(RouteKind.COMMAND, 1, 0, self._offset, 0, 0, *self._placed_as(root))
            produce(
                self._producer,
                self._topic,
                encode_command(command),
                root.encode(),
                partition=partition_of(root, self._lanes),
                headers=[(ROUTE_HEADER, encode_route(route))],
            )
            self._offset += 1
            count += 1
        self._producer.flush(120)
        return count


class Ingress:
    """Writes commands to ``balance.commands``, as a gateway does."""

    def __init__(self, address: KafkaAddress, topic: str, *, linger_ms: int = LINGER_MS) -> None:
        self._topic = address.topic_prefix + topic
        self._producer = _producer(address, linger_ms)

    def write(self, commands: Iterator[Command]) -> int:
        """Write commands and wait until they are acknowledged; return how many."""
        count = 0
        for command in commands:
            self.send(command)
            count += 1
        self._producer.flush(120)
        return count

    def send(self, command: Command) -> None:
        """Write one command, without waiting."""
        root = command.address.partition(":")[0]
        self.send_bytes(root.encode(), encode_command(command))

    def send_bytes(self, key: bytes, value: bytes) -> None:
        """Write one record, without waiting."""
        produce(self._producer, self._topic, value, key)

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        self._producer.flush(60)


def _producer(address: KafkaAddress, linger_ms: int = LINGER_MS) -> Producer:
    return Producer(
        address.options()
        | {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "linger.ms": linger_ms,
            "batch.size": 1024 * 1024,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )


def produce(producer: Producer, topic: str, value: bytes, key: bytes, **places: Any) -> None:
    """Write a record, and wait while there is no room for it."""
    while True:
        try:
            producer.produce(topic, value, key, **places)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


@dataclass(slots=True)
class Seen:
    """How many results were seen, and when the last of them was, on the monotonic clock."""

    count: int = 0
    last_s: float = 0.0


class Results:
    """A ``read_committed`` reader of every results partition, from their ends on."""

    def __init__(self, address: KafkaAddress, topic: str, partitions: int) -> None:
        name = address.topic_prefix + topic
        self._consumer = Consumer(
            address.options()
            | {
                "group.id": f"bench-{secrets.token_hex(4)}",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                # As our own client's, which is compared with what a fetch takes.
                "check.crcs": True,
                "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
                "queued.max.messages.kbytes": QUEUE_KIB_MAX,
                "fetch.wait.max.ms": 50,
                "fetch.error.backoff.ms": 100,
            }
        )
        places = []
        for partition in range(partitions):
            _, end = self._consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=30)
            places.append(TopicPartition(name, partition, end))
        self._consumer.assign(places)

    def await_count(self, count: int, deadline_s: float, check: Callable[[], None]) -> Seen:
        """Read until so many results were seen; ``check`` raises once there is no use in waiting on."""
        seen = Seen()
        ends_s = time.monotonic() + deadline_s
        while seen.count < count:
            check()
            if time.monotonic() > ends_s:
                raise TimeoutError(f"{seen.count} of {count} results within {deadline_s} s")
            found = len(self._consumer.consume(10_000, 0.02))
            now_s = time.monotonic()
            if found:
                seen.count += found
                seen.last_s = now_s
        return seen

    def follow(self, on_result: Callable[[bytes, int, float], None], stopping: threading.Event) -> None:
        """Tell of each result's bytes, the broker's stamp, and when it was seen, until told to stop."""
        while not stopping.is_set():
            message = self._consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            on_result(message.value() or b"", message.timestamp()[1], time.monotonic())

    def drop(self, stopping: threading.Event) -> None:
        """Have everything fetched, and look at nothing, until told to stop."""
        while not stopping.is_set():
            consumed(self._consumer, READ_RECORDS, 0.05, "read of results")

    def match(self, waiting: dict[bytes, None], stopping: threading.Event) -> int:
        """Take each key out of ``waiting`` whose result comes, until told to stop; return how many."""
        count = 0
        while not stopping.is_set():
            for message in consumed(self._consumer, READ_RECORDS, 0.05, "read of results"):
                key = message.key()
                if key in waiting:
                    del waiting[key]
                    count += 1
        return count

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()


def partitions(address: KafkaAddress, topic: str) -> int:
    """Return how many partitions a topic has."""
    return TopicEnds(address, topic).partitions


class Others:
    """Results of others' commands, written at a steady rate: what a client fetches and does not want."""

    def __init__(self, address: KafkaAddress, count: int, results: list[tuple[str, bytes]]) -> None:
        """Prepare.

        Args:
            address: The brokers.
            count: Partitions of ``balance.results``.
            results: Roots and results, written again and again.
        """
        self._topic = address.topic_prefix + "balance.results"
        self._producer = _producer(address)
        self._results = [(root.encode(), value, partition_of(root, count)) for root, value in results]

    def write(self, rate: int, stopping: threading.Event) -> int:
        """Write until told to stop; return how many. A rate of 0 writes nothing."""
        count, began_s, portion = 0, time.monotonic(), rate // 100
        while not stopping.is_set():
            for _ in range(portion):
                root, value, partition = self._results[count % len(self._results)]
                produce(self._producer, self._topic, value, root, partition=partition)
                count += 1
            time.sleep(max(0.0, began_s + count / rate - time.monotonic()) if rate else _REST_S)
        self._producer.flush(60)
        return count
