"""What a result becomes in the archive: rows of schemas/cassandra, in Cassandra's binary form (A1 to A5). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from processors.ids import uuid7_time_ms
from processors.ledger.outcomes import Posting
from processors.wire.journal_chunk import ChunkRow, encode_chunk
from processors.wire.results import Result

BUCKET_OFFSETS = 100_000  # A3: the journal's partitions; 100,000 rows of 300 bytes are 30 MB before compression
# A chunk holds rows of one such window, which divides a bucket: so chunks end at bucket borders (A3), a reader knows
# where those begin that hold an offset, and whole windows are cut alike however often they are delivered.
WINDOW_OFFSETS = 250
CHUNK_BYTES = 256 * 1024  # where a chunk is closed within its window; Cassandra takes up to 16 MiB in one write
ID_BUCKETS = 16
SEQUENCE_BUCKET = 10_000  # rows of 300 bytes: partitions of 3 MB
DAY_MS = 86_400_000
MINUTE_MS = 60_000

bigint = Struct(">q").pack
integer = Struct(">i").pack
tinyint = Struct(">b").pack

Values = list[bytes]
"""One row, bound: the values of its INSERT's question marks."""
PartitionKey = tuple[bytes, ...]
"""A partition's key columns, bound."""

INSERT_STEP = (
    "INSERT INTO $transaction_by_id (minute, bucket, transaction_id, root, step, result) "
    "VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
INSERT_STATEMENT = (
    "INSERT INTO $statement (root, address, currency, bucket, sequence, type, transaction_id, command_id, contra, "
    "balance_change, held_change, balance, held, overdraft_limit, lane_time_ms, metadata) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
INSERT_DAY = "INSERT INTO $statement_day (address, currency, day, first_sequence) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
INSERT_CHUNK = (
    "INSERT INTO $journal (shard, lane, bucket, first_offset, last_offset, hash, chunk) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
INSERT_COVERAGE = (
    "INSERT INTO $coverage (shard, lane, results_partition, lane_offset, lane_index, lane_time_ms) "
    "VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
INSERT_POSITION = "INSERT INTO $sink_position (topic_id, partition, next_offset) VALUES (?, ?, ?) USING TIMESTAMP ?"

CoverageKey = tuple[bytes, str, int, int]
"""Shard incarnation, shard, lane, results partition."""
DayKey = tuple[str, str, int]
"""Address, currency, days since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """The last journalled result of a lane, within a results partition, that is durable (A5, A2)."""

    lane_offset: int
    lane_index: int
    lane_time_ms: int
    version_us: int


@dataclass(slots=True)
class ArchiveRows:
    """Rows to write, by partition: they may be written in any order, all of them before ``covered`` is (A5)."""

    steps: dict[PartitionKey, list[Values]] = field(default_factory=dict)
    statement: dict[PartitionKey, list[Values]] = field(default_factory=dict)
    days: dict[DayKey, int] = field(default_factory=dict)
    journal: dict[PartitionKey, list[Values]] = field(default_factory=dict)
    covered: dict[CoverageKey, Covered] = field(default_factory=dict)
    count: int = 0  # journal rows


@dataclass(slots=True)
class _LaneRows:
    """What was collected of one lane in one results partition: its journal rows with their versions, and the last."""

    chunk_rows: set[ChunkRow] = field(default_factory=set)
    versions: dict[int, int] = field(default_factory=dict)
    last: Result | None = None


class Collector:
    """Makes rows of results as they are read; ``take`` ends a batch."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rows = ArchiveRows()
        self._lanes: dict[CoverageKey, _LaneRows] = {}

    def add(self, results_partition: int, result: Result, payload: bytes) -> None:
        """Add a result's rows; one without a journal row has none (A1).

        Args:
            results_partition: Where it was read.
            result: Decoded.
            payload: Its bytes.
        """
        if not result.journalled:
            return
        rows = self._rows
        rows.count += 1
        _add_steps(rows, result, payload)
        for posting in result.postings:
            if posting.balance_change or posting.held_change:  # H5: only then its sequence is a new one
                _add_movement(rows, result, posting)
        key = (result.incarnation, result.shard, result.lane, results_partition)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _LaneRows()
        # A set: a stretch that was published twice is in the topic twice, byte for byte. Two results under one id would
        # both be kept, for the remover to find.
        lane.chunk_rows.add((result.lane_offset, result.lane_index, payload))
        lane.versions[result.lane_offset] = result.version_us
        last = lane.last
        if last is None or (result.lane_offset, result.lane_index) > (last.lane_offset, last.lane_index):
            lane.last = result

    def take(self) -> ArchiveRows:
        """Return the rows of all results added since the last call."""
        rows = self._rows
        for key, lane in self._lanes.items():
            incarnation, _, number, _ = key
            _add_chunks(rows, incarnation, number, lane)
            last = lane.last
            assert last is not None
            rows.covered[key] = Covered(
                lane_offset=last.lane_offset,
                lane_index=last.lane_index,
                lane_time_ms=last.lane_time_ms,
                version_us=last.version_us,
            )
        self._rows, self._lanes = ArchiveRows(), {}
        return rows


def id_partition(transaction_id: bytes) -> tuple[int, int]:
    """Return minute and bucket of an id in ``transaction_by_id`` (A4).

    A UUIDv7 begins with its time. A control row's id does not: its first bits are as good as any, and there are few.

    >>> id_partition(bytes.fromhex("018bcfe568007000800000000000001f"))
    (28333333, 15)
    """
    return int.from_bytes(transaction_id[:6], "big") // MINUTE_MS, transaction_id[15] % ID_BUCKETS


def step_ids(transaction_id: bytes, command_id: bytes) -> tuple[bytes, ...]:
    """Return under which ids a row is archived: its transaction's, and for a capture or void its own command's too.

    So a refund finds a capture (A4), and a partner whose id is too old to be answered (I4) finds what became of it,
    each in one read. The service's own ids are no UUIDv7, and nobody asks for them.
    """
    if command_id == transaction_id or uuid7_time_ms(command_id) is None:
        return (transaction_id,)
    return (transaction_id, command_id)


def bucket_of_offset(offset: int) -> int:
    """Return the journal's bucket of a lane offset (A3)."""
    return offset // BUCKET_OFFSETS


def day_values(key: DayKey, first_sequence: int) -> Values:
    """Return a ``statement_day`` row. Its version falls as its sequence rises, so that the lowest sequence wins.

    A sink that starts in the middle of a day does not know the day's first change. So the row must come out the same in
    whatever order the changes of the day are written.
    """
    address, currency, day = key
    version_us = (day + 1) * DAY_MS * 1000 - first_sequence
    return [address.encode(), currency.encode(), integer(day), bigint(first_sequence), bigint(version_us)]


def covered_values(incarnation: bytes, lane: int, results_partition: int, covered: Covered) -> Values:
    """Return a ``coverage`` row; an older one never replaces it (A2)."""
    return [
        incarnation,
        integer(lane),
        integer(results_partition),
        bigint(covered.lane_offset),
        integer(covered.lane_index),
        bigint(covered.lane_time_ms),
        bigint(covered.version_us),
    ]


def position_values(topic_id: bytes, partition: int, next_offset: int) -> Values:
    """Return a ``sink_position`` row; a lower offset never replaces it."""
    return [topic_id, integer(partition), bigint(next_offset), bigint(next_offset)]


def position_by_hand(topic_id: bytes, partition: int, next_offset: int) -> str:
    """Return the statement by which an operator sets a position, with the timestamp that ``position_values`` gives it.

    Without one it would carry the present time, and win for ever over whatever the sink notes afterwards.
    """
    return (
        f"UPDATE sink_position USING TIMESTAMP {next_offset} SET next_offset = {next_offset} "
        f"WHERE topic_id = 0x{topic_id.hex()} AND partition = {partition}"
    )


def written_again(rows: ArchiveRows, *, now_us: int) -> ArchiveRows:
    """Return rows with a version that wins over a deletion, which carries the time at which somebody made it.

    Rows never change, so a version above their own (A2) has no other effect. The rows that say where a day begins keep
    their version, since by it the lowest sequence wins. Coverage is left out.
    """

    def again(partitions: dict[PartitionKey, list[Values]]) -> dict[PartitionKey, list[Values]]:
        return {
            key: [[*values[:-1], max(values[-1], bigint(now_us))] for values in some]
            for key, some in partitions.items()
        }

    return ArchiveRows(
        steps=again(rows.steps),
        statement=again(rows.statement),
        days=rows.days,
        journal=again(rows.journal),
        count=rows.count,
    )


# ------------------------------------------------------------------ parts


def _add_steps(rows: ArchiveRows, result: Result, payload: bytes) -> None:
    root, version = result.root.encode(), bigint(result.version_us)
    command_id = result.command_id
    for transaction_id in step_ids(result.transaction_id, command_id):
        minute, bucket = id_partition(transaction_id)
        key = (bigint(minute), tinyint(bucket))
        values = [*key, transaction_id, root, command_id, payload, version]
        rows.steps.setdefault(key, []).append(values)


def _add_movement(rows: ArchiveRows, result: Result, posting: Posting) -> None:
    sequence, address, currency = posting.sequence, posting.address.encode(), result.currency.encode()
    key = (result.root.encode(), address, currency, bigint(sequence // SEQUENCE_BUCKET))
    values = [
        *key,
        bigint(sequence),
        result.type.encode(),
        result.transaction_id,
        result.command_id,
        posting.contra.encode(),
        bigint(posting.balance_change),
        bigint(posting.held_change),
        bigint(posting.balance),
        bigint(posting.held),
        bigint(posting.overdraft_limit),
        bigint(result.lane_time_ms),
        result.metadata,
        bigint(result.version_us),
    ]
    rows.statement.setdefault(key, []).append(values)
    day = (posting.address, result.currency, result.lane_time_ms // DAY_MS)
    first = rows.days.get(day)
    if first is None or sequence < first:
        rows.days[day] = sequence


def _add_chunks(rows: ArchiveRows, incarnation: bytes, lane: int, mine: _LaneRows) -> None:
    for chunk in _cut(sorted(mine.chunk_rows)):
        first, last = chunk[0][0], chunk[-1][0]
        key = (incarnation, integer(lane), bigint(bucket_of_offset(first)))
        blob = encode_chunk(chunk)
        digest = hashlib.sha256(blob).digest()
        values = [*key, bigint(first), bigint(last), digest, blob, bigint(mine.versions[last])]
        rows.journal.setdefault(key, []).append(values)


def _cut(rows: list[ChunkRow]) -> Iterator[list[ChunkRow]]:
    """Yield rows in chunks: at window borders, hence at bucket borders (A3), and where one grows too large."""
    chunk: list[ChunkRow] = []
    size = 0
    for row in rows:
        if chunk and (row[0] // WINDOW_OFFSETS != chunk[0][0] // WINDOW_OFFSETS or size >= CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += len(row[2])
    if chunk:
        yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRow:
    """One change of an account: amounts in minor units, signed; balance, held and limit after it; time in ms."""

    sequence: int
    type: str
    transaction_id: bytes
    command_id: bytes
    contra: str
    balance_change: int
    held_change: int
    balance: int
    held: int
    overdraft_limit: int
    lane_time_ms: int
    metadata: bytes
