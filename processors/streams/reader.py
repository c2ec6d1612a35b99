"""Reads stretches of a topic without a consumer group: for replays, read-ahead, the directory, and people."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from processors.faults import Retryable, Unavailable
from processors.streams.connection import MESSAGE_BYTES_MAX, KafkaAddress, error_of, fault_of
from processors.streams.consumer import record_of
from processors.wire.records import Record

READ_RECORDS = 4_000
# With no record for this long while some are known to be there, something is wrong with the broker.
SILENCE_DEADLINE_S = 30.0


class TopicReader:
    """One reader of one partition; close it after use."""

    def __init__(self, address: KafkaAddress, topic: str, partition: int, from_offset: int) -> None:
        """Begin at an offset of ``topic`` (without prefix)."""
        self._place = TopicPartition(address.topic_prefix + topic, partition, from_offset)
        self._consumer = Consumer(
            address.options()
            | {
                "group.id": address.topic_prefix + "balance-reader",  # never joined, never committed
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "check.crcs": True,
                "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
                "queued.max.messages.kbytes": 32 * 1024,
                "fetch.wait.max.ms": 50,
            }
        )
        self._consumer.assign([self._place])
        self.at_end = False

    def read(self, timeout_s: float) -> list[Record]:
        """Return the next records, at most ``READ_RECORDS``; ``at_end`` says whether the end was met meanwhile."""
        messages = self._consumer.consume(1, timeout_s) + self._consumer.consume(READ_RECORDS - 1, 0)
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                self.at_end = False
                records.append(record_of(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                self.at_end = True
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise Retryable(f"{self._place.topic} {self._place.partition}: no offset {self._place.offset} there")
            elif not error.retriable():
                raise fault_of(error, f"read of {self._place.topic}")
        return records

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()


def read_range(
    address: KafkaAddress, topic: str, partition: int, from_offset: int, to_offset: int
) -> Iterator[list[Record]]:
    """Yield the records of a stretch in order.

    Args:
        address: The brokers.
        topic: Name without prefix.
        partition: Its number.
        from_offset: The first offset; there must be such a record, or the end.
        to_offset: Stop before it; records that are not there (compacted, aborted) are no trouble.

    Raises:
        Retryable: The log does not reach back to ``from_offset``.
        Unavailable: The broker fell silent.
    """
    if from_offset >= to_offset:
        return
    reader = TopicReader(address, topic, partition, from_offset)
    try:
        heard_s = time.monotonic()
        while True:
            records = reader.read(0.5)
            wanted = [record for record in records if record.offset < to_offset]
            if wanted:
                heard_s = time.monotonic()
                yield wanted
            if len(wanted) < len(records) or reader.at_end or (records and records[-1].offset == to_offset - 1):
                return
            if time.monotonic() - heard_s > SILENCE_DEADLINE_S:
                raise Unavailable(f"{topic} {partition}: no record within {SILENCE_DEADLINE_S} s")
    except KafkaException as exception:
        raise fault_of(error_of(exception), f"read of {topic}") from exception
    finally:
        reader.close()
