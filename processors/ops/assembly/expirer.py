"""Puts a shard's expirer together."""

from __future__ import annotations

import threading
from collections.abc import Callable

from processors.ops import addresses, assembly
from processors.settings import Settings
from processors.stores.shard_reader import open_reader
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import shard_topic
from processors.workers import expirer
from processors.workers.expirer import Expirer, ExpirerParts


def run(settings: Settings, shard: str, stopping: threading.Event) -> int:
    """Run one shard's expirer until ``stopping``, and return 0.

    Raises:
        Fault: One that waiting does not mend.
    """
    settings = assembly.checked_shard(settings, shard)
    address, topic = addresses.kafka_address(settings), shard_topic(shard)
    topics, _ = assembly.check_topics(settings, topic, process="expirer")

    def make() -> tuple[Expirer, Callable[[], None]]:
        reader, producer = open_reader(addresses.mysql_address(settings, shard)), IdempotentProducer(address)
        parts = ExpirerParts(
            shard=shard,
            topic=address.topic_prefix + topic,
            lanes=settings.lanes_of(shard),
            reader=reader,
            writer=producer,
            end_offset=lambda lane: topics.end(topic, lane),
            holds_max=settings.expirer.holds_max,
        )

        def close() -> None:
            reader.close()
            producer.close()

        return Expirer(parts), close

    return expirer.run(make, stopping, tick_ms=settings.expirer.tick_ms)
