"""Producers of the in-memory Kafka: a lane's transactional one, and the plain idempotent one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from processors.faults import Retryable, Unavailable, UnknownOutcome
from processors.wire.positions import GroupPosition, encode_metadata
from processors.wire.records import Content, OutRecord
from tests.simulation.fakes.broker import Broker
from tests.simulation.fakes.crash_points import CrashPoints
from tests.simulation.fakes.groups import Group, Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Whose offsets a transaction commits: the group, and the consumer's member as it is at that time."""

    group: Group
    member: Callable[[], Member]


class FakePublisher:
    """``streams.publisher.TransactionalPublisher`` on the in-memory Kafka."""

    def __init__(
        self,
        broker: Broker,
        transactional_id: str,
        consumed_topic: str,
        membership: Membership,
        crash_points: CrashPoints,
    ) -> None:
        self.broker = broker
        self.transactional_id = transactional_id
        self.consumed_topic = consumed_topic
        self.membership = membership
        self.crash_points = crash_points
        self.epoch = -1

    def open(self) -> None:
        self.crash_points.point("publisher.open")
        if self.crash_points.fails("publisher.open"):
            if self.crash_points.choose(2):
                self.broker.open_transactional(self.transactional_id)
            raise Unavailable(f"{self.transactional_id}: init_transactions was not answered")
        self.epoch = self.broker.open_transactional(self.transactional_id)
        self.crash_points.point("publisher.opened")

    def publish(self, records: Sequence[OutRecord], position: GroupPosition) -> None:
        self.crash_points.point("publish.begin")
        self.produce(records)
        self.send_offsets(position)
        self.commit()

    def produce(self, records: Sequence[OutRecord]) -> None:
        crash_points, broker = self.crash_points, self.broker
        for index, record in enumerate(records):
            broker.write(record, broker.begin(self.transactional_id, self.epoch))
            if index % 4 == 1:
                crash_points.point("publish.produced")
        if crash_points.fails("publish.produce"):
            broker.end(self.transactional_id, self.epoch, commit=False)
            raise Retryable(f"{self.transactional_id}: the transaction was aborted")

    def send_offsets(self, position: GroupPosition) -> None:
        self.crash_points.point("publish.offsets")
        transaction = self.broker.begin(self.transactional_id, self.epoch)
        group = self.membership.group
        if not group.is_member(self.membership.member()):
            self.broker.end(self.transactional_id, self.epoch, commit=False)
            raise Retryable(f"{self.transactional_id}: its consumer is no member of the group")
        place = (self.consumed_topic, position.lane)
        transaction.offsets.append((group, place, position.at.next_offset, encode_metadata(position)))

    def commit(self) -> None:
        self.crash_points.point("publish.commit")
        if self.crash_points.fails("publish.commit"):
            self._lose_the_answer()
        self.broker.end(self.transactional_id, self.epoch, commit=True)
        self.crash_points.point("publish.committed")

    def close(self) -> None:
        self.crash_points.point("publisher.close")

    def _lose_the_answer(self) -> None:
        """Time out on EndTxn: it never arrived, it was carried out, or it is still on the wire."""
        way = self.crash_points.choose(3)
        if way == 1:
            self.broker.end(self.transactional_id, self.epoch, commit=True)
        elif way == 2:
            self.broker.late.append((self.transactional_id, self.epoch))
        raise UnknownOutcome(f"{self.transactional_id}: commit_transaction was not answered")


class FakeProducer:
    """``streams.producer.IdempotentProducer`` on the in-memory Kafka: in order, without gaps, acknowledged later."""

    def __init__(self, broker: Broker, crash_points: CrashPoints) -> None:
        self.broker = broker
        self._crash_points = crash_points
        self.queue: deque[tuple[OutRecord, Callable[[], None] | None]] = deque()
        self._fault: Unavailable | None = None

    @property
    def undelivered(self) -> int:
        return len(self.queue)

    def send(self, record: OutRecord, on_delivered: Callable[[], None] | None = None) -> None:
        self.poll(0)
        self.queue.append((record, on_delivered))

    def send_together(
        self, topic: str, partition: int, contents: Sequence[Content], on_delivered: Callable[[], None]
    ) -> None:
        """Send all, and tell of the last one only: whatever is lost before it is not told of."""
        for left, content in zip(range(len(contents) - 1, -1, -1), contents, strict=True):
            self.send(OutRecord(topic, partition, *content), None if left else on_delivered)

    def write(self, record: OutRecord, deadline_s: float) -> None:
        """Deliver some of what waits, and this record, which is of another partition and may be there earlier."""
        self.poll(0)
        self._crash_points.point("producer.write")
        if self._crash_points.fails("producer.write"):
            if self._crash_points.choose(2):
                self.broker.write(record)
            raise Unavailable(f"not acknowledged within {deadline_s} s")
        self.broker.write(record)
        self._crash_points.point("producer.written")

    def poll(self, timeout_s: float) -> None:  # noqa: ARG002 - the real one's signature
        """Deliver some of what waits, from the front."""
        if self.queue:
            self._deliver(self._crash_points.choose(len(self.queue) + 1))
        if self._fault is not None:
            raise self._fault

    def hurry(self) -> None:
        self._deliver(self._crash_points.choose(len(self.queue) + 1))

    def flush(self, deadline_s: float) -> None:  # noqa: ARG002
        self._deliver(len(self.queue))
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        self._crash_points.point("producer.close")

    def _deliver(self, count: int) -> None:
        for _ in range(count):
            self._crash_points.point("producer.deliver")
            if self._fault is not None:
                return
            if self._crash_points.fails("producer.deliver"):
                self.give_up()
                return
            record, on_delivered = self.queue.popleft()
            self.broker.write(record)
            self._crash_points.point("producer.delivered")
            if on_delivered is not None:
                on_delivered()

    def give_up(self) -> None:
        """Fail for good, as after a fatal error: nothing is sent any more."""
        self._fault = Unavailable("delivery failed")
