"""Moving a partner between shards, as an explicit-state model: rules R1 to R8 and M1 to M9, and others where they meet.

The partner's ingress partition is given from the beginning; a router that has not read it yet is as good as a gateway
that has not written it yet. The router forwards record by record, and what it has sent arrives later, per shard in
order. Each shard has one lane: its log, its database, its publish stage. What is decided and not published waits in the
lane's outbox. Everything that can happen between two of these steps does happen in some run: the router crashes
and begins again at any offset it may have committed, or stands still and goes on later beside its successor; a publish
stage crashes between two parts of a hand-off; a part or a receipt comes again later; a sealed source is restored and
sends other parts than before, and an operator has them sent again, in need or without; lane time passes, in each shard
by itself.

What is left out, and why that is safe:

- *Other partners.* Nothing that the rules do for one placement key looks at another. That those are not kept waiting is
  a matter of speed, which M5 bounds.
- *A lane's crash between deciding and publishing.* Its database has the decision, and what it publishes afterwards
  equals what it would have published before: that is the model of answering again, in ``tests/models/answering``.
- *Restored databases*, but for frozen rows. A lane is a function of its log; what was decided again is not published
  below P (L4). How a restored source comes to send other parts is left out, too: here it cuts the same rows otherwise,
  so that its parts are the truth among themselves, and not among those that were sent before.
- *Batches.* Where a batch ends makes no difference (L9), so each record is a batch of its own.
- *Commits of the router.* A commit may come at any time, or not at all, so a router begins at any offset between the
  last such beginning and the first record not acknowledged. No step of its own is needed for it.
- *A record's own time.* A shard's lane time passes by itself, as if by a TICK; a later record can only do the same.
- *Amounts.* ``sequence`` counts decisions. If a row is lost, doubled or stale, the count differs from the truth.
- *Signatures, probes, reading* (M10, M11) decide nothing here. Of keys and targets the directory vouches for in the
  same way (R3), so there is one of both, which counts or not.

Checked in every state: each ingress record is decided once, in ingress order; results are published in that order; no
id is decided twice; there is one owner at most, and it has the rows that were really decided; parts are thrown away
only where a source was restored; ``@moved`` and what is in flight sum to zero; nothing becomes a dead letter; versions
rise, and time does not go back. And from every state the protocol can, by its own steps alone and those of an operator
who heard an alarm, come to the end: all decided and published, nothing parked or in flight, no frozen rows left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.models.checker import Step
from tests.models.moves import lane, ledger, publisher, router
from tests.models.moves.values import (
    FIRST,
    HOME,
    NEVER,
    OPENING,
    Disruptions,
    Lane,
    Record,
    State,
    Truth,
    Vouched,
    Wish,
    appended,
    name_of,
    with_lane,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What one check is about: the partner's records, how many shards and parts, and how much goes wrong."""

    ingress: tuple[Wish, ...]
    shards: int = 2
    parts: int = 1
    windows: tuple[int, ...] = ()  # of the shards' rules, where they differ
    disruptions: Disruptions = field(default_factory=Disruptions)


class Moves:
    """The model; ``without`` names the rules that are taken out."""

    def __init__(self, scenario: Scenario, without: frozenset[str] = frozenset()) -> None:
        self._scenario = scenario
        self._without = without

    def initial(self) -> State:
        """Return the beginning: the partner is on the home shard, and nothing is forwarded."""
        shards = self._scenario.shards
        lanes = [Lane(window=window) for window in self._scenario.windows or (ledger.LAST_HOUR,) * shards]
        lanes[HOME] = lanes[HOME]._replace(role="owner", rows=OPENING)
        vouched = Vouched(announced=NEVER if self._scenario.disruptions.announced_keys else 0)
        return State(
            ingress=self._scenario.ingress,
            directory=(FIRST,),
            vouched=vouched,
            now=1,
            floor=0,
            routers=(router.first_router(shards, vouched),),
            lanes=tuple(lanes),
            sent=(),
            disruptions=self._scenario.disruptions,
            truth=Truth(),
        )

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield every step that any process may take, and every disruption."""
        without, parts = self._without, self._scenario.parts
        for number in range(len(state.routers)):
            yield from router.steps(state, number, without)
        yield from router.disruptions(state, without)
        yield from router.losses(state)
        yield from router.operators(state)
        yield from publisher.late_copies(state, parts, without)
        yield from self._recalls(state)
        for shard in range(len(state.lanes)):
            yield from lane.steps(state, shard, without)
            yield from publisher.steps(state, shard, parts, without)
            yield from publisher.disruptions(state, shard, without)
            yield from publisher.restored(state, shard)
            yield from _sent_again(state, shard)
            yield from self._ticks(state, shard)
            yield from _asks_for_expiry(state, shard)

    def violation(self, state: State) -> str:
        """Return which invariant the state breaks, empty if none."""
        owners = [each for each in state.lanes if each.role == "owner"]
        if state.truth.violation:
            return state.truth.violation
        if len(owners) > 1:
            return "two shards own the partner"
        is_restored = state.disruptions.restored_sources < self._scenario.disruptions.restored_sources
        if any(each.is_alarmed for each in state.lanes) and not is_restored:
            return "parts are thrown away, and no source was restored"
        if any(not lane.owners_rows_are_true(each, state.truth) for each in owners):
            return "the owner's rows are not what was decided"
        here = state.truth.rows.sequence if owners else sum(each.rows.sequence for each in state.lanes if each.arriving)
        if sum(each.moved for each in state.lanes) + state.truth.rows.sequence - here:
            return "@moved and what is in flight do not sum to zero"
        return ""

    def is_done(self, state: State) -> bool:
        """Say whether all is decided and published, and nothing waits anywhere."""
        current = state.routers[-1]
        is_forwarded = current.offset == len(state.ingress) and not any(current.queues) and not current.writing
        is_handled = state.truth.handled == len(state.ingress)
        return is_forwarded and is_handled and all(_is_at_rest(each) for each in state.lanes)

    def _ticks(self, state: State, shard: int) -> Iterator[Step[State]]:
        """Yield that an hour passes in a lane; the expirer's TICK keeps every lane's time moving."""
        each, left = state.lanes[shard], state.disruptions
        if left.ticks and each.now < ledger.LAST_HOUR:
            now = each.now + 1
            is_live = each.role == "owner" or "M2 frozen" in self._without
            rows = ledger.forget(each.rows, now, each.window) if is_live else each.rows
            after = with_lane(state, shard, each._replace(now=now, rows=rows))
            yield Step(f"lane time of {name_of(shard)} is {now}", after, is_disruption=True)

    def _recalls(self, state: State) -> Iterator[Step[State]]:
        """Yield what the recaller may send: it sees an open refund's result, and looks for the original."""
        sent = [wish.of for wish in state.ingress if wish.kind == "recall"]
        for name, status in state.truth.archive:
            if status == "open" and name not in sent:
                yield from self._recall(state, name)
            elif status == "open" and state.disruptions.late_copies and sent.count(name) == 1:
                less = state.disruptions._replace(late_copies=state.disruptions.late_copies - 1)
                for step in self._recall(state._replace(disruptions=less), name):
                    yield step._replace(is_disruption=True)

    def _recall(self, state: State, refund: str) -> Iterator[Step[State]]:
        """Yield the recall: what the archive has before the refund's own result is there (H4)."""
        original = next(wish.of for wish in state.ingress if wish.name == refund)
        has = any(name == original and status != "duplicate" for name, status in state.truth.archive)
        for is_found in (has, False) if "H4 coverage" in self._without else (has,):
            wish = Wish("recall", f"recall of {refund}", of=refund, is_found=is_found)
            says = f"the recaller sends a recall of {refund}: {'found' if is_found else 'not found'}"
            if "W1" in self._without:
                yield from _recalled_straight(state, wish)
            else:
                yield Step(says, state._replace(ingress=(*state.ingress, wish)))


def _asks_for_expiry(state: State, shard: int) -> Iterator[Step[State]]:
    """Yield what a shard's expirer may send for a hold that is overdue by the lane's own time."""
    each = state.lanes[shard]
    if each.role == "owner" and each.now >= ledger.EXPIRY and not any(record.kind == "expire" for record in each.log):
        for hold in each.rows.holds:
            record = Record("expire", each.generation, wish=Wish("hold", f"expiry of {hold}", of=hold))
            yield Step(f"the expirer of {name_of(shard)} asks for {hold}", appended(state, shard, record))


def _sent_again(state: State, shard: int) -> Iterator[Step[State]]:
    """Yield that an operator has a sealed source send its parts again: once an alarm says so, or without need (M4)."""
    each, left = state.lanes[shard], state.disruptions
    if each.role != "sealed":
        return
    target = each.moves[-1].shard
    record = Record("send again", each.generation, target=target)
    says = f"an operator has {name_of(shard)} send generation {each.generation} again"
    if state.lanes[target].is_alarmed and state.lanes[target].generation < each.generation:
        seen = with_lane(state, target, state.lanes[target]._replace(is_alarmed=False))
        yield Step(says, appended(seen, shard, record))
    if left.sent_again:
        less = state._replace(disruptions=left._replace(sent_again=left.sent_again - 1))
        yield Step(f"{says}, without need", appended(less, shard, record), is_disruption=True)


def _recalled_straight(state: State, wish: Wish) -> Iterator[Step[State]]:
    """Yield a recall that goes to the shard whose result asked for it, past the partner's own log."""
    shard = dict(state.truth.rows.ids)[wish.of]
    if not any(record.kind == "recall" for record in state.lanes[shard].log):
        says = f"the recaller sends a recall of {wish.of} straight to {name_of(shard)}"
        yield Step(says, appended(state, shard, Record("recall", 0, wish=wish)))


def _is_at_rest(each: Lane) -> bool:
    is_overdue = each.role == "owner" and each.now >= ledger.EXPIRY and each.rows.holds
    waits = each.log or each.outbox or each.parked or each.arriving or each.leftover or each.role == "sealed"
    return not waits and not is_overdue and not each.rows.open_refunds
