"""The recaller: brings a refund's original from the archive back into the log, so that the lane can decide it (H4).

A refund whose original is older than the window is left OPEN by the lane, which reads MySQL only. For each such result
the recaller reads the original from Cassandra and sends a signed RECALL_ORIGINAL through balance.commands. It commits
past a refund only once that is acknowledged; sent twice, the second finds no open refund and has no effect (I7).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from processors.faults import Fenced, Retryable, Unavailable
from processors.ids import derived_id
from processors.ledger.commands import CommandType, Recalled, RecallOriginal
from processors.ledger.outcomes import Status
from processors.routing.units import partition_of
from processors.stores.archive_reader import ArchiveReader, StepKey
from processors.stores.archive_rows import Covered
from processors.stores.archive_schema import open_archive
from processors.stores.cassandra import CassandraAddress
from processors.streams.connection import KafkaAddress
from processors.streams.consumer import GroupOptions
from processors.streams.group import GroupConsumer
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import COMMANDS_TOPIC, RESULTS_TOPIC
from processors.telemetry import FAULTS, PULSE, RECALLS, RECALLS_WAITING
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord, Record
from processors.wire.results import STATUS_HEADER, TYPE_HEADER, decode_result
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign
from processors.workers.archive_wait import ArchiveWait, until_answered

GROUP = "balance-recaller"
# Refunds that wait for their original, 1 KiB each: beyond them nothing more is read until some are answered.
PENDING_MAX = 10_000
IDLE_POLL_S = 0.5
_Place = tuple[int, int]  # results partition and offset
SEND_DEADLINE_S = 30.0


class ResultsConsumer(Protocol):
    """A member of the recaller's group (``streams.group``)."""

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records."""

    def pause(self) -> None:
        """Have no more records come."""

    def resume(self) -> None:
        """Have records come again."""

    def commit(self, offsets: Mapping[int, int], metadata: str = "") -> None:
        """Commit the next offset of some partitions, and wait for it."""


class Originals(Protocol):
    """The archive, as far as the recaller asks it (``stores.archive_reader``)."""

    def coverage(self, shard: bytes) -> dict[tuple[int, int], Covered]:
        """Return how far a shard's incarnation is archived, by lane and results partition."""

    def steps_at(self, keys: Collection[StepKey]) -> dict[StepKey, bytes]:
        """Return the results at some keys, those that are there."""


class Sender(Protocol):
    """Writes to balance.commands (``streams.producer``)."""

    def send(self, record: OutRecord) -> None:
        """Queue a record."""

    def flush(self, deadline_s: float) -> None:
        """Wait until everything queued is acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallerOptions:
    """One recaller. ``commands_topic`` has its prefix; ``retry_ms`` is the pause before asking again for what waits."""

    commands_topic: str
    commands_partitions: int
    keyring: KeyRing
    batch_records_max: int
    retry_ms: int
    pending_max: int = PENDING_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenRefund:
    """A refund that waits for its original, and where its result was read."""

    partition: int
    offset: int
    incarnation: bytes
    lane: int
    lane_offset: int
    lane_index: int
    root: str
    address: str
    currency: str
    refund_id: bytes
    original_id: bytes

    @property
    def original(self) -> StepKey:
        """Where the original is archived: a capture, too, under its own id (A4)."""
        return StepKey(self.original_id, self.root, self.original_id)


class Recaller:
    """Answers open refunds in any order, and commits each results partition up to its oldest unanswered one."""

    def __init__(
        self,
        options: RecallerOptions,
        archive: Originals,
        sender: Sender,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold the parts.

        Args:
            options: Limits and names.
            archive: Where originals are.
            sender: For balance.commands.
            clock: Seconds that never go back.
        """
        self._options = options
        self._archive = archive
        self._sender = sender
        self._clock = clock
        self._pending: dict[_Place, _OpenRefund] = {}
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._ask_at_s = 0.0
        self._paused = False
        self.wait = ArchiveWait(clock)

    def revoked(self, partitions: Collection[int]) -> None:
        """Let go of partitions; their next owner reads again from what is committed."""
        self._pending = {place: refund for place, refund in self._pending.items() if place[0] not in partitions}
        for partition in partitions:
            self._next.pop(partition, None)
            self._committed.pop(partition, None)

    def step(self, consumer: ResultsConsumer) -> int:
        """Take in what is new, answer what can be answered, and commit; return how many were answered.

        Raises:
            Undecodable: A result or an original is of a later release.
            Fault: Kafka's, or one of Cassandra's that waiting does not mend.
        """
        new = self._take_in(consumer)
        answered = 0
        due = self._clock() >= self._ask_at_s
        asked = list(self._pending) if due else [] if self.wait.waiting else new
        if asked:
            try:
                answered = self._answer(asked)
                self.wait.answered()
            except Unavailable as silent:
                self.wait.failed(silent)
                due = True
            if due:
                self._ask_at_s = self._clock() + max(self._options.retry_ms / 1000, self.wait.pause_s)
        self._commit(consumer)
        RECALLS_WAITING.set(len(self._pending))
        return answered

    def run(self, consumer: ResultsConsumer, stopping: threading.Event) -> None:
        """Answer until told to stop; what is not answered by then is read again at the next start."""
        while not stopping.is_set():
            self.step(consumer)
            PULSE.beat()

    def _take_in(self, consumer: ResultsConsumer) -> list[_Place]:
        """Read on, as long as there is room for what may have to wait; return where open refunds came."""
        room = self._options.pending_max - len(self._pending)
        if (room <= 0) != self._paused:
            self._paused = not self._paused
            (consumer.pause if self._paused else consumer.resume)()
        timeout_s = IDLE_POLL_S if not self._pending else max(0.0, min(IDLE_POLL_S, self._ask_at_s - self._clock()))
        came = []
        for record in consumer.poll(max(1, min(self._options.batch_records_max, room)), timeout_s):
            refund = _open_refund_of(record)
            if refund is not None:
                self._pending[record.partition, record.offset] = refund
                came.append((record.partition, record.offset))
            self._next[record.partition] = record.offset + 1
        return came

    def _answer(self, asked: list[_Place]) -> int:
        """Send what the archive says about some of the originals that wait."""
        waiting = [(place, self._pending[place]) for place in asked]
        # Coverage first: what it covers is there when the originals are read after it (H4).
        coverage = {shard: self._archive.coverage(shard) for shard in {each.incarnation for _, each in waiting}}
        found = self._archive.steps_at([refund.original for _, refund in waiting])
        answered = []
        for place, refund in waiting:
            original = found.get(refund.original)
            if original is None and not _is_covered(refund, coverage[refund.incarnation]):
                continue
            self._send(refund, original)
            answered.append(place)
        self._sender.flush(SEND_DEADLINE_S)
        for place in answered:
            del self._pending[place]
        return len(answered)

    def _send(self, refund: _OpenRefund, original: bytes | None) -> None:
        options = self._options
        command = recall_of(refund, original)
        key, payload = refund.root.encode(), encode_command(command)
        self._sender.send(
            OutRecord(
                options.commands_topic,
                partition_of(refund.root, options.commands_partitions),  # W3
                key,
                payload,
                [(SIGNATURE_HEADER, sign(options.keyring, key, payload))],  # W1
            )
        )
        RECALLS.labels(recalled=command.recalled.value).inc()

    def _commit(self, consumer: ResultsConsumer) -> None:
        positions = dict(self._next)
        for partition, offset in self._pending:
            positions[partition] = min(positions[partition], offset)
        changed = {p: offset for p, offset in positions.items() if self._committed.get(p) != offset}
        if not changed:
            return
        try:
            consumer.commit(changed)
        except (Fenced, Unavailable, Retryable) as fault:  # again with the next step; a fatal one comes with its poll
            FAULTS.labels(process="recaller", fault=type(fault).__name__).inc()
            return
        self._committed.update(changed)


def recall_of(refund: _OpenRefund, original: bytes | None) -> RecallOriginal:
    """Return the command that tells the lane what the archive knows of a refund's original; None: nothing.

    Raises:
        Undecodable: The original is of a later release.
    """
    command = RecallOriginal(
        command_id=derived_id("RECALL_ORIGINAL", refund.refund_id),  # I7
        address=refund.address,
        currency=refund.currency,
        refund_id=refund.refund_id,
        original_id=refund.original_id,
        recalled=Recalled.NOT_FOUND,
    )
    if original is None:
        return command
    result = decode_result(original)
    return replace(
        command,
        recalled=Recalled.FOUND,
        original_type=result.type.value,
        original_accepted=result.status is Status.ACCEPTED,
        original_address=result.address,
        original_currency=result.currency,
        original_amount_minor=result.amount_minor,
        original_levels=result.levels,
    )


def _open_refund_of(record: Record) -> _OpenRefund | None:
    """Return the open refund that a record of balance.results tells of, or None.

    Headers are made from the row, so most results need not be decoded. A duplicate's answer (without a journal row)
    tells of a refund that was met before.
    """
    headers = dict(record.headers)
    if headers.get(TYPE_HEADER) != b"REFUND" or headers.get(STATUS_HEADER) != b"OPEN":
        return None
    result = decode_result(record.value or b"")
    assert (result.type, result.status) == (CommandType.REFUND, Status.OPEN)
    if not result.journalled:
        return None
    return _OpenRefund(
        partition=record.partition,
        offset=record.offset,
        incarnation=result.incarnation,
        lane=result.lane,
        lane_offset=result.lane_offset,
        lane_index=result.lane_index,
        root=result.root,
        address=result.address,
        currency=result.currency,
        refund_id=result.command_id,
        original_id=result.related_id,
    )


def _is_covered(refund: _OpenRefund, coverage: Mapping[tuple[int, int], Covered]) -> bool:
    """Say whether all that precedes a refund in its results partition is archived, so that absence means something."""
    covered = coverage.get((refund.lane, refund.partition))
    if covered is None:
        return False
    return (covered.lane_offset, covered.lane_index) >= (refund.lane_offset, refund.lane_index)


def run_recaller(
    kafka: KafkaAddress,
    archive: CassandraAddress,
    *,
    group: GroupOptions,
    keyring: KeyRing,
    commands_partitions: int,
    batch_records_max: int,
    retry_ms: int,
    stopping: threading.Event,
) -> int:
    """Run one recaller until told to stop; several share the results partitions.

    Args:
        kafka: The brokers.
        archive: Cassandra; waited for at the start as later.
        group: This member's place in ``GROUP``.
        keyring: Signs.
        commands_partitions: Of balance.commands, a power of two.
        batch_records_max: Results read at once.
        retry_ms: Pause before asking again for what waits.
        stopping: Set to end.

    Returns:
        0.

    Raises:
        Fault: One that waiting does not mend.
    """
    session = until_answered(lambda: open_archive(archive, requests_max=1), stopping)
    if session is None:
        return 0
    options = RecallerOptions(
        commands_topic=kafka.topic_prefix + COMMANDS_TOPIC,
        commands_partitions=commands_partitions,
        keyring=keyring,
        batch_records_max=batch_records_max,
        retry_ms=retry_ms,
    )
    sender = IdempotentProducer(kafka)
    recaller = Recaller(options, ArchiveReader(session), sender)
    consumer = GroupConsumer(kafka, RESULTS_TOPIC, group, on_revoked=recaller.revoked)
    try:
        recaller.run(consumer, stopping)
    finally:
        consumer.close()
        sender.close()
        session.close()
    return 0
