"""Decides a lane's records one after the other, and says what that writes and what it publishes. No I/O.

The standing says how far the lane has *decided*, which may be one batch ahead of what it has committed. The book
therefore answers from the rows that were loaded and from what was decided since then (L9).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from processors.faults import LaneStopped, StopCode
from processors.ids import slice_of, slice_of_id
from processors.lane.standing import LaneContext, chain_digest, is_redelivery, meet, standing_at
from processors.lane.times import RANGES_SINCE, LaneTimes, override_of
from processors.ledger.addresses import chain
from processors.ledger.book import Book, Keys
from processors.ledger.commands import (
    OF_THE_SERVICE,
    SLICED_BY_LANE_TIME,
    TYPE_OF,
    Command,
    CommandType,
    Control,
    HandOff,
    Installed,
    SetLaneTime,
    SetRules,
    Tick,
)
from processors.ledger.control import next_rules
from processors.ledger.currencies import has_form_of_code
from processors.ledger.decide import Duplicate, decide
from processors.ledger.metadata import canonical_metadata
from processors.ledger.needs import collect_needs
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rows import Decision
from processors.ledger.rules import Rules
from processors.routing.buckets import partition_of
from processors.stores.rows import BatchWrite, JournalRow, LaneState, NewJournalRow, OverriddenTime, Progress
from processors.wire.admission import Admission
from processors.wire.dead_letters import KEY_BYTES_MAX, encode_dead_letter
from processors.wire.legs import SENDING
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord
from processors.wire.results import (
    control_id,
    encode_control,
    encode_duplicate,
    encode_result,
    headers_of,
    result_headers,
)


@dataclass(slots=True)
class Decided:
    """A batch that was decided: what it writes, what it publishes once that is committed, and which rows it named.

    ``taken`` says how many of the records it decided. Those that come after a change of the rules must be admitted
    anew, since the rules say what a record is (I6).
    """

    taken: int
    needs: Keys
    write: BatchWrite
    out: list[OutRecord]
    position: GroupPosition
    silent: int = 0  # redeliveries and service records without effect (L10, I7): no answer, only a metric
    sends: list[OutRecord] = field(default_factory=list)  # what the lane sends by itself, in the causes' order (P2)
    reasons: Mapping[Reason, int] = field(default_factory=dict)  # of what was refused, but not again: only a metric
    stamped_ms: int = 0  # the broker's time of the first record: only a metric


class UndecidedError(Exception):
    """A record could not be decided, and ``stop`` says why. What came before it can: the lane cuts its batch there."""

    def __init__(self, offset: int, stop: LaneStopped) -> None:
        super().__init__(str(stop))
        self.offset = offset
        self.stop = stop


@dataclass(slots=True)
class _Gathered:
    journal: list[NewJournalRow] = field(default_factory=list)
    out: list[OutRecord] = field(default_factory=list)
    sends: list[OutRecord] = field(default_factory=list)
    silent: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    rules: dict[int, Rules] = field(default_factory=dict)
    lane_times: dict[int, OverriddenTime] = field(default_factory=dict)


def needs_of(admissions: list[Admission]) -> Keys:
    """Return every row that deciding these records may read."""
    needs = Keys()
    for admission in admissions:
        command = admission.command
        if command is not None and not isinstance(command, Control):
            collect_needs(command, admission.root, needs)
    return needs


def dead_letter(context: LaneContext, admission: Admission) -> OutRecord:
    """Return the dead letter of a record that was refused before it could be a command."""
    refusal = admission.refusal
    assert refusal is not None
    record = admission.record
    return OutRecord(
        context.dead_letters_topic,
        0,
        record.key[:KEY_BYTES_MAX] if record.key else None,
        encode_dead_letter(record, refusal.cause, refusal.detail, route=admission.route),
        [],
    )


def result_record(context: LaneContext, root: str, result: bytes) -> OutRecord:
    """Return a stored result's record, in the partition of its root, under headers made from its bytes."""
    if not root:  # a control row: it concerns no partner (A1)
        return OutRecord(
            context.results_topic, context.lane % context.results_partitions, None, result, headers_of(result)
        )
    partition = partition_of(root, context.results_partitions)
    return OutRecord(context.results_topic, partition, root.encode(), result, headers_of(result))


class Decider:
    """A lane's standing and book: the only place where anything is decided (docs/design.md, The core)."""

    def __init__(
        self,
        context: LaneContext,
        state: LaneState,
        lane_times: LaneTimes,
        *,
        lacking: Callable[[str | None], str | None] = lambda _keys: None,
        legs: Callable[[bytes], list[OutRecord]] = lambda _result: [],
    ) -> None:
        """Begin at the lane's committed state.

        Args:
            context: The lane's fixed surroundings.
            state: What ``take_over`` returned; its system accounts and rules begin the book.
            lane_times: Of the next record on.
            lacking: Says which of the rules' keys the keys file does not have (``wire.signature.why_lacking``).
            legs: Says what is to be sent because of a result (``lane.sending``); nothing where nobody publishes it.
        """
        progress = state.progress
        self.book = Book(state.rules, state.system)
        self.standing = standing_at(progress.at, version_us=progress.version_us, ingress=state.ingress)
        self.lane_times = lane_times
        self._context = context
        self._lacking = lacking
        self._legs = legs
        self._progress = progress

    def decide(self, admissions: list[Admission], needs: Keys, *, published: tuple[int, int]) -> Decided:
        """Decide records in order, up to the first that changes the rules; every row they need is in the book.

        Args:
            admissions: The next records of the lane, without a gap, admitted under the rules in force.
            needs: ``needs_of(admissions)``; kept with the batch until it is committed.
            published: P as known now, and the lane time there, to be written with this batch (L4).

        Raises:
            UndecidedError: The log is not what it was, H3, or a bug (L11). The book is spoilt then, and nothing may be
            written.
        """
        batch = _Gathered()
        taken = 0
        for admission in admissions:
            if batch.rules:
                break
            taken += 1
            try:
                self._one(admission, batch)
            except LaneStopped as stop:
                raise UndecidedError(admission.record.offset, stop) from stop
            except Exception as bug:  # L11: whatever it is, another release would decide the record differently
                told = f"offset {admission.record.offset}: {type(bug).__name__}: {bug}"
                raise UndecidedError(admission.record.offset, LaneStopped(StopCode.BUG, told)) from bug
        standing = self.standing
        batch.lane_times, self.lane_times.unstored = self.lane_times.unstored, {}
        self._progress = self._moved_on(published)
        return Decided(
            taken=taken,
            needs=needs,
            write=BatchWrite(
                progress=self._progress,
                journal=batch.journal,
                changes=self.book.take_changes(),
                ingress=dict(standing.ingress),
                rules=batch.rules,
                lane_times=batch.lane_times,
            ),
            out=batch.out,
            position=standing.position(self._context),
            sends=batch.sends,
            silent=batch.silent,
            reasons=batch.reasons,
            stamped_ms=admissions[0].record.timestamp_ms,
        )

    def _moved_on(self, published: tuple[int, int]) -> Progress:
        """Return the lane's row as this batch writes it; ``published`` is as ``decide`` takes it."""
        standing = self.standing
        # A restored database may stand before P. Then it stores its own offset as published, since its own rows end
        # there.
        published = min(published, (standing.next_offset, standing.lane_time_ms))
        return Progress(
            lane=self._context.lane,
            topic_id=self._progress.topic_id,
            owner_epoch=self._progress.owner_epoch,
            at=standing.at,
            version_us=standing.version_us,
            published_offset=published[0],
            published_time_ms=published[1],
        )

    def _one(self, admission: Admission, batch: _Gathered) -> None:
        record = admission.record
        release = self.book.rules.release
        meet(self.standing, record, context=self._context, lane_times=self.lane_times, release=release)
        if admission.route is not None and is_redelivery(self.standing, admission.route):
            batch.silent += 1
            return
        command = admission.command
        if command is None:
            batch.out.append(dead_letter(self._context, admission))
        elif isinstance(command, Control):
            self._control(admission, command, batch)
        else:
            self._command(admission, command, batch)

    def _command(self, admission: Admission, command: Command, batch: _Gathered) -> None:
        standing = self.standing
        root, lane_time_ms = admission.root, standing.lane_time_ms
        verdict = decide(self.book, command, root=root, body_hash=admission.body_hash, now_ms=lane_time_ms)
        if verdict is None:
            batch.silent += 1
            return
        if isinstance(verdict, Duplicate):
            self._answer_again(admission, verdict, batch)
            return
        if verdict.reason is not Reason.NONE:
            batch.reasons[verdict.reason] += 1
        version_us = max(standing.version_us + 1, lane_time_ms * 1000) if verdict.journalled else 0  # A2
        context = self._context
        result = encode_result(
            context.identity,
            offset=admission.record.offset,
            index=0,
            lane_time_ms=lane_time_ms,
            version_us=version_us,
            rules=self.book.rules,
            admission=admission,
            outcome=verdict,
        )
        command_type = TYPE_OF[type(command)]
        headers = result_headers(command_type, verdict.status, root)
        partition = partition_of(root, context.results_partitions)
        batch.out.append(OutRecord(context.results_topic, partition, admission.record.key, result, headers))
        if type(command) in SENDING:
            batch.sends.extend(self._legs(result))
        if verdict.journalled:
            row = self._row(admission, command, verdict, result, version_us)
            self._journal(batch, row)
            if type(command) not in OF_THE_SERVICE:  # no partner could repeat its id (I7)
                self._remember(row, command_type, verdict)

    def _answer_again(self, admission: Admission, duplicate: Duplicate, batch: _Gathered) -> None:
        """Give the first result's content again, as a new result (I3)."""
        result = encode_duplicate(
            self._context.identity,
            duplicate.first.result,
            offset=admission.record.offset,
            index=0,
            lane_time_ms=self.standing.lane_time_ms,
            rules=self.book.rules,
            admission=admission,
        )
        first, context, root = duplicate.first, self._context, admission.root
        headers = result_headers(first.type, first.status, root)
        partition = partition_of(root, context.results_partitions)
        batch.out.append(OutRecord(context.results_topic, partition, admission.record.key, result, headers))

    def _row(
        self, admission: Admission, command: Command, outcome: Outcome, result: bytes, version_us: int
    ) -> NewJournalRow:
        command_type = TYPE_OF[type(command)]
        lane_time_ms = self.standing.lane_time_ms
        command_id, address, currency = command.command_id, command.address, command.currency
        route = admission.route
        metadata = getattr(command, "metadata", None)
        rules = self.book.rules
        row = JournalRow(
            slice_of(lane_time_ms) if command_type in SLICED_BY_LANE_TIME else slice_of_id(command_id),  # I7
            self._context.lane,
            admission.record.offset,
            0,
            command_id,
            admission.root,
            outcome.transaction_id,
            admission.body_hash,
            result,
        )
        return NewJournalRow(
            row,
            command_type,
            outcome.status,
            outcome.reason,
            # What a refusal quotes may be anything; columns hold only what is well-formed. The result has the rest.
            address if chain(address) else "",
            currency if has_form_of_code(currency) else "",
            outcome.amount_minor,
            -1 if route is None else route.ingress_partition,
            -1 if route is None else route.ingress_offset,
            lane_time_ms,
            version_us,
            rules.version,
            rules.result_version,
            (canonical_metadata(metadata) or b"") if metadata else b"",
        )

    def _remember(self, new: NewJournalRow, command_type: CommandType, outcome: Outcome) -> None:
        """Have a duplicate, or a refund, find this decision before it is committed (L9)."""
        row = new.row
        self.book.decisions[row.root, row.command_id] = Decision(
            row.body_hash,
            row.lane_offset,
            row.lane_index,
            command_type,
            outcome.status,
            new.address,
            new.currency,
            new.amount_minor,
            outcome.levels,
            row.result,
        )

    def _journal(self, batch: _Gathered, new: NewJournalRow) -> None:
        batch.journal.append(new)
        self.standing.version_us = new.version_us
        self.standing.digest = chain_digest(self.standing.digest, new.row.result)

    def _control(self, admission: Admission, control: Control, batch: _Gathered) -> None:
        """Apply a control record; a change of rules leaves a row with its bytes (M9), a tick only its time."""
        record = admission.record
        if isinstance(control, SetRules):
            known_release = self._context.known_release
            now_ms = self.standing.lane_time_ms
            rules = next_rules(self.book.rules, control, now_ms=now_ms, known_release=known_release)
            if rules is None:  # sent again by the operator, or out of order: no effect
                batch.silent += 1
                return
            lacking = self._lacking(rules.keys)
            if lacking is not None:
                raise LaneStopped(StopCode.KEY_MISSING, lacking)
            self.book.rules = batch.rules[record.offset + 1] = rules
        elif isinstance(control, SetLaneTime):
            override = override_of(admission)
            assert override is not None
            if self.book.rules.release < RANGES_SINCE and override.first_offset > record.offset:  # I2
                self.lane_times.tell(override)
        elif isinstance(control, Tick):
            return
        else:
            assert not isinstance(control, HandOff | Installed), "admission takes none yet"
            assert_never(control)
        standing = self.standing
        # Not the operator's id: he may send the same record twice, and each has a row.
        row_id = control_id(self._context.identity, record.offset)
        version_us = max(standing.version_us + 1, standing.lane_time_ms * 1000)
        result = encode_control(
            self._context.identity,
            offset=record.offset,
            index=0,
            lane_time_ms=standing.lane_time_ms,
            version_us=version_us,
            rules=self.book.rules,
            record=record,
            control=control,
        )
        row = self._control_row(record.offset, row_id, version_us, result)
        self._journal(batch, row)
        batch.out.append(result_record(self._context, "", result))

    def _control_row(self, offset: int, row_id: bytes, version_us: int, result: bytes) -> NewJournalRow:
        lane_time_ms, rules = self.standing.lane_time_ms, self.book.rules
        return NewJournalRow(
            JournalRow(slice_of(lane_time_ms), self._context.lane, offset, 0, row_id, "", row_id, bytes(16), result),
            CommandType.CONTROL,
            Status.ACCEPTED,
            Reason.NONE,
            "",
            "",
            0,
            -1,
            -1,
            lane_time_ms,
            version_us,
            rules.version,
            rules.result_version,
            b"",
        )
