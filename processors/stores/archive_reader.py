"""Reads the archive: a transaction by id, an account's statement, the journal by offsets, and how far it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from processors.faults import Undecodable
from processors.ids import root_of
from processors.stores.archive_rows import (
    PLACE,
    SEQUENCE_BUCKET,
    WINDOW_SEQUENCES,
    Covered,
    bucket_of_offset,
    id_partition,
)
from processors.stores.cassandra import CassandraSession
from processors.wire.causes import Cause
from processors.wire.journal_chunk import WINDOW_OFFSETS, ChunkRow, decode_chunk
from processors.wire.result_keys import long_of, result_keys
from processors.wire.results import Result
from processors.wire.statement_chunk import StatementRow, decode_statement_chunk, decode_statement_entry

# Pages: an index row of a lane's second has some 3 KB, a chunk of an account's changes up to 30, one of the journal 80.
PLACES_PAGE_ROWS = 100
STATEMENT_PAGE_ROWS = 100
CHUNKS_PAGE_ROWS = 16
COVERAGE_PAGE_ROWS = 1_000

_PLACES = "SELECT shard, lane, places FROM $transaction_index WHERE second = ? AND bucket = ?"
_PLACES_IN = f"{_PLACES} AND shard = ? AND lane = ?"
_CHANGES = (
    "SELECT first_sequence, last_sequence, hash, chunk FROM $statement_chunk WHERE root = ? AND address = ? "
    "AND currency = ? AND bucket = ? AND first_sequence >= ? AND first_sequence <= ?"
)
_NEWEST = (
    "SELECT first_sequence FROM $statement_chunk WHERE root = ? AND address = ? AND currency = ? AND bucket = ? "
    "ORDER BY first_sequence DESC LIMIT 1"
)
_DAY_FROM = "SELECT first_sequence FROM $statement_day WHERE address = ? AND currency = ? AND day >= ? LIMIT 1"
_LAST_DAY = "SELECT first_sequence FROM $statement_day WHERE address = ? AND currency = ? ORDER BY day DESC LIMIT 1"
_CHUNKS = (
    "SELECT first_offset, last_offset, hash, chunk FROM $journal "
    "WHERE shard = ? AND lane = ? AND bucket = ? AND first_offset >= ? AND first_offset <= ?"
)
_CHUNK = (
    "SELECT first_offset, last_offset, hash, chunk FROM $journal "
    "WHERE shard = ? AND lane = ? AND bucket = ? AND first_offset = ?"
)
_COVERAGE = (
    "SELECT lane, results_partition, lane_offset, lane_index, lane_time_ms, writetime(lane_offset) "
    "FROM $coverage WHERE shard = ?"
)
_POSITION = "SELECT next_offset FROM $sink_position WHERE topic_id = ? AND partition = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a transaction: ``step`` is its command's id, ``result`` the result's bytes."""

    root: str
    step: bytes
    result: bytes


class StepKey(NamedTuple):
    """Which step of a transaction."""

    transaction_id: bytes
    root: str
    step: bytes


class IndexedPlace(NamedTuple):
    """Where the journal has a row that the index names; ``chunk_offset`` is the first of the chunk that has it."""

    incarnation: bytes
    lane: int
    lane_offset: int
    lane_index: int
    chunk_offset: int


class ChangeKey(NamedTuple):
    """Which change of an account."""

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

    def steps(self, transaction_id: bytes, *, most: int | None = None) -> list[Step]:
        """Return every step of a transaction, of any root, in the order in which they were decided.

        Args:
            transaction_id: The id of the command that began it; a capture's and a void's own id finds that step alone.
            most: Of more steps only so many are read, in chunks as many at most; None: all are.

        Raises:
            Undecodable: A chunk or result is none of this release's, or the journal lacks what the index names.
        """
        places = sorted(self.places_of([transaction_id])[transaction_id])[:most]
        found = self._results_at(places)
        steps: dict[bytes, tuple[int, Step]] = {}
        for place in places:
            results = found[place]
            if isinstance(results, Undecodable):
                raise results
            for result in results:
                keys = result_keys(result)
                if transaction_id in {keys.transaction_id, keys.command_id}:
                    step = Step(root=keys.root.decode(), step=keys.command_id, result=result)
                    steps[result] = (long_of(keys.version), step)
        return [step for _, step in sorted(steps.values(), key=lambda each: each[0])]

    def steps_at(self, keys: Iterable[StepKey]) -> dict[StepKey, bytes | Undecodable]:
        """Return the results of some steps; of one that is there and cannot be read, why. What is not there, is not."""
        wanted = list(dict.fromkeys(keys))
        places = self.places_of({key.transaction_id for key in wanted})
        found = self._results_at({place for some in places.values() for place in some})
        answer: dict[StepKey, bytes | Undecodable] = {}
        for key in wanted:
            step = _step_among(key, [found[place] for place in places[key.transaction_id]])
            if step is not None:
                answer[key] = step
        return answer

    def places_of(self, ids: Iterable[bytes]) -> dict[bytes, set[IndexedPlace]]:
        """Return, by id, where the index says that the journal has the rows of some ids, whoever decided them."""
        return self._places(_PLACES, (), ids)

    def places_in(self, incarnation: bytes, lane: int, ids: Iterable[bytes]) -> dict[bytes, set[IndexedPlace]]:
        """Return the same of rows that one lane decided."""
        return self._places(_PLACES_IN, (incarnation, lane), ids)

    def _places(
        self, select: str, of_lane: tuple[bytes | int, ...], ids: Iterable[bytes]
    ) -> dict[bytes, set[IndexedPlace]]:
        found: dict[bytes, set[IndexedPlace]] = {id_: set() for id_ in ids}
        by_partition: dict[tuple[int, int], list[bytes]] = {}
        for id_ in found:
            by_partition.setdefault(id_partition(id_), []).append(id_)
        statement = self._session.prepare(select, page_rows=PLACES_PAGE_ROWS)
        answers = self._session.read_each((statement, (*partition, *of_lane)) for partition in by_partition)
        for some, rows in zip(by_partition.values(), answers, strict=True):
            for incarnation, lane, places in rows:
                for id_ in filter(places.__contains__, some):
                    found[id_].update(_places_of(id_, incarnation, lane, places))
        return found

    def _results_at(self, places: Iterable[IndexedPlace]) -> dict[IndexedPlace, set[bytes] | Undecodable]:
        """Return what the journal has at some places: a result, each of several that differ, or why there is none."""
        by_chunk: dict[tuple[bytes, int, int], list[IndexedPlace]] = {}
        for place in places:
            by_chunk.setdefault((place.incarnation, place.lane, place.chunk_offset), []).append(place)
        select = self._session.prepare(_CHUNK, page_rows=CHUNKS_PAGE_ROWS)
        answers = self._session.read_each(
            (select, (incarnation, lane, bucket_of_offset(first), first)) for incarnation, lane, first in by_chunk
        )
        found: dict[IndexedPlace, set[bytes] | Undecodable] = {}
        for ((_, lane, _), some), chunks in zip(by_chunk.items(), answers, strict=True):
            wanted = {(place.lane_offset, place.lane_index): place for place in some}
            try:
                rows = [row for first, last, digest, chunk in chunks for row in _rows(chunk, lane, first, last, digest)]
            except Undecodable as fault:
                found.update(dict.fromkeys(some, fault))
                continue
            results: dict[IndexedPlace, set[bytes]] = {}
            for offset, index, result in rows:
                if (offset, index) in wanted:
                    results.setdefault(wanted[offset, index], set()).add(result)
            found.update((place, results.get(place) or _lost(place)) for place in some)
        return found

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        """Yield an account's changes in order; where copies of one differ, each of them (A3).

        Args:
            address: The account's.
            currency: The account's.
            from_sequence: The first, at least 1.
            to_sequence: The last; None reads to the end.

        Raises:
            Undecodable: A chunk is none; the text names it.
        """
        last = self.newest_sequence(address, currency) if to_sequence is None else to_sequence
        select = self._session.prepare(_CHANGES, page_rows=STATEMENT_PAGE_ROWS)
        # Chunks lie within windows: one that has a change begins in the change's window.
        begins = from_sequence - from_sequence % WINDOW_SEQUENCES
        for bucket in range(begins // SEQUENCE_BUCKET, last // SEQUENCE_BUCKET + 1):
            key = (root_of(address), address, currency, bucket)
            waiting: set[tuple[int, bytes]] = set()
            for chunk in self._session.rows(select, (*key, begins, last)):
                yield from _in_order(waiting, below=chunk[0])
                changes = _changes_of_chunks([chunk], f"{address} {currency}")
                waiting.update([change for change in changes if from_sequence <= change[0] <= last])
            yield from _in_order(waiting, below=last + 1)

    def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
        """Return the entries of single changes of accounts: one each, or several that differ. None that is not there.

        Raises:
            Undecodable: A chunk is none; the text names it.
        """
        by_window: dict[tuple[str, str, int], set[int]] = {}
        for address, currency, sequence in keys:
            by_window.setdefault((address, currency, sequence // WINDOW_SEQUENCES), set()).add(sequence)
        select = self._session.prepare(_CHANGES, page_rows=STATEMENT_PAGE_ROWS)
        answers = self._session.read_each((select, _window_of(window, some)) for window, some in by_window.items())
        found: dict[ChangeKey, set[bytes]] = {}
        for ((address, currency, _), some), chunks in zip(by_window.items(), answers, strict=True):
            changes = _changes_of_chunks(chunks, f"{address} {currency}")
            for sequence, entry in {change for change in changes if change[0] in some}:
                found.setdefault(ChangeKey(address, currency, sequence), set()).add(entry)
        return found

    def newest_sequence(self, address: str, currency: str) -> int:
        """Return the last sequence of an account that is archived, 0 where there is none.

        Raises:
            Undecodable: A chunk is none; the text names it.
        """
        for (first,) in self._session.rows(self._session.prepare(_LAST_DAY), (address, currency)):
            # Sequences are gapless (H5), so are buckets. A day of one account has fewer than 2**32 changes, hence 2**19
            # buckets: doubling the step and then halving it asks at most 38 of them.
            low, step = first // SEQUENCE_BUCKET, 1
            while self._newest_chunk_in(address, currency, low + step) is not None:
                low, step = low + step, step * 2
            while step > 1:
                step //= 2
                if self._newest_chunk_in(address, currency, low + step) is not None:
                    low += step
            return self._last_in(address, currency, low)
        return 0

    def _last_in(self, address: str, currency: str, bucket: int) -> int:
        newest = self._newest_chunk_in(address, currency, bucket)
        if newest is None:
            return 0
        select = self._session.prepare(_CHANGES, page_rows=STATEMENT_PAGE_ROWS)
        # Of the newest window some chunk may end behind the one that begins last.
        begins = newest - newest % WINDOW_SEQUENCES
        key = (root_of(address), address, currency, bucket, begins, newest)
        return max(int(last) for _, last, _, _ in self._session.rows(select, key))

    def _newest_chunk_in(self, address: str, currency: str, bucket: int) -> int | None:
        key = (root_of(address), address, currency, bucket)
        for (first,) in self._session.rows(self._session.prepare(_NEWEST), key):
            return int(first)
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
        chunks = self.chunks(incarnation, lane, from_offset, to_offset)
        return sorted({row for _, rows in chunks for row in rows if from_offset <= row[0] <= to_offset})

    def chunks(
        self, incarnation: bytes, lane: int, from_offset: int, to_offset: int
    ) -> Iterator[tuple[int, list[ChunkRow]]]:
        """Yield the chunks that may have rows of a stretch of a lane: each one's first offset, and all of its rows.

        Args:
            incarnation: The shard's: its topic's id.
            lane: The lane.
            from_offset: The first offset.
            to_offset: The last offset.

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
        for chunks in self._session.read_each(wanted):
            for first, last, digest, chunk in chunks:
                yield first, _rows(chunk, lane, first, last, digest)

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        """Return how far a shard's incarnation is archived, by lane and results partition (A5)."""
        rows = self._session.rows(self._session.prepare(_COVERAGE, page_rows=COVERAGE_PAGE_ROWS), (incarnation,))
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
    """Return the changes of accounts that a result tells of, as ``StatementRow`` has them (A4)."""
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


def _rows(chunk: bytes, lane: int, first: int, last: int, digest: bytes) -> list[ChunkRow]:
    try:
        return decode_chunk(chunk)
    except Undecodable as fault:
        name = f"lane {lane}, offsets {first} to {last}, hash 0x{digest.hex()}"
        raise Undecodable(fault.cause, f"the archived chunk of {name} cannot be read: {fault.detail}") from fault


def _changes_of_chunks(chunks: Iterable[tuple[Any, ...]], account: str) -> Iterator[tuple[int, bytes]]:
    for first, last, digest, chunk in chunks:
        try:
            yield from decode_statement_chunk(chunk)
        except Undecodable as fault:
            name = f"{account}, changes {first} to {last}, hash 0x{digest.hex()}"
            raise Undecodable(fault.cause, f"the archived chunk of {name} cannot be read: {fault.detail}") from fault


def _places_of(id_: bytes, incarnation: bytes, lane: int, places: bytes) -> list[IndexedPlace]:
    """Return an id's entries in a row of the index."""
    found = []
    at = places.find(id_)
    while at >= 0:
        if at % PLACE.size == 0:
            _, offset, index, chunk_offset = PLACE.unpack_from(places, at)
            found.append(IndexedPlace(incarnation, lane, offset, index, chunk_offset))
        at = places.find(id_, at + 1)
    return found


def _lost(place: IndexedPlace) -> Undecodable:
    return Undecodable(
        Cause.MALFORMED,
        f"no archived chunk of lane {place.lane} that begins at offset {place.chunk_offset} has offset "
        f"{place.lane_offset} index {place.lane_index}, as the index says",
    )


def _step_among(key: StepKey, found: Iterable[set[bytes] | Undecodable]) -> bytes | Undecodable | None:
    """Return a step's result, or why it may be there and cannot be read, or None: it is not there."""
    unreadable = None
    for results in found:
        if isinstance(results, Undecodable):
            unreadable = results
            continue
        for result in results:
            try:
                keys = result_keys(result)
            except Undecodable as fault:
                unreadable = fault
                continue
            if (keys.root.decode(), keys.command_id) == (key.root, key.step):
                return result
    return unreadable


def _window_of(window: tuple[str, str, int], sequences: set[int]) -> tuple[str, str, str, int, int, int]:
    """Return what to ask for: the partition, and between which sequences chunks begin that have a window's changes."""
    address, currency, number = window
    begins = number * WINDOW_SEQUENCES
    return root_of(address), address, currency, begins // SEQUENCE_BUCKET, begins, max(sequences)


def _in_order(waiting: set[tuple[int, bytes]], *, below: int) -> Iterator[StatementRow]:
    """Take out of some changes those below a sequence, in order."""
    ready = sorted(change for change in waiting if change[0] < below)
    waiting.difference_update(ready)
    for _, entry in ready:
        yield decode_statement_entry(entry)
