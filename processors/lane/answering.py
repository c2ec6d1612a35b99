"""Publishes again what a lane decided before this process owned it, and perhaps did not publish (L4).

The bytes are those of the journal. A command that left no row there was answered by its id, the lane's time and the
journal alone; so its answer is made anew from these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Protocol

from processors.faults import LaneStopped, StopCode
from processors.lane.committing import BatchStore
from processors.lane.decided import HandedOver, Receipt, dead_letter, refused_for_generation, result_record
from processors.lane.deciding import needs_of
from processors.lane.gate import LaneGate
from processors.lane.parts import lacks_ahead, thrown_away, told_lacking
from processors.lane.placements import Placements
from processors.lane.position import refuse_other_digest
from processors.lane.publishing import Committed
from processors.lane.standing import LaneContext, Standing, chain_digest, is_redelivery, meet
from processors.lane.times import LaneTimes
from processors.ledger.book import Book, Keys
from processors.ledger.command_types import OF_THE_SERVICE
from processors.ledger.commands import Command, Control, HandOff, LacksAhead, MovePartner, SendAgain, TransferCredit
from processors.ledger.decide import Duplicate, decide
from processors.ledger.identity import identify
from processors.ledger.outcomes import Outcome
from processors.ledger.rows import Decision
from processors.ledger.transfers import too_old_credit
from processors.stores.rows import JournalRow, LaneState, ParkedRow, PlacementState
from processors.wire.admission import Admission
from processors.wire.legs import SENDING
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord, Record, records_below
from processors.wire.results import decision_of, decode_result, encode_duplicate, encode_result


class AnswersStore(BatchStore, Protocol):
    """A lane's rows, and what it answered (``stores.lane_store``)."""

    def answers(self, from_offset: int, to_offset: int) -> list[JournalRow]:
        """Return the journal's rows of a stretch of the lane, by offset and index."""

    def parked_again(self, from_offset: int, to_offset: int) -> list[ParkedRow]:
        """Return what was parked, or unparked, in a stretch of the lane."""


class AnsweringAgain:
    """Answers the records that were decided before the assignment and perhaps not published: those from P on, up to D.

    It begins at the last batch border up to P, since only at a border the database has the lane's digest and ingress
    positions. The answers to records between that border and P are made and not published; at P the digest must be
    that of the group's commit. The answers from P on are published, in transactions as large as any other, and P moves
    on with each. Should this owner end meanwhile, the next one begins at the last border up to the new P.
    """

    def __init__(
        self,
        context: LaneContext,
        store: AnswersStore,
        gate: LaneGate,
        state: LaneState,
        *,
        begins: Standing,
        published: GroupPosition,
        legs: Callable[[bytes], list[OutRecord]],
    ) -> None:
        """Hold the parts; nothing is read before ``answer``.

        Args:
            context: The lane's fixed surroundings.
            store: The lane's rows; nothing is written.
            gate: Says what a record is, under the rules at its offset.
            state: As the lane was taken over: its progress is D.
            begins: Where the lane stood at the border; moves on as records are answered.
            published: P at the assignment.
            legs: Says what is to be sent because of a result (``lane.sending``).
        """
        self._context = context
        self._store = store
        self._gate = gate
        self._rules = state.rules
        self._standing = begins
        self._published = published
        self._legs = legs
        self._sends: list[OutRecord] = []
        self._fence = state.progress
        self._stored_epoch = state.progress.at.leader_epoch
        self._placements = Placements(state.placements, home=state.home)
        self._seals = {row.since_offset: row for row in state.placements.values() if row.state is PlacementState.SEALED}
        self.alarms: list[str] = []  # of what was answered last, for an operator: perhaps nobody was told
        self._parked: dict[int, ParkedRow] = {}
        self._unparked: dict[int, list[tuple[ParkedRow, Admission]]] = {}
        self._times = LaneTimes(
            state.lane_times, {}, next_offset=begins.next_offset, let_pass_below=state.progress.at.next_offset
        )

    @property
    def next_offset(self) -> int:
        """Return the offset of the next record to answer."""
        return self._standing.next_offset

    @property
    def ended(self) -> bool:
        """Say whether everything below D is answered."""
        return self._standing.next_offset == self._fence.at.next_offset

    def answer(self, records: list[Record]) -> tuple[int, Committed | None]:
        """Answer the next records.

        Returns:
            How many of them were taken, and what of them is to be published; None of those before P.

        Raises:
            LaneStopped: The log or the journal is not what it was (L2, L3, L4).
            Fault: The store's.
        """
        standing, published_to = self._standing, self._published.at.next_offset
        border = published_to if standing.next_offset < published_to else self._fence.at.next_offset
        # None of them below it: what is left is missing, and the first record says so (L2).
        records = records_below(records, border) or records[:1]
        admissions = self._until_handing_over(self._gate.admit_again(records))
        end = admissions[-1].record.offset + 1
        stored: dict[int, list[JournalRow]] = {}
        for answer in self._store.answers(standing.next_offset, end):
            stored.setdefault(answer.lane_offset, []).append(answer)
        if self._placements.rows:
            self._read_parked(standing.next_offset, end)
        book = self._load_first_decisions(admissions, stored)
        out: list[OutRecord] = []
        self._sends, self.alarms = [], []
        handed_over: list[HandedOver] = []
        for admission in admissions:
            rows = stored.get(admission.record.offset, [])
            out.extend(self._one(admission, rows, book))
            handed_over.extend(self._handed_over(admission, rows))
        if standing.next_offset == published_to:
            refuse_other_digest(self._published, standing.digest)
        if standing.next_offset == self._fence.at.next_offset and standing.digest != self._fence.at.digest:
            raise LaneStopped(
                StopCode.DIGEST_DIFFERS,
                f"the journal's rows below offset {standing.next_offset} do not give its digest",
            )
        if standing.next_offset <= published_to:
            return len(admissions), None
        position = standing.position(self._context)
        return len(admissions), Committed(out, position, sends=self._sends, handed_over=handed_over)

    def _until_handing_over(self, admissions: list[Admission]) -> list[Admission]:
        """Return the first records up to one that perhaps hands something over, or that one alone (P3)."""
        for place, admission in enumerate(admissions):
            command = admission.command
            is_told = isinstance(command, HandOff) and (command.is_last or command.begins_behind_ahead)
            if admission.record.offset in self._seals or is_told or isinstance(command, SendAgain | LacksAhead):
                return admissions[: max(place, 1)]
        return admissions

    def _handed_over(self, admission: Admission, rows: list[JournalRow]) -> Iterator[HandedOver]:
        """Yield what a record handed over: a seal's rows, if they are still frozen, again where it asks for them (M4).

        And a receipt, if it was what installed a placement key, or could not since others had gone ahead.
        """
        seal = self._seals.get(admission.record.offset)
        if seal is not None:
            yield seal
        command = admission.command
        if isinstance(command, HandOff) and command.is_last and rows:
            yield Receipt(shard=command.source, placement_key=command.placement_key, generation=command.generation)
        if isinstance(command, HandOff) and not rows and lacks_ahead(command, self._placements):
            yield told_lacking(command)
        if isinstance(command, SendAgain | LacksAhead) and rows:
            row = self._placements.rows.get(command.placement_key)
            if row is not None and row.is_at(PlacementState.SEALED, command.generation):
                yield row

    def _read_parked(self, from_offset: int, to_offset: int) -> None:
        """Read which records of a stretch were parked, and which were unparked within it."""
        self._parked, self._unparked = {}, {}
        for row in self._store.parked_again(from_offset, to_offset):
            self._parked[row.record.offset] = row
            if row.unparked is not None and row.unparked[1] > 0:
                admission = self._gate.admit_parked(row.record, self._gate.rules_at(row.unparked[0]))
                self._unparked.setdefault(row.unparked[0], []).append((row, admission))
        for unparked in self._unparked.values():
            unparked.sort(key=lambda each: each[0].unparked or (0, 0))

    def _load_first_decisions(self, admissions: list[Admission], stored: dict[int, list[JournalRow]]) -> Book:
        unparked = [each for rows in self._unparked.values() for _, each in rows]
        needs = needs_of([each for each in admissions if each.record.offset not in stored] + unparked)
        keys = Keys(decisions=needs.decisions, moved_ids=needs.decisions if self._placements.rows else {})
        self._store.begin(self._fence, None, keys)
        rows = self._store.loaded()
        self._store.finish()
        book = Book(self._rules, {})
        book.known_since = self._placements.known_since
        book.add(keys, rows)
        return book

    def _one(self, admission: Admission, rows: list[JournalRow], book: Book) -> list[OutRecord]:
        context, standing, record = self._context, self._standing, admission.record
        release = self._gate.rules_at(record.offset).release
        meet(standing, record, context=context, lane_times=self._times, release=release)
        self._refuse_rewritten(admission, [row for row in rows if row.lane_index == 0])
        redelivered = admission.route is not None and is_redelivery(standing, admission.route)
        for row in rows:
            standing.digest = chain_digest(standing.digest, row.result)
        own = [row for row in rows if row.lane_index == 0]
        if isinstance(admission.command, HandOff) and admission.command.is_last and own:  # M4
            standing.lane_time_ms = max(standing.lane_time_ms, admission.command.lane_time_ms)
        if isinstance(admission.command, HandOff) and not own and self._threw_away(admission.command, record.offset):
            self.alarms.append(thrown_away(admission.command, record.offset))
        answers = [] if redelivered else self._answers(admission, own, book, (record.offset, 0))
        for parked, unparked in self._unparked.get(record.offset, []):
            assert parked.unparked is not None
            of_it = [row for row in rows if row.lane_index == parked.unparked[1]]
            self._refuse_rewritten(unparked, of_it)
            answers += self._answers(unparked, of_it, book, parked.unparked)
        return answers

    def _threw_away(self, command: HandOff, offset: int) -> bool:
        """Say whether what had come of a placement key was thrown away at a part of it, and is not there since (M4).

        Who did it told so once its COMMIT was answered, and perhaps ended before; and no other part will say it.
        """
        row = self._placements.rows.get(command.placement_key)
        if row is None:
            return command.number == 0
        at_it = row.since_offset == offset and row.generation == command.generation - 1
        return at_it or (command.number == 0 and row.generation < command.generation)

    def _answers(
        self, admission: Admission, rows: list[JournalRow], book: Book, place: tuple[int, int]
    ) -> list[OutRecord]:
        """Return the answers to one record, which was decided at a place: none, where it was only parked there."""
        context = self._context
        if rows:
            if type(admission.command) in SENDING:
                self._sends.extend(chain.from_iterable(self._legs(row.result) for row in rows))
            return [result_record(context, row.root, row.result) for row in rows]
        parked = self._parked.get(admission.record.offset)
        if parked is not None and parked.unparked != place:
            return []
        command = admission.command
        if parked is not None and place[1] == 0 and admission.route is not None:
            return [dead_letter(context, refused_for_generation(admission, admission.route))]
        if command is None:
            return [dead_letter(context, admission)]
        if isinstance(command, TransferCredit):
            return self._too_old(admission, command, book, place)
        if isinstance(command, Control) or type(command) in OF_THE_SERVICE:
            return []
        return [self._recomputed(admission, command, book, place)]

    def _is_of_later(self, first: Decision, place: tuple[int, int]) -> bool:
        """Say whether this lane decided something after a place. What came along with a move was known, or had a row.

        A command that another lane decided after the place would have been new there, and would have left a row.
        """
        result = decode_result(first.result)
        ours = (self._context.identity.incarnation, self._context.lane)
        return (result.incarnation, result.lane) == ours and (first.lane_offset, first.lane_index) > place

    def _refuse_rewritten(self, admission: Admission, rows: list[JournalRow]) -> None:
        """Stop where a record below D is not the one that was decided there (L3)."""
        record = admission.record
        if record.leader_epoch > self._stored_epoch:
            raise LaneStopped(
                StopCode.LOG_REWRITTEN,
                f"offset {record.offset} has leader epoch {record.leader_epoch}, it was decided with at most "
                f"{self._stored_epoch}",
            )
        command = admission.command
        for row in rows:
            if isinstance(command, Control) and not row.root:
                continue
            body_hash = decision_of(row.result).body_hash
            if command is None or body_hash != admission.body_hash or row.root != admission.root:
                raise LaneStopped(
                    StopCode.LOG_REWRITTEN, f"offset {record.offset} is not the record that was decided there"
                )

    def _too_old(
        self, admission: Admission, command: TransferCredit, book: Book, place: tuple[int, int]
    ) -> list[OutRecord]:
        """Answer a credit that left no row: it was too old, and goes back; or it was known, which is silence (T2)."""
        book.rules = self._gate.rules_at(place[0])
        verdict = too_old_credit(book, command, admission.root, self._standing.lane_time_ms)
        if verdict is None:
            return []
        answer = self._without_row(admission, book, verdict, place)
        self._sends.extend(self._legs(answer.value))
        return [answer]

    def _recomputed(self, admission: Admission, command: Command, book: Book, place: tuple[int, int]) -> OutRecord:
        """Return the answer to a command that left no row: a function of record, lane time and journal (L4)."""
        context, standing = self._context, self._standing
        offset, index = place
        book.rules = self._gate.rules_at(offset)
        key = (admission.root, command.command_id)
        known = book.decisions
        first = known.get(key)
        if first is not None and self._is_of_later(first, place):  # nothing was known of it yet
            book.decisions = {key: None}
        verdict = (
            decide(book, command, root=admission.root, body_hash=admission.body_hash, now_ms=standing.lane_time_ms)
            if isinstance(command, MovePartner)
            else identify(
                book,
                root=admission.root,
                command_id=command.command_id,
                body_hash=admission.body_hash,
                now_ms=standing.lane_time_ms,
            )
        )
        book.decisions = known
        if isinstance(verdict, Duplicate):
            result = encode_duplicate(
                context.identity,
                verdict.first.result,
                offset=offset,
                index=index,
                lane_time_ms=standing.lane_time_ms,
                rules=book.rules,
                admission=admission,
            )
        elif verdict is None or verdict.journalled:
            raise LaneStopped(StopCode.LOG_REWRITTEN, f"offset {offset} was decided, but has no journal row")
        else:
            return self._without_row(admission, book, verdict, place)
        return result_record(context, admission.root, result)

    def _without_row(self, admission: Admission, book: Book, outcome: Outcome, place: tuple[int, int]) -> OutRecord:
        result = encode_result(
            self._context.identity,
            offset=place[0],
            index=place[1],
            lane_time_ms=self._standing.lane_time_ms,
            version_us=0,
            rules=book.rules,
            admission=admission,
            outcome=outcome,
        )
        return result_record(self._context, admission.root, result)
