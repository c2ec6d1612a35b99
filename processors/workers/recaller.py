"""The recaller: brings a refund's original from the archive back into the log, so that the lane can decide it (H4).

A refund whose original is older than the window is left OPEN by the lane, which reads MySQL only. For each such result
the recaller reads the original from Cassandra and sends a signed RECALL_ORIGINAL through balance.commands. It commits
past a refund only once the lane's answer to that has come; sent twice, the second finds no open refund and has no
effect (I7).
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from processors.archive.open_refunds import Coverage, OpenRefunds, WaitingRefund
from processors.archive.waiting import ArchiveWait
from processors.faults import Fenced, Retryable, Unavailable, Undecodable
from processors.ids import derived_id, id_text
from processors.ledger.commands import CommandType, Recalled, RecallOriginal
from processors.ledger.outcomes import Status
from processors.metrics import RECALLS, RECALLS_UNDECIDED, RECALLS_WAITING
from processors.routing.buckets import partition_of
from processors.stores.archive_reader import StepKey
from processors.stores.archive_rows import Covered
from processors.streams.record_producer import RecordProducer
from processors.telemetry import PULSE, get_logger
from processors.troubles import TROUBLES
from processors.wire.commands import encode_command
from processors.wire.records import OutRecord, ReadHeaders, Record
from processors.wire.results import STATUS_HEADER, TYPE_HEADER, decode_result
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign

log = get_logger(__name__)

# Refunds that wait for the archive, 1 KiB each: beyond them nothing more is read until some are answered. And of those
# that wait for their lane: beyond them the oldest are read again at the next start.
PENDING_MAX = 50_000
# How many originals are asked for at once, which takes a few tenths of a second. All open refunds take turns, so one of
# another partner is asked for soon, however many of one partner came before it.
ASKED_MAX = 250
IDLE_POLL_S = 0.5
SEND_DEADLINE_S = 30.0
# Nearly all results are passed over by their headers. Each has objects of the client's, none in a cycle: to collect
# after every 700, Python's default, costs more than that.
COLLECT_AFTER = (200_000, 20, 100)
_REFUND = (TYPE_HEADER, CommandType.REFUND.encode())
_OPEN = (STATUS_HEADER, Status.OPEN.encode())
_RECALLED = (TYPE_HEADER, CommandType.RECALL_ORIGINAL.encode())
_TYPES = frozenset({_REFUND, _RECALLED})


def is_wanted(headers: ReadHeaders) -> bool:
    """Say by its headers whether a result may concern the recaller: it answers a REFUND, or a recall."""
    return not _TYPES.isdisjoint(headers)


class RecallerConsumer(Protocol):
    """A member of the recaller's group (``streams.group``)."""

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records of which ``is_wanted`` is so, and perhaps others."""

    def pause(self) -> None:
        """Have no more records come."""

    def resume(self) -> None:
        """Have records come again."""

    def positions(self) -> Mapping[int, int]:
        """Return, by partition, the offset after the last record that ``poll`` returned or passed over."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit the next offset of some partitions, and wait for it."""


class Originals(Protocol):
    """The archive, as far as the recaller asks it (``stores.archive_reader``)."""

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        """Return how far a shard's incarnation is archived, by lane and results partition."""

    def steps_at(self, keys: Collection[StepKey]) -> dict[StepKey, bytes | Undecodable]:
        """Return the results of some steps; of one that is there and cannot be read, why. What is not there, is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallerOptions:
    """One recaller. ``commands_topic`` has its prefix; ``retry_ms`` is the pause before asking again for what waits."""

    commands_topic: str
    commands_partitions: int
    keyring: KeyRing
    batch_records_max: int
    retry_ms: int
    pending_max: int = PENDING_MAX


class Recaller:
    """Answers open refunds in any order, and commits each results partition up to its oldest unanswered one."""

    def __init__(
        self,
        options: RecallerOptions,
        archive: Originals,
        producer: RecordProducer,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold the parts.

        Args:
            options: Limits and names.
            archive: Where originals are.
            producer: For balance.commands.
            clock: Seconds that never go back.
        """
        self._options = options
        self._archive = archive
        self._producer = producer
        self._clock = clock
        for recalled in Recalled:  # from 0 on
            RECALLS.labels(recalled)
        self.open = OpenRefunds(options.pending_max)
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._ask_at_s = 0.0
        self._paused = False
        self.wait = ArchiveWait("recaller", clock)

    def revoked(self, partitions: Collection[int]) -> None:
        """Let go of partitions; their next owner reads again from what is committed."""
        self.open.forget(partitions)
        for partition in partitions:
            self._next.pop(partition, None)
            self._committed.pop(partition, None)

    def step(self, consumer: RecallerConsumer) -> int:
        """Take in what is new, answer what can be answered, and commit; return how many were answered.

        Raises:
            Undecodable: A result is of a later release.
            Fault: Kafka's, or one of Cassandra's that waiting does not mend.
        """
        came = self._take_in(consumer)
        answered = 0
        if self._clock() >= self._ask_at_s or (came and not self.wait.waiting):
            try:
                answered = self._answer()
                self.wait.answered()
            except Unavailable as silent:
                self.wait.failed(silent)
                self._ask_at_s = self._clock() + max(self._options.retry_ms / 1000, self.wait.pause_s)
        self._commit(consumer)
        RECALLS_WAITING.set(len(self.open))
        RECALLS_UNDECIDED.set(self.open.sent)
        return answered

    def run(self, consumer: RecallerConsumer, stopping: threading.Event) -> None:
        """Answer until told to stop; what is not answered by then is read again at the next start."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        while not stopping.is_set():
            self.step(consumer)
            PULSE.beat()

    def _take_in(self, consumer: RecallerConsumer) -> bool:
        """Read on, as long as there is room for what may have to wait, and say whether an open refund came."""
        room = self._options.pending_max - len(self.open)
        if (room <= 0) != self._paused:
            self._paused = not self._paused
            (consumer.pause if self._paused else consumer.resume)()
        known = len(self.open) + self.open.sent
        timeout_s = max(0.0, min(IDLE_POLL_S, self._ask_at_s - self._clock())) if known else IDLE_POLL_S
        came = False
        for record in consumer.poll(max(1, min(self._options.batch_records_max, room)), timeout_s):
            refund = _open_refund_of(record)
            if refund is not None:
                self.open.add(refund)
                came = True
            elif _RECALLED in record.headers:
                ended = decode_result(record.value or b"")
                self.open.end(ended.root, ended.transaction_id)
        self._next.update(consumer.positions())
        return came

    def _answer(self) -> int:
        """Send what the archive says about the originals whose turn it is."""
        now_s, retry_s = self._clock(), self._options.retry_ms / 1000
        # Coverage first: what it covers is there when the originals are read after it (H4).
        coverage = {shard: self._archive.coverage(shard) for shard in self.open.incarnations}
        due = self.open.due(now_s, coverage)
        asked = due[:ASKED_MAX]
        found = self._archive.steps_at([refund.original for refund in asked])
        told = [refund for refund in asked if self._tell(refund, found.get(refund.original), coverage)]
        self._producer.flush(SEND_DEADLINE_S)
        again = [refund for refund in told if refund.sent]
        if again:
            log.warning("recalls_sent_again", count=len(again), first_refund=id_text(again[0].refund_id))
        for refund in told:
            self.open.note_sent(refund, now_s)
        for refund in asked:
            if refund.due_s <= now_s:
                self.open.put_off(refund, now_s, retry_s, covered=refund.is_covered(coverage))
        self._ask_at_s = now_s if len(due) > len(asked) else now_s + retry_s
        return len(told)

    def _tell(
        self, refund: WaitingRefund, original: bytes | Undecodable | None, coverage: Mapping[bytes, Coverage]
    ) -> bool:
        """Send a recall, or say that there is nothing to be said yet."""
        if original is None and not refund.is_covered(coverage):
            return False
        try:
            if isinstance(original, Undecodable):
                raise original
            command = recall_of(refund, original)
        except Undecodable as fault:  # it waits, as one that is not archived yet; the others go on
            subject = f"original {id_text(refund.original_id)}"
            TROUBLES.met("recaller", fault, subject=subject, event="original_unreadable")
            return False
        options = self._options
        key, payload = refund.root.encode(), encode_command(command)
        self._producer.send(
            OutRecord(
                options.commands_topic,
                partition_of(refund.root, options.commands_partitions),  # W3
                key,
                payload,
                [(SIGNATURE_HEADER, sign(options.keyring, key, payload))],  # W1
            )
        )
        RECALLS.labels(recalled=command.recalled.value).inc()
        return True

    def _commit(self, consumer: RecallerConsumer) -> None:
        positions = dict(self._next)
        for partition, offset in self.open.oldest().items():
            positions[partition] = min(positions.get(partition, offset), offset)
        changed = {p: offset for p, offset in positions.items() if self._committed.get(p) != offset}
        if not changed:
            return
        try:
            consumer.commit(changed)
        except (Fenced, Unavailable, Retryable) as fault:  # again with the next step; a fatal one comes with its poll
            TROUBLES.met("recaller", fault, subject="the group's offsets")
            return
        TROUBLES.over("recaller", subject="the group's offsets")
        self._committed.update(changed)


def recall_of(refund: WaitingRefund, original: bytes | None) -> RecallOriginal:
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


def _open_refund_of(record: Record) -> WaitingRefund | None:
    """Return the open refund that a record of balance.results tells of, or None.

    The headers say what a result is about, so most results need not be decoded. The answer to a repeated REFUND, which
    has no journal row, is about a refund that was met before.
    """
    if _REFUND not in record.headers or _OPEN not in record.headers:
        return None
    result = decode_result(record.value or b"")
    assert (result.type, result.status) == (CommandType.REFUND, Status.OPEN)
    if not result.journalled:
        return None
    return WaitingRefund(
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
