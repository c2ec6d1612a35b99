"""Follows a topic's partitions from their ends on, without a consumer group: for those who wait, or watch."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from processors.faults import Fault
from processors.streams.connection import (
    CLIENT_LOG,
    MESSAGE_BYTES_MAX,
    KafkaAddress,
    Login,
    as_faults,
    error_of,
    fault_of,
    passes,
)
from processors.streams.consumer import record_of
from processors.streams.ends import TopicEnds
from processors.wire.records import Record

TAIL_GROUP = "balance-tail"  # never joined, never committed; but its driver wants one
READ_RECORDS = 4_000
# Over all partitions: some 60,000 results read ahead.
QUEUE_KIB_MAX = 32 * 1024


class TopicTail:
    """Partitions of a topic, ``read_committed``. For one thread; close it after use."""

    def __init__(self, address: KafkaAddress, topic: str, places: Mapping[int, int] | None = None) -> None:
        """Begin at some offsets of some partitions; more may come, and go.

        Args:
            address: The brokers.
            topic: Name without prefix.
            places: Offsets by partition. None is every partition's end as it is now: whatever is committed later will
                be read.

        Raises:
            Misconfigured: There is no such topic.
            Fault: The brokers cannot be reached.
        """
        self._topic = address.topic_prefix + topic
        self._doing = f"read of {self._topic}"
        self._login = Login(address)
        self._fault: Fault | None = None
        self._places: dict[int, int] = {}  # where each partition that is followed began
        begin = TopicEnds(address, topic).now() if places is None else places
        self._consumer = Consumer(
            address.options()
            | {
                "group.id": address.topic_prefix + TAIL_GROUP,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # Only where retention or a recreated topic overtakes the reader: what is gone cannot be waited for.
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": False,
                "check.crcs": True,
                "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
                "queued.max.messages.kbytes": QUEUE_KIB_MAX,
                "fetch.wait.max.ms": 50,
                "fetch.error.backoff.ms": 100,
            },
            logger=CLIENT_LOG,
        )
        self.begin(begin)

    def begin(self, places: Mapping[int, int]) -> None:
        """Follow more partitions, from these offsets on."""
        self._places.update(places)
        with as_faults(self._doing):
            self._consumer.incremental_assign([TopicPartition(self._topic, *place) for place in places.items()])

    def drop(self, partitions: Collection[int]) -> None:
        """Follow these no more; what was read ahead of them does not come."""
        for partition in partitions:
            del self._places[partition]
        with as_faults(self._doing):
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition) for partition in partitions])

    def places(self) -> dict[int, int]:
        """Return where each followed partition goes on; another tail that begins there misses nothing."""
        asked = [TopicPartition(self._topic, partition) for partition in self._places]
        with as_faults(self._doing):
            reached = {place.partition: place.offset for place in self._consumer.position(asked)}
        return {partition: max(reached[partition], begin) for partition, begin in self._places.items()}

    def read(self, timeout_s: float, keys: Container[bytes | None] | None = None) -> list[Record]:
        """Return the next records, each partition's in order, waiting at most ``timeout_s`` for the first.

        Args:
            timeout_s: In seconds.
            keys: Only records with one of these keys; the others cost 0.2 µs each instead of 3. None is all.

        Raises:
            Fault: Something that waiting does not mend; a broker that is away for a while is waited for.
        """
        if self._fault is not None:
            raise self._fault
        self._login.renew(self._consumer)
        messages: list[Message] = []
        try:
            first = self._consumer.poll(timeout_s)
            if first is not None:
                messages.append(first)  # the position is behind it by now: it is returned whatever comes
                messages += self._consumer.consume(READ_RECORDS - 1, 0)
        except KafkaException as exception:
            self._fault = fault_of(error_of(exception), self._doing)
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                if keys is None or message.key() in keys:
                    records.append(record_of(message))
            elif not passes(error):  # told by the next call, so that what was read with it is not lost
                self._fault = self._fault or fault_of(error, self._doing)
        return records

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()
