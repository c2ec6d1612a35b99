"""Reads the archive: a transaction by id, an account's statement, the journal by offsets, and how far it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from processors.faults import Undecodable
from processors.ids import root_of
from processors.stores.archive_rows import (
    SEQUENCE_BUCKET,
    WINDOW_OFFSETS,
    Covered,
    StatementRow,
    bucket_of_offset,
    id_partition,
)
from processors.stores.cassandra import CassandraSession
from processors.wire.journal_chunk import ChunkRow, decode_chunk
from processors.wire.results import Result, decode_result

# Pages: results of 300 bytes, statement rows of 300, chunks of 80 KB.
STEPS_PAGE_ROWS = 500
STATEMENT_PAGE_ROWS = 1_000
CHUNKS_PAGE_ROWS = 16
# Keys of one IN: their partition's rows come in one request, and the answer stays below 40 KB.
STEPS_AT_ONCE = 100
CHANGES_AT_ONCE = 100

Key = TypeVar("Key")

_STEPS = "SELECT root, step, result FROM $transaction_by_id WHERE minute = ? AND bucket = ? AND transaction_id = ?"
_STEP = (
    "SELECT result FROM $transaction_by_id "
    "WHERE minute = ? AND bucket = ? AND transaction_id = ? AND root = ? AND step = ?"
)
_STEPS_AT = (
    "SELECT transaction_id, root, step, result FROM $transaction_by_id "
    "WHERE minute = ? AND bucket = ? AND (transaction_id, root, step) IN ?"
)
_COLUMNS = (
    "sequence, type, transaction_id, command_id, contra, balance_change, held_change, balance, held, overdraft_limit, "
    "lane_time_ms, metadata"
)
_STATEMENT = (
    f"SELECT {_COLUMNS} FROM $statement "
    "WHERE root = ? AND address = ? AND currency = ? AND bucket = ? AND sequence >= ? AND sequence <= ?"
)
_CHANGES_AT = (
    f"SELECT {_COLUMNS} FROM $statement "
    "WHERE root = ? AND address = ? AND currency = ? AND bucket = ? AND sequence IN ?"
)
_NEWEST = (
    "SELECT sequence FROM $statement WHERE root = ? AND address = ? AND currency = ? AND bucket = ? "
    "ORDER BY sequence DESC LIMIT 1"
)
_DAY_FROM = "SELECT first_sequence FROM $statement_day WHERE address = ? AND currency = ? AND day >= ? LIMIT 1"
_LAST_DAY = "SELECT first_sequence FROM $statement_day WHERE address = ? AND currency = ? ORDER BY day DESC LIMIT 1"
_CHUNKS = (
    "SELECT first_offset, last_offset, hash, chunk FROM $journal "
    "WHERE shard = ? AND lane = ? AND bucket = ? AND first_offset >= ? AND first_offset <= ?"
)
_COVERAGE = (
    "SELECT lane, results_partition, lane_offset, lane_index, lane_time_ms, writetime(lane_offset) "
    "FROM $coverage WHERE shard = ?"
)
_POSITION = "SELECT next_offset FROM $sink_position WHERE topic_id = ? AND partition = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A row of ``transaction_by_id``: ``step`` is its command's id, ``result`` the result's bytes."""

    root: str
    step: bytes
    result: bytes


@dataclass(frozen=True, slots=True)
class StepKey:
    """Where a step is archived. Not kw_only: one or two a journal row that the remover proves."""

    transaction_id: bytes
    root: str
    step: bytes


@dataclass(frozen=True, slots=True)
class ChangeKey:
    """Which change of an account. Not kw_only: one or more for each journal row that is proven."""

    address: str
    currency: str
    sequence: int


class ArchiveReader:
    """Everything that is read from the archive, at LOCAL_QUORUM. For one thread; ``session`` is the caller's to close.

    Every method may raise ``Unavailable``: Cassandra does not answer.
    """

    def __init__(self, session: CassandraSession) -> None:
        """Read through a session; statements are prepared as they are needed."""
        self._session = session

    def steps(self, transaction_id: bytes) -> list[Step]:
        """Return every step of a transaction, of any root, in the order in which they were decided.

        Args:
            transaction_id: The id of the command that began it; a capture's and a void's own id finds that step alone.

        Raises:
            Undecodable: A result is of a later release.
        """
        statement = self._session.prepare(_STEPS, page_rows=STEPS_PAGE_ROWS)
        rows = self._session.rows(statement, (*id_partition(transaction_id), transaction_id))
        found = [Step(root=root, step=step, result=result) for root, step, result in rows]
        return sorted(found, key=lambda row: decode_result(row.result).version_us)

    def step(self, root: str, command_id: bytes) -> bytes | None:
        """Return the result of a partner's command by its own id, or None."""
        values = (*id_partition(command_id), command_id, root, command_id)
        for (result,) in self._session.rows(self._session.prepare(_STEP), values):
            return bytes(result)
        return None

    def steps_at(self, keys: Iterable[StepKey]) -> dict[StepKey, bytes]:
        """Return the results at some keys; one that is not there is not in the answer."""
        by_partition: dict[tuple[int, int], list[StepKey]] = {}
        for key in dict.fromkeys(keys):
            by_partition.setdefault(id_partition(key.transaction_id), []).append(key)
        statement = self._session.prepare(_STEPS_AT, page_rows=STEPS_PAGE_ROWS)
        wanted = (
            (statement, (*partition, [(key.transaction_id, key.root, key.step) for key in some]))
            for partition, all_of_it in by_partition.items()
            for some in _by(all_of_it, STEPS_AT_ONCE)
        )
        return {
            StepKey(transaction_id, root, step): result
            for rows in self._session.read_each(wanted)
            for transaction_id, root, step, result in rows
        }

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        """Yield an account's changes in order.

        Args:
            address: The account's.
            currency: The account's.
            from_sequence: The first, at least 1.
            to_sequence: The last; None reads to the end.
        """
        last = self.newest_sequence(address, currency) if to_sequence is None else to_sequence
        select = self._session.prepare(_STATEMENT, page_rows=STATEMENT_PAGE_ROWS)
        for bucket in range(from_sequence // SEQUENCE_BUCKET, last // SEQUENCE_BUCKET + 1):
            key = (root_of(address), address, currency, bucket)
            for values in self._session.rows(select, (*key, from_sequence, last)):
                yield _statement_row(values)

    def changes_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, StatementRow]:
        """Return single changes of accounts; one that is not there is not in the answer."""
        by_partition: dict[tuple[str, str, str, int], list[int]] = {}
        for key in keys:
            by_partition.setdefault(_statement_partition(key), []).append(key.sequence)
        asked = [
            (partition, some)
            for partition, all_of_it in by_partition.items()
            for some in _by(all_of_it, CHANGES_AT_ONCE)
        ]
        select = self._session.prepare(_CHANGES_AT, page_rows=STATEMENT_PAGE_ROWS)
        answers = self._session.read_each((select, (*partition, some)) for partition, some in asked)
        return {
            ChangeKey(address, currency, row.sequence): row
            for ((_root, address, currency, _bucket), _some), rows in zip(asked, answers, strict=True)
            for row in map(_statement_row, rows)
        }

    def newest_sequence(self, address: str, currency: str) -> int:
        """Return the last sequence of an account that is archived, 0 where there is none."""
        for (first,) in self._session.rows(self._session.prepare(_LAST_DAY), (address, currency)):
            # Sequences are gapless (H5), so are buckets. A day of one account has fewer than 2**32 changes, hence 2**19
            # buckets: doubling the step and then halving it asks at most 38 of them.
            low, step = first // SEQUENCE_BUCKET, 1
            while self._last_in(address, currency, low + step) is not None:
                low, step = low + step, step * 2
            while step > 1:
                step //= 2
                if self._last_in(address, currency, low + step) is not None:
                    low += step
            return self._last_in(address, currency, low) or 0
        return 0

    def _last_in(self, address: str, currency: str, bucket: int) -> int | None:
        key = (root_of(address), address, currency, bucket)
        for (sequence,) in self._session.rows(self._session.prepare(_NEWEST), key):
            return int(sequence)
        return None

    def first_sequence(self, address: str, currency: str, from_day: int) -> int | None:
        """Return the sequence of an account's first change on a day or after it; None where there is none.

        Args:
            address: The account's.
            currency: The account's.
            from_day: Days since the epoch, UTC, of lane time.
        """
        for (first,) in self._session.rows(self._session.prepare(_DAY_FROM), (address, currency, from_day)):
            return int(first)
        return None

    def journal(self, incarnation: bytes, lane: int, from_offset: int, to_offset: int) -> list[ChunkRow]:
        """Return the journal rows of a stretch of a lane, in order.

        A row that was cut into several chunks is there once; where copies differ, each is there (A3).

        Args:
            incarnation: The shard's: its topic's id.
            lane: The lane.
            from_offset: The first offset.
            to_offset: The last offset; the whole answer is held in memory.

        Raises:
            Undecodable: A chunk is none; the text names it.
        """
        statement = self._session.prepare(_CHUNKS, page_rows=CHUNKS_PAGE_ROWS)
        # Chunks lie within windows: one that holds an offset begins in the offset's window, and in its bucket.
        begins = from_offset - from_offset % WINDOW_OFFSETS
        wanted = (
            (statement, (incarnation, lane, bucket, begins, to_offset))
            for bucket in range(bucket_of_offset(begins), bucket_of_offset(to_offset) + 1)
        )
        found = {
            row
            for chunks in self._session.read_each(wanted)
            for first, last, digest, chunk in chunks
            for row in _rows_of_chunk(chunk, f"lane {lane}, offsets {first} to {last}, hash 0x{digest.hex()}")
            if from_offset <= row[0] <= to_offset
        }
        return sorted(found)

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        """Return how far a shard's incarnation is archived, by lane and results partition (A5)."""
        rows = self._session.rows(self._session.prepare(_COVERAGE, page_rows=STATEMENT_PAGE_ROWS), (incarnation,))
        return {
            (lane, partition): Covered(
                lane_offset=offset, lane_index=index, lane_time_ms=time_ms, version_us=version_us
            )
            for lane, partition, offset, index, time_ms, version_us in rows
        }

    def position(self, topic_id: bytes, partition: int) -> int | None:
        """Return from which offset of a results partition the sink goes on; None where it has not begun."""
        for (offset,) in self._session.rows(self._session.prepare(_POSITION), (topic_id, partition)):
            return int(offset)
        return None


def changes_of(result: Result) -> dict[ChangeKey, StatementRow]:
    """Return the changes of accounts that a result tells of, as they are in ``statement`` (A4)."""
    return {
        ChangeKey(posting.address, result.currency, posting.sequence): StatementRow(
            sequence=posting.sequence,
            type=result.type,
            transaction_id=result.transaction_id,
            command_id=result.command_id,
            contra=posting.contra,
            balance_change=posting.balance_change,
            held_change=posting.held_change,
            balance=posting.balance,
            held=posting.held,
            overdraft_limit=posting.overdraft_limit,
            lane_time_ms=result.lane_time_ms,
            metadata=result.metadata,
        )
        for posting in result.postings
        if posting.balance_change or posting.held_change  # H5: only then its sequence is a new one
    }


def _rows_of_chunk(chunk: bytes, name: str) -> list[ChunkRow]:
    try:
        return decode_chunk(chunk)
    except Undecodable as fault:
        raise Undecodable(fault.cause, f"the archived chunk of {name} cannot be read: {fault.detail}") from fault


def _statement_partition(key: ChangeKey) -> tuple[str, str, str, int]:
    return (root_of(key.address), key.address, key.currency, key.sequence // SEQUENCE_BUCKET)


def _statement_row(values: tuple[Any, ...]) -> StatementRow:
    return StatementRow(**dict(zip(StatementRow.__slots__, values, strict=True)))


def _by(keys: list[Key], count: int) -> Iterator[list[Key]]:
    for start in range(0, len(keys), count):
        yield keys[start : start + count]
