"""A shard's lane in the model: what it does with the next record of its log, and what it parks, seals and installs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.models.checker import Step
from tests.models.moves import ledger
from tests.models.moves.values import (
    NO_ROWS,
    Answer,
    Lane,
    Placement,
    Receipt,
    Record,
    Rows,
    Seal,
    State,
    Status,
    Truth,
    Wish,
    name_of,
    violated,
    with_lane,
)


def steps(state: State, shard: int, without: frozenset[str]) -> Iterator[Step[State]]:
    """Yield what a lane may do next: take a record of its log, unpark a parked one, delete frozen rows."""
    lane, name = state.lanes[shard], name_of(shard)
    if lane.log:
        record = lane.log[0]
        after = _takes(with_lane(state, shard, lane._replace(log=lane.log[1:])), shard, record, without)
        yield Step(f"{name} takes {_words(record)}", after)
    if lane.parked and _may_unpark(lane, without):
        after, record = _unparks(state, shard, without)
        yield Step(f"{name} unparks {_words(record)}", after)
    if lane.leftover:
        yield Step(f"{name} deletes rows that it left", with_lane(state, shard, _cleared(lane, without)))


def _words(record: Record) -> str:
    source = "" if record.source < 0 else f" {record.source}"
    part = f" part {record.part}" if record.kind == "hand-off" else ""
    return f"{record.kind}{source}{part} of generation {record.generation}"


# ---------------------------------------------------------------------- taking


def _takes(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    match record.kind:
        case "hand-off":
            return _takes_part(state, shard, record, without)
        case "installed":
            return _may_delete(state, shard, record, without)
        case "send again":
            return _sends_again(state, shard, record, without)
        case "expire":
            return _expires(state, shard, record, without)
        case "recall":
            return _takes_recall(state, shard, record, without)
        case _:
            return _meets(state, shard, record, without)


def _meets(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    """Take what came through the router: the router's redelivery is silence (L10), before anything else."""
    lane = state.lanes[shard]
    if record.source <= lane.met and "L10" not in without:
        return state
    is_late = _is_behind(lane, record, without)
    if not (is_late and "L10 parked" in without):
        lane = lane._replace(met=max(record.source, lane.met))
    state, record = with_lane(state, shard, lane), record._replace(now=lane.now)
    if is_late:
        return _parks(state, shard, record, without)
    return _judged(state, shard, record, without)


def _is_behind(lane: Lane, record: Record, without: frozenset[str]) -> bool:
    """Say whether a record has to wait: its generation is still to come, or others of the partner wait (M1)."""
    if record.kind == "move out" and "M1 move out waits" in without:
        return False
    generation = _generation(record, without)
    if generation > lane.generation:
        return True
    is_owner = generation == lane.generation and lane.role == "owner"
    return is_owner and bool(lane.parked) and "M1 behind" not in without


def _generation(record: Record, without: frozenset[str]) -> int:
    """Return the generation that a record belongs to: a MOVE_OUT to g+1 is the last record of g."""
    return record.generation - (record.kind == "move out" and "M1 move out" not in without)


def _parks(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    if "M1 park" in without:
        return violated(state, f"{_words(record)} is a dead letter")
    lane = state.lanes[shard]
    return with_lane(state, shard, lane._replace(parked=(*lane.parked, record)))


def _judged(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    """Decide, answer or seal: only the owner does, at the record's own generation."""
    lane = state.lanes[shard]
    if lane.role != "owner" or _generation(record, without) != lane.generation:
        return violated(state, f"{_words(record)} is a dead letter")
    assert record.wish is not None
    state = _handled(state, record.source)
    match record.kind:
        case "move out":
            return _seals(state, shard, record)
        case "refused":
            return _answers(state, shard, Answer(record.source, record.wish.name, "rejected"))
        case _:
            now = record.now if "M5 time" in without else lane.now
            return _decides(state, shard, record, now, without)


def _handled(state: State, source: int) -> State:
    """Note in the truth that an ingress record was decided; each is, in ingress order, once."""
    expected = state.truth.handled
    if source < expected:
        return violated(state, f"record {source} is decided twice")
    if source > expected:
        return violated(state, f"record {source} is decided before {expected}")
    return state._replace(truth=state.truth._replace(handled=expected + 1))


def _decides(state: State, shard: int, record: Record, now: int, without: frozenset[str]) -> State:
    lane, wish = state.lanes[shard], record.wish
    assert wish is not None
    rows, status = ledger.decide(lane.rows, wish, now=now, window=lane.window, shard=shard, without=without)
    state = with_lane(state, shard, lane._replace(rows=rows))
    if rows != lane.rows:
        state = _journalled(state, shard, wish, status, now)
    return _answers(state, shard, Answer(record.source, wish.name, status)) if status != "silent" else state


def _journalled(state: State, shard: int, wish: Wish, status: Status, now: int) -> State:
    """Note a decision in the truth, and whether it breaks an invariant."""
    truth = state.truth
    decided = [name for name, _ in truth.rows.ids]
    if wish.name in decided:
        return violated(state, f"command {wish.name} is decided twice")
    if status == "unknown original":
        return violated(state, f"{wish.name}: the original is there, and the answer is that it is unknown")
    if now < truth.now:
        return violated(state, f"{wish.name}: time goes back from {truth.now} to {now}")
    lane = state.lanes[shard]
    lane = lane._replace(version=lane.version + 1)
    if lane.version <= truth.version:
        return violated(state, f"{wish.name}: version {lane.version} comes after {truth.version}")
    ids = (*truth.rows.ids, (wish.name, shard))
    truth = truth._replace(rows=lane.rows._replace(ids=ids), version=lane.version, now=now)
    return with_lane(state._replace(truth=truth), shard, lane)


def _answers(state: State, shard: int, answer: Answer) -> State:
    lane = state.lanes[shard]
    return with_lane(state, shard, lane._replace(outbox=(*lane.outbox, answer)))


def _expires(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    """End a hold that is overdue; a lane that does not own the partner drops the request (M9)."""
    lane = state.lanes[shard]
    assert record.wish is not None
    is_ours = lane.role == "owner" or "M9" in without
    if not is_ours or record.wish.of not in lane.rows.holds or lane.now < ledger.EXPIRY:
        return state
    if lane.role != "owner":
        return violated(state, f"hold {record.wish.of} is expired by a shard that does not own it")
    state = with_lane(state, shard, lane._replace(rows=ledger.expire(lane.rows, record.wish.of)))
    state = _journalled(state, shard, record.wish, "accepted", lane.now)
    return _answers(state, shard, Answer(-1, record.wish.name, "accepted"))


def _takes_recall(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    """Take a recall that came straight to the shard, which W1 forbids: only an owner can use it."""
    lane = state.lanes[shard]
    is_ours = lane.role == "owner"
    return _decides(state, shard, record, lane.now, without) if is_ours else state


# ---------------------------------------------------------------------- sealing, installing, unparking


def _seals(state: State, shard: int, record: Record) -> State:
    """Freeze the rows: from here on they are the hand-off (M2)."""
    lane = state.lanes[shard]
    sealed = lane._replace(
        role="sealed",
        generation=record.generation,
        sealed_now=lane.now,
        moved=lane.moved - lane.rows.sequence,
        outbox=(*lane.outbox, Seal(record.generation, record.target)),
        is_cut_otherwise=False,
        moves=(*lane.moves, Placement(record.generation, record.target, record.source)),
    )
    return with_lane(state, shard, sealed)


def _takes_part(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    """Take a part of a hand-off, once, if it follows on those that came; the last one installs them (M4)."""
    lane = state.lanes[shard]
    if lane.arriving == record.generation and _disagrees(lane, record, without):
        return with_lane(state, shard, _thrown_away(lane, record, without))
    if not _is_next(lane, record, without):
        return state
    taken = _installed(lane, record, without) if record.is_last else _arrived(lane, record, without)
    return with_lane(state, shard, taken)


def _is_next(lane: Lane, record: Record, without: frozenset[str]) -> bool:
    if lane.arriving == record.generation:
        return record.part == lane.parts or "M4 once" in without
    is_later = record.generation > max(lane.generation, lane.arriving) or "M4 generation" in without
    return record.part == 0 and is_later


def _disagrees(lane: Lane, record: Record, without: frozenset[str]) -> bool:
    """Say whether a part was read from other rows than those that came; so was a last one with others behind it."""
    if record.part == lane.parts or "M4 once" in without:
        return record.digest != lane.digest and "M4 digest" not in without
    return record.is_last and record.part < lane.parts and "M4 last" not in without


def _thrown_away(lane: Lane, record: Record, without: frozenset[str]) -> Lane:
    """Return the lane without what came, which is deleted like rows that were frozen; an alarm says so."""
    if "M4 thrown away" in without:
        return lane._replace(is_alarmed=True)
    return lane._replace(
        generation=record.generation - 1,
        role="away",
        arriving=0,
        parts=0,
        digest=NO_ROWS,
        moved=lane.moved - (0 if "M4 posted back" in without else lane.rows.sequence),
        leftover=True,
        is_alarmed=True,
    )


def _arrived(lane: Lane, record: Record, without: frozenset[str]) -> Lane:
    """Return the lane with a part's rows; before the first, what is left of others under the key goes (M7)."""
    is_first = lane.arriving != record.generation
    rows, digest = (NO_ROWS, NO_ROWS) if is_first else (lane.rows, lane.digest)
    return lane._replace(
        arriving=record.generation,
        parts=1 if is_first else lane.parts + 1,
        rows=ledger.put_together([rows, record.rows]),
        digest=ledger.put_together([digest, record.rows]),
        moved=lane.moved + record.rows.sequence,
        leftover=lane.leftover and "M7 leftover" in without,
    )


def _installed(lane: Lane, record: Record, without: frozenset[str]) -> Lane:
    """Return the lane as the owner of what was handed over."""
    now = lane.now if "M4 time" in without else max(lane.now, record.now)
    return lane._replace(
        generation=record.generation,
        role="owner",
        rows=ledger.forget(lane.rows, now, lane.window),
        now=now,
        version=lane.version if "M4 version" in without else max(lane.version, record.version),
        arriving=0,
        parts=0,
        digest=NO_ROWS,
        outbox=(*lane.outbox, Receipt(record.generation, record.origin)),
    )


def _sends_again(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    """Send all parts of a sealed partner once more, as an operator wants it (M4)."""
    lane = state.lanes[shard]
    is_sealed = (lane.role, lane.generation) == ("sealed", record.generation) or "M4 again sealed" in without
    if not is_sealed or "M4 again" in without:
        return state
    return with_lane(state, shard, lane._replace(outbox=(*lane.outbox, Seal(record.generation, record.target))))


def _may_unpark(lane: Lane, without: frozenset[str]) -> bool:
    return lane.role == "owner" and _generation(lane.parked[0], without) <= lane.generation


def _unparks(state: State, shard: int, without: frozenset[str]) -> tuple[State, Record]:
    """Judge the first of what was parked, as of now (M5)."""
    lane = state.lanes[shard]
    place = -1 if "M5 order" in without else 0
    record = lane.parked[place]
    parked = lane.parked[:-1] if "M5 order" in without else lane.parked[1:]
    return _judged(with_lane(state, shard, lane._replace(parked=parked)), shard, record, without), record


def _may_delete(state: State, shard: int, record: Record, without: frozenset[str]) -> State:
    """Have the frozen rows deleted that the target has; a receipt for an earlier move is none for this one (M7)."""
    lane = state.lanes[shard]
    is_for_this = record.generation == lane.generation or "M7 generation" in without
    if lane.role != "sealed" or not is_for_this:
        return state
    return with_lane(state, shard, lane._replace(role="away", leftover=True))


def _cleared(lane: Lane, without: frozenset[str]) -> Lane:
    assert (lane.role == "away" and not lane.arriving) or "M7 leftover" in without
    return lane._replace(rows=NO_ROWS, leftover=False)


def owners_rows_are_true(lane: Lane, truth: Truth) -> bool:
    """Say whether an owner has what was really decided; what it may forget does not count."""
    return _remembered(lane.rows) == _remembered(truth.rows)


def _remembered(rows: Rows) -> Rows:
    return rows._replace(ids=(), has_forgotten=False)
