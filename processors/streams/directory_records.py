"""Writes records into ``balance.directory``; ``directory`` says which are missing."""

from __future__ import annotations

from collections.abc import Sequence

from processors.streams.connection import KafkaAddress
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import DIRECTORY_TOPIC
from processors.wire.directory import DirectoryRecord, encode_directory
from processors.wire.records import OutRecord

DIRECTORY_PARTITION = 0  # it has one: R1 reads it up to one end offset
# A few records, all of them acknowledged before `balance init` says that it is done.
_WRITE_DEADLINE_S = 30.0


def write_records(address: KafkaAddress, records: Sequence[DirectoryRecord]) -> None:
    """Write records into the directory, and wait until all are acknowledged; nothing where there are none.

    Raises:
        Fault: Kafka cannot be reached; do it again.
    """
    if not records:
        return
    producer = IdempotentProducer(address)
    try:
        for record in records:
            producer.send(
                OutRecord(
                    address.topic_prefix + DIRECTORY_TOPIC,
                    DIRECTORY_PARTITION,
                    record.key,
                    encode_directory(record),
                    [],
                )
            )
        producer.flush(_WRITE_DEADLINE_S)
    finally:
        producer.close()
