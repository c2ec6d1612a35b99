"""Mutations of the service, each a class with one protection taken out: the simulation must notice every one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from processors.faults import LaneStopped, StopCode, UnknownOutcome
from processors.ids import SLICE_MS
from processors.lane.decided import Decided, Gathered
from processors.lane.gate import LaneGate
from processors.lane.lane import Lane, LaneParts
from processors.lane.publishing import Publisher
from processors.lane.times import OverridesAhead
from processors.ledger.book import Book, Keys, Rows
from processors.ledger.commands import Command
from processors.ledger.outcomes import Status
from processors.ledger.rules import RULES_RELEASE, Rules
from processors.ledger.tables import HOLDS
from processors.stores.rows import BatchWrite, Border, LaneState, Progress
from processors.wire.admission import Admission, Gate, admit
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord, Record
from processors.wire.signature import SIGNATURE_HEADER
from processors.workers.router import Router
from tests.simulation.fakes.broker import OffsetOutOfRangeError, PartitionLog, record_of
from tests.simulation.fakes.consumers import FakeLaneLog, FakeShardConsumer, Position
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.fakes.producers import FakeProducer, FakePublisher
from tests.simulation.plain_decider import Decider
from tests.simulation.services import RecallerProcess, RemoverProcess


def lane_with(decider: type[Decider]) -> Callable[[LaneParts], Lane]:
    """Return a lane whose decider is another class."""
    return type("OtherLane", (Lane,), {"decider": decider})


# ---------------------------------------------------------------------- L1, L2, L3


class StoreWithoutFence(FakeLaneStore):
    """L1: writes whatever ``progress`` says."""

    def check_fence(self, fence: Progress) -> None:
        """Let everything pass."""


class DeciderAcrossGaps(Decider):
    """L2: takes any record for the next."""

    def _one(self, admission: Admission, batch: Gathered) -> None:
        self.standing.next_offset = admission.record.offset
        super()._one(admission, batch)


class LogUnderAnyId(FakeLaneLog):
    """L3: takes any topic of the name for the one it was."""

    def topic_id(self) -> bytes:
        return self.broker.first_ids[self.topic]


class ConsumerOfAnyEpoch(FakeShardConsumer):
    """L3: goes on at its offset, whatever became of the log below it."""

    def read_on(self, log: PartitionLog, position: Position, records_max: int) -> list[Record]:
        if position.offset > log.next_offset:
            raise OffsetOutOfRangeError
        position.leader_epoch = -1
        entries, passed = log.read(position.offset, records_max)
        if passed is not None:
            position.offset = passed.offset + 1
        return [record_of(log, entry) for entry in entries]


# ---------------------------------------------------------------------- L4


class LaneThatBelievesAnyPosition(Lane):
    """L4: takes the group's offset for P, whoever wrote it."""

    def _published_position(self, state: LaneState) -> GroupPosition:
        ours = super()._published_position(state)
        committed = self._parts.log.committed()
        return ours if committed is None else replace(ours, at=replace(ours.at, next_offset=committed[0]))


class LogWithoutPositions(FakeLaneLog):
    """L4: P is what ``progress`` says, never what the group committed."""

    def committed(self) -> tuple[int, str] | None:
        return None


class LaneThatAnswersNothingAgain(Lane):
    """L4: P is D, so that what was committed and not published stays unanswered."""

    def _published_position(self, state: LaneState) -> GroupPosition:
        position = super()._published_position(state)
        progress = state.progress
        if position.at.next_offset >= progress.at.next_offset:
            return position
        return replace(
            position,
            at=replace(
                position.at,
                next_offset=progress.at.next_offset,
                digest=progress.at.digest,
                lane_time_ms=progress.at.lane_time_ms,
            ),
        )


class StoreOfBordersWithoutSources(FakeLaneStore):
    """L4, L10: does not know which ingress records had been met at P."""

    def last_border(self, at_most: int) -> Border | None:
        found = super().last_border(at_most)
        return None if found is None else replace(found, ingress={})


# ---------------------------------------------------------------------- L5, P1


class PublisherWithoutFence(FakePublisher):
    """L5: joins the producer that is there, and fences nobody."""

    def open(self) -> None:
        self.crash_points.point("publisher.open")
        self.epoch = self.broker.epoch_of(self.transactional_id)
        if self.epoch < 0:
            super().open()


class _KeptPublisher:
    """A publisher that is never made again."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._opened = False

    def open(self) -> None:
        if not self._opened:
            self._publisher.open()
            self._opened = True

    def publish(self, records: list[OutRecord], position: GroupPosition) -> None:
        self._publisher.publish(records, position)

    def close(self) -> None:
        """Keep it."""


class LaneThatKeepsItsPublisher(Lane):
    """L5: goes on with a producer after an unknown outcome."""

    def __init__(self, parts: LaneParts) -> None:
        kept: list[Publisher] = []

        def make() -> Publisher:
            if not kept:
                kept.append(_KeptPublisher(parts.make_publisher()))
            return kept[0]

        super().__init__(replace(parts, make_publisher=make))


class LogThatReadsPositionFirst(FakeLaneLog):
    """L5: reads P before the producer is made, when another may still publish."""

    def topic_id(self) -> bytes:
        self.read_first = self.consumer.committed(self.lane)
        return super().topic_id()

    def committed(self) -> tuple[int, str] | None:
        return self.read_first


class PublisherOfPositionsFirst(FakePublisher):
    """P1: commits the position by itself, before the results."""

    def publish(self, records: Sequence[OutRecord], position: GroupPosition) -> None:
        self.send_offsets(position)
        self.commit()
        self.produce(records)
        self.commit()


# ---------------------------------------------------------------------- L6


class StoreThatHopes(FakeLaneStore):
    """L6: takes an unanswered COMMIT for done."""

    def finish(self) -> None:
        try:
            super().finish()
        except UnknownOutcome:
            self.session = self.database.connect()


# ---------------------------------------------------------------------- L9 to L13


class ForgetfulBook(Book):
    """L9: knows only what is stored, not what was decided since."""

    __slots__ = ()

    def forget(self, keep: Iterable[Keys], accounts_max: int) -> None:  # noqa: ARG002 - the real one's signature
        super().forget([], 0)


class LaneWithForgetfulBook(Lane):
    """L9."""

    def assign(self) -> None:
        super().assign()
        self._decider.book.__class__ = ForgetfulBook


class StoreWithoutSources(FakeLaneStore):
    """L10: a new owner does not know which ingress records were met."""

    def take_over(self, topic_id: bytes) -> LaneState:
        return replace(super().take_over(topic_id), ingress={})


class DeciderWithTracesOfRefusals(Decider):
    """L11: a refusal leaves something in the book."""

    def _command(self, admission: Admission, command: Command, batch: Gathered, place: tuple[int, int]) -> None:
        rows = len(batch.journal)
        super()._command(admission, command, batch, place)
        self.answer_all(batch)
        refused = len(batch.journal) > rows and batch.journal[-1].status == Status.REJECTED
        account = self.book.accounts.get((command.address, command.currency))
        if refused and account is not None:
            account.overdraft_limit += 1


class DeciderWhoseDigestShowsCuts(Decider):
    """L13: the digest is chained batch by batch."""

    def decide(self, admissions: list[Admission], needs: Keys, *, published: tuple[int, int]) -> Decided:
        before = self.standing.digest
        decided = super().decide(admissions, needs, published=published)
        results = b"".join(new.row.result for new in decided.write.journal)
        digest = hashlib.sha256(before + results).digest() if results else before
        self.standing.digest = digest
        decided.position = replace(decided.position, at=replace(decided.position.at, digest=digest))
        decided.write = replace(
            decided.write,
            progress=replace(decided.write.progress, at=replace(decided.write.progress.at, digest=digest)),
        )
        self._progress = decided.write.progress
        return decided


# ---------------------------------------------------------------------- I2 to I7


class DeciderByItsOwnClock(Decider):
    """I2: now is when the worker looks."""

    def _one(self, admission: Admission, batch: Gathered) -> None:
        record = replace(admission.record, timestamp_ms=self.lane_times.looked_ms)
        super()._one(replace(admission, record=record), batch)


class DeciderOfEachRecordsTime(Decider):
    """I2: lane time goes back with the broker's clock."""

    def _one(self, admission: Admission, batch: Gathered) -> None:
        self.standing.lane_time_ms = 0
        super()._one(admission, batch)


class DeciderThatTrustsBrokersClocks(Decider):
    """I2: decides a record of a later time than it is."""

    def _one(self, admission: Admission, batch: Gathered) -> None:
        self.lane_times.looked_ms = 1 << 62
        super()._one(admission, batch)


class LogWithoutReadingAhead(FakeLaneLog):
    """I2: the operator's override is met only in its turn."""

    def control_ahead(self, from_offset: int) -> tuple[list[Record], int]:
        return [], super().control_ahead(from_offset)[1]


class _AheadOfAStop(OverridesAhead):
    """Reads only while its lane is stopped."""

    stopped = False

    def look(self, next_offset: int, rules: Rules, on_hand: Iterable[Record] = ()) -> int:
        return super().look(next_offset, rules, on_hand) if self.stopped else self._clock_ms()


class LaneThatLooksOnlyWhereItStopped(Lane):
    """I2: a lane that is not stopped decides by stamps, whatever stands in the log behind them."""

    _ahead: _AheadOfAStop

    def __init__(self, parts: LaneParts) -> None:
        super().__init__(parts)
        ahead = self._ahead
        ahead.__class__ = _AheadOfAStop

    def _may_go_on(self, state: LaneState, code: StopCode) -> bool:
        self._ahead.stopped = True
        try:
            return super()._may_go_on(state, code)
        finally:
            self._ahead.stopped = False


class LaneThatLooksOnce(Lane):
    """I2: what is in the log when a lane begins is all that it knows of it, however long it runs."""

    def _look_before_later_times(self, records: list[Record]) -> None:  # noqa: ARG002
        self._times.looked_ms = self._parts.clock_ms()


class StoreThatForgetsToWait(FakeLaneStore):
    """I2: a lane that is started again has not waited for an override."""

    def take_over(self, topic_id: bytes) -> LaneState:
        return replace(super().take_over(topic_id), waiting_at=None)


class StoreThatForgetsTimes(FakeLaneStore):
    """I2: the operator's override is kept in memory."""

    def end(self, write: BatchWrite | None) -> None:
        super().end(write if write is None else replace(write, lane_times={}))


class StoreWithoutFirstDecisions(FakeLaneStore):
    """I3: no command was ever decided before."""

    def loaded(self) -> Rows:
        rows = super().loaded()
        rows.decisions.clear()
        return rows


class StoreOfTheFirstRules(FakeLaneStore):
    """I6: rules are what a file says, not what the log says."""

    def take_over(self, topic_id: bytes) -> LaneState:
        state = super().take_over(topic_id)
        rules = self.database.rules
        return replace(state, rules=rules, rules_since={0: rules})


class StoreThatKeepsHolds(FakeLaneStore):
    """I7: what was ended is still open for whoever reads it next."""

    def end(self, write: BatchWrite | None) -> None:
        if write is not None:
            kept = [change for change in write.changes.rows[HOLDS] if change.row is not None]
            write = replace(write, changes=replace(write.changes, rows={**write.changes.rows, HOLDS: kept}))
        super().end(write)


# ---------------------------------------------------------------------- A2, A6, H2, H4, R6, R7


class StoreThatBeginsVersionsAnew(FakeLaneStore):
    """A2: a new owner counts versions from the lane's time alone."""

    def take_over(self, topic_id: bytes) -> LaneState:
        state = super().take_over(topic_id)
        return replace(state, progress=replace(state.progress, version_us=0))


class HastyRemover(RemoverProcess):
    """A6: takes a slice once the lanes have passed it, without waiting for the window."""

    def is_over(self, number: int) -> bool:
        return all(
            progress.published_time_ms >= (number + 1) * SLICE_MS
            for progress in self.environment.database.tables.progress.values()
        )


class ForgetfulRemover(RemoverProcess):
    """H2: a hold that expired is gone as soon as it is released."""

    def _forget_holds(self) -> None:
        tables = self.environment.database.tables
        for key in [key for key, hold in tables.holds.items() if hold.remaining_minor == 0]:
            del tables.holds[key]


class HastyRecaller(RecallerProcess):
    """H4: an original is not found wherever the archive does not have it yet; it is fed after it was asked."""

    def turn(self) -> None:
        archive, self.environment.archive = self.environment.archive, {}
        try:
            super().turn()
        finally:
            archive.update(self.environment.archive)
            self.environment.archive = archive


class RouterThatCommitsFirst(Router):
    """R6: what was read counts as forwarded."""

    def _forward(self, records: list[Record]) -> None:
        super()._forward(records)
        self._acknowledged.update(self._in_flight[-1].next_offsets)


class ProducerWithGaps(FakeProducer):
    """R7: after a record that could not be delivered, the next one still is."""

    def give_up(self) -> None:
        self.queue.popleft()
        while self.queue:
            self.broker.write(self.queue.popleft()[0])
        super().give_up()


# ---------------------------------------------------------------------- I6, W1: what a record is


def admit_by_schemas_of_every_release(record: Record, rules: Rules, gate: Gate) -> Admission:
    """I6: decode by whatever this release knows, whatever release the log has come to."""
    return admit(record, replace(rules, release=RULES_RELEASE), gate)


def admit_by_the_keys_file(record: Record, rules: Rules, gate: Gate) -> Admission:
    """I6, W1: believe every key of the file, and none that it lacks."""
    return admit(record, replace(rules, keys=None), gate)


def admit_by_the_settings_ids(record: Record, rules: Rules, gate: Gate) -> Admission:
    """I6: take a schema registry's ids from the settings."""
    return admit(record, replace(rules, registry_ids=None), gate)


def admit_without_missing_a_key(record: Record, rules: Rules, gate: Gate) -> Admission:
    """W1: hold a signature for wrong where its key counts and the file does not have it."""
    try:
        return admit(record, rules, gate)
    except LaneStopped:
        return admit(
            replace(record, headers=[each for each in record.headers if each[0] != SIGNATURE_HEADER]), rules, gate
        )


class _GateThatMissesNothing(LaneGate):
    """Never looks whether the keys file has what the log needs."""

    def lacking(self, keys: str | None) -> str | None:  # noqa: ARG002 - the real one's signature
        return None


class LaneThatMissesNoKey(Lane):
    """W1: decides without a key that the log has, and goes on without it."""

    _gate: LaneGate

    def _refuse_stopped(self, state: LaneState, topic_id: bytes) -> None:
        gate = self._gate
        gate.__class__ = _GateThatMissesNothing
        super()._refuse_stopped(state, topic_id)
