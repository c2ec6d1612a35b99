"""What a result becomes in the archive: rows of schemas/cassandra, in Cassandra's binary form (A1 to A5). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from struct import Struct
from typing import TypeVar

from processors.ids import uuid7_time_ms
from processors.wire.journal_chunk import CHUNK_BYTES, cut, encode_chunk
from processors.wire.result_keys import LaneKey, ResultKeys, long_of, result_keys
from processors.wire.statement_chunk import encode_statement_chunk

BUCKET_OFFSETS = 100_000  # A3: the journal's partitions; 100,000 rows of 300 bytes are 30 MB before compression
ID_BUCKETS = 16  # of a second: at 10,000 results a second, some 600 places of 36 bytes are in each
ID_UNIT_MS = 1_000
PLACES_MAX = 7_000  # of one row: 252 KB
SEQUENCE_BUCKET = 10_000  # changes of 120 bytes: partitions of 1.2 MB
WINDOW_SEQUENCES = 250  # as WINDOW_OFFSETS, of an account's changes; divides a bucket
DAY_MS = 86_400_000

bigint = Struct(">q").pack
integer = Struct(">i").pack
tinyint = Struct(">b").pack
PLACE = Struct(">16sqiq")
"""An entry of ``transaction_index``: id, lane offset, lane index, first offset of the journal's chunk. 36 bytes."""

Values = list[bytes]
"""One row, bound: the values of its INSERT's question marks."""
PartitionKey = tuple[bytes, ...]
"""A partition's key columns, bound."""

INSERT_PLACES = (
    "INSERT INTO $transaction_index (second, bucket, shard, lane, first_offset, hash, places) "
    "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
INSERT_STATEMENT = (
    "INSERT INTO $statement_chunk (root, address, currency, bucket, first_sequence, last_sequence, hash, chunk) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
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
DayKey = tuple[bytes, bytes, int]
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

    places: dict[PartitionKey, list[Values]] = field(default_factory=dict)
    statement: dict[PartitionKey, list[Values]] = field(default_factory=dict)
    days: dict[DayKey, int] = field(default_factory=dict)
    journal: dict[PartitionKey, list[Values]] = field(default_factory=dict)
    covered: dict[CoverageKey, Covered] = field(default_factory=dict)
    count: int = 0  # journal rows


_Row = tuple[int, int, bytes, ResultKeys]
"""A journal row: lane offset, lane index, the result's bytes, and what they say."""
_Window = tuple[bytes, bytes, bytes, int, int]
"""Of changes: root, address, currency, sequence // 250, and the day, so that each chunk knows where its day begins."""
_Change = tuple[int, bytes, bytes]
"""One change of a window: its sequence, its entry, and its version, encoded."""


class Collector:
    """Makes rows of results as they are read; ``take`` ends a batch."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lanes: dict[tuple[LaneKey, int], list[_Row]] = {}
        self._changes: dict[_Window, list[_Change]] = {}

    def add(self, results_partition: int, payload: bytes) -> None:
        """Add a result's rows; one without a journal row has none (A1).

        Args:
            results_partition: Where it was read.
            payload: The result's bytes.

        Raises:
            Undecodable: They are none of this release's.
        """
        keys = result_keys(payload)
        if not keys.journalled:
            return
        row = (keys.lane_offset, keys.lane_index, payload, keys)
        rows = self._lanes.get((keys.lane, results_partition))
        if rows is None:
            self._lanes[keys.lane, results_partition] = [row]
        else:
            rows.append(row)
        day = keys.lane_time_ms // DAY_MS
        for address, currency, sequence, entry in keys.changes:
            window = (keys.root, address, currency, sequence // WINDOW_SEQUENCES, day)
            changes = self._changes.get(window)
            if changes is None:
                self._changes[window] = [(sequence, entry, keys.version)]
            else:
                changes.append((sequence, entry, keys.version))

    def take(self) -> ArchiveRows:
        """Return the rows of all results added since the last call."""
        rows = ArchiveRows()
        index: dict[_IndexKey, _Places] = {}
        for (lane, partition), mine in self._lanes.items():
            rows.count += len(mine)
            # A stretch that was published twice is in the topic twice, byte for byte. Two results under one id are both
            # kept, for the remover to find.
            for chunk in cut(_once_each(mine), itemgetter(0), _size_of):
                _add_chunk(rows, index, lane, chunk)
            last = max(mine, key=lambda row: row[:2])[-1]
            rows.covered[*lane, partition] = Covered(
                lane_offset=last.lane_offset,
                lane_index=last.lane_index,
                lane_time_ms=last.lane_time_ms,
                version_us=long_of(last.version),
            )
        _add_places(rows, index)
        _add_statements(rows, self._changes)
        self._lanes, self._changes = {}, {}
        return rows


def id_partition(id_: bytes) -> tuple[int, int]:
    """Return second and bucket of an id in ``transaction_index`` (A4).

    A UUIDv7 begins with its time. A control row's id does not: its first bits are as good as any, and there are few.

    >>> id_partition(bytes.fromhex("018bcfe568007000800000000000001f"))
    (1700000000, 15)
    """
    return int.from_bytes(id_[:6], "big") // ID_UNIT_MS, id_[15] % ID_BUCKETS


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
    return [address, currency, integer(day), bigint(first_sequence), bigint(version_us)]


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
        places=again(rows.places),
        statement=again(rows.statement),
        days=rows.days,
        journal=again(rows.journal),
        count=rows.count,
    )


def in_chunks(rows: ArchiveRows, chunks: Mapping[tuple[int, int], int]) -> ArchiveRows:
    """Return rows whose index names the journal's chunks that have what they tell of.

    Args:
        rows: Of one lane.
        chunks: By lane offset and index: the first offset of a chunk that is there.
    """

    def named(values: Values) -> Values:
        *key, _, blob, version = values
        entries = (
            PLACE.pack(id_, offset, index, chunks[offset, index]) for id_, offset, index, _ in PLACE.iter_unpack(blob)
        )
        again = b"".join(entries)
        return [*key, hashlib.sha256(again).digest(), again, version]

    places = {key: list(map(named, some)) for key, some in rows.places.items()}
    return replace(rows, places=places)


# ------------------------------------------------------------------ parts

T = TypeVar("T", _Row, _Change)

_IndexKey = tuple[int, int, bytes, int]
"""Second and bucket of ids, and the incarnation and lane in which they were decided."""


@dataclass(slots=True)
class _Places:
    """Entries of one row of the index, and the highest version among what they name."""

    entries: list[bytes] = field(default_factory=list)
    first_offset: int = 0
    version_us: int = 0


def _add_chunk(rows: ArchiveRows, index: dict[_IndexKey, _Places], lane: LaneKey, chunk: Sequence[_Row]) -> None:
    incarnation, _, number = lane
    first, last = chunk[0][0], chunk[-1][0]
    version_us = long_of(chunk[-1][3].version)
    blob = encode_chunk([row[:3] for row in chunk])
    key = (incarnation, integer(number), bigint(bucket_of_offset(first)))
    values = [*key, bigint(first), bigint(last), hashlib.sha256(blob).digest(), blob, bigint(version_us)]
    rows.journal.setdefault(key, []).append(values)
    for offset, lane_index, _, keys in chunk:
        for id_ in step_ids(keys.transaction_id, keys.command_id):
            place = (*id_partition(id_), incarnation, number)
            places = index.get(place)
            if places is None:
                places = index[place] = _Places(first_offset=offset)
            elif offset < places.first_offset:
                places.first_offset = offset
            places.version_us = max(places.version_us, version_us)
            places.entries.append(PLACE.pack(id_, offset, lane_index, first))


def _add_places(rows: ArchiveRows, index: dict[_IndexKey, _Places]) -> None:
    for (second, bucket, incarnation, lane), places in index.items():
        key = (bigint(second), tinyint(bucket))
        entries = sorted(places.entries)
        for start in range(0, len(entries), PLACES_MAX):
            blob = b"".join(entries[start : start + PLACES_MAX])
            place = (incarnation, integer(lane), bigint(places.first_offset))
            values = [*key, *place, hashlib.sha256(blob).digest(), blob, bigint(places.version_us)]
            rows.places.setdefault(key, []).append(values)


def _add_statements(rows: ArchiveRows, windows: dict[_Window, list[_Change]]) -> None:
    for (root, address, currency, window, day), changes in windows.items():
        key = (root, address, currency, bigint(window * WINDOW_SEQUENCES // SEQUENCE_BUCKET))
        for some in _cut_changes(_once_each(changes)):
            first, last = some[0][0], some[-1][0]
            blob = encode_statement_chunk([each[:2] for each in some])
            digest = hashlib.sha256(blob).digest()
            values = [*key, bigint(first), bigint(last), digest, blob, bigint(long_of(some[-1][2]))]
            rows.statement.setdefault(key, []).append(values)
            rows.days[address, currency, day] = min(first, rows.days.get((address, currency, day), first))


def _once_each(collected: list[T]) -> list[T]:
    """Return in order what was collected, and what was published twice but once."""
    return [each for each, _ in groupby(sorted(collected))]


def _size_of(row: _Row) -> int:
    return len(row[2])


def _cut_changes(changes: Sequence[_Change]) -> Iterator[list[_Change]]:
    """Yield changes of one window in chunks: nearly always one, more where it grows too large."""
    chunk: list[_Change] = []
    size = 0
    for each in changes:
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += len(each[1])
    yield chunk
