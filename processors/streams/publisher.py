"""A lane's transactional producer: results, dead letters and the group's position, visible together or not (P1)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from processors.faults import Fault, Fenced, Retryable, UnknownOutcome
from processors.streams.connection import (
    ASIDE_S,
    CLIENT_LOG,
    MESSAGE_BYTES_MAX,
    KafkaAddress,
    Login,
    error_of,
    fault_of,
    is_fatal,
)
from processors.streams.login_refusal import LOGIN_REFUSAL
from processors.wire.positions import GroupPosition, encode_metadata
from processors.wire.records import OutRecord

# How long readers of a results partition wait at most where a producer died in a transaction and no other takes its
# place.
TRANSACTION_TIMEOUT_MS = 30_000
# One publication, from begin to commit; shorter than the transaction's own timeout, so that the broker never aborts
# what is still being tried.
PUBLISH_DEADLINE_S = 20.0
OPEN_DEADLINE_S = 30.0
# Courtesy only: readers wait no longer for a transaction that is aborted than for one that is not.
ABORT_DEADLINE_S = 5.0
# A member knows the group's new generation within one poll (0.1 s) after the rebalance.
REBALANCE_WAIT_S = 0.05
# The broker still ends the last transaction for a moment after it has said that it is committed. A new one that begins
# in that moment is put off by the client for 20 ms; tried: with this rest a small publication takes 4 ms instead of 24.
REST_S = 0.002
# A publication is at most 8,000 results, and dead letters beside them.
QUEUE_RECORDS = 100_000
QUEUE_KIB_MAX = 256 * 1024  # those records at 2.5 KiB each, which is above what most results take
# A request to one results partition: larger ones save requests, and the broker takes a megabyte and more.
BATCH_BYTES_MAX = 1024 * 1024
BATCH_RECORDS_MAX = 10_000
# A transaction goes out as few large requests (measured: at 0 a fifth fewer commands a second, and twice the broker's
# CPU), and waits for nothing: its commit flushes.
LINGER_MS = 5
# A refused request is tried again at once: the lane waits for its publication, within PUBLISH_DEADLINE_S.
RETRY_MS = 5
RETRY_MS_MAX = 200

# What was begun goes on when it is called again (librdkafka says so of these), so that the password can be looked at,
# and the client be heard, meanwhile. Not so of `send_offsets_to_transaction`: where its time runs out the transaction
# can only be aborted (rdkafka_txnmgr.c), so it has all that is left, and the lane's next producer has the new password.
_GOES_ON = frozenset({"init_transactions", "commit_transaction", "abort_transaction"})

# What a client reports of records that another's failure took with it.
_TAKEN_ALONG = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
# The group moved on between the last poll and this commit; the lane may still be ours (P4, cooperative-sticky).
_REBALANCED = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS})


class TransactionalPublisher:
    """One lane's producer (L5). After any fault it is unusable: close it and make another, in L5's order."""

    def __init__(
        self,
        address: KafkaAddress,
        transactional_id: str,
        consumed_topic: str,
        group_metadata: Callable[[], object],
        *,
        publish_deadline_s: float = PUBLISH_DEADLINE_S,
    ) -> None:
        """Connect; nothing is fenced before ``open``.

        Args:
            address: The brokers.
            transactional_id: ``<shard>.<lane>``, whoever owns the lane (L5); the address's prefix goes before it.
            consumed_topic: The shard's topic, its whole name, whose group position is committed along.
            group_metadata: The consumer's membership as it is at the time of each commit.
            publish_deadline_s: For one publication.
        """
        self._login = Login(address)
        self._publish_deadline_s = publish_deadline_s
        self._report: KafkaError | None = None  # why the first record that was not delivered was not
        self._rested_s = 0.0  # when the next transaction may begin, on the monotonic clock
        self._name = address.topic_prefix + transactional_id
        self._consumed_topic = consumed_topic
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
                "partitioner": "murmur2_random",  # unused: every record names its partition
                "linger.ms": LINGER_MS,
                "batch.size": BATCH_BYTES_MAX,
                "batch.num.messages": BATCH_RECORDS_MAX,
                "queue.buffering.max.messages": QUEUE_RECORDS,
                "queue.buffering.max.kbytes": QUEUE_KIB_MAX,
                "retry.backoff.ms": RETRY_MS,
                "retry.backoff.max.ms": RETRY_MS_MAX,
            },
            logger=CLIENT_LOG,
        )

    def open(self) -> None:
        """Fence every earlier producer of the lane; its unfinished transaction is aborted first.

        Raises:
            Fault: It may or may not have happened; make another.
        """
        deadline_s = time.monotonic() + OPEN_DEADLINE_S
        self._step("init_transactions", self._producer.init_transactions, deadline_s)

    def publish(self, records: Sequence[OutRecord], position: GroupPosition) -> None:
        """Make records and position visible together.

        Args:
            records: In order, each to an explicit partition; ``topic`` is the whole name.
            position: P afterwards; goes into the group's commit with its metadata (L4).

        Raises:
            Fenced: A later owner opened a producer.
            Fault: Nothing of it will be visible.
            UnknownOutcome: Nobody knows; the lane's next owner, perhaps this process, reads P (L5).
        """
        now_s = time.monotonic()
        deadline_s = now_s + self._publish_deadline_s
        time.sleep(max(0.0, self._rested_s - now_s))
        while not self._prepare(records, position, deadline_s):
            time.sleep(REBALANCE_WAIT_S)
        try:
            self._step("commit_transaction", self._producer.commit_transaction, deadline_s)
        except Fenced:
            raise
        except Fault as fault:
            # Whatever the client says: it may have given up on a commit that the broker is just doing (tried).
            raise UnknownOutcome(str(fault)) from fault
        self._rested_s = time.monotonic() + REST_S

    def close(self) -> None:
        """Let go of it without waiting: what it has not committed is aborted when the lane's next producer opens."""
        with contextlib.suppress(KafkaException):  # a fenced producer says so again, whatever it is asked
            self._producer.purge(in_queue=True, in_flight=True, blocking=False)
            self._producer.poll(0)

    def _prepare(self, records: Sequence[OutRecord], position: GroupPosition, deadline_s: float) -> bool:
        """Do everything but the commit; False where the group's generation is another by now, to begin again."""
        producer = self._producer
        place = TopicPartition(
            self._consumed_topic,
            position.lane,
            position.at.next_offset,
            encode_metadata(position),
            position.at.leader_epoch,
        )
        try:
            self._step("begin_transaction", lambda _: producer.begin_transaction(), deadline_s)
            self._produce(records, deadline_s)
            self._step(
                "send_offsets_to_transaction",
                lambda left_s: producer.send_offsets_to_transaction([place], self._group_metadata(), left_s),
                deadline_s,
            )
        except _RebalancedError as rebalanced:
            self._abort(rebalanced, deadline_s)
            return False
        except Fenced:
            raise
        except Fault:
            with contextlib.suppress(Fault):  # the lane's next producer aborts it in any case (L5)
                self._step("abort_transaction", producer.abort_transaction, time.monotonic() + ABORT_DEADLINE_S)
            raise
        return True

    def _produce(self, records: Sequence[OutRecord], deadline_s: float) -> None:
        # One report a partition: what a broker refuses, it refuses from the first record on; and each report takes the
        # interpreter from the lane's thread.
        reported: set[tuple[str, int]] = set()
        try:
            for record in records:
                place = (record.topic, record.partition)
                self._produce_one(record, deadline_s, None if place in reported else self._note_report)
                reported.add(place)
        except KafkaException as exception:
            raise self._fault(error_of(exception), "produce") from exception

    def _note_report(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and self._report is None and error.code() not in _TAKEN_ALONG:
            self._report = error

    def _fault(self, error: KafkaError, step: str) -> Fault:
        """Return what went wrong; where a record was not delivered, that is what the transaction failed of."""
        doing = f"transaction {self._name}: {step}"
        if self._report is None or is_fatal(error):
            return fault_of(error, doing)
        return fault_of(self._report, f"{doing}: {error.str()}: the first report")

    def _produce_one(
        self,
        record: OutRecord,
        deadline_s: float,
        on_delivery: Callable[[KafkaError | None, Message], None] | None,
    ) -> None:
        headers: Any = record.headers  # the driver's stubs want its own, wider type
        report: dict[str, Any] = {} if on_delivery is None else {"on_delivery": on_delivery}
        while True:
            try:
                self._producer.produce(
                    record.topic, record.value, record.key, record.partition, headers=headers, **report
                )
            except BufferError:  # the queue is full: the broker must take some first
                if time.monotonic() > deadline_s:
                    raise Retryable(f"transaction {self._name}: the broker takes no records") from None
                self._producer.poll(0.05)
            else:
                return

    def _step(self, name: str, call: Callable[[float], object], deadline_s: float) -> None:
        """Do one step of the transaction, again while the client says it may be tried again, until the deadline.

        Args:
            name: For the fault's text.
            call: Takes the seconds that are left.
            deadline_s: On the monotonic clock.
        """
        while True:
            self._login.renew(self._producer)
            left_s = deadline_s - time.monotonic()
            try:
                call(max(0.1, min(ASIDE_S, left_s) if name in _GOES_ON else left_s))
            except KafkaException as exception:
                error = error_of(exception)
                self._hear()
                if error.code() in _REBALANCED:
                    raise _RebalancedError(f"transaction {self._name}: {name}: {error.str()}") from exception
                refused = name == "init_transactions" and LOGIN_REFUSAL.now()  # nothing is begun that could go on
                if refused or not error.retriable() or time.monotonic() > deadline_s:
                    raise self._fault(error, name) from exception
            else:
                return

    def _abort(self, rebalanced: Fault, deadline_s: float) -> None:
        """Abort, to do the same again as the member that this process is by now.

        Raises:
            Fault: The time for that is over.
        """
        self._step("abort_transaction", self._producer.abort_transaction, deadline_s)
        if time.monotonic() > deadline_s:
            raise rebalanced

    def _hear(self) -> None:
        """Have the client say what keeps it: it does so only when it is polled."""
        with contextlib.suppress(KafkaException):  # one that has ended says so again, whatever it is asked
            self._producer.poll(0)


class _RebalancedError(Retryable):
    """The group's generation is another than the one that was committed with."""
