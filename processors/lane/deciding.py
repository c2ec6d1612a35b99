"""Decides a lane's records one after the other, and says what that writes and what it publishes. No I/O.

The standing says how far the lane has *decided*, which may be one batch ahead of what it has committed. The book
therefore answers from the rows that were loaded and from what was decided since then (L9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from processors.faults import LaneStopped, StopCode
from processors.ids import slice_of, slice_of_id
from processors.lane.decided import (
    Decided,
    Gathered,
    Unanswered,
    UndecidedError,
    dead_letter,
    never_here,
    refused_for_generation,
    result_record,
    undecided,
)
from processors.lane.placements import Placements, Turn
from processors.lane.standing import LaneContext, chain_digest, is_redelivery, meet, standing_at
from processors.lane.times import RANGES_SINCE, LaneTimes, override_of
from processors.ledger.addresses import chain
from processors.ledger.book import Book, Keys
from processors.ledger.command_types import CONTROLS, SLICED_BY_LANE_TIME, TYPE_OF
from processors.ledger.commands import Command, CommandType, Control, SetLaneTime, SetRules, Tick
from processors.ledger.control import next_rules
from processors.ledger.currencies import has_form_of_code
from processors.ledger.decide import Duplicate, decide
from processors.ledger.needs import collect_needs
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rows import Decision
from processors.routing.buckets import bucket_of, partition_of
from processors.stores.rows import (
    BatchWrite,
    JournalRow,
    LaneState,
    NewJournalRow,
    Progress,
)
from processors.wire.admission import Admission, partners_command, refusal_of_generation
from processors.wire.legs import SENDING
from processors.wire.records import OutRecord
from processors.wire.results import (
    control_id,
    encode_control,
    encode_duplicate,
    encode_result,
    result_headers,
)
from processors.wire.route import Route

# Commands that are decided before their results are encoded. Each stage runs over all of them in turn, so that its code
# and tables stay in the processor's caches: one command after the other through all stages took a third longer (plain
# Python, docs/performance.md). More gain nothing: the batch's own values leave the caches then.
_ENCODED_TOGETHER = 256


def needs_of(admissions: list[Admission]) -> Keys:
    """Return every row that deciding these records may read."""
    needs = Keys()
    for admission in admissions:
        command = partners_command(admission)
        if command is not None:
            collect_needs(command, admission.root, needs)
    return needs


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
        self.book = Book(state.rules, state.system, bucket_of)
        self.placements = Placements(state.placements, home=state.home)
        self.standing = standing_at(progress.at, version_us=progress.version_us, ingress=state.ingress)
        self.lane_times = lane_times
        self.context = context
        self._lacking = lacking
        self._legs = legs
        self._progress = progress
        self.note_moves()

    def note_moves(self) -> None:
        """Have the book ask since when ids are known, if any placement key ever moved here (M6)."""
        self.book.known_since = self.placements.known_since if self.placements.rows else None

    def needs_of(self, admissions: list[Admission]) -> Keys:
        """Return every row that deciding these records may read, the ids that came along with their roots, too."""
        needs = needs_of(admissions)
        if self.placements.rows:
            came_here = self.placements.came_here
            needs.moved_ids = {key: None for key in needs.decisions if came_here(key[0])}
        return needs

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
        batch = Gathered()
        taken = 0
        try:
            for admission in admissions:
                if batch.rules:
                    break
                taken += 1
                self._one(admission, batch)
        except UndecidedError:
            raise
        except Exception as trouble:
            raise undecided(admissions[taken - 1].record.offset, trouble) from trouble
        return self.decided(
            batch, taken=taken, needs=needs, published=published, stamped_ms=admissions[0].record.timestamp_ms
        )

    def decided(
        self, batch: Gathered, *, taken: int, needs: Keys, published: tuple[int, int], stamped_ms: int
    ) -> Decided:
        """Return a batch whose records are all decided; the arguments are as ``Decided`` and ``decide`` have them."""
        self.answer_all(batch)
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
                placements=self.placements.take_changes(),
                parked=batch.parked,
                unparked=batch.unparked,
                cleared=batch.cleared,
                arrived=batch.arrived,
            ),
            out=batch.out,
            position=standing.position(self.context),
            sends=batch.sends,
            handed_over=batch.handed_over,
            alarms=batch.alarms,
            silent=batch.silent,
            reasons=batch.reasons,
            stamped_ms=stamped_ms,
        )

    def _moved_on(self, published: tuple[int, int]) -> Progress:
        """Return the lane's row as this batch writes it; ``published`` is as ``decide`` takes it."""
        standing = self.standing
        # A restored database may stand before P. Then it stores its own offset as published, since its own rows end
        # there.
        published = min(published, (standing.next_offset, standing.lane_time_ms))
        return Progress(
            lane=self.context.lane,
            topic_id=self._progress.topic_id,
            owner_epoch=self._progress.owner_epoch,
            at=standing.at,
            version_us=standing.version_us,
            published_offset=published[0],
            published_time_ms=published[1],
        )

    def meet(self, admission: Admission) -> bool:
        """Step over a record; say whether the router sent it before (L10)."""
        release = self.book.rules.release
        meet(self.standing, admission.record, context=self.context, lane_times=self.lane_times, release=release)
        return admission.route is not None and is_redelivery(self.standing, admission.route)

    def _one(self, admission: Admission, batch: Gathered) -> None:
        if self.meet(admission):
            batch.silent += 1
            return
        if type(admission.command) in CONTROLS:
            self._control(admission, cast("Control", admission.command), batch)
        elif not self.waits(admission, batch):
            self.answer(admission, batch, (admission.record.offset, 0))

    def waits(self, admission: Admission, batch: Gathered) -> bool:
        """Park a record whose generation is still to come, and refuse one whose generation was here (M1).

        What is no command is a dead letter at once, whatever its generation: it changes nothing and has no result.

        Returns:
            False where the record is to be decided now.
        """
        route = admission.route
        if route is None or admission.command is None:
            return False
        placements = self.placements
        if not placements.rows and not route.generation and placements.home:  # nobody ever moved: nearly all lanes
            return False
        turn = placements.turn_of(route, admission.root)
        if turn is Turn.HERE:
            return False
        if turn is Turn.LATER:
            batch.parked.append(self.placements.park(admission, route))
            self.note_moves()
        else:
            self.refuse(admission, route, batch, why=refusal_of_generation(route).detail)
        return True

    def refuse(self, admission: Admission, route: Route, batch: Gathered, *, why: str) -> None:
        """Make a record a dead letter for its generation, which is an alarm; ``why`` is for whoever looks."""
        if admission.record.offset not in batch.unparked:  # else it has a row, and is decided with it (L4)
            batch.parked.append(never_here(admission, route))
        self.answer_all(batch)
        batch.out.append(dead_letter(self.context, refused_for_generation(admission, route)))
        batch.alarms.append(f"offset {admission.record.offset}: {why}")

    def answer(self, admission: Admission, batch: Gathered, place: tuple[int, int]) -> None:
        """Decide a partner's or the service's own command, or refuse what is none; ``place``: the answer's."""
        command = partners_command(admission)
        if command is None:
            self.answer_all(batch)
            batch.out.append(dead_letter(self.context, admission))
        else:
            self._command(admission, command, batch, place)

    def _command(self, admission: Admission, command: Command, batch: Gathered, place: tuple[int, int]) -> None:
        standing = self.standing
        root, lane_time_ms = admission.root, standing.lane_time_ms
        if admission.route is None and not self.placements.owns(root):  # M9: its owner's expirer sends its own
            batch.silent += 1
            return
        verdict = decide(self.book, command, root=root, body_hash=admission.body_hash, now_ms=lane_time_ms)
        if verdict is None:
            batch.silent += 1
            return
        if isinstance(verdict, Duplicate):
            self._answer_again(admission, verdict, batch, place)
            return
        if verdict.reason is not Reason.NONE:
            batch.reasons[verdict.reason] += 1
        self.give(admission, verdict, batch, place)

    def give(self, admission: Admission, outcome: Outcome, batch: Gathered, place: tuple[int, int]) -> None:
        """Note an outcome, whose result is encoded with those of others (``answer_all``), and remember it (L9)."""
        command = partners_command(admission)
        assert command is not None
        standing, command_type, currency = self.standing, TYPE_OF[type(command)], command.currency
        lane_time_ms, version_us = standing.lane_time_ms, 0
        if outcome.journalled:
            version_us = standing.version_us = max(standing.version_us + 1, lane_time_ms * 1000)  # A2
        decision = Decision(
            admission.body_hash,
            place[0],
            place[1],
            command_type,
            outcome.status,
            # What a refusal quotes may be anything; a decision, and the currency's column, have what is well-formed.
            command.address if chain(command.address) else "",
            currency if has_form_of_code(currency) else "",
            outcome.amount_minor,
            outcome.levels,
            b"",  # until it is encoded
        )
        if outcome.journalled and command_type not in SLICED_BY_LANE_TIME:  # its id may come again (I7)
            self.book.decisions[admission.root, command.command_id] = decision
        unanswered = batch.unanswered
        unanswered.append((admission, command, command_type, outcome, place, lane_time_ms, version_us, decision))
        if len(unanswered) >= _ENCODED_TOGETHER:
            self.answer_all(batch)

    def answer_all(self, batch: Gathered) -> None:
        """Encode what was decided and has no result yet: add it to what is published, and to the journal.

        Raises:
            UndecidedError: One cannot be encoded.
        """
        unanswered = batch.unanswered
        if not unanswered:
            return
        batch.unanswered = []
        results: list[bytes] = []
        try:
            self._encode(unanswered, results, batch)
        except Exception as trouble:
            *_, (offset, _index), _time, _version, _decision = unanswered[len(results)]
            raise undecided(offset, trouble) from trouble
        self._publish(unanswered, results, batch)
        self._write(unanswered, results, batch)

    def _encode(self, unanswered: list[Unanswered], results: list[bytes], batch: Gathered) -> None:
        """Encode results into ``results``, in order: its length says which one failed (L11). Add legs to the batch."""
        identity, rules = self.context.identity, self.book.rules
        for admission, command, _type, outcome, place, lane_time_ms, version_us, decision in unanswered:
            result = decision.result = encode_result(
                identity,
                offset=place[0],
                index=place[1],
                lane_time_ms=lane_time_ms,
                version_us=version_us,
                rules=rules,
                admission=admission,
                outcome=outcome,
            )
            if type(command) in SENDING:
                batch.sends.extend(self._legs(result))
            results.append(result)

    def _publish(self, unanswered: list[Unanswered], results: list[bytes], batch: Gathered) -> None:
        out, topic, partitions = batch.out, self.context.results_topic, self.context.results_partitions
        for (admission, _command, command_type, outcome, *_), result in zip(unanswered, results, strict=True):
            root = admission.root
            headers = result_headers(command_type, outcome.status, root)
            out.append(OutRecord(topic, partition_of(root, partitions), admission.record.key, result, headers))

    def _write(self, unanswered: list[Unanswered], results: list[bytes], batch: Gathered) -> None:
        rows, lane, digest = batch.journal, self.context.lane, self.standing.digest
        for each, result in zip(unanswered, results, strict=True):
            admission, command, command_type, outcome, place, lane_time_ms, _version_us, decision = each
            if not outcome.journalled:
                continue
            digest = chain_digest(digest, result)
            by_lane_time = command_type in SLICED_BY_LANE_TIME  # I7
            row = JournalRow(
                slice_of(lane_time_ms) if by_lane_time else slice_of_id(command.command_id),
                lane,
                place[0],
                place[1],
                command.command_id,
                admission.root,
                result,
            )
            rows.append(
                NewJournalRow(
                    row,
                    outcome.transaction_id,
                    command_type,
                    outcome.status,
                    outcome.reason,
                    decision.currency,
                    outcome.amount_minor,
                    lane_time_ms,
                )
            )
        self.standing.digest = digest

    def _answer_again(
        self, admission: Admission, duplicate: Duplicate, batch: Gathered, place: tuple[int, int]
    ) -> None:
        """Give the first result's content again, as a new result (I3)."""
        self.answer_all(batch)  # the first may be among them
        result = encode_duplicate(
            self.context.identity,
            duplicate.first.result,
            offset=place[0],
            index=place[1],
            lane_time_ms=self.standing.lane_time_ms,
            rules=self.book.rules,
            admission=admission,
        )
        first, context, root = duplicate.first, self.context, admission.root
        headers = result_headers(first.type, first.status, root)
        partition = partition_of(root, context.results_partitions)
        batch.out.append(OutRecord(context.results_topic, partition, admission.record.key, result, headers))

    def _control(self, admission: Admission, control: Control, batch: Gathered) -> None:
        """Apply a control record; a change of rules leaves a row with its bytes (M9), a tick only its time."""
        record = admission.record
        if isinstance(control, SetRules):
            known_release = self.context.known_release
            now_ms = self.standing.lane_time_ms
            rules = next_rules(self.book.rules, control, now_ms=now_ms, known_release=known_release)
            if rules is None:  # sent again by the operator, or out of order: no effect
                batch.silent += 1
                return
            lacking = self._lacking(rules.keys)
            if lacking is not None:
                raise LaneStopped(StopCode.KEY_MISSING, lacking)
            self.answer_all(batch)  # by the rules that they were decided by
            self.book.rules = batch.rules[record.offset + 1] = rules
        elif isinstance(control, SetLaneTime):
            override = override_of(admission)
            assert override is not None
            if self.book.rules.release < RANGES_SINCE and override.first_offset > record.offset:  # I2
                self.lane_times.tell(override)
        elif isinstance(control, Tick):
            return
        else:
            raise TypeError(f"offset {record.offset}: a {type(control).__name__} is decided alone")
        self.journal_control(admission, control, batch)

    def journal_control(self, admission: Admission, control: Control, batch: Gathered) -> None:
        """Add a control record's row, with its bytes (M9)."""
        self.answer_all(batch)
        record, standing = admission.record, self.standing
        # Not the operator's id: he may send the same record twice, and each has a row.
        row_id = control_id(self.context.identity, record.offset)
        version_us = max(standing.version_us + 1, standing.lane_time_ms * 1000)
        result = encode_control(
            self.context.identity,
            offset=record.offset,
            index=0,
            lane_time_ms=standing.lane_time_ms,
            version_us=version_us,
            rules=self.book.rules,
            record=record,
            control=control,
        )
        row = JournalRow(slice_of(standing.lane_time_ms), self.context.lane, record.offset, 0, row_id, "", result)
        batch.journal.append(
            NewJournalRow(row, row_id, CommandType.CONTROL, Status.ACCEPTED, Reason.NONE, "", 0, standing.lane_time_ms)
        )
        standing.version_us, standing.digest = version_us, chain_digest(standing.digest, result)
        batch.out.append(result_record(self.context, "", result))
