"""Rebuilds a shard from its topic into an empty database, and proves it equal to the live one.

The replay decides the same records with the same core and the same tables, and publishes nothing. It goes up to where
the live shard stood when it began, then to where a snapshot of the live shard stands, and compares there: every lane's
digest, then every balance. It may be killed at any moment: the target's own ``progress`` says where to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, zip_longest
from typing import Protocol

from processors.faults import LaneStopped, Misconfigured, StopCode
from processors.ids import id_text, root_of
from processors.lane.committing import BatchStore, Committer
from processors.lane.decided import Decided
from processors.lane.deciding import Decider
from processors.lane.standing import LaneContext
from processors.lane.times import LaneTimes, by_first_offset, overrides_in
from processors.ledger.rows import Account
from processors.recovery.verify import placements_of
from processors.stores.rows import JournalRow, LaneState, PlacementRow, Progress
from processors.stores.shard_reader import SliceReader, rows_of_slice
from processors.wire.admission import Gate, admit
from processors.wire.records import Record
from processors.wire.signature import why_lacking

BATCH_RECORDS = 4_000  # L8


class ReplayStore(BatchStore, Protocol):
    """A lane's rows in the target database."""

    def take_over(self, topic_id: bytes) -> LaneState:
        """Become the lane's owner there, and return where it stands."""

    def close(self) -> None:
        """Give the connection back."""


class ShardTopic(Protocol):
    """The shard's topic, read without a consumer group."""

    def topic_id(self) -> bytes:
        """Return the topic's id as it is now."""

    def bounds(self, lane: int) -> tuple[int, int]:
        """Return a lane's first offset that is still there, and the one after its last."""

    def read(self, lane: int, from_offset: int, to_offset: int) -> Iterator[list[Record]]:
        """Yield the records of a stretch in order."""


class LiveShard(SliceReader, Protocol):
    """The live database, in one consistent snapshot."""

    def positions(self) -> dict[int, Progress]:
        """Return each lane's progress."""

    def placements(self, lane: int) -> dict[str, PlacementRow]:
        """Return what a lane knows of placement keys, by key."""

    def accounts(self) -> Iterator[Account]:
        """Yield every account in key order."""

    def slices(self) -> list[int]:
        """Return the journal's slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """How far a lane's replay is: offsets, and records a second since it began."""

    lane: int
    offset: int
    target: int
    records_per_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDifference:
    """The first thing that is not equal."""

    what: str
    live: str
    replayed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayParts:
    """What a replay of one shard works with."""

    topic: ShardTopic
    make_gate: Callable[[int], Gate]
    make_store: Callable[[int], ReplayStore]
    make_context: Callable[[int], LaneContext]
    book_accounts_max: int


def replay_lane(
    parts: ReplayParts, lane: int, target: int, *, on_progress: Callable[[ReplayProgress], None]
) -> Progress:
    """Decide a lane's records from where the target database stands up to ``target``.

    Args:
        parts: The shard's topic and the target's tables.
        lane: Partition of the shard's topic.
        target: Offset to stop before, a batch border of the live shard, so that digests can be compared there.
        on_progress: Told after each batch.

    Returns:
        The lane's progress in the target afterwards; above ``target`` where it was replayed further before.

    Raises:
        Misconfigured: The topic no longer reaches back to where the target stands, or is another one.
        LaneStopped: A record cannot be decided; the text says which and why.
    """
    store = parts.make_store(lane)
    try:
        state = store.take_over(parts.topic.topic_id())
        _refuse_other_topic(parts, lane, state)
        first, began_s = state.progress.at.next_offset, time.monotonic()
        reached: list[Progress] = [state.progress]

        def committed(batch: Decided) -> None:
            reached.append(batch.write.progress)
            offset = batch.write.progress.at.next_offset
            rate = int((offset - first) / max(time.monotonic() - began_s, 0.001))
            on_progress(ReplayProgress(lane=lane, offset=offset, target=target, records_per_s=rate))

        gate = parts.make_gate(lane)
        _refuse_missing_keys(gate, state)
        decider = _decider(parts, lane, state, target, gate)
        committer = Committer(
            store,
            decider,
            state,
            admit=lambda record, rules: admit(record, rules, gate),
            admit_parked=lambda record, rules: admit(record, rules, replace(gate, has_verified=True)),
            book_accounts_max=parts.book_accounts_max,
            on_committed=committed,
        )
        for batch in _batches(parts, lane, first, target):
            _decide_all(committer, batch)
        _decide_all(committer, [])
        return reached[-1]
    finally:
        store.close()


def _decide_all(committer: Committer, records: list[Record]) -> None:
    """Have all records taken, others before them where they must come first; without any, have all committed."""
    while records or not committer.idle:
        taken = committer.advance(records, published=(0, 0), check=_nothing)
        if records and taken == len(records):
            return
        records = records[taken:]


def _refuse_missing_keys(gate: Gate, state: LaneState) -> None:
    lacking = why_lacking(gate.keyring, state.rules.keys)
    if lacking is not None:
        raise LaneStopped(StopCode.KEY_MISSING, lacking)


def _decider(parts: ReplayParts, lane: int, state: LaneState, target: int, gate: Gate) -> Decider:
    """Return a decider that knows the operators' time overrides before its first record (I2).

    It reads the log to its end, as the live lane does, since an override of a record before the target may stand
    behind the target.
    """
    first = state.progress.at.next_offset
    _, end = parts.topic.bounds(lane)
    ahead = chain.from_iterable(parts.topic.read(lane, first, end))
    overrides = by_first_offset(overrides_in(ahead, state.rules, lambda record, rules: admit(record, rules, gate)))
    lane_times = LaneTimes(state.lane_times, overrides, next_offset=first, let_pass_below=target)
    return Decider(parts.make_context(lane), state, lane_times, lacking=partial(why_lacking, gate.keyring))


def compare(live: LiveShard, replayed: LiveShard) -> ReplayDifference | None:
    """Return the first difference between two shards that stand at the same offsets, or None.

    Digests first: they cover every decision (L13); where one differs, the first journal row that does, among those that
    the live shard still has. Then every account's row, in key order, of partners who are here or arrive: the frozen
    rows of one who left may be deleted in one of the two databases and not in the other (M7).
    """
    positions, replayed_positions = live.positions(), replayed.positions()
    for lane, position in sorted(positions.items()):
        other = replayed_positions[lane]
        if (position.at.next_offset, position.at.digest) != (other.at.next_offset, other.at.digest):
            return _first_row_that_differs(live, replayed, lane) or ReplayDifference(
                what=f"lane {lane}",
                live=f"offset {position.at.next_offset} digest {position.at.digest.hex()}",
                replayed=f"offset {other.at.next_offset} digest {other.at.digest.hex()}",
            )
    accounts, replayed_accounts = _accounts(live), _accounts(replayed)
    while True:
        account, other_account = next(accounts, None), next(replayed_accounts, None)
        if account != other_account:
            named = account or other_account
            assert named is not None
            return ReplayDifference(
                what=f"account {named.address} {named.currency}", live=str(account), replayed=str(other_account)
            )
        if account is None:
            return None


def _accounts(shard: LiveShard) -> Iterator[Account]:
    here = placements_of(shard)
    return (account for account in shard.accounts() if here.has(root_of(account.address)))


def _first_row_that_differs(live: LiveShard, replayed: LiveShard, lane: int) -> ReplayDifference | None:
    """Return the difference at the lowest offset: each slice has its rows in order, and may have one."""
    found = []
    for number in live.slices():
        for row, other in zip_longest(rows_of_slice(live, number, lane), rows_of_slice(replayed, number, lane)):
            if row != other:
                found.append((min(_place(each) for each in (row, other) if each is not None), row, other))
                break
    if not found:
        return None
    (offset, index), row, other = min(found, key=lambda each: each[0])
    what = f"lane {lane} offset {offset} index {index}"
    return ReplayDifference(what=what, live=_row_text(row), replayed=_row_text(other))


def _place(row: JournalRow) -> tuple[int, int]:
    return row.lane_offset, row.lane_index


def _row_text(row: JournalRow | None) -> str:
    if row is None:
        return "no row"
    return (
        f"offset {row.lane_offset}, command {id_text(row.command_id)} of {row.root}, body {row.body_hash.hex()}, "
        f"result {row.result.hex()}"
    )


def _refuse_other_topic(parts: ReplayParts, lane: int, state: LaneState) -> None:
    progress = state.progress
    first, _ = parts.topic.bounds(lane)
    if progress.topic_id != parts.topic.topic_id():
        raise Misconfigured(
            f"the target was replayed from the topic with id {progress.topic_id.hex()}; give an empty database"
        )
    if first > progress.at.next_offset:
        raise Misconfigured(
            f"lane {lane}: the topic begins at offset {first}, the target needs {progress.at.next_offset}: its "
            "retention has passed, and the shard can no longer be rebuilt from the topic alone"
        )


def _batches(parts: ReplayParts, lane: int, from_offset: int, to_offset: int) -> Iterator[list[Record]]:
    waiting: list[Record] = []
    for records in parts.topic.read(lane, from_offset, to_offset):
        waiting += records
        while len(waiting) >= BATCH_RECORDS:
            yield waiting[:BATCH_RECORDS]
            waiting = waiting[BATCH_RECORDS:]
    if waiting:
        yield waiting


def _nothing() -> None:
    """Check nothing: what was published is not known to a replay."""
