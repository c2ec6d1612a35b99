"""Answering again while a partner comes and goes: what a lane's next owner answers equals what the last one did.

Whatever a lane decided in [P, D) was perhaps not published. After a crash its next owner answers it again, from the
database and the log (L4). Records that left a journal row are easy: the row has the bytes. A duplicate leaves none,
nor does a record that was parked (M1), and a parked record is answered later, under the offset of the record that
unparks it (M5). This model is one lane, the partner's records in their order, and the service's own between them. In
every state it answers [P, D) again and compares that with what was answered at first: so it crashes in every state.

What is left out, and why that is safe:

- *The way there.* That the records of a partner come in this order, and that a hand-off comes whole, is shown by the
  model of moves. A hand-off is one record here.
- *Where P is written down.* It is the group's offset, or ``published_offset``, or the batch border before that. Here P
  is the earliest of these: it follows D at any distance.
- *The money.* What a row says does not matter, only that it is the same row.

Checked in every state: what is answered again equals what was answered; results' ids rise, so that a consumer who keeps
the largest drops none; a seal is alone in its record, so that P just before it is a whole offset (P3). And everything
comes to its end: every record answered, nothing parked, nothing kept that is not needed any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.models.checker import Step

# Lane time from which the ids of the model are older than the window.
WINDOW = 1
# How many parked records one record unparks, at most.
UNPARKED_MAX = 2

Kind = Literal["command", "move out", "hand-off", "installed", "tick", "neighbour"]


class Record(NamedTuple):
    """A record of the lane's log."""

    kind: Kind
    name: str = ""
    generation: int = 0
    source: int = -1  # ingress offset, of the partner's records
    ids: tuple[str, ...] = ()  # of a hand-off
    now: int = 0


class Parked(NamedTuple):
    """A row of ``parked``: the record, where it was parked, and the record that has unparked it."""

    record: Record
    at: int
    unparked: int = -1
    place: int = -1


class Row(NamedTuple):
    """A journal row."""

    offset: int
    place: int
    name: str


class Output(NamedTuple):
    """What a lane publishes: ``offset`` and ``place`` (the index) are the result's id."""

    offset: int
    place: int
    name: str
    says: str


class Lane(NamedTuple):
    """The lane: D, P and the log between them, its rows, and what it has answered there."""

    d: int = 0
    p: int = 0
    log: tuple[Record, ...] = ()  # of [P, D)
    answered: tuple[tuple[Output, ...], ...] = ()  # for each of these records; no process knows this
    now: int = 0
    now_at_p: int = 0
    met: int = -1
    met_at_p: int = -1
    generation: int = 0
    is_owner: bool = False
    sealed_at: int = -1  # lane offset of a seal whose frozen rows are there still
    journal: tuple[Row, ...] = ()
    moved_ids: tuple[str, ...] = ()
    parked: tuple[Parked, ...] = ()
    last_id: tuple[int, int] = (-1, -1)


class State(NamedTuple):
    """The lane, what is still to come, and how many disruptions."""

    lane: Lane
    partner: tuple[Record, ...]
    service: tuple[Record, ...]
    neighbours: int
    redeliveries: int
    ticks: int
    violation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What one check is about: the partner's records, the service's, and how often each other thing comes."""

    partner: tuple[Record, ...]
    service: tuple[Record, ...]
    neighbours: int = 0
    redeliveries: int = 0
    ticks: int = 0


class Answering:
    """The model; ``without`` names the rules that are taken out."""

    def __init__(self, scenario: Scenario, without: frozenset[str] = frozenset()) -> None:
        self._scenario = scenario
        self._without = without

    def initial(self) -> State:
        """Return the beginning: the partner lives elsewhere."""
        scenario = self._scenario
        return State(
            lane=Lane(),
            partner=scenario.partner,
            service=scenario.service,
            neighbours=scenario.neighbours,
            redeliveries=scenario.redeliveries,
            ticks=scenario.ticks,
        )

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield each record that may come next, and that P moves on, and that rows are deleted."""
        lane = state.lane
        if state.partner:
            yield self._comes(state._replace(partner=state.partner[1:]), state.partner[0])
        if state.service and self._may_come(lane, state.service[0]):
            yield self._comes(state._replace(service=state.service[1:]), state.service[0])
        if _can_unpark(lane):
            yield self._comes(state, Record("tick", now=lane.now))
        yield from self._disruptions(state)
        if lane.p < lane.d:
            yield Step(f"P moves on to {lane.p + 1}", state._replace(lane=_published(lane)))
        kept = tuple(each for each in lane.parked if not self._is_done_with(lane, each))
        if kept != lane.parked:
            yield Step("unparked rows are deleted", state._replace(lane=lane._replace(parked=kept)))

    def violation(self, state: State) -> str:
        """Return how answering again differs, empty if it does not."""
        if state.violation:
            return state.violation
        again = answers_again(state.lane, self._without)
        for first, second in zip(state.lane.answered, again, strict=True):
            if first != second:
                return f"first {_said(first)}, again {_said(second)}"
        return ""

    def is_done(self, state: State) -> bool:
        """Say whether all has come and was published, and nothing is parked."""
        lane = state.lane
        return not state.partner and not state.service and not lane.parked and lane.p == lane.d

    def _may_come(self, lane: Lane, record: Record) -> bool:
        """Say whether the service may send this by now: a receipt follows the hand-off, that follows P (P3)."""
        if record.kind != "installed":
            return not lane.is_owner and lane.sealed_at < 0
        is_published = lane.p >= lane.sealed_at or "P3 position" in self._without
        return lane.generation == record.generation and lane.sealed_at >= 0 and is_published

    def _disruptions(self, state: State) -> Iterator[Step[State]]:
        lane = state.lane
        if state.neighbours:
            name = f"n{state.neighbours}"
            after = state._replace(neighbours=state.neighbours - 1)
            yield self._comes(after, Record("neighbour", name), is_disruption=True)
        if state.redeliveries:
            after = state._replace(redeliveries=state.redeliveries - 1)
            for record in self._scenario.partner[: lane.met + 1]:
                yield self._comes(after, record, is_disruption=True)
        if state.ticks:
            after = state._replace(ticks=state.ticks - 1)
            yield self._comes(after, Record("tick", now=lane.now + 1), is_disruption=True)

    def _is_done_with(self, lane: Lane, parked: Parked) -> bool:
        """Say whether a parked row is not needed any more: P is past where it was unparked (L4)."""
        return 0 <= parked.unparked < (lane.d if "L4 parked" in self._without else lane.p)

    # ------------------------------------------------------------------ deciding

    def _comes(self, state: State, record: Record, *, is_disruption: bool = False) -> Step[State]:
        lane = state.lane
        deciding = _Deciding(lane, record, self._without)
        says = f"offset {lane.d}: {record.kind} {record.name}".rstrip()
        after = state._replace(lane=deciding.end(), violation=deciding.violation)
        return Step(f"{says}: {_said(deciding.out)}", after, is_disruption)


class _Deciding:
    """One record on its way through the lane; each record is a batch of its own."""

    def __init__(self, lane: Lane, record: Record, without: frozenset[str]) -> None:
        self.lane = lane._replace(now=max(lane.now, record.now))
        self.out: tuple[Output, ...] = ()
        self.violation = ""
        self._record = record
        self._offset = lane.d
        self._place = 0
        self._without = without
        self._take(record)
        self._unpark()

    def end(self) -> Lane:
        """Return the lane after the record."""
        lane = self.lane
        return lane._replace(d=lane.d + 1, log=(*lane.log, self._record), answered=(*lane.answered, self.out))

    def _take(self, record: Record) -> None:
        lane = self.lane
        match record.kind:
            case "hand-off":
                self.lane = lane._replace(generation=record.generation, is_owner=True, moved_ids=record.ids)
                self._writes(f"install {record.generation}", "installed")
            case "installed":
                self.lane = lane._replace(sealed_at=-1, moved_ids=())
            case "neighbour":
                self._writes(record.name, "accepted")
            case "command" | "move out" if record.source > lane.met:
                self.lane = lane._replace(met=record.source)
                self._meet(record)
            case _:
                pass

    def _meet(self, record: Record) -> None:
        lane = self.lane
        is_first = not any(each.unparked < 0 for each in lane.parked)
        if lane.is_owner and is_first and record.generation == lane.generation:
            self._decide(record)
        else:
            self.lane = lane._replace(parked=(*lane.parked, Parked(record=record, at=self._offset)))

    def _unpark(self) -> None:
        """Unpark what is parked, in order, a little; a seal is alone in its record, which is a TICK (P3).

        Index 0 is the record's own, whether it has an answer or not.
        """
        self._place = 1
        for _ in range(UNPARKED_MAX):
            waiting = [each for each in self.lane.parked if each.unparked < 0]
            if not _can_unpark(self.lane) or waiting[0].at == self._offset:
                return
            is_seal = waiting[0].record.kind == "move out"
            is_alone = self._record.kind == "tick" and not self.out
            if is_seal and not is_alone and "P3 alone" not in self._without:
                return
            self._unpark_one(waiting[0])
            if is_seal:
                return

    def _unpark_one(self, parked: Parked) -> None:
        unparked = parked._replace(unparked=self._offset, place=self._place)
        rows = tuple(unparked if each == parked else each for each in self.lane.parked)
        self.lane = self.lane._replace(parked=rows)
        offset = self._offset
        self._offset = parked.at if "M5 offset" in self._without else offset
        self._decide(parked.record)
        self._offset = offset

    def _decide(self, record: Record) -> None:
        lane = self.lane
        if record.kind == "move out":
            sealed = lane._replace(is_owner=False, generation=record.generation + 1, sealed_at=self._offset)
            if self.out:
                self.violation = f"offset {self._offset} has results before its seal"
            self.lane = sealed
            self._writes(f"seal {record.generation + 1}", "sealed")
            return
        known = _duplicate(lane, record.name, lane.now, (self._offset, self._place))
        if known:
            self._answers(record.name, known)
        else:
            self._writes(record.name, "accepted")

    def _writes(self, name: str, says: str) -> None:
        row = Row(self._offset, self._place, name)
        self.lane = self.lane._replace(journal=(*self.lane.journal, row))
        self._answers(name, says)

    def _answers(self, name: str, says: str) -> None:
        output = Output(self._offset, self._place, name, says)
        if (output.offset, output.place) <= self.lane.last_id:
            self.violation = (
                f"the result of {name} at {output[:2]} comes after {self.lane.last_id}: a consumer drops it"
            )
        self.lane = self.lane._replace(last_id=(output.offset, output.place))
        self.out = (*self.out, output)
        self._place += "M5 index" not in self._without


def _can_unpark(lane: Lane) -> bool:
    """Say whether the first that is parked may be unparked: the partner is here, at its generation."""
    first = next((each.record for each in lane.parked if each.unparked < 0), None)
    return first is not None and lane.is_owner and first.generation == lane.generation


def _duplicate(lane: Lane, name: str, now: int, at: tuple[int, int]) -> str:
    """Return what a command without a row is told, empty if nothing is known of its id at this place."""
    if now >= WINDOW:
        return "too old"
    for row in lane.journal:
        if row.name == name and (row.offset, row.place) < at:
            return f"duplicate of {row.offset}.{row.place}"
    return "duplicate, decided elsewhere" if name in lane.moved_ids else ""


def _published(lane: Lane) -> Lane:
    """Return the lane with one more record published: whatever only answering it again needs is dropped."""
    record = lane.log[0]
    return lane._replace(
        p=lane.p + 1,
        log=lane.log[1:],
        answered=lane.answered[1:],
        now_at_p=max(lane.now_at_p, record.now),
        met_at_p=max(lane.met_at_p, record.source),
    )


# ---------------------------------------------------------------------- answering again


def answers_again(lane: Lane, without: frozenset[str]) -> list[tuple[Output, ...]]:
    """Return what the lane's next owner would answer for [P, D), from its rows and the log alone."""
    now, met = lane.now_at_p, lane.met if "L10 border" in without else lane.met_at_p
    again = []
    for offset, record in enumerate(lane.log, lane.p):
        now = max(now, record.now)
        out = () if 0 <= record.source <= met else _itself(lane, record, offset, now, without)
        met = max(met, record.source)
        again.append((*out, *_unparked(lane, offset, now, without)))
    return again


def _itself(lane: Lane, record: Record, offset: int, now: int, without: frozenset[str]) -> tuple[Output, ...]:
    """Answer a record at its own place, unless it was parked there: the row in ``parked`` says so."""
    if "L4 generation" in without:
        was_parked = record.source >= 0 and record.generation > lane.generation
    else:
        was_parked = any(each.at == offset for each in lane.parked)
    return () if was_parked else _at(lane, record, (offset, 0), now)


def _unparked(lane: Lane, offset: int, now: int, without: frozenset[str]) -> list[Output]:
    """Answer what a record has unparked, in its order, as of that record's time."""
    unparked = [each for each in lane.parked if each.unparked == offset]
    out: list[Output] = []
    for each in sorted(unparked, key=lambda parked: parked.place):
        was = each.record.now if "M5 time again" in without else now
        out += _at(lane, each.record, (offset, each.place), was)
    return out


def _at(lane: Lane, record: Record, at: tuple[int, int], now: int) -> tuple[Output, ...]:
    """Return the answer at a place: the journal row's, or that of a duplicate."""
    for row in lane.journal:
        if (row.offset, row.place) == at:
            return (Output(*at, row.name, _SAYS.get(row.name.partition(" ")[0], "accepted")),)
    if record.kind != "command":
        return ()
    return (Output(*at, record.name, _duplicate(lane, record.name, now, at) or "no journal row"),)


_SAYS = {"install": "installed", "seal": "sealed"}


def _said(out: tuple[Output, ...]) -> str:
    return ", ".join(f"{each.offset}.{each.place} {each.name} {each.says}" for each in out) or "nothing"
