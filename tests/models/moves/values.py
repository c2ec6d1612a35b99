"""What the model of moves is made of: wishes and records, shards and routers, one state of all of them."""

from __future__ import annotations

from typing import Literal, NamedTuple

# The home shard, where every partner is at generation 0; scenarios use two shards or three.
HOME = 0
# The brokers' time goes by seconds here, from 1 on. It is only about which markers the directory vouches for (R3).
NEVER = 99
NOT_WRITTEN = -1  # the stamp of a marker that is not in the ingress yet

WishKind = Literal["pay", "hold", "capture", "refund", "recall", "move"]
RecordKind = Literal["command", "move out", "refused", "hand-off", "installed", "send again", "expire", "recall"]
Role = Literal["away", "owner", "sealed"]
Status = Literal["accepted", "open", "completed", "rejected", "unknown original", "duplicate", "too old", "silent"]


class Wish(NamedTuple):
    """A record of the partner's ingress partition: one of his commands, a recall, or the marker of a move."""

    kind: WishKind
    name: str
    of: str = ""  # what a capture ends, a refund gives back, a recall answers
    is_found: bool = True  # what a recall says of the original
    origin: int = 0  # from here on: a marker's shards, and the generation that the move begins
    target: int = 0
    generation: int = 0
    stamp: int = 0  # a marker's, by the brokers' time


class Rows(NamedTuple):
    """All rows that hold the partner's state in one shard."""

    sequence: int = 0  # how many commands were decided: stands for balances and running sequences
    holds: tuple[str, ...] = ()
    ids: tuple[tuple[str, int], ...] = ()  # of the window, each with the shard whose journal has it
    refunded: tuple[str, ...] = ()
    open_refunds: tuple[tuple[str, str], ...] = ()  # refund, original
    has_forgotten: bool = False  # ids that were older than some shard's window


NO_ROWS = Rows()
# What the partner has from the commands before the first one here.
OPENING = Rows(sequence=10)


class Record(NamedTuple):
    """A record of a shard's topic."""

    kind: RecordKind
    generation: int
    source: int = -1  # ingress offset; none where it did not come through the router
    wish: Wish | None = None
    origin: int = 0  # of a hand-off and of a MOVE_OUT: from where, to where
    target: int = 0
    part: int = 0
    is_last: bool = False  # it has no rows
    rows: Rows = NO_ROWS
    digest: Rows = NO_ROWS  # all that comes before it; the model needs no hash
    now: int = 0
    version: int = 0


class Answer(NamedTuple):
    """A result that waits to be published; without ``source`` for what did not come through the router."""

    source: int
    name: str
    status: Status


class Seal(NamedTuple):
    """A hand-off that waits to be sent."""

    generation: int
    target: int


class Receipt(NamedTuple):
    """An INSTALLED that waits to be sent."""

    generation: int
    origin: int


class Lane(NamedTuple):
    """The one lane of a shard that the partner's commands come to: its log, its database, its publish stage."""

    log: tuple[Record, ...] = ()  # not decided yet
    met: int = -1  # highest source offset
    generation: int = 0
    role: Role = "away"
    rows: Rows = NO_ROWS  # live while owner, frozen while sealed; or what has come of a hand-off
    window: int = 2  # of the shard's rules, in hours of lane time
    now: int = 0  # lane time
    sealed_now: int = 0
    version: int = 0
    parked: tuple[Record, ...] = ()
    arriving: int = 0  # generation of which parts have come, and not all; 0 for none
    parts: int = 0  # so many have come
    digest: Rows = NO_ROWS  # and say this together
    leftover: bool = False  # rows that were frozen or thrown away are still to be deleted
    is_alarmed: bool = False  # parts were thrown away, and no operator has seen it yet
    is_cut_otherwise: bool = False  # it is restored, and its frozen rows go in other parts than before
    outbox: tuple[Answer | Seal | Receipt, ...] = ()
    sent: int = 0  # parts of the seal at the head of the outbox; forgotten in a crash
    moved: int = 0  # the system account @moved
    moves: tuple[Placement, ...] = ()  # from here, for a directory to be made again (R8)


class Placement(NamedTuple):
    """A record of the directory."""

    generation: int
    shard: int
    since: int


FIRST = Placement(generation=0, shard=HOME, since=-1)


class Vouched(NamedTuple):
    """What the directory says of the one signing key and the target, which count together: when each was written.

    ``announced`` is 0 if that stands before the home shard, which counts for every marker.
    """

    announced: int = 0
    ended: int = NEVER


class Router(NamedTuple):
    """A process that forwards the partner's ingress partition."""

    offset: int = 0  # the next to be read
    view: tuple[Placement, ...] = (FIRST,)
    vouched: Vouched = Vouched()
    read_at: int = 1  # when it read these two
    writing: tuple[Placement, ...] = ()  # not acknowledged by the directory yet
    queues: tuple[tuple[Record, ...], ...] = ()  # for each shard, what is not acknowledged yet
    is_zombie: bool = False  # another has taken its place, and it does not know
    is_refusing: bool = False  # it found the directory shorter than it was, and waits for an operator


class Disruptions(NamedTuple):
    """How often each thing may still go wrong."""

    router_crashes: int = 0
    takeovers: int = 0
    publisher_crashes: int = 0
    late_copies: int = 0
    ticks: int = 0
    lost_placements: int = 0
    restored_sources: int = 0
    sent_again: int = 0  # though nothing needs it
    announced_keys: int = 0
    ended_keys: int = 0
    seconds: int = 0


class Truth(NamedTuple):
    """What really happened, which no process knows: to judge the others by."""

    rows: Rows = OPENING  # its ids are never forgotten
    version: int = 0
    now: int = 0  # lane time of the last decision
    handled: int = 0  # ingress records
    published: int = -1  # source of the last result
    placed: tuple[Placement, ...] = (FIRST,)
    archive: tuple[tuple[str, Status], ...] = ()
    violation: str = ""


class State(NamedTuple):
    """Everything."""

    ingress: tuple[Wish, ...]
    directory: tuple[Placement, ...]
    vouched: Vouched  # in the directory, too
    now: int  # of the brokers
    floor: int  # the router's commit is here or later
    routers: tuple[Router, ...]
    lanes: tuple[Lane, ...]
    sent: tuple[tuple[int, Record], ...]  # parts and receipts, of which a late copy may come
    disruptions: Disruptions
    truth: Truth


def with_lane(state: State, shard: int, lane: Lane) -> State:
    """Return the state with another lane."""
    lanes = state.lanes
    return state._replace(lanes=(*lanes[:shard], lane, *lanes[shard + 1 :]))


def appended(state: State, shard: int, record: Record) -> State:
    """Return the state with one more record in a shard's topic."""
    lane = state.lanes[shard]
    return with_lane(state, shard, lane._replace(log=(*lane.log, record)))


def violated(state: State, violation: str) -> State:
    """Return the state with the invariant that was broken, unless one was before."""
    return state if state.truth.violation else state._replace(truth=state.truth._replace(violation=violation))


def name_of(shard: int) -> str:
    """Return a shard's name as people see it."""
    return f"s{shard + 1}"
