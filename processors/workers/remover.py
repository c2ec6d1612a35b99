"""The remover: takes a slice of the journal out of MySQL once it is needed no more and proven to be archived (A6).

A slice is needed no more once each lane has published the result of a record that came a window after the slice's end:
from then on no decision and no repeated answer looks into the slice. ``slice_proof`` proves that it is archived. A
slice for which either is not so stays where it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from processors.archive.findings import FindingKind
from processors.archive.slice_proof import ArchiveDifference, Copies, ProvenJournal, SliceProver, slice_subject
from processors.archive.waiting import ArchiveWait
from processors.faults import Retryable, StopCode, Unavailable
from processors.ids import SLICE_MS, SLICES_MAX
from processors.ledger.rules import Rules, newest_of
from processors.metrics import (
    FINDINGS,
    JOURNAL_SLICES,
    LAST_PROOF,
    OLDEST_MOVE_SECONDS,
    OLDEST_TRANSFER_SECONDS,
    OPEN_TRANSFERS,
    SLICES_LACKING,
    SLICES_REMOVED,
    SLICES_WAITING,
)
from processors.stores.partitions import Room
from processors.stores.shard_reader import LanePosition
from processors.stores.shard_upkeep import DELETE_ROWS, Finding, LeftKey
from processors.streams.record_producer import RecordProducer
from processors.telemetry import PULSE, get_logger
from processors.wire.coverage import SliceRemoved, encode_archived
from processors.wire.records import OutRecord

log = get_logger(__name__)

FINDINGS_A_SLICE_MAX = 20  # more of them have the same cause
# How long after a finding a slice is compared again: somebody has had the time to mend something.
FINDING_PAUSE_MS = 600_000
# Four fifths of what a journal may have: 200 hours, more than a week, before it is full.
SLICES_ALARM = SLICES_MAX * 8 // 10
JOURNAL_SUBJECT = "journal"
DIGEST_DAYS_MS = 7 * 86_400_000  # L13
DELETES_A_STEP_MAX = 50  # of DELETE_ROWS each
TELL_DEADLINE_S = 30.0
PULSE_EVERY_S = 5.0  # well below what the health page takes for a process that hangs


class RemoverJournal(ProvenJournal, Protocol):
    """A shard, as far as the remover asks it (``stores.shard_reader``)."""

    def lane_positions(self) -> dict[int, LanePosition]:
        """Return lane -> where it stands."""

    def rules(self) -> dict[int, dict[int, Rules]]:
        """Return lane -> offset -> the rules in force from that offset on."""


class Upkeep(Protocol):
    """What the remover changes in a shard (``stores.shard_upkeep``)."""

    def make_room(self, *, from_ms: int, to_ms: int) -> Room:
        """Make the journal's partitions for lane times between two, as far as they fit."""

    def drop_slice(self, number: int) -> None:
        """Remove a slice with all its rows."""

    def delete_old_digests(self, lane: int, *, before_ms: int) -> int:
        """Delete some old batch digests, and return how many."""

    def delete_old_refunded(self, *, before_ms: int) -> int:
        """Delete some old rows of ``refunded``, and return how many."""

    def delete_expired_holds(self, lane: int, *, before_ms: int) -> int:
        """Delete some of a lane's holds that were freed long ago, and return how many."""

    def delete_old_moved_ids(self, *, before_ms: int) -> int:
        """Delete some old ids that other shards decided, and return how many."""

    def delete_published_parked(self, lane: int) -> int:
        """Delete some of a lane's records that were parked and are answered, and return how many."""

    def sealed_ids_since_ms(self) -> list[int]:
        """Return from which id time on the hand-offs of sealed placement keys have ids: no slice from then on goes."""

    def left_keys(self) -> list[LeftKey]:
        """Return the placement keys whose frozen rows may be deleted."""

    def delete_left_rows(self, left: LeftKey) -> int:
        """Delete some of the frozen rows of a placement key, and return how many."""

    def open_transfers(self) -> tuple[int, int | None]:
        """Return how many transfers have not ended, and the time of the oldest one's id."""

    def oldest_seal_ms(self) -> int | None:
        """Return when the oldest placement key that is on its way from here was sealed, ms since the epoch."""

    def raise_finding(self, kind: str, subject: str, detail: str, *, now_ms: int) -> None:
        """Raise a finding, or raise it again."""

    def resolve_finding(self, kind: str, subject: str, *, now_ms: int) -> bool:
        """Say that a finding is no longer so."""

    def findings(self) -> list[Finding]:
        """Return the open findings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoverOptions:
    """One shard's remover. ``lanes`` and ``results_partitions`` are the shard's; ``archived_topic`` has its prefix."""

    shard: str
    lanes: int
    results_partitions: int
    archived_topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lanes:
    """Where the shard's lanes stand, and which times all of them have left behind.

    No lane decides an id from before ``window_start_ms`` any more, or answers it from the journal; and no lane reads a
    hold that expired before that time and was freed. A hand-off of a sealed placement key has the ids from that time
    on, however often it is sent (M3). No lane reads the ``refunded`` row of an original from before
    ``refunded_floor_ms``. Both are None where a lane has not said yet where it stands. A lane that is ``stopped`` may
    still ask for anything.
    """

    positions: Mapping[int, LanePosition]
    rules: Mapping[int, Mapping[int, Rules]]  # lane -> since which offset -> rules
    incarnation: bytes | None
    stopped: bool
    window_start_ms: int | None
    refunded_floor_ms: int | None


class Remover:
    """Removes what one shard needs no more, and makes room ahead."""

    def __init__(
        self,
        options: RemoverOptions,
        journal: RemoverJournal,
        upkeep: Upkeep,
        archive: Copies,
        producer: RecordProducer,
        *,
        stopping: threading.Event,
    ) -> None:
        """Hold the parts.

        Args:
            options: The shard.
            journal: Its database, read.
            upkeep: Its database, changed.
            archive: Cassandra.
            producer: For balance.archived.
            stopping: Set to end in the midst of a proof, which then counts for nothing.
        """
        self._options = options
        self._journal = journal
        self._upkeep = upkeep
        self._producer = producer
        self._stopping = stopping
        self._prover = SliceProver(
            journal,
            archive,
            lanes=options.lanes,
            results_partitions=options.results_partitions,
            stopping=stopping,
        )
        self._not_before_ms: dict[int, int] = {}
        for kind in FindingKind:  # from 0 on: the first of a kind is a rise, too
            FINDINGS.labels(kind)
        for metric in (SLICES_REMOVED, LAST_PROOF, OPEN_TRANSFERS, OLDEST_TRANSFER_SECONDS, OLDEST_MOVE_SECONDS):
            metric.labels(options.shard)

    def step(self, now_ms: int) -> list[int]:
        """Make slices ahead as far as they fit, remove those that may go, delete old rows; return the slices removed.

        Args:
            now_ms: Wall clock, ms since the epoch: for making slices ahead and for dates of findings. What goes is
                decided by the lanes' times alone.

        Raises:
            Unavailable: Cassandra, MySQL or Kafka does not answer; nothing was removed without proof.
            Retryable: The journal was in use; again later.
        """
        self._tell_transfers(now_ms)
        self._tell_moves(now_ms)
        lanes = self._lanes()
        # Before anything is removed: the archive may be silent for long, and ids go on.
        room = self._make_slices(lanes, now_ms)
        removed = []
        for number in self._may_go(lanes):
            if self._stopping.is_set():
                break
            if self._remove(number, lanes, now_ms):
                removed.append(number)
                if room.lacking:
                    room = self._make_slices(lanes, now_ms)
        self._delete_old_rows(lanes)
        LAST_PROOF.labels(self._options.shard).set(now_ms / 1_000)
        return removed

    # ------------------------------------------------------------------ what is needed no more

    def _lanes(self) -> _Lanes:
        """Look at every lane: one that is missing or stopped may still ask for anything (A6)."""
        positions, rules = self._journal.lane_positions(), self._journal.rules()
        wanted = range(self._options.lanes)
        incarnations = {position.progress.topic_id for position in positions.values()}
        incarnation = incarnations.pop() if len(incarnations) == 1 else None
        # A lane that stopped because the journal has no slice for an id goes on once others are removed, so it does
        # not keep them.
        stopped = any(position.stop_code not in {None, StopCode.MISSING_SLICE} for position in positions.values())
        if any(lane not in positions or lane not in rules for lane in wanted):
            return _Lanes(
                positions=positions,
                rules=rules,
                incarnation=incarnation,
                stopped=stopped,
                window_start_ms=None,
                refunded_floor_ms=None,
            )
        sealed_ms = self._upkeep.sealed_ids_since_ms()  # after the positions: a later seal needs nothing older
        published = [
            (_rules_at(rules[lane], positions[lane].progress.published_offset), positions[lane].progress)
            for lane in wanted
        ]
        return _Lanes(
            positions=positions,
            rules=rules,
            incarnation=incarnation,
            stopped=stopped,
            window_start_ms=min(
                [*(rule.window_start_ms(progress.published_time_ms) for rule, progress in published), *sealed_ms]
            ),
            refunded_floor_ms=min(rule.recall_start_ms(progress.published_time_ms) for rule, progress in published),
        )

    def _may_go(self, lanes: _Lanes) -> list[int]:
        """Return the slices that no lane needs any more (A6 a).

        The metric counts such slices even where none of them may leave now, because a lane is stopped.
        """
        floor_ms = lanes.window_start_ms
        past = (
            []
            if floor_ms is None
            else [each for each in self._journal.slices_with_any_table() if (each + 1) * SLICE_MS <= floor_ms]
        )
        SLICES_WAITING.labels(shard=self._options.shard).set(len(past))
        return [] if lanes.stopped or lanes.incarnation is None else past

    # ------------------------------------------------------------------ one slice

    def _remove(self, number: int, lanes: _Lanes, now_ms: int) -> bool:
        """Prove a slice and remove it; False where it must stay."""
        if self._not_before_ms.get(number, 0) > now_ms:
            return False
        assert lanes.incarnation is not None
        proof = self._prover.prove(number, lanes.incarnation)
        if proof.differences:
            self._raise(proof.differences, now_ms)
            self._not_before_ms[number] = now_ms + FINDING_PAUSE_MS
            return False
        if not proof.complete:
            return False
        self._upkeep.drop_slice(number)
        SLICES_WAITING.labels(shard=self._options.shard).dec()
        self._not_before_ms.pop(number, None)
        self._resolve(number, now_ms)
        self._tell(number, lanes.incarnation, proof.rows, now_ms)
        return True

    # ------------------------------------------------------------------ telling

    def _raise(self, differences: Sequence[ArchiveDifference], now_ms: int) -> None:
        for each in differences[:FINDINGS_A_SLICE_MAX]:
            self._raise_one(each.kind, each.subject, each.detail, now_ms)
        log.error("slice_differs", shard=self._options.shard, slice=differences[0].slice, rows=len(differences))

    def _raise_one(self, kind: FindingKind, subject: str, detail: str, now_ms: int) -> None:
        self._upkeep.raise_finding(kind, subject, detail, now_ms=now_ms)
        FINDINGS.labels(kind).inc()

    def _resolve(self, number: int, now_ms: int) -> None:
        for finding in self._upkeep.findings():
            if finding.subject.startswith(slice_subject(number)):
                self._upkeep.resolve_finding(finding.kind, finding.subject, now_ms=now_ms)

    def _tell(self, number: int, incarnation: bytes, rows: int, now_ms: int) -> None:
        shard = self._options.shard
        removed = SliceRemoved(incarnation=incarnation, shard=shard, slice=number, rows=rows, time_ms=now_ms)
        self._producer.send(OutRecord(self._options.archived_topic, 0, shard.encode(), encode_archived(removed), []))
        self._producer.flush(TELL_DEADLINE_S)
        SLICES_REMOVED.labels(shard=shard).inc()
        log.info("slice_removed", shard=shard, slice=number, rows=rows)

    def _tell_transfers(self, now_ms: int) -> None:
        """Say how much is open between partners; whose money is on its way for long needs somebody (T5)."""
        count, oldest_ms = self._upkeep.open_transfers()
        OPEN_TRANSFERS.labels(self._options.shard).set(count)
        OLDEST_TRANSFER_SECONDS.labels(self._options.shard).set(_age_s(oldest_ms, now_ms))

    def _tell_moves(self, now_ms: int) -> None:
        """Say how long the oldest move has waited: the target's own metric is missing where no worker of it runs."""
        OLDEST_MOVE_SECONDS.labels(self._options.shard).set(_age_s(self._upkeep.oldest_seal_ms(), now_ms))

    # ------------------------------------------------------------------ upkeep

    def _make_slices(self, lanes: _Lanes, now_ms: int) -> Room:
        """Have partitions ready up to twice the future limit ahead (A7), and back to what the slowest lane may need."""
        rules = lanes.rules
        # `make_room` counts the widest window that ever was back from `from_ms`. So that window is added here to what
        # the slowest lane needs by its present rules. Else slices that were removed would be made again at each look,
        # wherever the window was made smaller, or grew with a floor (I6).
        widest_ms = max((each.window_ms for of_lane in rules.values() for each in of_lane.values()), default=0)
        earliest_ms = min(
            (_needed_from_ms(rules[lane], lanes.positions.get(lane), now_ms) for lane in rules), default=now_ms
        )
        # A lane's time may be ahead of this machine's clock: then the lane's time says how far ahead to make slices.
        latest_ms = max([now_ms, *(position.progress.at.lane_time_ms for position in lanes.positions.values())])
        room = self._upkeep.make_room(from_ms=earliest_ms + widest_ms, to_ms=latest_ms)
        self._tell_room(room, now_ms)
        return room

    def _tell_room(self, room: Room, now_ms: int) -> None:
        """Raise an alarm long before the journal is full: a lane stops at the first id whose slice did not fit (A7)."""
        shard = self._options.shard
        JOURNAL_SLICES.labels(shard=shard).set(room.slices)
        SLICES_LACKING.labels(shard=shard).set(room.lacking)
        if room.slices < SLICES_ALARM:
            self._upkeep.resolve_finding(FindingKind.JOURNAL_FILLS, JOURNAL_SUBJECT, now_ms=now_ms)
            return
        detail = f"{room.slices} slices of at most {SLICES_MAX - 1}, {room.lacking} more do not fit"
        self._raise_one(FindingKind.JOURNAL_FILLS, JOURNAL_SUBJECT, detail, now_ms)
        log.error("journal_fills", shard=shard, slices=room.slices, most=SLICES_MAX - 1, lacking=room.lacking)

    def _delete_old_rows(self, lanes: _Lanes) -> None:
        upkeep = self._upkeep
        for lane, position in lanes.positions.items():
            before_ms = position.progress.at.lane_time_ms - DIGEST_DAYS_MS
            _delete_all(partial(upkeep.delete_old_digests, lane, before_ms=before_ms))
            _delete_all(partial(upkeep.delete_published_parked, lane))
            if lanes.window_start_ms is not None:
                _delete_all(partial(upkeep.delete_expired_holds, lane, before_ms=lanes.window_start_ms))
        for left in upkeep.left_keys():
            _delete_all(partial(upkeep.delete_left_rows, left))
        if lanes.window_start_ms is not None and lanes.window_start_ms > 0:
            _delete_all(partial(upkeep.delete_old_moved_ids, before_ms=lanes.window_start_ms))
        floor_ms = lanes.refunded_floor_ms
        if floor_ms is not None and floor_ms > 0:
            _delete_all(partial(upkeep.delete_old_refunded, before_ms=floor_ms))


def _delete_all(delete_some: Callable[[], int]) -> None:
    """Delete until there is nothing left, or much was done: the rest waits for the next step."""
    for _ in range(DELETES_A_STEP_MAX):
        if delete_some() < DELETE_ROWS:
            return


def _rules_at(rules: Mapping[int, Rules], offset: int) -> Rules:
    """Return the rules in force at a lane offset. Later rules never make an id count that had become too old (I6)."""
    in_force = [each for since, each in rules.items() if since <= offset]
    return newest_of(in_force or rules.values())


def _age_s(since_ms: int | None, now_ms: int) -> float:
    """Return how old something is, in seconds; 0 where there is nothing."""
    return 0 if since_ms is None else max(0, now_ms - since_ms) / 1_000


def _needed_from_ms(rules: Mapping[int, Rules], position: LanePosition | None, now_ms: int) -> int:
    """Return the earliest id time that a lane may still decide, by the newest rules; a new lane begins now."""
    lane_time_ms = 0 if position is None else position.progress.at.lane_time_ms
    return newest_of(rules.values()).window_start_ms(lane_time_ms or now_ms)


def run(make_remover: Callable[[], Remover], stopping: threading.Event, *, interval_ms: int) -> None:
    """Look after a shard's slices until told to stop; a server that is away is waited for.

    Args:
        make_remover: Asks the shard's database what it was made with, and returns its remover.
        stopping: Set to end.
        interval_ms: From look to look.

    Raises:
        Misconfigured: The database is not of this release, or is another shard's.
    """
    remover: Remover | None = None
    wait = ArchiveWait("remover")
    while not stopping.is_set():
        try:
            remover = remover or make_remover()
            remover.step(time.time_ns() // 1_000_000)
            wait.answered()
        except (Unavailable, Retryable) as fault:
            wait.failed(fault)
        _rest(min(interval_ms / 1000, wait.pause_s) if wait.waiting else interval_ms / 1000, stopping)


def _rest(seconds: float, stopping: threading.Event) -> None:
    """Wait, with a pulse that does not look like a process that hangs."""
    ends_s = time.monotonic() + seconds
    while (left_s := ends_s - time.monotonic()) > 0 and not stopping.is_set():
        PULSE.beat()
        stopping.wait(min(left_s, PULSE_EVERY_S))
