"""A lane's publish stage in the model: results in order, hand-offs by the part, and what a crash leaves of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.models.checker import Step
from tests.models.moves import ledger
from tests.models.moves.values import (
    NO_ROWS,
    Answer,
    Lane,
    Receipt,
    Record,
    Seal,
    State,
    appended,
    name_of,
    violated,
    with_lane,
)


def steps(state: State, shard: int, parts: int, without: frozenset[str]) -> Iterator[Step[State]]:
    """Yield the next thing to publish: one result, one part of a hand-off, or a receipt."""
    outbox = state.lanes[shard].outbox
    for place, item in enumerate(outbox):
        if place == 0 or (isinstance(item, Seal) and "P3" in without):
            yield _published(state, shard, place, parts, without)


def disruptions(state: State, shard: int, without: frozenset[str]) -> Iterator[Step[State]]:
    """Yield a crash in the middle of a hand-off: whatever was not committed begins anew."""
    lane, left = state.lanes[shard], state.disruptions
    if not left.publisher_crashes or not lane.outbox:
        return
    less = state._replace(disruptions=left._replace(publisher_crashes=left.publisher_crashes - 1))
    head = lane.outbox[0]
    is_committed = (isinstance(head, Seal) and "P3 acknowledged" in without) or (
        isinstance(head, Receipt) and "P2" in without
    )
    if is_committed:
        yield Step(
            f"{name_of(shard)} crashes", with_lane(less, shard, lane._replace(outbox=lane.outbox[1:], sent=0)), True
        )
    elif lane.sent:
        yield Step(f"{name_of(shard)} crashes", with_lane(less, shard, lane._replace(sent=0)), True)


def restored(state: State, shard: int) -> Iterator[Step[State]]:
    """Yield that a sealed source goes on with its database restored, whose rows go in other parts than before (M3).

    What is not committed begins anew, as after a crash.
    """
    lane, left = state.lanes[shard], state.disruptions
    if left.restored_sources and lane.role == "sealed":
        less = state._replace(disruptions=left._replace(restored_sources=left.restored_sources - 1))
        after = lane._replace(sent=0, is_cut_otherwise=not lane.is_cut_otherwise)
        yield Step(f"{name_of(shard)} is restored, and has other parts", with_lane(less, shard, after), True)


def late_copies(state: State, parts: int, without: frozenset[str]) -> Iterator[Step[State]]:
    """Yield that a part of a hand-off or a receipt is sent again, by a zombie owner."""
    left = state.disruptions
    if left.late_copies:
        less = state._replace(disruptions=left._replace(late_copies=left.late_copies - 1))
        for shard, sent in state.sent:
            record = _read_late(state, sent, parts) if "M3" in without and sent.kind == "hand-off" else sent
            says = f"a late copy of {record.kind} part {record.part} of generation {record.generation}"
            yield Step(f"{says} comes to {name_of(shard)}", appended(less, shard, record), True)


def _read_late(state: State, sent: Record, parts: int) -> Record:
    """Return a part of a hand-off as it would be if its rows were read now, frozen or not."""
    return sent._replace(**_piece(state.lanes[sent.origin], sent.origin, sent.part, parts, frozenset()))


def _published(state: State, shard: int, place: int, parts: int, without: frozenset[str]) -> Step[State]:
    lane = state.lanes[shard]
    item = lane.outbox[place]
    rest = lane._replace(outbox=(*lane.outbox[:place], *lane.outbox[place + 1 :]))
    match item:
        case Answer():
            says = f"{name_of(shard)} publishes {item.name}: {item.status}"
            return Step(says, _noted(with_lane(state, shard, rest), item))
        case Receipt():
            receipt = Record("installed", item.generation)
            says = f"{name_of(shard)} tells {name_of(item.origin)} that generation {item.generation} is installed"
            return Step(says, _sent(with_lane(state, shard, rest), item.origin, receipt))
        case Seal():
            is_sealed = (lane.role, lane.generation) == ("sealed", item.generation) or "M4 again sealed" in without
            if lane.sent > _count(lane, parts) or not is_sealed:
                after = with_lane(state, shard, _past_hand_off(rest, item, without))
                return Step(f"{name_of(shard)} commits past the hand-off of generation {item.generation}", after)
            return _sends_part(state, shard, item, parts, without)


def _past_hand_off(lane: Lane, seal: Seal, without: frozenset[str]) -> Lane:
    is_cleared = "M7 receipt" in without and lane.role == "sealed" and lane.generation == seal.generation
    return lane._replace(sent=0, rows=NO_ROWS if is_cleared else lane.rows)


def _count(lane: Lane, parts: int) -> int:
    """Return in how many parts a lane's rows go, but for the last, which has none."""
    return 3 - parts if lane.is_cut_otherwise else parts


def _piece(lane: Lane, shard: int, part: int, parts: int, without: frozenset[str]) -> dict[str, Any]:
    """Return what a part has of the frozen rows: the same however often it is read (M3)."""
    whole = ledger.parts_of(lane.rows, _count(lane, parts), shard=shard, without=without)
    rows = NO_ROWS if part >= len(whole) else whole[part]
    return {"rows": rows, "digest": ledger.put_together(whole[:part]), "is_last": part >= len(whole)}


def _sends_part(state: State, shard: int, seal: Seal, parts: int, without: frozenset[str]) -> Step[State]:
    """Send the next part."""
    lane = state.lanes[shard]
    record = Record(
        "hand-off",
        seal.generation,
        origin=shard,
        part=lane.sent,
        now=lane.sealed_now,
        version=lane.version,
        **_piece(lane, shard, lane.sent, parts, without),
    )
    says = f"{name_of(shard)} sends part {lane.sent} of generation {seal.generation} to {name_of(seal.target)}"
    return Step(says, _sent(with_lane(state, shard, lane._replace(sent=lane.sent + 1)), seal.target, record))


def _sent(state: State, shard: int, record: Record) -> State:
    """Append a record by the idempotent producer, and keep it for late copies if any may come."""
    state = appended(state, shard, record)
    if not state.disruptions.late_copies or (shard, record) in state.sent:
        return state
    return state._replace(sent=tuple(sorted((*state.sent, (shard, record)))))


def _noted(state: State, answer: Answer) -> State:
    """Note a result in the truth: the partner sees his results in the order of his commands."""
    truth = state.truth
    if 0 <= answer.source <= truth.published:
        return violated(state, f"the result of record {answer.source} comes after that of {truth.published}")
    archive = (*truth.archive, (answer.name, answer.status))
    published = max(truth.published, answer.source)
    return state._replace(truth=truth._replace(published=published, archive=archive))
