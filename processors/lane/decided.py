"""What comes of a batch's records: what is written, what is published, and who is told. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from processors.faults import LaneStopped, StopCode
from processors.lane.standing import LaneContext
from processors.ledger.book import Keys
from processors.ledger.commands import Command, CommandType
from processors.ledger.outcomes import Outcome, Reason
from processors.ledger.rows import Decision
from processors.ledger.rules import Rules
from processors.ledger.tables import AnyTable
from processors.routing.buckets import partition_of
from processors.stores.rows import BatchWrite, NewJournalRow, OverriddenTime, ParkedRow, PlacementRow, RowsOf
from processors.wire.admission import Admission, refusal_of_generation
from processors.wire.dead_letters import KEY_BYTES_MAX, encode_dead_letter
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord, Record
from processors.wire.results import headers_of
from processors.wire.route import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a shard that has installed a hand-off tells the one that sent it (M7).

    Or, with ``lacks_ahead``, that it has not, since other parts went ahead than the source says, or none (M6).
    """

    shard: str  # to which it goes
    placement_key: str
    generation: int
    lacks_ahead: bool = False


HandedOver = PlacementRow | Receipt
"""What a lane sends to another shard's lane: the rows of a placement key that it sealed, or a receipt."""


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
    sends: list[OutRecord] = field(default_factory=list)  # what the lane sends by itself, in the causes' order (P2)
    handed_over: list[HandedOver] = field(default_factory=list)  # sent before the batch is published (P3)
    alarms: list[str] = field(default_factory=list)  # what an operator must look at
    silent: int = 0  # redeliveries and service records without effect (L10, I7): no answer, only a metric
    reasons: Mapping[Reason, int] = field(default_factory=dict)  # of what was refused, but not again: only a metric
    stamped_ms: int = 0  # the broker's time of the first record: only a metric


class UndecidedError(Exception):
    """A record could not be decided, and ``stop`` says why. What came before it can: the lane cuts its batch there."""

    def __init__(self, offset: int, stop: LaneStopped) -> None:
        super().__init__(str(stop))
        self.offset = offset
        self.stop = stop


Unanswered = tuple[Admission, Command, CommandType, Outcome, tuple[int, int], int, int, Decision]
"""A command that was decided: its record, itself, its type, its outcome, the answer's place (offset and index), lane
time, version (A2), and what later commands see of it. A tuple: one per command on the hot path."""


@dataclass(slots=True)
class Gathered:
    """What the records of a batch write and publish, as they are decided one after the other.

    ``unanswered`` are the last of them, whose results are encoded together (``Decider.answer_all``).
    """

    unanswered: list[Unanswered] = field(default_factory=list)
    journal: list[NewJournalRow] = field(default_factory=list)
    out: list[OutRecord] = field(default_factory=list)
    sends: list[OutRecord] = field(default_factory=list)
    silent: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    rules: dict[int, Rules] = field(default_factory=dict)
    lane_times: dict[int, OverriddenTime] = field(default_factory=dict)
    parked: list[ParkedRow] = field(default_factory=list)
    unparked: dict[int, tuple[int, int]] = field(default_factory=dict)
    cleared: list[RowsOf] = field(default_factory=list)
    arrived: dict[AnyTable, list[list[Any]]] = field(default_factory=dict)
    handed_over: list[HandedOver] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)


@contextmanager
def told_of(record: Record, *, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Say of which record it was that deciding it failed (L11).

    Args:
        record: The one that is decided.
        but: What is no word on the record, and is raised as it is: a server's fault while something is read.

    Raises:
        UndecidedError: As ``Decider.decide``.
    """
    try:
        yield
    except Exception as trouble:
        if isinstance(trouble, (UndecidedError, but)):
            raise
        raise undecided(record.offset, trouble) from trouble


def undecided(offset: int, trouble: Exception) -> UndecidedError:
    """Return what is told of a record that deciding it failed (L11).

    Args:
        offset: Of the record that could not be decided; of one that was parked, the record's that unparked it.
        trouble: The fault that stops the lane, or a bug: another release would decide the record differently.
    """
    if isinstance(trouble, LaneStopped):
        return UndecidedError(offset, trouble)
    told = f"offset {offset}: {type(trouble).__name__}: {trouble}"
    return UndecidedError(offset, LaneStopped(StopCode.BUG, told))


def refused_for_generation(admission: Admission, route: Route) -> Admission:
    """Return a record as refused for its generation."""
    return replace(admission, command=None, refusal=refusal_of_generation(route))


def never_here(admission: Admission, route: Route) -> ParkedRow:
    """Return the row by which answering again knows that a record was refused for its generation (L4)."""
    return ParkedRow(
        placement_key=route.placement_key,
        record=admission.record,
        is_move_out=False,
        unparked=(admission.record.offset, 0),
    )


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
