"""Transfers between trees, as an explicit-state model: rules T1 to T5, with P2, H5 and M6 where they concern transfers.

Two partners, X and Y, each with a log of his own. A TRANSFER in X's log takes the money, leaves an open row, and sends
TRANSFER_CREDIT to Y's log. Y credits and sends TRANSFER_COMPLETED to X's log, or rejects it and sends TRANSFER_RETURN.
Each of these, a *leg*, goes at least once: a copy of any of them may come at any later time. Both may transfer.

What is left out, and why that is safe:

- *Shards, routers and moves.* The model of moves shows that a partner's records are decided once, in the order of his
  log, on the rows that he has, wherever he lives. So here a partner is a log and his rows. While he moves, he decides
  nothing for a while and his lane time may leap; in the model any partner may rest at any time, and his lane time
  rises by itself. Rows that a move leaves behind are a mutation (M6).
- *Levels.* A transfer takes from a chain and gives to a chain, each all or nothing: one account stands for either.
- *Currencies, amounts, signatures* decide nothing here. Every transfer is of 3.

Checked in every state: a transfer is credited once at most, ended once at most, never both credited and returned; no
balance is above the ceiling; a closed account has nothing; the sum of ``@transit`` is what is on its way. And from
every state the protocol can come to the end by its own steps: what took money is COMPLETED or RETURNED.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.models.checker import Step

AMOUNT = 3
# Lane time: ids of the model are of hour 0, and older than the window from this hour on.
WINDOW = 1

Kind = Literal["transfer", "credit", "completed", "return", "top up", "freeze", "thaw", "open", "close"]
Status = Literal["active", "frozen", "closed", "unknown"]
NAMES = ("X", "Y")


class Record(NamedTuple):
    """A record of a partner's log: a command, or a leg that the service sends."""

    kind: Kind
    transfer: str = ""
    copy: int = 0  # a leg's id is that of its transfer, whatever this is (T5)


class Partner(NamedTuple):
    """A partner: what he has sent, his log, his rows."""

    wishes: tuple[Record, ...] = ()  # not in the log yet
    log: tuple[Record, ...] = ()  # not decided yet
    outbox: tuple[Record, ...] = ()  # legs for the other's log
    now: int = 0
    status: Status = "active"
    balance: int = 0
    ids: tuple[str, ...] = ()  # of the window
    open_transfers: tuple[str, ...] = ()
    transit: int = 0  # his part of @transit


class Truth(NamedTuple):
    """What became of the transfers, each once for each time."""

    topped_up: int = 0
    taken: tuple[str, ...] = ()
    credited: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()
    violation: str = ""


class State(NamedTuple):
    """Everything."""

    partners: tuple[Partner, Partner]
    sent: tuple[tuple[int, Record], ...]  # legs, of which a copy may come
    copies: int  # that may still come
    ticks: int
    moves: int
    truth: Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What one check is about."""

    wishes: tuple[tuple[Record, ...], tuple[Record, ...]]
    balances: tuple[int, int] = (AMOUNT, 0)
    statuses: tuple[Status, Status] = ("active", "active")
    ceiling: int = 100
    copies: int = 0
    ticks: int = 0
    moves: int = 0


class Transfers:
    """The model; ``without`` names the rules that are taken out."""

    def __init__(self, scenario: Scenario, without: frozenset[str] = frozenset()) -> None:
        self._scenario = scenario
        self._without = without

    def initial(self) -> State:
        """Return the beginning: nothing is sent."""
        scenario = self._scenario
        x, y = (
            Partner(wishes=scenario.wishes[side], balance=scenario.balances[side], status=scenario.statuses[side])
            for side in (0, 1)
        )
        return State(
            partners=(x, y),
            sent=(),
            copies=scenario.copies,
            ticks=scenario.ticks,
            moves=scenario.moves,
            truth=Truth(),
        )

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield every step of either partner's, and every disruption."""
        for side, partner in enumerate(state.partners):
            if partner.wishes:
                wish, *rest = partner.wishes
                after = partner._replace(wishes=tuple(rest), log=(*partner.log, wish))
                yield Step(f"{NAMES[side]} sends {_words(wish)}", _with(state, side, after))
            if partner.log:
                yield self._decided(state, side)
            for place in range(len(partner.outbox) if "P2 order" in self._without else min(1, len(partner.outbox))):
                yield _sent(state, side, place)
            yield from self._disruptions(state, side)
        if state.copies:
            for side, leg in state.sent:
                says = f"a copy of {_words(leg)} comes to {NAMES[side]}"
                yield Step(says, _appended(state._replace(copies=state.copies - 1), side, _copied(leg)), True)

    def violation(self, state: State) -> str:
        """Return which invariant the state breaks, empty if none."""
        truth = state.truth
        if truth.violation:
            return truth.violation
        if any(partner.balance > self._scenario.ceiling for partner in state.partners):
            return "a balance is above the ceiling"
        if any(partner.status == "closed" and partner.balance for partner in state.partners):
            return "a closed account has money"
        transit = sum(partner.transit for partner in state.partners)
        has_all = sum(partner.balance for partner in state.partners) + transit
        if has_all != sum(self._scenario.balances) + truth.topped_up:
            return "money came from nothing"
        if transit != AMOUNT * len(self._on_the_way(state)):
            return "@transit is not what is on its way"
        return ""

    def is_done(self, state: State) -> bool:
        """Say whether every transfer has ended, once, and nothing waits anywhere."""
        truth = state.truth
        is_ended = sorted(truth.taken) == sorted(truth.completed + truth.returned)
        is_paid = sorted(truth.completed) == sorted(truth.credited)
        waits = any(each.wishes or each.log or each.outbox or each.open_transfers for each in state.partners)
        return is_ended and is_paid and not waits

    def _on_the_way(self, state: State) -> list[str]:
        """Return the transfers whose money is with nobody: open at the sender's, and not credited yet."""
        is_open = [name for partner in state.partners for name in partner.open_transfers]
        if "T5 in flight" in self._without:
            return is_open
        return [name for name in is_open if name not in state.truth.credited]

    def _disruptions(self, state: State, side: int) -> Iterator[Step[State]]:
        partner = state.partners[side]
        if state.ticks and partner.now < WINDOW:
            after = _with(state._replace(ticks=state.ticks - 1), side, partner._replace(now=WINDOW, ids=()))
            yield Step(f"the window passes at {NAMES[side]}", after, True)
        if state.moves:
            after = _with(state._replace(moves=state.moves - 1), side, _moved(partner, self._without))
            yield Step(f"{NAMES[side]} moves to another shard", after, True)
        if "P2" in self._without and partner.outbox:
            after = _with(state, side, partner._replace(outbox=partner.outbox[1:]))
            yield Step(f"the worker of {NAMES[side]} crashes past its commit", after, True)

    # ------------------------------------------------------------------ deciding

    def _decided(self, state: State, side: int) -> Step[State]:
        partner = state.partners[side]
        record = partner.log[0]
        state = _with(state, side, partner._replace(log=partner.log[1:]))
        says = f"{NAMES[side]} takes {_words(record)}"
        match record.kind:
            case "transfer":
                return Step(says, self._takes(state, side, record))
            case "credit":
                return Step(says, self._credits(state, side, record))
            case "completed" | "return":
                return Step(says, self._ends(state, side, record))
            case "top up":
                return Step(says, self._tops_up(state, side))
            case _:
                return Step(says, _with(state, side, self._in_status(state.partners[side], record.kind)))

    def _takes(self, state: State, side: int, record: Record) -> State:
        """Decide a TRANSFER at the sender's (T1): a partner's duplicate gets an answer and sends nothing."""
        partner, name = state.partners[side], record.transfer
        credit = Record("credit", name)
        if partner.now >= WINDOW:
            return state
        if name in partner.ids:
            again = (_copied(credit),) if "T1" in self._without else ()
            return _with(state, side, partner._replace(outbox=partner.outbox + again))
        partner = partner._replace(ids=(*partner.ids, name))
        if partner.status != "active" or partner.balance < AMOUNT:
            return _with(state, side, partner)
        taken = partner._replace(
            balance=partner.balance - AMOUNT,
            transit=partner.transit + AMOUNT,
            open_transfers=(*partner.open_transfers, name),
            outbox=(*partner.outbox, credit),
        )
        return _noted(_with(state, side, taken), taken=name)

    def _credits(self, state: State, side: int, record: Record) -> State:
        """Decide TRANSFER_CREDIT at the receiver's (T2)."""
        partner, name = state.partners[side], record.transfer
        leg_id = f"credit {name} {record.copy}" if "T5" in self._without else f"credit {name}"
        if partner.now >= WINDOW and "T2 too old" not in self._without:
            return state if "T2 silent" in self._without else _with(state, side, _answers(partner, "return", name))
        if leg_id in partner.ids and "T2 known" not in self._without:
            return state
        known = partner if partner.now >= WINDOW else partner._replace(ids=(*partner.ids, leg_id))
        if partner.status != "active" or not self._has_room(partner):
            rejected = partner if "T2 row" in self._without else known
            return _with(state, side, _answers(rejected, "return", name))
        credited = known._replace(balance=partner.balance + AMOUNT, transit=partner.transit - AMOUNT)
        return _noted(_with(state, side, _answers(credited, "completed", name)), credited=name)

    def _ends(self, state: State, side: int, record: Record) -> State:
        """End an open transfer at the sender's; without the open row, silence (T3)."""
        partner, name = state.partners[side], record.transfer
        is_open = name in partner.open_transfers
        if partner.now >= WINDOW and "T3 window" in self._without:
            return state
        if not is_open and "T3 row" not in self._without:
            return state
        if partner.status == "frozen" and record.kind == "return" and "T3 frozen" in self._without:
            return state
        rest = partner._replace(open_transfers=tuple(each for each in partner.open_transfers if each != name))
        if record.kind == "completed":
            return _noted(_with(state, side, rest), completed=name)
        back = rest._replace(balance=rest.balance + AMOUNT, transit=rest.transit - AMOUNT)
        return _noted(_with(state, side, back), returned=name)

    def _tops_up(self, state: State, side: int) -> State:
        partner = state.partners[side]
        if not self._has_room(partner):
            return state
        state = _with(state, side, partner._replace(balance=partner.balance + AMOUNT))
        return state._replace(truth=state.truth._replace(topped_up=state.truth.topped_up + AMOUNT))

    def _has_room(self, partner: Partner) -> bool:
        """Say whether a credit fits: what may still be returned keeps its place below the ceiling."""
        reserved = 0 if "T3 room" in self._without else AMOUNT * len(partner.open_transfers)
        return partner.balance + reserved + AMOUNT <= self._scenario.ceiling

    def _in_status(self, partner: Partner, kind: Kind) -> Partner:
        match kind:
            case "freeze":
                return partner._replace(status="frozen")
            case "close":
                is_empty = not partner.balance and (not partner.open_transfers or "H5" in self._without)
                return partner._replace(status="closed") if is_empty else partner
            case _:
                return partner._replace(status="active")


def _words(record: Record) -> str:
    return f"{record.kind} {record.transfer}".rstrip()


def _with(state: State, side: int, partner: Partner) -> State:
    x, y = state.partners
    return state._replace(partners=(partner, y) if side == 0 else (x, partner))


def _appended(state: State, side: int, record: Record) -> State:
    partner = state.partners[side]
    return _with(state, side, partner._replace(log=(*partner.log, record)))


def _answers(partner: Partner, kind: Kind, transfer: str) -> Partner:
    return partner._replace(outbox=(*partner.outbox, Record(kind, transfer)))


def _copied(leg: Record) -> Record:
    return leg._replace(copy=leg.copy + 1)


def _sent(state: State, side: int, place: int) -> Step[State]:
    """Send a leg to the other's log; it is acknowledged before the sender's commit goes past its cause (P2)."""
    partner, other = state.partners[side], 1 - side
    leg = partner.outbox[place]
    rest = (*partner.outbox[:place], *partner.outbox[place + 1 :])
    after = _appended(_with(state, side, partner._replace(outbox=rest)), other, leg)
    if state.copies and (other, leg) not in state.sent:
        after = after._replace(sent=tuple(sorted((*state.sent, (other, leg)))))
    return Step(f"{_words(leg)} arrives in {NAMES[other]}'s log", after)


def _moved(partner: Partner, without: frozenset[str]) -> Partner:
    """Return a partner after a move: all his rows went with him, but for what a mutation leaves behind (M6)."""
    return partner._replace(
        open_transfers=() if "M6 open transfers" in without else partner.open_transfers,
        ids=() if "M6 ids" in without else partner.ids,
    )


def _noted(state: State, *, taken: str = "", credited: str = "", returned: str = "", completed: str = "") -> State:
    """Note in the truth what became of a transfer, and which invariant that breaks."""
    truth = state.truth
    violation = ""
    if credited in truth.credited:
        violation = f"transfer {credited} is credited twice"
    elif completed + returned and completed + returned in truth.completed + truth.returned:
        violation = f"transfer {completed + returned} ends twice"
    elif credited in truth.returned or returned in truth.credited:
        violation = f"transfer {credited + returned} is credited and returned"
    truth = truth._replace(
        taken=truth.taken + (taken,) * bool(taken),
        credited=truth.credited + (credited,) * bool(credited),
        returned=truth.returned + (returned,) * bool(returned),
        completed=truth.completed + (completed,) * bool(completed),
        violation=truth.violation or violation,
    )
    return state._replace(truth=truth)
