"""A root that leaves its bucket while the bucket moves, as an explicit-state model: rules M1, M6 and M7 for two keys.

A bucket is one placement key for many roots. An operator may place one of these roots by hand: from that marker on the
root is a placement key of its own, and the bucket moves without it. Here the bucket B has two roots, q and r, and r is
placed by hand. Moves of B and of r may be under way at the same time, in the same shards.

What is left out, and why that is safe:

- *The router.* The model of moves shows that each shard gets its records in ingress order, and looks at each once. So
  what the router sends to a shard is a list that is known from the beginning, and the shard may take the next of it at
  any time.
- *Crashes, late copies, parts, time, results.* They are in the model of moves, for one placement key; nothing in them
  asks which key it is. Hand-offs and receipts from one shard to another come in their order (P2), and at any time.

Checked in every state: the commands of each root are decided once, in order, by a shard that has the root's rows as
they really are; nothing becomes a dead letter; a root's rows are never installed over others that count. And from every
state the protocol can come to the end: nothing parked, and each root's rows in one shard only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from tests.models.checker import Step

BUCKET = "B"
BY_HAND = "r"
ROOTS = ("q", BY_HAND)

Role = Literal["away", "owner", "sealed"]


class Wish(NamedTuple):
    """An ingress record: a root's command, or the marker of a move of a placement key, between shards from 0."""

    of: str
    target: int = -1  # of a marker


class Key(NamedTuple):
    """A placement key at a generation."""

    name: str
    generation: int


class Record(NamedTuple):
    """What the router sends to a shard: a command, or MOVE_OUT, which ends one key's generation and begins another."""

    source: int
    ends: Key  # a command's own; MOVE_OUT is the last of what it ends
    root: str = ""
    begins: Key | None = None
    target: int = -1


class HandOff(NamedTuple):
    """A root's or a bucket's rows on their way, whole."""

    key: Key
    rows: tuple[tuple[str, int], ...]


class Receipt(NamedTuple):
    """INSTALLED on its way back."""

    key: Key


class Shard(NamedTuple):
    """What a shard has; a key that it never had is at generation 0, away."""

    fed: tuple[Record, ...] = ()  # by the router, not taken yet
    inbox: tuple[tuple[HandOff | Receipt, ...], ...] = ()  # from each other shard
    keys: tuple[tuple[str, int, Role], ...] = ()
    rows: tuple[tuple[str, int], ...] = ()  # root, how many of its commands are decided
    frozen: tuple[tuple[str, str], ...] = ()  # key that was sealed, root
    leftover: tuple[tuple[str, str], ...] = ()  # the same, to be deleted
    parked: tuple[Record, ...] = ()


class State(NamedTuple):
    """Everything; ``decided`` counts each root's commands, and ``violation`` is what was done wrong."""

    shards: tuple[Shard, ...]
    decided: tuple[tuple[str, int], ...]
    expected: tuple[tuple[str, tuple[int, ...]], ...]
    violation: str = ""


def routed(ingress: tuple[Wish, ...], shards: int) -> list[tuple[Record, ...]]:
    """Return what the router sends to each shard: a root's own placement counts, else its bucket's (R2)."""
    fed: list[tuple[Record, ...]] = [()] * shards
    at = {BUCKET: (0, 0)}  # generation, shard
    for source, wish in enumerate(ingress):
        name = wish.of if wish.of in at else BUCKET
        generation, shard = at[name]
        ends = Key(name, generation)
        if wish.target < 0:
            record = Record(source, ends, root=wish.of)
        else:
            begins = Key(wish.of, at.get(wish.of, (0, 0))[0] + 1)
            record = Record(source, ends, begins=begins, target=wish.target)
            at[wish.of] = (begins.generation, wish.target)
        fed[shard] = (*fed[shard], record)
    return fed


class Buckets:
    """The model; ``without`` names the rules that are taken out."""

    def __init__(self, ingress: tuple[Wish, ...], shards: int, without: frozenset[str] = frozenset()) -> None:
        self._ingress = ingress
        self._shards = shards
        self._without = without

    def initial(self) -> State:
        """Return the beginning: the bucket is on the first shard, with both roots."""
        empty = ((),) * self._shards
        shards = [Shard(fed=fed, inbox=empty) for fed in routed(self._ingress, self._shards)]
        shards[0] = shards[0]._replace(keys=((BUCKET, 0, "owner"),), rows=tuple((root, 0) for root in ROOTS))
        commands = {root: tuple(at for at, wish in enumerate(self._ingress) if wish == Wish(root)) for root in ROOTS}
        return State(
            shards=tuple(shards), decided=tuple((root, 0) for root in ROOTS), expected=tuple(sorted(commands.items()))
        )

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield what each shard may do next."""
        for number, shard in enumerate(state.shards):
            name = f"s{number + 1}"
            if shard.fed:
                after = _with(state, number, shard._replace(fed=shard.fed[1:]))
                yield Step(f"{name} takes {_words(shard.fed[0])}", self._meets(after, number, shard.fed[0]))
            for sender, queue in enumerate(shard.inbox):
                if queue:
                    yield self._received(state, number, sender)
            place = next((at for at, each in enumerate(shard.parked) if _is_here(shard, each)), -1)
            if place >= 0:
                record = shard.parked[place]
                parked = (*shard.parked[:place], *shard.parked[place + 1 :])
                after = self._judged(_with(state, number, shard._replace(parked=parked)), number, record)
                yield Step(f"{name} unparks {_words(record)}", after)
            if shard.leftover:
                yield Step(f"{name} deletes frozen rows", _with(state, number, self._cleared(shard)))

    def violation(self, state: State) -> str:
        """Return what was done wrong, empty if nothing."""
        return state.violation

    def is_done(self, state: State) -> bool:
        """Say whether everything is decided, and each root's rows are in one shard only."""
        at_rest = not any(each.fed or any(each.inbox) or each.parked or each.leftover for each in state.shards)
        rows = sorted(row for each in state.shards for row in each.rows)
        return at_rest and rows == sorted((root, len(commands)) for root, commands in state.expected)

    # ------------------------------------------------------------------ what the router sends

    def _meets(self, state: State, number: int, record: Record) -> State:
        """Park a record or judge it, by the key and the generation that it ends (M1)."""
        shard = state.shards[number]
        if record.begins is not None and record.ends.name != record.begins.name and "M1 leaving" in self._without:
            record = record._replace(ends=Key(record.begins.name, 0))
        generation, role = _standing(shard, record.ends.name)
        waits = any(each.ends.name == record.ends.name for each in shard.parked)
        if record.ends.generation > generation or (waits and role == "owner"):
            return _with(state, number, shard._replace(parked=(*shard.parked, record)))
        return self._judged(state, number, record)

    def _judged(self, state: State, number: int, record: Record) -> State:
        shard = state.shards[number]
        if not _is_here(shard, record):
            return _violated(state, f"{_words(record)} is a dead letter")
        if record.begins is not None:
            return self._seals(state, number, record, record.begins)
        rows, decided = dict(shard.rows), dict(state.decided)
        if rows.get(record.root) != decided[record.root]:
            return _violated(state, f"{_words(record)} is decided without the rows of {record.root}")
        if dict(state.expected)[record.root][decided[record.root]] != record.source:
            return _violated(state, f"{_words(record)} is decided out of order")
        rows[record.root] += 1
        decided[record.root] += 1
        after = _with(state, number, shard._replace(rows=tuple(sorted(rows.items()))))
        return after._replace(decided=tuple(sorted(decided.items())))

    def _seals(self, state: State, number: int, record: Record, begins: Key) -> State:
        """Freeze a key's rows, and send them: a bucket's are those of the roots that have no key of their own (M6)."""
        shard = state.shards[number]
        is_whole = "M6 own" in self._without
        roots = [root for root, _ in shard.rows if begins.name == root or (begins.name == BUCKET and is_whole)]
        if begins.name == BUCKET and not is_whole:
            roots = [root for root, _ in shard.rows if _key_of(shard, root) == BUCKET]
        rows = tuple((root, count) for root, count in shard.rows if root in roots)
        frozen = tuple((begins.name, root) for root in roots)
        sealed = _set(shard, begins, "sealed")._replace(frozen=(*shard.frozen, *frozen))
        return _sent(_with(state, number, sealed), number, record.target, HandOff(begins, rows))

    # ------------------------------------------------------------------ what shards send each other

    def _received(self, state: State, number: int, sender: int) -> Step[State]:
        shard = state.shards[number]
        message, *rest = shard.inbox[sender]
        inbox = (*shard.inbox[:sender], tuple(rest), *shard.inbox[sender + 1 :])
        state = _with(state, number, shard._replace(inbox=inbox))
        what = f"{message.key.name} at generation {message.key.generation}"
        match message:
            case HandOff():
                return Step(f"s{number + 1} installs {what}", self._installs(state, number, sender, message))
            case Receipt():
                return Step(f"s{number + 1} has the receipt for {what}", _may_delete(state, number, message))

    def _installs(self, state: State, number: int, sender: int, message: HandOff) -> State:
        """Take over rows; what was frozen here of the same key or the same roots is older, and goes (M7)."""
        shard = state.shards[number]
        roots = [root for root, _ in message.rows]
        old = {root for _, root in shard.frozen + shard.leftover}
        if "M7 whole" not in self._without:
            shard = _without_frozen(shard, message.key.name)
        if any(root in roots and root not in old for root, _ in shard.rows):
            return _violated(state, f"{message.key.name} is installed over rows that count")
        rows = {**dict(shard.rows), **dict(message.rows)}
        installed = _set(shard, message.key, "owner")._replace(
            rows=tuple(sorted(rows.items())),
            frozen=tuple(each for each in shard.frozen if each[1] not in roots),
            leftover=tuple(each for each in shard.leftover if each[1] not in roots or "M7 own" in self._without),
        )
        return _sent(_with(state, number, installed), number, sender, Receipt(message.key))

    def _cleared(self, shard: Shard) -> Shard:
        gone = [root for _, root in shard.leftover]
        return shard._replace(rows=tuple(row for row in shard.rows if row[0] not in gone), leftover=())


def _standing(shard: Shard, name: str) -> tuple[int, Role]:
    for key, generation, role in shard.keys:
        if key == name:
            return generation, role
    return 0, "away"


def _key_of(shard: Shard, root: str) -> str:
    """Return the placement key that a root has in a shard: its own, once the shard has met that."""
    return root if any(key == root for key, _, _ in shard.keys) else BUCKET


def _is_here(shard: Shard, record: Record) -> bool:
    return _standing(shard, record.ends.name) == (record.ends.generation, "owner")


def _set(shard: Shard, key: Key, role: Role) -> Shard:
    others = [each for each in shard.keys if each[0] != key.name]
    return shard._replace(keys=tuple(sorted([*others, (key.name, key.generation, role)])))


def _without_frozen(shard: Shard, name: str) -> Shard:
    """Return the shard without the rows that were frozen under a key: it comes back, so its hand-off has arrived."""
    gone = [root for key, root in shard.frozen + shard.leftover if key == name]
    return shard._replace(
        rows=tuple(row for row in shard.rows if row[0] not in gone),
        frozen=tuple(each for each in shard.frozen if each[0] != name),
        leftover=tuple(each for each in shard.leftover if each[0] != name),
    )


def _may_delete(state: State, number: int, message: Receipt) -> State:
    shard = state.shards[number]
    if _standing(shard, message.key.name) != (message.key.generation, "sealed"):
        return state
    ours = tuple(each for each in shard.frozen if each[0] == message.key.name)
    away = _set(shard, message.key, "away")._replace(
        frozen=tuple(each for each in shard.frozen if each not in ours), leftover=(*shard.leftover, *ours)
    )
    return _with(state, number, away)


def _sent(state: State, sender: int, number: int, message: HandOff | Receipt) -> State:
    shard = state.shards[number]
    queue = (*shard.inbox[sender], message)
    return _with(state, number, shard._replace(inbox=(*shard.inbox[:sender], queue, *shard.inbox[sender + 1 :])))


def _with(state: State, number: int, shard: Shard) -> State:
    return state._replace(shards=(*state.shards[:number], shard, *state.shards[number + 1 :]))


def _violated(state: State, violation: str) -> State:
    return state._replace(violation=state.violation or violation)


def _words(record: Record) -> str:
    if record.begins is None:
        return f"command {record.source} of {record.root}"
    return f"move out {record.source} of {record.begins.name}"
