"""A lane's transactional producer: results, dead letters and the group's position, visible together or not (P1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaException, Producer, TopicPartition

from processors.faults import Fault, Fenced, Retryable, Unavailable, UnknownOutcome
from processors.streams.connection import MESSAGE_BYTES_MAX, KafkaAddress, error_of, fault_of
from processors.wire.positions import GroupPosition, encode_metadata
from processors.wire.records import OutRecord

# A reader of a results partition waits this long at most for a transaction whose producer died and has no successor.
TRANSACTION_TIMEOUT_MS = 30_000
# Each of init, send_offsets and commit is tried for this long; shorter than the transaction's own timeout, so that an
# answer that comes late is never taken for one in time.
STEP_DEADLINE_S = 20.0
QUEUE_RECORDS = 100_000


class TransactionalPublisher:
    """One lane's producer (L5). After any fault it is unusable: close it and make another, in L5's order."""

    def __init__(
        self,
        address: KafkaAddress,
        transactional_id: str,
        source_topic: str,
        group_metadata: Callable[[], object],
    ) -> None:
        """Connect; nothing is fenced before ``open``.

        Args:
            address: The brokers.
            transactional_id: ``<shard>.<lane>``, whoever owns the lane (L5).
            source_topic: The shard's topic, whose group position is committed along.
            group_metadata: The consumer's membership as it is at the time of each commit.
        """
        self._name = address.topic_prefix + transactional_id
        self._source_topic = source_topic
        self._group_metadata = group_metadata
        self._producer = Producer(
            address.options()
            | {
                "transactional.id": self._name,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "enable.idempotence": True,
                "acks": "all",
                "max.in.flight.requests.per.connection": 5,
                "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                # A transaction is sent as a whole: its commit flushes, so waiting for more would only add latency.
                "linger.ms": 0,
                "batch.size": 1024 * 1024,
                "batch.num.messages": 10_000,
                "queue.buffering.max.messages": QUEUE_RECORDS,
                "queue.buffering.max.kbytes": 256 * 1024,
                "retry.backoff.ms": 20,
                "retry.backoff.max.ms": 200,
            }
        )

    def open(self) -> None:
        """Fence every earlier producer of the lane; its unfinished transaction is aborted first.

        Raises:
            Fault: It may or may not have happened; make another.
        """
        self._step("init_transactions", lambda: self._producer.init_transactions(STEP_DEADLINE_S))

    def publish(self, records: Sequence[OutRecord], position: GroupPosition) -> None:
        """Make records and position visible together.

        Args:
            records: In order, each to an explicit partition.
            position: P afterwards; goes into the group's commit with its metadata (L4).

        Raises:
            Fenced: A later owner opened a producer, or the consumer is no longer a member.
            Retryable: Nothing of it will be visible.
            UnknownOutcome: Nobody knows; the next owner reads P.
        """
        producer = self._producer
        self._step("begin_transaction", producer.begin_transaction)
        for record in records:
            self._produce(record)
        place = TopicPartition(
            self._source_topic, position.lane, position.next_offset, encode_metadata(position), position.leader_epoch
        )
        self._step(
            "send_offsets_to_transaction",
            lambda: producer.send_offsets_to_transaction([place], self._group_metadata(), STEP_DEADLINE_S),
        )
        try:
            self._step("commit_transaction", lambda: producer.commit_transaction(STEP_DEADLINE_S))
        except Unavailable as fault:
            raise UnknownOutcome(str(fault)) from fault

    def close(self) -> None:
        """Let go of it without waiting: what it has not committed is aborted when the next producer opens."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer.poll(0)

    def _produce(self, record: OutRecord) -> None:
        deadline_s = time.monotonic() + STEP_DEADLINE_S
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, record.partition, headers=record.headers)
            except BufferError:  # the queue is full: the broker must take some first
                if time.monotonic() > deadline_s:
                    raise Retryable(f"transaction {self._name}: the broker takes no records") from None
                self._producer.poll(0.05)
            except KafkaException as exception:
                raise fault_of(error_of(exception), f"transaction {self._name}: produce") from exception
            else:
                return

    def _step(self, name: str, call: Callable[[], object]) -> None:
        """Do one step of the transaction, again while the client says it may be tried again, until the deadline."""
        deadline_s = time.monotonic() + STEP_DEADLINE_S
        while True:
            try:
                call()
            except KafkaException as exception:
                error = error_of(exception)
                fault: Fault = fault_of(error, f"transaction {self._name}: {name}")
                if error.retriable() and not isinstance(fault, Fenced) and time.monotonic() < deadline_s:
                    continue
                if error.txn_requires_abort():
                    self._abort()
                raise fault from exception
            else:
                return

    def _abort(self) -> None:
        """Abort what is open, as far as the broker answers: the next producer's ``open`` does it in any case (L5)."""
        try:
            self._producer.abort_transaction(STEP_DEADLINE_S)
        except KafkaException as exception:
            raise fault_of(error_of(exception), f"transaction {self._name}: abort") from exception
