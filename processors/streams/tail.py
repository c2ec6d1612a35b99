"""Follows a whole topic from its end on, without a consumer group: for those who wait for results, or watch."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined] # of the driver's stubs

from processors.faults import Misconfigured, Retryable
from processors.streams.connection import (
    CLIENT_LOG,
    MESSAGE_BYTES_MAX,
    KafkaAddress,
    answer_of,
    error_of,
    fault_of,
    passes,
)
from processors.streams.consumer import consumed, record_of
from processors.wire.records import Record

DEADLINE_S = 30.0
TAIL_GROUP = "balance-tail"  # never joined, never committed; but its driver wants one
READ_RECORDS = 4_000
# Over all partitions: some 60,000 results read ahead.
QUEUE_KBYTES = 32 * 1024
_RETRY_S = 0.1


class TopicTail:
    """Every partition of a topic, ``read_committed``. For one thread; close it after use."""

    def __init__(self, address: KafkaAddress, topic: str) -> None:
        """Begin at each partition's end as it is now: whatever is committed later will be read.

        Args:
            address: The brokers.
            topic: Name without prefix.

        Raises:
            Misconfigured: There is no such topic.
            Fault: The brokers cannot be reached.
        """
        self._topic = address.topic_prefix + topic
        places = _ends(address, self._topic)
        self.partitions = len(places)
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
                "queued.max.messages.kbytes": QUEUE_KBYTES,
                "fetch.wait.max.ms": 50,
                "fetch.error.backoff.ms": 100,
            },
            logger=CLIENT_LOG,
        )
        self._consumer.assign(places)

    def read(self, timeout_s: float) -> list[Record]:
        """Return the next records, each partition's in order, waiting at most ``timeout_s`` for the first.

        Raises:
            Fault: Something that waiting does not mend; a broker that is away for a while is waited for.
        """
        records = []
        for message in consumed(self._consumer, READ_RECORDS, timeout_s):
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif not passes(error):
                raise fault_of(error, f"read of {self._topic}")
        return records

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()


def _ends(address: KafkaAddress, topic: str) -> list[TopicPartition]:
    admin = AdminClient(address.options())
    ends_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            return _ends_now(admin, topic)
        except Retryable:
            if time.monotonic() > ends_s:
                raise
            time.sleep(_RETRY_S)  # a new topic's leader is elected, but does not know it yet


def _ends_now(admin: AdminClient, topic: str) -> list[TopicPartition]:
    doing = f"end of {topic}"
    try:
        found = admin.list_topics(topic, timeout=DEADLINE_S).topics[topic]
    except KafkaException as exception:
        raise fault_of(error_of(exception), doing) from exception
    if found.error is not None:
        raise Misconfigured(f"there is no topic {topic}: run `balance init`")
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # of the driver's stubs
    wanted = {TopicPartition(topic, partition): latest for partition in found.partitions}
    answers = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=DEADLINE_S)
    return [
        TopicPartition(place.topic, place.partition, answer_of(answer, DEADLINE_S, doing).offset)
        for place, answer in answers.items()
    ]
