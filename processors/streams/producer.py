"""Idempotent producers: one for the service's own processes, one for programs that send commands."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.faults import Fault, Unavailable
from processors.streams.connection import MESSAGE_BYTES_MAX, KafkaAddress, error_of, fault_of
from processors.wire.records import OutRecord

QUEUE_RECORDS = 200_000


class IdempotentProducer:
    """Sends in order, without gaps and without duplicates, at least once over restarts (P1, R7).

    A delivery that fails ends the producer: every later call raises that fault, and the process must begin again from
    what it committed. Not for several threads at once.
    """

    def __init__(self, address: KafkaAddress, *, delivery_deadline_ms: int = 0, linger_ms: int = 5) -> None:
        """Connect.

        Args:
            address: The brokers.
            delivery_deadline_ms: 0 tries for ever, so that no record is ever left out (R7); a program that waits for an
                answer has a deadline of its own.
            linger_ms: How long to wait for more records of a batch.
        """
        self._fault: Fault | None = None
        self._prefix = address.topic_prefix
        self._undelivered = 0
        self._producer = Producer(
            address.options()
            | {
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,
                "acks": "all",
                "max.in.flight.requests.per.connection": 5,
                "message.timeout.ms": delivery_deadline_ms,
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                "linger.ms": linger_ms,
                "batch.size": 1024 * 1024,
                "queue.buffering.max.messages": QUEUE_RECORDS,
                "queue.buffering.max.kbytes": 256 * 1024,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 1_000,
            }
        )

    @property
    def undelivered(self) -> int:
        """Return how many records are not acknowledged yet."""
        return self._undelivered

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        """Queue a record; partition -1 leaves it to the key's hash.

        Args:
            record: ``topic`` with its prefix.
            on_delivered: Called from ``poll`` or ``flush`` once it is acknowledged.

        Raises:
            Fault: An earlier delivery failed, or this record can never be sent.
        """
        self.poll(0)

        def delivered(error: KafkaError | None, _message: Message) -> None:
            self._undelivered -= 1
            if error is not None:
                self._fault = self._fault or fault_of(error, f"delivery to {record.topic}")
            elif on_delivered is not None:
                on_delivered()

        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    headers=record.headers,
                    on_delivery=delivered,
                )
            except BufferError:  # R7: the caller waits, nothing is left out
                self.poll(0.1)
            except KafkaException as exception:
                raise fault_of(error_of(exception), f"produce to {record.topic}") from exception
            else:
                self._undelivered += 1
                return

    def poll(self, timeout_s: float) -> None:
        """Learn of deliveries.

        Raises:
            Fault: One failed.
        """
        self._producer.poll(timeout_s)
        if self._fault is not None:
            raise self._fault

    def flush(self, deadline_s: float) -> None:
        """Wait until everything queued is acknowledged.

        Raises:
            Unavailable: Not all was, within the deadline.
            Fault: A delivery failed.
        """
        ends_s = time.monotonic() + deadline_s
        while self._undelivered:
            self.poll(0.05)
            if time.monotonic() > ends_s:
                raise Unavailable(f"{self._undelivered} records were not acknowledged within {deadline_s} s")
        self.poll(0)

    def close(self) -> None:
        """Let go of it; what is not acknowledged may or may not be written."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer.poll(0)
