"""Reads stretches of a topic without a consumer group: for replays, read-ahead, the directory, and people."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, TopicPartition

from processors.faults import LaneStopped, StopCode
from processors.streams.connection import (
    CLIENT_LOG,
    MESSAGE_BYTES_MAX,
    KafkaAddress,
    Login,
    as_faults,
    fault_of,
    passes,
)
from processors.streams.consumer import consumed, record_of
from processors.streams.login_refusal import unanswered
from processors.wire.records import Record

READER_GROUP = "balance-reader"  # never joined, never committed; but its driver wants one
READ_RECORDS = 4_000
# With no record for this long while some are known to be there, something is wrong with the broker: a transaction that
# nobody ends holds its readers up for 30 s at most.
SILENCE_DEADLINE_S = 45.0
QUEUE_KIB_MAX = 32 * 1024


class TopicReader:
    """One reader of one partition, ``read_committed``. For one thread; close it after use."""

    def __init__(self, address: KafkaAddress, topic: str, partition: int, from_offset: int) -> None:
        """Begin at an offset of ``topic`` (without prefix)."""
        self._place = TopicPartition(address.topic_prefix + topic, partition, from_offset)
        self._doing = f"read of {self._place.topic}"
        self._login = Login(address)
        self._consumer = Consumer(
            address.options()
            | {
                "group.id": address.topic_prefix + READER_GROUP,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",  # L3: any other value acts on a mismatch by moving
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "check.crcs": True,
                "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
                "queued.max.messages.kbytes": QUEUE_KIB_MAX,
                "fetch.wait.max.ms": 50,
                "fetch.error.backoff.ms": 100,
            },
            logger=CLIENT_LOG,
        )
        self._consumer.assign([self._place])
        # The offset up to which everything there is was read, once the end was met; an unfinished transaction is an
        # end, too.
        self.end_met: int | None = None

    @property
    def at_end(self) -> bool:
        """Say whether the end that was met is the log's, with no unfinished transaction behind it."""
        with as_faults(self._doing):
            _, high = self._consumer.get_watermark_offsets(self._place, cached=True)
        return self.end_met is not None and self.end_met >= high

    def read(self, timeout_s: float) -> list[Record]:
        """Return the next records, at most ``READ_RECORDS``, waiting for the first only.

        Raises:
            LaneStopped: LOG_TRUNCATED: the log does not have ``from_offset``.
            Fault: Something that waiting does not mend; a broker that is away for a while is waited for.
        """
        records = []
        self._login.renew(self._consumer)
        for message in consumed(self._consumer, READ_RECORDS, timeout_s, self._doing):
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                self.end_met = message.offset()
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                place = self._place
                raise LaneStopped(
                    StopCode.LOG_TRUNCATED,
                    f"{place.topic} {place.partition} does not reach back to offset {place.offset}: {error.str()}",
                )
            elif not passes(error):
                raise fault_of(error, self._doing)
        return records

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()


def read_range(
    address: KafkaAddress, topic: str, partition: int, from_offset: int, to_offset: int
) -> Iterator[list[Record]]:
    """Yield the records of a stretch in order, as they come.

    Args:
        address: The brokers.
        topic: Name without prefix.
        partition: Its number.
        from_offset: The first offset; there must be such a record, or the end.
        to_offset: Stop before it, or at the log's end; offsets that carry no record (compacted, aborted, the marks of
            transactions) are no trouble, and a transaction that is not finished is waited for.

    Raises:
        LaneStopped: LOG_TRUNCATED: the log does not reach back to ``from_offset``.
        Unavailable: The broker fell silent.
        Fault: The topic cannot be read.
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
            ended = reader.end_met is not None and (reader.end_met >= to_offset or reader.at_end)
            if ended or len(wanted) < len(records) or (records and records[-1].offset == to_offset - 1):
                return
            if time.monotonic() - heard_s > SILENCE_DEADLINE_S:
                raise unanswered(f"{topic} {partition}: no record within {SILENCE_DEADLINE_S} s")
    finally:
        reader.close()
