"""Idempotent producers: one for the service's own processes, one for programs that send commands."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.faults import Fault, Retryable, Unavailable, UnknownOutcome
from processors.streams.connection import (
    CLIENT_LOG,
    MESSAGE_BYTES_MAX,
    KafkaAddress,
    Login,
    error_of,
    fault_of,
)
from processors.streams.login_refusal import unanswered
from processors.wire.records import Content, OutRecord

# Whoever sends has at most 50,000 records on their way; the rest is room for large ones.
QUEUE_RECORDS = 200_000
QUEUE_KIB_MAX = 256 * 1024
# A queue that stays full for this long: the brokers are away, and starting again is as good as waiting.
SEND_DEADLINE_S = 60.0
# An acknowledgement takes 1 to 2 ms; while ``hurry`` waits for it, the client lingers for nothing.
HURRY_S = 0.002


class IdempotentProducer:
    """Sends in order, without gaps and without duplicates, at least once over restarts (P1, R7).

    A delivery that fails ends the producer: what was sent after it is not written either, every later call raises, and
    the process must begin again from what it committed. Not for several threads at once.
    """

    def __init__(
        self,
        address: KafkaAddress,
        *,
        delivery_deadline_ms: int = 0,
        linger_ms: int = 5,
        room_deadline_s: float = SEND_DEADLINE_S,
    ) -> None:
        """Connect.

        Args:
            address: The brokers.
            delivery_deadline_ms: 0 tries for ever, so that no record is ever left out (R7); a program that waits for an
                answer has a deadline of its own, and gives up order and wholeness with it.
            linger_ms: How long to wait for more records of a batch.
            room_deadline_s: How long ``send`` waits while the queue is full.
        """
        self._login = Login(address)
        self._fault: Fault | None = None
        self._undelivered = 0
        self._room_deadline_s = room_deadline_s
        self._producer = Producer(
            address.options()
            | {
                "enable.idempotence": True,
                "enable.gapless.guarantee": True,  # R7
                "acks": "all",
                "max.in.flight.requests.per.connection": 5,
                "message.timeout.ms": delivery_deadline_ms,
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "compression.type": "lz4",
                "partitioner": "murmur2_random",  # W3
                "linger.ms": linger_ms,
                "batch.size": 1024 * 1024,
                "batch.num.messages": 10_000,
                "queue.buffering.max.messages": QUEUE_RECORDS,
                "queue.buffering.max.kbytes": QUEUE_KIB_MAX,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 1_000,
            },
            logger=CLIENT_LOG,
        )

    @property
    def undelivered(self) -> int:
        """Return how many records are not acknowledged yet."""
        return self._undelivered

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        """Queue a record; waits while the queue is full.

        Args:
            record: ``topic`` is the whole name; partition -1 leaves it to the key's hash.
            on_delivered: Called from ``send``, ``poll`` or ``flush`` once it is acknowledged.

        Raises:
            Unavailable: The queue stayed full; this record was not sent, the others are on their way.
            Fault: An earlier delivery failed, or this record can never be sent.
        """
        self.poll(0)
        ends_s = 0.0
        while not self.send_at_once(record, on_delivered):  # R7: the caller waits, nothing is left out
            ends_s = ends_s or time.monotonic() + self._room_deadline_s
            if time.monotonic() > ends_s:
                raise self._no_room(record.topic)
            self.poll(0.1)

    def send_at_once(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> bool:
        """Queue a record if there is room, and say whether there was; arguments and errors as ``send``'s.

        Learns of no deliveries, since to ask costs half of what sending does: have ``poll`` called now and then.
        """
        if self._fault is not None:
            raise self._fault

        def delivered(error: KafkaError | None, _message: Message) -> None:
            self._undelivered -= 1
            if error is not None:
                self._fault = self._fault or _delivery_fault(error, record.topic)
            elif on_delivered is not None:
                on_delivered()

        headers: Any = record.headers  # the driver's stubs want its own, wider type
        try:
            self._producer.produce(
                record.topic, record.value, record.key, record.partition, headers=headers, on_delivery=delivered
            )
        except BufferError:
            return False
        except KafkaException as exception:
            raise self._ended(exception, record.topic) from exception
        self._undelivered += 1
        return True

    def send_together(
        self, topic: str, partition: int, contents: Sequence[Content], on_delivered: Callable[[], None]
    ) -> None:
        """Queue records of one partition, in order, to be told of all of them at once; waits while the queue is full.

        Only the last one has a report, since a report costs half of what sending does. It speaks for all: a partition's
        records are acknowledged in their order, and where one is not, none behind it is written or acknowledged (R7).

        Args:
            topic: The whole name.
            partition: Of all of them.
            contents: At least one.
            on_delivered: Called from ``poll`` or ``flush`` once all are acknowledged.

        Raises:
            Unavailable: The queue stayed full; some were not sent, the others are on their way.
            Fault: An earlier delivery failed, or one of them can never be sent.
        """
        self.poll(0)
        count = len(contents)

        def delivered(error: KafkaError | None, _message: Message) -> None:
            self._undelivered -= count
            if error is not None:
                self._fault = self._fault or _delivery_fault(error, topic)
            else:
                on_delivered()

        self._undelivered += count
        produce: Any = self._producer.produce  # the driver's stubs want wider types than ours
        report = None
        try:
            for left, (key, value, headers) in zip(range(count - 1, -1, -1), contents, strict=True):
                if not left:
                    report = delivered
                try:
                    produce(topic, value, key, partition, report, headers=headers)
                except BufferError:  # R7: the caller waits, nothing is left out
                    self._await_room(partial(produce, topic, value, key, partition, report, headers=headers), topic)
        except KafkaException as exception:
            raise self._ended(exception, topic) from exception

    def _await_room(self, produce: Callable[[], None], topic: str) -> None:
        ends_s = time.monotonic() + self._room_deadline_s
        while True:
            self.poll(0.1)
            try:
                produce()
            except BufferError:
                if time.monotonic() > ends_s:
                    raise self._no_room(topic) from None
            else:
                return

    def _no_room(self, topic: str) -> Unavailable:
        return unanswered(f"no room for a record to {topic} within {self._room_deadline_s} s")

    def write(self, record: OutRecord, deadline_s: float) -> None:
        """Send a record, and wait until it is acknowledged; what was sent before it may still be on its way.

        Raises:
            Unavailable: It was not acknowledged in time; it may be written nevertheless.
            Fault: A delivery failed, or this record can never be sent.
        """
        acknowledged: list[bool] = []
        self.send(record, lambda: acknowledged.append(True))
        self.hurry()
        ends_s = time.monotonic() + deadline_s
        while not acknowledged:
            self.poll(0.05)
            if not acknowledged and time.monotonic() > ends_s:
                raise unanswered(f"a record to {record.topic} was not acknowledged within {deadline_s} s")

    def poll(self, timeout_s: float) -> None:
        """Learn of deliveries.

        Raises:
            Fault: One failed.
        """
        try:
            self._login.renew(self._producer)
            self._producer.poll(timeout_s)
        except KafkaException as exception:
            raise self._ended(exception, "the brokers") from exception
        if self._fault is not None:
            raise self._fault

    def hurry(self) -> None:
        """Have what is queued go out now instead of after the linger; waits 2 ms at most, and raises nothing."""
        self._producer.flush(HURRY_S)

    def flush(self, deadline_s: float) -> None:
        """Wait until everything queued is acknowledged.

        Raises:
            Unavailable: Not all was, within the deadline.
            Fault: A delivery failed.
        """
        ends_s = time.monotonic() + deadline_s
        while self._undelivered:
            self.poll(0.05)
            if self._undelivered and time.monotonic() > ends_s:
                text = f"{self._undelivered} records were not acknowledged within {deadline_s} s"
                raise unanswered(text)
        self.poll(0)

    def close(self) -> None:
        """Let go of it; what is not acknowledged may or may not be written."""
        with contextlib.suppress(KafkaException):  # one that has ended says so again, whatever it is asked
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)
            self._producer.poll(0)

    def _ended(self, exception: KafkaException, topic: str) -> Fault:
        """Remember what ended the producer: the first fault is the cause of those after it."""
        error = error_of(exception)
        if error.code() == KafkaError._FATAL:
            error = self._why_fatal() or error
        self._fault = self._fault or _delivery_fault(error, topic)
        return self._fault

    def _why_fatal(self) -> KafkaError | None:
        """Return what ended the client, which a send that it refuses does not say: it comes with the next poll."""
        try:
            self._producer.poll(0)
        except KafkaException as exception:
            return error_of(exception)
        return None


def _delivery_fault(error: KafkaError, topic: str) -> Fault:
    """Return what a failed delivery is: unknown where nothing says that it can never be written."""
    fault = fault_of(error, f"delivery to {topic}")
    if not isinstance(fault, Retryable | Unavailable):
        return fault
    unknown = UnknownOutcome(str(fault))
    unknown.__cause__ = fault  # a refusal is told of as one
    return unknown
