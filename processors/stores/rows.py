"""The values that pass between a lane and its shard's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from processors.faults import StopCode
from processors.ledger.book import Changes
from processors.ledger.rows import SystemKey
from processors.ledger.rules import Rules
from processors.ledger.tables import AnyTable
from processors.routing.buckets import bucket_named, bucket_of
from processors.wire.positions import LanePoint
from processors.wire.records import Record

IngressKey = tuple[int, int]  # ingress epoch, ingress partition


class IngressPosition(NamedTuple):
    """The highest ingress offset a lane has met from one ingress partition, and its leader epoch there (L10).

    A tuple: each command that came through the router makes one, in a quarter of the time of a frozen dataclass.
    """

    offset: int
    leader_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A lane's row of ``progress``: everything before ``at`` is decided (D), and by whom.

    ``owner_epoch`` counts the lane's owners. ``version_us`` is the last row's version (A2). ``published_offset`` and
    ``published_time_ms`` are P as it was known when the row was last written (L4). What a lane remembers of its last
    commit is also its fence: the locking read finds the same offset, digest and owner epoch, or another owner, or
    another past, has the lane (L1).
    """

    lane: int
    topic_id: bytes
    owner_epoch: int
    at: LanePoint
    version_us: int
    published_offset: int
    published_time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """A lane's state at a batch border (L13), by which two databases are compared, or a database and a group commit.

    The leader epoch is not kept there. ``ingress`` has the lane's ingress positions (L10): a lane that answers records
    again needs them to tell which of the records were redeliveries.
    """

    at: LanePoint
    ingress: dict[IngressKey, IngressPosition]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverriddenTime:
    """The time that a stretch of records has by a time override, ms since the epoch; to ``last_offset`` (I2)."""

    last_offset: int
    time_ms: int


class PlacementState(StrEnum):
    """Where a placement key is, as far as one lane knows (docs/design.md, A move)."""

    AWAY = "AWAY"  # elsewhere: it left, and nothing of it is here; or it was never here, and records wait for it
    ARRIVING = "ARRIVING"  # parts of a hand-off have come, and not all
    OWNED = "OWNED"  # its commands are decided here
    SEALED = "SEALED"  # it went away: its rows are frozen, and are the hand-off
    LEFT = "LEFT"  # the target has it, or what came was thrown away (M4): the rows left here are deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRow:
    """A placement key in a lane. A key without a row is at generation 0, which the home shard owns.

    Attributes:
        placement_key: A root that was placed by hand, or a bucket's key.
        generation: The one that is owned here or arrives; else the last one that is known to be elsewhere.
        state: Where the key is.
        other_shard: Where it went, or comes from.
        since_offset: Lane offset at which the key came into this state; what left keeps its seal's.
        since_time_ms: Lane time there, ms since the epoch.
        version_us: Of the seal's journal row (A2).
        parts: How many parts of the hand-off have come, those included that went ahead; of a seal, how many did.
        rest: Of the last part, a row of which the end is still to come.
        digest: 32 bytes, chained over the rows that have come (M4).
        parked: How many records wait.
        ids_since_ms: Since which id time all ids of the key are known here (M6).
        refunds_since_ms: The same of what was given back.
        sealed_ids_since_ms: Since when the hand-off of a seal has all ids: what has left the window stays behind.
        sealed_refunds_since_ms: The same of what was given back.
        sealed_from_offset: Of a seal, the lane offset of the record that had brought the key here; 0 if none had. What
            was decided before it came along, and is not looked for in the journal.
        ahead_generation: Which generation the first ``parts`` are for that went ahead of a move (M6); 0: none did.
        ahead_offset: Of a seal, the lane offset before which ids went ahead; 0: none did.
    """

    placement_key: str
    generation: int
    state: PlacementState
    other_shard: str = ""
    since_offset: int = 0
    since_time_ms: int = 0
    version_us: int = 0
    parts: int = 0
    rest: bytes = b""
    digest: bytes = bytes(32)
    parked: int = 0
    ids_since_ms: int = 0
    refunds_since_ms: int = 0
    sealed_ids_since_ms: int = 0
    sealed_refunds_since_ms: int = 0
    sealed_from_offset: int = 0
    ahead_generation: int = 0
    ahead_offset: int = 0

    def is_at(self, state: PlacementState, generation: int) -> bool:
        """Say whether the key is in a state as of a generation; that of another is another move's (M4, M7)."""
        return self.state is state and self.generation == generation

    def without_ahead(self) -> PlacementRow:
        """Return the row as if nothing had gone ahead."""
        return replace(self, parts=0, rest=b"", digest=bytes(32), ahead_generation=0, ahead_offset=0)

    @property
    def only_waits(self) -> bool:
        """Say whether the key was never here: records wait for it, or ids came ahead, and nothing else is known."""
        return self.state is PlacementState.AWAY and not self.other_shard


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedRow:
    """A record that came before its placement key did (M1).

    ``unparked`` is offset and index of its answer: that of the record with which it was decided (M5); the record's own
    where it was refused at once, since its generation can never be here; None while it waits.
    """

    placement_key: str
    record: Record
    is_move_out: bool
    unparked: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOf:
    """All rows that move with a placement key: of one root, or of a bucket's roots but for some (M6).

    ``root`` is None for a bucket, whose roots that have a placement key of their own are in ``but_roots``.
    """

    bucket: int
    root: str | None
    but_roots: frozenset[str] = frozenset()

    def has(self, root: str, bucket: int) -> bool:
        """Say whether a root, which lies in a bucket, is meant."""
        return root == self.root if self.root is not None else bucket == self.bucket and root not in self.but_roots


def rows_of(placement_key: str, placements: Mapping[str, PlacementRow], *, but_ahead: bool = False) -> RowsOf:
    """Return which rows move with a placement key in a lane that has some placement keys.

    A bucket's are those of all its roots but for those that left it, or came, by themselves. A root of which only
    records wait here under its own key did not: what is here of it came with the bucket. With ``but_ahead`` a root of
    which ids came ahead is none of the bucket's either: what the bucket had left of it was deleted when they began.

    Source: rules M6, M7.
    """
    number = bucket_named(placement_key)
    if number is None:
        return RowsOf(bucket=bucket_of(placement_key), root=placement_key)
    roots = [key for key, row in placements.items() if not row.only_waits or (but_ahead and row.ahead_generation)]
    own = frozenset(key for key in roots if bucket_named(key) is None and bucket_of(key) == number)
    return RowsOf(bucket=number, root=None, but_roots=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """All that a new owner of a lane must know before its first record.

    ``home`` says whether the shard owns generation 0 of every placement key; ``placements`` are by placement key.
    ``rules`` are those in force. ``rules_since`` has every version by the lane offset from which it was in force, for
    answering again. ``lane_times`` are by the first offset of each stretch. ``waiting_at`` is the offset of the last
    record that stopped the lane because its time was not known; None where no record did.
    """

    progress: Progress
    ingress: dict[IngressKey, IngressPosition]
    rules: Rules
    rules_since: dict[int, Rules]
    system: dict[SystemKey, int]
    lane_times: dict[int, OverriddenTime]
    waiting_at: int | None
    stop_code: StopCode | None
    stop_detail: str
    home: bool
    placements: dict[str, PlacementRow] = field(default_factory=dict)


@dataclass(slots=True)
class JournalRow:
    """One decision in the journal; ``result`` says all of it (L14), the rest is what it is found by.

    Not frozen and positional: one per command on the hot path.

    Attributes:
        slice: In hours since the epoch: of the id's time, or of lane time for the service's own commands (I7).
        lane: Partition of the shard's topic.
        lane_offset: Of the record decided.
        lane_index: Counts the rows of one record, from 0.
        command_id: 16 bytes; of a control row an id that the lane made.
        root: Empty for a control row.
        result: The encoded result, as published.
    """

    slice: int
    lane: int
    lane_offset: int
    lane_index: int
    command_id: bytes
    root: str
    result: bytes


@dataclass(slots=True)
class NewJournalRow:
    """A row to be inserted, with the columns that people ask for in SQL.

    Times in ms, amounts in minor units. ``transaction_id`` is the id of the command that began what this one goes on
    with; its own, where it began it. Not frozen and positional, as the row.
    """

    row: JournalRow
    transaction_id: bytes
    type: str
    status: str
    reason: str
    currency: str
    amount_minor: int
    lane_time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWrite:
    """Everything one batch writes. The rows in ``changes`` are the book's own objects, which go on changing.

    A store must therefore take their values before ``begin`` returns.
    """

    progress: Progress
    journal: list[NewJournalRow]
    changes: Changes = field(default_factory=Changes)
    ingress: dict[IngressKey, IngressPosition] = field(default_factory=dict)  # all of the lane's, for batch_digest
    rules: dict[int, Rules] = field(default_factory=dict)  # by the lane offset from which they are in force
    lane_times: dict[int, OverriddenTime] = field(default_factory=dict)  # by the first offset of each stretch
    placements: list[PlacementRow] = field(default_factory=list)  # as they are to be stored
    parked: list[ParkedRow] = field(default_factory=list)
    unparked: dict[int, tuple[int, int]] = field(default_factory=dict)  # parked offset: offset, index of its answer
    cleared: list[RowsOf] = field(default_factory=list)  # whose rows are deleted, before any are inserted (M7)
    arrived: dict[AnyTable, list[list[Any]]] = field(default_factory=dict)  # what a hand-off brings: rows' values
