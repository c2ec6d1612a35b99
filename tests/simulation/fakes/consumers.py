"""Consumers of the in-memory Kafka: the shard worker's, a lane's view of it, and the plain group member's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from processors.faults import Fenced, LaneStopped, Misconfigured, StopCode, Unavailable
from processors.lane.times import may_be_heard
from processors.streams.consumer import AssignmentEvents
from processors.streams.group import NO_METADATA
from processors.wire.records import Record
from tests.simulation.fakes.broker import Broker, OffsetOutOfRangeError, PartitionLog, record_of
from tests.simulation.fakes.crash_points import CrashPoints
from tests.simulation.fakes.groups import Group, Member


@dataclass(slots=True)
class Position:
    """Where a partition is read next, and the leader epoch of the record before (-1: not known)."""

    offset: int
    leader_epoch: int


def read_on(log: PartitionLog, position: Position, records_max: int) -> list[Record]:
    """Read on from a position, and move it.

    Raises:
        OffsetOutOfRangeError: The log does not reach there, or was cut below it under an earlier leader.
    """
    if position.leader_epoch >= 0 and log.end_of_epoch(position.leader_epoch) < position.offset:  # L3
        raise OffsetOutOfRangeError(f"{log.topic} {log.number}: truncated below {position.offset}")
    entries, passed = log.read(position.offset, records_max)
    if passed is not None:
        position.offset, position.leader_epoch = passed.offset + 1, passed.leader_epoch
    return [record_of(log, entry) for entry in entries]


class FakeShardConsumer:
    """``streams.consumer.RecordConsumer`` on the in-memory Kafka."""

    def __init__(
        self,
        broker: Broker,
        topic: str,
        group: str,
        instance: str,
        *,
        events: AssignmentEvents,
        crash_points: CrashPoints,
    ) -> None:
        self.group: Group = broker.group(group)
        self._broker = broker
        self._topic = topic
        self._events = events
        self._crash_points = crash_points
        self._assigned: set[int] = set()
        self._positions: dict[int, Position] = {}
        self._paused: set[int] = set()
        self.member: Member = self._join(instance)

    def poll(self, max_records: int, timeout_s: float) -> tuple[dict[int, list[Record]], dict[int, LaneStopped]]:  # noqa: ARG002
        self._crash_points.point("consumer.poll")
        self._follow_group()
        records: dict[int, list[Record]] = {}
        stopped: dict[int, LaneStopped] = {}
        for partition in sorted(self._positions.keys() - self._paused):
            log = self._broker.log(self._topic, partition)
            try:
                found = self.read_on(log, self._positions[partition], max_records)
            except OffsetOutOfRangeError as error:
                del self._positions[partition]
                stopped[partition] = LaneStopped(StopCode.LOG_TRUNCATED, str(error))
                continue
            if found:
                records[partition] = found
        return records, stopped

    def read_on(self, log: PartitionLog, position: Position, records_max: int) -> list[Record]:
        return read_on(log, position, records_max)

    def start(self, partition: int, offset: int, leader_epoch: int) -> None:
        self._crash_points.point("consumer.start")
        if self._crash_points.fails("consumer.start"):
            raise Unavailable(f"partition {partition} was not positioned in time")
        if partition not in self._assigned:
            raise Fenced(f"partition {partition} was revoked")
        self._refuse_truncated(partition, Position(offset, leader_epoch))
        self._positions[partition] = Position(offset, leader_epoch)
        self._paused.discard(partition)
        self._events.started(partition)

    def _refuse_truncated(self, partition: int, position: Position) -> None:
        """Stop a lane whose log does not have its offset at once, as mostly; else the next poll does."""
        if self._crash_points.choose(2):
            try:
                self.read_on(self._broker.log(self._topic, partition), position, 0)
            except OffsetOutOfRangeError as error:
                raise LaneStopped(StopCode.LOG_TRUNCATED, str(error)) from error

    def pause(self, partition: int) -> None:
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)

    def committed(self, partition: int) -> tuple[int, str] | None:
        self._crash_points.point("consumer.committed")
        place = (self._topic, partition)
        if self._crash_points.fails("consumer.committed") or self._broker.pending_offset(self.group, place):
            raise Unavailable(f"committed offset of {place} was not answered")
        return self.group.offsets.get(place)

    def close(self) -> None:
        self._crash_points.point("consumer.close")

    def _join(self, instance: str) -> Member:
        partitions = len(self._broker.topic(self._topic).partitions)
        return self.group.join(instance, partitions, self._broker.clock.now_ms)

    def _follow_group(self) -> None:
        """Give back and take what the group says; an expelled member loses all and joins again."""
        group, member = self.group, self.member
        if group.was_replaced(member):
            raise Fenced(f"{member.instance} runs elsewhere")
        revoked = sorted(group.revocations(member))
        if revoked:
            for partition in revoked:
                self._positions.pop(partition, None)
            self._assigned.difference_update(revoked)
            self._events.revoked(revoked)
            member.owned.difference_update(revoked)
        if not group.is_member(member):
            member = self.member = self._join(member.instance)
        member.generation = group.generation
        assigned = sorted(group.assignments(member))
        if assigned:
            member.owned.update(assigned)
            self._assigned.update(assigned)
            self._events.assigned(assigned)


class FakeLaneLog:
    """``lane.log.TopicLaneLog`` on the in-memory Kafka."""

    def __init__(
        self, broker: Broker, consumer: FakeShardConsumer, topic: str, lane: int, *, crash_points: CrashPoints
    ) -> None:
        self.broker = broker
        self.consumer = consumer
        self.topic = topic
        self.lane = lane
        self.crash_points = crash_points
        self.records_read = 0

    def topic_id(self) -> bytes:
        self.crash_points.point("log.topic_id")
        if self.crash_points.fails("log.topic_id"):
            raise Unavailable(f"id of topic {self.topic} was not answered")
        return self.broker.topic(self.topic).topic_id

    def committed(self) -> tuple[int, str] | None:
        return self.consumer.committed(self.lane)

    def start(self, offset: int, leader_epoch: int) -> None:
        self.consumer.start(self.lane, offset, leader_epoch)

    def control_ahead(self, from_offset: int) -> tuple[list[Record], int]:
        self.crash_points.point("log.control_ahead")
        log = self.broker.log(self.topic, self.lane)
        records = [record_of(log, entry) for entry in log.entries if entry.offset >= from_offset]
        self.records_read += len(records)
        return [record for record in records if may_be_heard(record)], log.next_offset


class FakeGroupConsumer:
    """``streams.group.GroupConsumer`` on the in-memory Kafka."""

    def __init__(
        self,
        broker: Broker,
        topic: str,
        group: str,
        instance: str,
        crash_points: CrashPoints,
        *,
        on_assigned: Callable[[Collection[int]], Mapping[int, int] | None] | None = None,
        on_revoked: Callable[[Collection[int]], None] | None = None,
    ) -> None:
        self.group = broker.group(group)
        self._broker = broker
        self._topic = topic
        self._crash_points = crash_points
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._positions: dict[int, Position] = {}
        self._partitions = len(broker.topic(topic).partitions)
        self.member = self.group.join(instance, self._partitions, broker.clock.now_ms)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:  # noqa: ARG002
        self._crash_points.point("group.poll")
        self._follow_group()
        found: list[Record] = []
        for partition in sorted(self._positions):
            log = self._broker.log(self._topic, partition)
            try:
                found += read_on(log, self._positions[partition], max_records - len(found))
            except OffsetOutOfRangeError as error:
                raise Misconfigured(str(error)) from error
        return found

    def commit(self, offsets: Mapping[int, int], metadata: Mapping[int, str] = NO_METADATA) -> None:
        self._crash_points.point("group.commit")
        if self._crash_points.fails("group.commit"):
            if self._crash_points.choose(2) and self.group.is_member(self.member):
                self._store(offsets, metadata)
            raise Unavailable("the commit was not answered")
        self.group.check(self.member)
        self._store(offsets, metadata)
        self._crash_points.point("group.committed")

    def committed(self, partitions: Collection[int]) -> dict[int, tuple[int, str]]:
        self._crash_points.point("group.committed_offsets")
        known = self.group.offsets
        return {
            partition: known[self._topic, partition] for partition in partitions if (self._topic, partition) in known
        }

    def close(self) -> None:
        self._crash_points.point("group.close")

    def _store(self, offsets: Mapping[int, int], metadata: Mapping[int, str]) -> None:
        for partition, offset in offsets.items():
            self.group.offsets[self._topic, partition] = (offset, metadata.get(partition, ""))

    def _follow_group(self) -> None:
        group, member = self.group, self.member
        if group.was_replaced(member):
            raise Fenced(f"{member.instance} runs elsewhere")
        revoked = sorted(group.revocations(member))
        if revoked:
            if self._on_revoked is not None:
                self._on_revoked(revoked)
            for partition in revoked:
                self._positions.pop(partition, None)
            member.owned.difference_update(revoked)
        if not group.is_member(member):
            member = self.member = group.join(member.instance, self._partitions, self._broker.clock.now_ms)
        member.generation = group.generation
        assigned = sorted(group.assignments(member))
        if assigned:
            member.owned.update(assigned)
            known = (self._on_assigned(assigned) if self._on_assigned is not None else None) or {}
            for partition in assigned:
                offset, _ = group.offsets.get((self._topic, partition), (known.get(partition, 0), ""))
                self._positions[partition] = Position(offset, -1)
