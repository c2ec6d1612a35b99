"""A lane's partition of the shard's topic, as the lane sees it."""

from __future__ import annotations

from itertools import chain

from processors.lane.times import may_be_heard
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import RecordConsumer
from processors.streams.reader import read_range
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.records import Record


class TopicLaneLog:
    """The lane's log and the group's commit for it; ``consumer`` is the process's."""

    def __init__(self, address: KafkaAddress, consumer: RecordConsumer, *, shard: str, lane: int) -> None:
        """Hold the parts; nothing is asked before the first call."""
        self._address = address
        self._consumer = consumer
        self._topics = TopicAdmin(address)
        self._topic = shard_topic(shard)
        self._lane = lane

    def topic_id(self) -> bytes:
        """Return the id of the topic as it is now (L3)."""
        return self._topics.topic_id(self._topic)

    def committed(self) -> tuple[int, str] | None:
        """Return the group's offset and metadata, or None where there is none (L4)."""
        return self._consumer.committed(self._lane)

    def start(self, offset: int, leader_epoch: int) -> None:
        """Have records come from an offset on; what was queued before is dropped (L12)."""
        self._consumer.start(self._lane, offset, leader_epoch)

    def control_ahead(self, from_offset: int) -> tuple[list[Record], int]:
        """Read ahead to the end, as it is now, for what may be a time override; and say where that is (I2)."""
        end = self._topics.end(self._topic, self._lane)
        records = chain.from_iterable(read_range(self._address, self._topic, self._lane, from_offset, end))
        return [record for record in records if may_be_heard(record)], end
