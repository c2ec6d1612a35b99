"""The values that pass between a lane and its shard's tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from processors.faults import StopCode
from processors.ledger.book import Changes
from processors.ledger.rows import SystemKey
from processors.ledger.rules import Rules
from processors.wire.positions import LanePoint

IngressKey = tuple[int, int]  # ingress epoch, ingress partition


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressPosition:
    """The highest ingress offset a lane has met from one ingress partition, and its leader epoch there (L10)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """All that a new owner of a lane must know before its first record.

    ``rules`` are those in force. ``rules_since`` has every version by the lane offset from which it was in force, for
    answering again. ``lane_times`` are by the first offset of each stretch. ``waiting_at`` is the offset of the last
    record that stopped the lane because its time was not known; None where no record did. ``home`` says whether the
    shard owns generation 0 of every placement key (R2).
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


@dataclass(slots=True)
class JournalRow:
    """One decision in the journal; ``result`` says all of it (L14), the other columns are what it is found by.

    Not frozen and positional: one per command on the hot path.

    Attributes:
        slice: In hours since the epoch: of the id's time, or of lane time for the service's own commands (I7).
        lane: Partition of the shard's topic.
        lane_offset: Of the record decided.
        lane_index: Counts the rows of one record, from 0.
        command_id: 16 bytes; of a control row an id that the lane made.
        root: Empty for a control row.
        transaction_id: The id of the command that began what this one goes on with; its own, where it began it.
        body_hash: 16 bytes, over what the command says (I3).
        result: The encoded result, as published.
    """

    slice: int
    lane: int
    lane_offset: int
    lane_index: int
    command_id: bytes
    root: str
    transaction_id: bytes
    body_hash: bytes
    result: bytes


@dataclass(slots=True)
class NewJournalRow:
    """A row to be inserted, with the columns that people ask for in SQL.

    Times in ms, amounts in minor units; ``ingress_partition`` and ``ingress_offset`` are -1 for records that came
    straight to the shard's topic. Not frozen and positional, as the row.
    """

    row: JournalRow
    type: str
    status: str
    reason: str
    address: str
    currency: str
    amount_minor: int
    ingress_partition: int
    ingress_offset: int
    lane_time_ms: int
    version_us: int
    rules_version: int
    result_version: int
    metadata: bytes


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
