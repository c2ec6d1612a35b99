"""One lane of a shard: from its assignment to its results, exactly once (docs/design.md, A lane).

It reads from top to bottom in the order in which things happen. ``assign`` takes the lane over and finds where to
start. ``turn`` meets the next records: those below D are answered again, those from D on are decided while the batch
before them is being committed. What is committed goes to the publish stage. There is no thread and no clock in here, so
that the simulation can drive it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from processors.faults import WAITING_FOR_A_TIME, Fenced, LaneStopped, Retryable, StopCode
from processors.lane.answering import AnsweringAgain, AnswersStore
from processors.lane.committing import AHEAD_FROM, Committer
from processors.lane.decided import Decided
from processors.lane.deciding import Decider
from processors.lane.gate import Admit, LaneGate
from processors.lane.handing_over import Courier
from processors.lane.metrics import count_batch, count_moves_amiss
from processors.lane.position import published_position, refuse_other_digest, standing_up_to
from processors.lane.publishing import Committed, Publisher, PublishStage
from processors.lane.sending import LaneSender, OwnProducer, legs_of
from processors.lane.stages import StageClock
from processors.lane.standing import LaneContext
from processors.lane.times import LaneTimes, OverridesAhead
from processors.ledger.rules import RESULT_VERSION, Rules
from processors.stores.rows import Border, LaneState
from processors.telemetry import get_logger
from processors.wire.admission import Admission, Gate, admit
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord, Record, records_below

log = get_logger(__name__)


class LaneStore(AnswersStore, Protocol):
    """The lane's rows in its shard, over one connection (``stores.lane_store``). After a fault: ``take_over`` again."""

    def take_over(self, topic_id: bytes) -> LaneState:
        """Become the owner: the owner epoch rises by one, and every older owner is fenced."""

    def owner_epoch(self) -> int:
        """Read the owner epoch as it is now (L5)."""

    def last_border(self, at_most: int) -> Border | None:
        """Return the lane's state at the last batch border up to an offset, if one is still known."""

    def stop(self, code: StopCode, detail: str) -> None:
        """Store why the lane stopped."""

    def close(self) -> None:
        """Give the connection back."""


class LaneLog(Protocol):
    """The lane's partition of the shard's topic, and the group's commit for it."""

    def topic_id(self) -> bytes:
        """Return the id of the topic as it is now (L3)."""

    def committed(self) -> tuple[int, str] | None:
        """Return the group's offset and metadata, or None where there is none."""

    def start(self, offset: int, leader_epoch: int) -> None:
        """Have records come from an offset on; what was queued before is dropped."""

    def control_ahead(self, from_offset: int) -> tuple[list[Record], int]:
        """Read ahead to the end for what may be an operator's time override, in order; and say where that is (I2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneParts:
    """What a lane works with; ``make_publisher`` returns a new, unopened producer each time (L5).

    ``make_sender`` returns one of what the lane sends by itself (P2).
    ``make_gate`` reads the keys file as it is now. Where at least ``ahead_from`` records wait, a batch's rows are read
    one step ahead (``Committer``).
    """

    context: LaneContext
    make_gate: Callable[[], Gate]
    store: LaneStore
    log: LaneLog
    make_publisher: Callable[[], Publisher]
    make_sender: Callable[[], OwnProducer]
    clock_ms: Callable[[], int]
    book_accounts_max: int
    courier: Courier
    ahead_from: int = AHEAD_FROM
    observe_published: Callable[[int, int], None]
    stages: StageClock = field(default_factory=StageClock)
    admit: Admit = admit


class Lane:
    """A lane while this process owns it; ``decider`` is what decides its records (the simulation tries broken ones)."""

    decider: type[Decider] = Decider

    def __init__(self, parts: LaneParts) -> None:
        """Hold the parts; nothing is read before ``assign``."""
        self._parts = parts
        self._publisher: Publisher | None = None
        self._sender = LaneSender(parts.make_sender)
        self._gap_at: int | None = None  # where the next record was not the next one, once
        self._cut_before: int | None = None  # a record that could not be decided: what precedes it is committed first
        self._ahead = OverridesAhead(  # what was read of the log needs no second reading
            parts.log,
            parts.clock_ms,
            self._admit,
            known_release=parts.context.known_release,
        )

    def _admit(self, record: Record, rules: Rules) -> Admission:
        return self._gate.admit(record, rules)

    def _legs(self, result: bytes) -> list[OutRecord]:
        return legs_of(result, self._parts.context, self._gate.sign)

    # ------------------------------------------------------------------ assignment

    def assign(self) -> None:
        """Take the lane over and start its records at min(P, D) (L3, L4, L5).

        Raises:
            LaneStopped: The lane is, or must be, stopped.
            Fenced: Another owner took it meanwhile.
            Fault: A server did not do its part; assign again.
        """
        parts = self._parts
        context = parts.context
        self.close()
        topic_id = parts.log.topic_id()
        state = parts.store.take_over(topic_id)
        self._gate = LaneGate(parts.make_gate, parts.admit, state.rules_since)
        self._refuse_stopped(state, topic_id)
        progress = state.progress
        self._publisher = parts.make_publisher()
        self._publisher.open()
        if parts.store.owner_epoch() != progress.owner_epoch:  # L5
            raise Fenced(f"lane {context.lane}: another worker took it over during the assignment")
        published = self._published_position(state)
        self._times = self._times_ahead(state, published)
        self._decider = self.decider(context, state, self._times, lacking=self._gate.lacking, legs=self._legs)
        self._committer = Committer(
            parts.store,
            self._decider,
            state,
            admit=self._admit,
            admit_parked=self._gate.admit_parked,
            book_accounts_max=parts.book_accounts_max,
            ahead_from=parts.ahead_from,
            on_committed=self._committed,
        )
        self._decided_before = progress.at.next_offset  # D at the assignment
        self._published_at = published  # P at the assignment
        parts.stages.begin()
        self.publishing = PublishStage(
            self._publisher, self._sender, published, parts.observe_published, parts.courier, stages=parts.stages
        )
        start, epoch = self._begin_at(published, state)
        self._gate.refuse_missing_keys(start)
        parts.log.start(start, epoch)

    def _begin_at(self, published: GroupPosition, state: LaneState) -> tuple[int, int]:
        """Return the offset of the first record to read, and the leader epoch before it (L4).

        That is D where everything decided is published, else the batch border at which answering again begins.
        """
        progress = state.progress
        self._again: AnsweringAgain | None = None
        self._again_from = (published.at.next_offset, published.at.lane_time_ms)
        if published.at.next_offset >= progress.at.next_offset:
            return progress.at.next_offset, progress.at.leader_epoch
        parts, begins = self._parts, standing_up_to(self._parts.store, published.at.next_offset)
        start = begins.next_offset
        self._again_from = (start, begins.lane_time_ms)
        self._again = AnsweringAgain(
            parts.context, parts.store, self._gate, state, begins=begins, published=published, legs=self._legs
        )
        if start < published.at.next_offset:
            return start, -1
        refuse_other_digest(published, begins.digest)
        return start, published.at.leader_epoch

    def _times_ahead(self, state: LaneState, published: GroupPosition) -> LaneTimes:
        """Return what is known of records' times from D on, after a look at the whole log (I2)."""
        next_offset = state.progress.at.next_offset
        times = LaneTimes(
            state.lane_times,
            self._ahead.by_first,
            next_offset=next_offset,
            let_pass_below=published.at.next_offset,
            waiting_at=state.waiting_at,
        )
        times.looked_ms = self._ahead.look(next_offset, state.rules)
        return times

    def _refuse_stopped(self, state: LaneState, topic_id: bytes) -> None:
        """Refuse a lane that an operator must look at first, and one whose topic is another (L3)."""
        if state.progress.topic_id != topic_id:
            raise LaneStopped(
                StopCode.TOPIC_CHANGED,
                f"the shard's topic has id {topic_id.hex()}, the lane was applied from {state.progress.topic_id.hex()}",
            )
        if topic_id != self._parts.context.identity.incarnation:  # new rows, of a topic that this process does not know
            raise LaneStopped(
                StopCode.TOPIC_CHANGED,
                f"the shard's topic has id {topic_id.hex()}, this process began with "
                f"{self._parts.context.identity.incarnation.hex()}: start it again",
                stored=True,
                next_offset=state.progress.at.next_offset,
            )
        rules = state.rules
        known_release = self._parts.context.known_release
        if rules.release > known_release or rules.result_version > RESULT_VERSION:  # I6
            raise LaneStopped(
                StopCode.UNKNOWN_VERSION,
                f"rules {rules.version} are of release {rules.release}, result version {rules.result_version}; "
                f"known here: {known_release} and {RESULT_VERSION}. Start the newer release",
            )
        if state.stop_code is not None and not self._may_go_on(state, state.stop_code):
            raise LaneStopped(
                state.stop_code, state.stop_detail, stored=True, next_offset=state.progress.at.next_offset
            )

    def _may_go_on(self, state: LaneState, code: StopCode) -> bool:
        """Say whether the time override has come for which the lane waits (I2). Its next commit ends the stop."""
        if code not in WAITING_FOR_A_TIME:
            return False
        offset = state.progress.at.next_offset
        self._ahead.look(offset, state.rules)
        heard = LaneTimes(state.lane_times, self._ahead.by_first, next_offset=offset, let_pass_below=0)
        return heard.heard_at(offset, state.rules.release)

    def _published_position(self, state: LaneState) -> GroupPosition:
        parts = self._parts
        return published_position(parts.store, parts.log.committed(), state, parts.context)

    def close(self) -> None:
        """Let go of the producers; what was not committed was never visible."""
        self._sender.close()
        self._sender = LaneSender(self._parts.make_sender)
        self._parts.courier.close()
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    # ------------------------------------------------------------------ records

    @property
    def idle(self) -> bool:
        """Say whether every record taken is decided and committed."""
        return self._committer.idle

    @property
    def writes_parts(self) -> bool:
        """Say whether parts of a hand-off are being written just now: those behind them can be decided meanwhile."""
        return self._committer.writes_parts

    @property
    def awaits_publication(self) -> bool:
        """Say whether the next record cannot be decided before more of what was decided is published."""
        return self._committer.awaits_publication

    @property
    def next_offset(self) -> int:
        """Return D: the first record that is not committed."""
        return self._committer.fence.at.next_offset

    @property
    def parked_records(self) -> int:
        """Return how many records wait here for placement keys, as of the last batch that was decided."""
        return self._decider.placements.parked_records

    def turn(self, records: list[Record]) -> int:
        """Take the next records, and move those before them on: to be decided, committed, handed to the publish stage.

        Args:
            records: The next ones in order; may be empty, to move on what was taken.

        Returns:
            How many of them were taken; the caller offers the rest again.

        Raises:
            LaneStopped, Fenced, Fault: Nothing of these records is committed; assign again or stop. What was being
                committed before them is handed to the publish stage, since nobody publishes for a stopped lane.
        """
        try:
            return self._take_turn(records)
        except BaseException:
            self.settle()
            raise

    def _take_turn(self, records: list[Record]) -> int:
        self._read_again_before_a_gap(records)
        if self._again is not None and records:
            taken, answered = self._again.answer(records)
            count_moves_amiss(self._parts.context.identity, self._again.alarms)
            self._tell(self._again.alarms)
            if self._again.ended:
                self._again = None
            if answered is not None:
                self.publishing.offer(answered)
            return taken
        self._refuse_rewritten_below_published(records)
        for border in (self._published_at.at.next_offset, self._cut_before):  # at P the digests are compared (L4)
            # Where a gap lies before the border, the first record is beyond it already: it stops the lane (L2).
            if border is not None and records and records[0].offset < border:
                records = records_below(records, border)
        self._look_before_later_times(records)
        try:
            taken = self._committer.advance(records, published=self._published_border(), check=self._check_at_published)
        except Retryable:
            self._cut_before = self._committer.cut_before or self._cut_before
            raise
        if taken and self._gap_at is not None and records[-1].offset >= self._gap_at:
            self._gap_at = None
        return taken

    def _look_before_later_times(self, records: list[Record]) -> None:
        """Read the log to its end before a record whose stamp is a minute later than this machine's last look (I2).

        A time override of such a record may stand further on in the log. A replay, which knows the whole log, would
        decide the record by it; so this owner must know it, too.
        """
        times = self._times
        known_ms = times.looked_ms + self._parts.context.clock_ahead_max_ms
        if any(record.timestamp_ms > known_ms for record in records):
            on_hand = [*self._committer.undecided, *records]
            decider = self._decider
            times.looked_ms = self._ahead.look(decider.standing.next_offset, decider.book.rules, on_hand)

    def _published_border(self) -> tuple[int, int]:
        """Return what is stored as P, and the lane time there: where the next owner may begin to answer again (L4).

        That is P itself once everything of the assignment's [P, D) is answered again. Until then P moves on between
        two batch borders, and the next owner would begin at the border before it. He needs the journal's rows from that
        border on, and the remover keeps only rows after the stored P (A6): so what is stored is where this owner began.
        """
        published = self.publishing.published
        return published if published[0] >= self._decided_before else self._again_from

    def settle(self) -> None:
        """Wait for what is being committed, and hand it to the publish stage: somebody else ends the turns.

        Raises:
            Fault: The store's; assign again.
        """
        self._committer.settle()

    def _read_again_before_a_gap(self, records: list[Record]) -> None:
        """Before a gap stops the lane, have the log read once more from where the next record must be (L2).

        What looks like a gap may be the consumer's position. An earlier runner of this lane, in this process, may have
        moved it after its partition was revoked: it was held up for longer than the revocation waited, and both use one
        consumer. A gap in the log itself is met again.
        """
        next_offset = self._committer.next_offset if self._again is None else self._again.next_offset
        if records and records[0].offset != next_offset != self._gap_at:
            self._gap_at = next_offset
            raise Retryable(f"offset {records[0].offset} came where {next_offset} is next; it is read again")

    def _committed(self, batch: Decided) -> None:
        """Pass a durable batch on, unless it was published before (L4)."""
        self._parts.stages.committed(batch.position.at.next_offset)
        count_batch(self._parts.context.identity, batch)
        self._tell(batch.alarms)
        if batch.position.at.next_offset > self._published_at.at.next_offset:
            stamped_ms = batch.stamped_ms if batch.out else 0
            arrives = bool(batch.write.arrived)
            self.publishing.offer(
                Committed(batch.out, batch.position, stamped_ms, batch.sends, batch.handed_over, arrives)
            )

    def _tell(self, alarms: list[str]) -> None:
        for alarm in alarms:
            log.error("move_needs_a_look", lane=self._parts.context.lane, detail=alarm)

    def _check_at_published(self) -> None:
        """Compare digests when a restored database reaches P: it must have decided what was published (L4)."""
        standing = self._decider.standing
        if standing.next_offset == self._published_at.at.next_offset:
            refuse_other_digest(self._published_at, standing.digest)

    def _refuse_rewritten_below_published(self, records: list[Record]) -> None:
        """Stop where a restored database would decide other records than those that were published (L3, L4)."""
        published = self._published_at
        for record in records:
            if record.offset >= published.at.next_offset:
                return
            if record.leader_epoch > published.at.leader_epoch >= 0:
                raise LaneStopped(
                    StopCode.LOG_REWRITTEN,
                    f"offset {record.offset} has leader epoch {record.leader_epoch}, and up to "
                    f"{published.at.next_offset} was published with at most {published.at.leader_epoch}",
                )
