"""The model of a lane: its log decided record by record, by one decider, which nothing ever interrupts.

It decides one record a batch and keeps nothing in the book in between. Whatever the lanes make durable or visible has
to be what the model has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from processors.faults import LaneStopped
from processors.lane.decided import UndecidedError
from processors.lane.deciding import Decider, needs_of
from processors.lane.standing import LaneContext
from processors.lane.times import LaneTimes, TimeOverride, heard, may_be_heard
from processors.ledger.rules import RULES_RELEASE, Rules
from processors.wire.admission import Admission, Gate, admit
from processors.wire.commands import NO_REGISTRY, ConfluentIds
from processors.wire.records import OutRecord, Record
from processors.wire.results import decision_of
from processors.wire.signature import KeyRing
from tests.new_lane import state_of_new_lane
from tests.simulation.fakes.lane_store import copy_write
from tests.simulation.fakes.tables import Tables


class LaneModel:
    """The answers to each record of a lane's log, and the state after each; decided as far as asked for."""

    def __init__(
        self, context: LaneContext, rules: Rules, keyring: KeyRing, confluent: ConfluentIds = NO_REGISTRY
    ) -> None:
        self.answers: dict[int, list[OutRecord]] = {}
        self.rules = rules  # those it began with
        # Of operators on times and rules, as heard, even if the log lost them since.
        self.control_records: list[Record] = []
        self.met_records: dict[int, Record] = {}
        # Ingress partition and offset of every record that was met for the first time.
        self.met: set[tuple[int, int]] = set()
        self.tables = Tables(journal=defaultdict(dict))
        self._gate = Gate(keyring=keyring, lane=context.lane, lanes=context.lanes, confluent=confluent)
        new = state_of_new_lane(context.lane, context.identity.incarnation, rules)
        self.states = {0: new.progress}
        self._overrides: dict[int, list[TimeOverride]] = {}
        self._heard_to = 0
        self.heard_rules = rules  # in force there
        self._decider = Decider(
            context,
            new,
            # Whoever met a record ahead of his clock waited or was told.
            LaneTimes({}, self._overrides, next_offset=0, let_pass_below=1 << 62),
        )

    @property
    def next_offset(self) -> int:
        return self._decider.standing.next_offset

    def hear(self, records: Iterable[Record]) -> None:
        """Take in the operators' records in the log, in order; those that were taken in are passed over (I2)."""
        for record in records:
            if record.offset < self._heard_to:
                continue
            self._heard_to = record.offset + 1
            if may_be_heard(record):
                self.control_records.append(record)
                override, self.heard_rules = heard(record, self.heard_rules, self.admit, known_release=RULES_RELEASE)
                if override is not None:
                    self._overrides.setdefault(override.first_offset, []).append(override)

    def admit(self, record: Record, rules: Rules) -> Admission:
        """Say what a record of the lane is under some rules."""
        return admit(record, rules, self._gate)

    def _note_met(self, admission: Admission) -> None:
        """Note a record that is no redelivery: only then is it answered (L10)."""
        route = admission.route
        if route is not None:
            before = self._decider.standing.ingress.get((route.ingress_epoch, route.ingress_partition))
            if before is None or before.offset < route.ingress_offset:
                self.met.add((route.ingress_partition, route.ingress_offset))

    def decide(self, record: Record) -> list[OutRecord]:
        """Decide the next record of the log.

        Raises:
            LaneStopped: No lane may decide it.
        """
        decider = self._decider
        self.met_records[record.offset] = record
        admissions = [self.admit(record, decider.book.rules)]
        self._note_met(admissions[0])
        needs = needs_of(admissions)
        decider.book.add(needs, self.tables.load(needs, decision_of))
        try:
            decided = decider.decide(admissions, needs, published=(0, 0))
        except UndecidedError as undecided:
            raise LaneStopped(undecided.stop.code, undecided.stop.detail) from undecided
        for new in decided.write.journal:
            self.tables.journal[new.row.slice]
        self.tables.apply(copy_write(decided.write))
        decider.book.forget([], 0)
        self.states[self.next_offset] = decided.write.progress
        self.answers[record.offset] = decided.out
        return decided.out
