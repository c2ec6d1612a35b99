"""A router as a process of its own, which can be told where to end itself; its one argument is JSON.

The places are around what it sends at a marker: ``before:placement``, ``after:placement`` (which is acknowledged, and
MOVE_OUT is not sent), ``after:move_out`` (which is acknowledged, and nothing is committed).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.directory import read_directory
from processors.streams.group import GroupConsumer
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import COMMANDS_TOPIC, DEAD_LETTERS_TOPIC, TopicAdmin
from processors.streams.unused_partitions import PartitionWatch
from processors.telemetry import configure_logging
from processors.wire.records import OutRecord
from processors.wire.route import ROUTE_HEADER, RouteKind, decode_route, needed_headers
from processors.workers.router import Assigned, Revoked, Router, RouterConfig, RouterParts
from tests.properties.routing_history import KEYRING, PARTITIONS

GROUP = "balance-router"
DEADLINE_S = 30.0


class PluggedProducer(IdempotentProducer):
    """A producer whose process loses its power at one of its steps."""

    plug = ""

    def write(self, record: OutRecord, deadline_s: float) -> None:
        self._meet("before:placement")
        super().write(record, deadline_s)
        self._meet("after:placement")

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        super().send(record, on_delivered)
        if self.plug == "after:move_out" and _kind_of(record) is RouteKind.MOVE_OUT:
            self.flush(DEADLINE_S)
            self._meet("after:move_out")

    def _meet(self, place: str) -> None:
        if place == self.plug:
            os.kill(os.getpid(), signal.SIGKILL)


def _kind_of(record: OutRecord) -> RouteKind | None:
    return next((decode_route(value).kind for name, value in record.headers if name == ROUTE_HEADER), None)


def main() -> int:
    """Run the router until SIGTERM."""
    wanted = json.loads(sys.argv[1])
    configure_logging("chaos", level="info", form="console")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    PluggedProducer.plug = wanted["plug"]
    address = KafkaAddress(bootstrap_servers=wanted["kafka"], topic_prefix=wanted["topic_prefix"])
    topics = TopicAdmin(address)
    producer = PluggedProducer(address)
    counts = {COMMANDS_TOPIC: PARTITIONS}
    joined: list[GroupConsumer] = []

    def join(assigned: Assigned, revoked: Revoked) -> GroupConsumer:
        group = GroupOptions(group=GROUP, instance=wanted["instance"])
        joined.append(
            GroupConsumer(
                address, COMMANDS_TOPIC, group, on_assigned=assigned, on_revoked=revoked, needed_headers=needed_headers
            )
        )
        return joined[0]

    config = RouterConfig(
        ingress_partitions=PARTITIONS,
        lanes=1,
        topic_prefix=address.topic_prefix,
        dead_letters_topic=DEAD_LETTERS_TOPIC,
        batch_records_max=wanted["batch_records_max"],
        stop_deadline_s=DEADLINE_S,
    )
    parts = RouterParts(
        join=join,
        producer=producer,
        read_directory=lambda known: read_directory(address, known),
        read_ingress_id=lambda: topics.topic_id(COMMANDS_TOPIC),
        read_keyring=lambda: KEYRING,
        clock_s=time.monotonic,
        watch=PartitionWatch(counts, lambda: topics.partition_counts(counts), time.monotonic, process="router"),
    )
    try:
        return Router(config, parts).run(stopping)
    finally:
        for consumer in joined:
            consumer.close()
        producer.close()


if __name__ == "__main__":
    sys.exit(main())
