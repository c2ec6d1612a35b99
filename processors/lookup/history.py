"""What one shard and the archive know of a transaction, or of an account's changes: read by age (A8).

Rows go from MySQL to Cassandra while we look, never back, and are in both for a while: so MySQL is asked first, and
whatever it no longer has is in Cassandra when that is asked afterwards. What is open is always read from MySQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import Protocol

from processors.ids import root_of, slice_of, uuid7_time_ms
from processors.ledger.commands import CommandType
from processors.ledger.rows import Account, OpenRow, Refunded, TransactionKey
from processors.ledger.rules import Rules
from processors.routing.buckets import partition_of
from processors.stores.archive_reader import Step, changes_of
from processors.stores.archive_rows import Covered
from processors.stores.rows import JournalRow
from processors.stores.shard_reader import LanePosition
from processors.wire.results import Result, decode_result
from processors.wire.statement_chunk import StatementRow

# What of a statement is not archived yet is looked for in the journal of its lane, the newest first and a stretch at a
# time: at most so many rows are in memory, 20 MB, and a statement of MySQL takes a twentieth of a second.
STRETCH_OFFSETS = 50_000
# Ten seconds; a sink that is further behind is said to be.
TAIL_OFFSETS_MAX = 10_000_000
# Lane time lies between the brokers' clock and ours by no more than this where clocks are set.
_CLOCK_MS = 60_000
_REFUNDABLE = (CommandType.PAY, CommandType.CAPTURE_HOLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """All that is known of a transaction: its steps in order, what of it is open, by root, and what was given back.

    ``refunded`` is by root and id of those of its steps that have refunds. Where it is not ``whole``, it has more steps
    than were asked for, and some of them are here.
    """

    steps: list[Result]
    open: list[tuple[str, OpenRow]]
    refunded: dict[TransactionKey, Refunded] = field(default_factory=dict)
    whole: bool = True


class ShardRows(Protocol):
    """A shard, as far as it is looked into (``stores.shard_reader``)."""

    def rules(self) -> dict[int, dict[int, Rules]]:
        """Return lane -> offset -> rules in force from there."""

    def transaction(self, transaction_id: bytes) -> list[JournalRow]:
        """Return a transaction's steps that are still here."""

    def open_transactions(self, transaction_id: bytes) -> list[tuple[str, OpenRow]]:
        """Return what is open under an id, by root."""

    def refunded(self, originals: Collection[TransactionKey]) -> dict[TransactionKey, Refunded]:
        """Return what was given back of some payments and captures."""

    def account(self, address: str, currency: str) -> Account | None:
        """Return one account."""

    def lane_positions(self) -> dict[int, LanePosition]:
        """Return lane -> where it stands."""

    def slices(self) -> list[int]:
        """Return the journal's slices."""

    def rows_that_name(self, address: str, lane: int, offsets: range, *, numbers: Sequence[int]) -> list[JournalRow]:
        """Return the rows of a stretch of a lane whose result names an account."""


class ArchivedHistory(Protocol):
    """The archive, as far as it is looked into (``stores.archive_reader``)."""

    def steps(self, transaction_id: bytes, *, most: int | None = None) -> list[Step]:
        """Return a transaction's steps, at most so many."""

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        """Return how far the archive reaches, by lane and results partition."""

    def newest_sequence(self, address: str, currency: str) -> int:
        """Return an account's last archived sequence, 0 for none."""

    def first_sequence(self, address: str, currency: str, from_day: int) -> int | None:
        """Return an account's first archived sequence from a day on."""

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        """Yield an account's archived changes in order."""


class Lookup:
    """Asks one shard and the archive; ``archive`` is called only where the archive is needed."""

    def __init__(
        self, shard: ShardRows, archive: Callable[[], ArchivedHistory], *, lanes: int, results_partitions: int
    ) -> None:
        """Hold the parts.

        Args:
            shard: The shard's database.
            archive: Returns the archive; may raise ``Unavailable``.
            lanes: Partitions of the shard's topic.
            results_partitions: Partitions of the results topic.
        """
        self._mysql = shard
        self._reader = archive
        self._lanes = lanes
        self._results_partitions = results_partitions

    def transaction(self, transaction_id: bytes, *, steps_max: int | None = None) -> Transaction:
        """Return what is known of an id, of whichever partner: a transaction's, or any of its commands'.

        Args:
            transaction_id: 16 bytes.
            steps_max: Where it has more steps than this, no more are read, and it is not whole; below
                ``shard_reader.TRANSACTION_STEPS_MAX``. None: all of the archive's, and so many of MySQL's.

        Raises:
            Unavailable: A store that was needed does not answer. A transaction of which no step can have left MySQL
                needs MySQL alone.
        """
        found = self._in_mysql(transaction_id)
        if _is_above(found, steps_max):
            return Transaction(steps=in_order(found.values()), open=[], whole=False)
        if not found or not self._is_whole(transaction_id, found.values()):
            found |= self._in_archive(transaction_id, None if steps_max is None else steps_max + 1)
        steps = in_order(found.values())
        if _is_above(steps, steps_max):
            return Transaction(steps=steps, open=[], whole=False)
        originals = {(step.root, step.command_id) for step in steps if step.type in _REFUNDABLE}
        return Transaction(
            steps=steps,
            open=self._mysql.open_transactions(transaction_id),
            refunded=self._mysql.refunded(originals),
        )

    def account(self, address: str, currency: str) -> Account | None:
        """Return an account, if its partner is owned here (M11)."""
        return self._mysql.account(address, currency)

    @property
    def archive(self) -> ArchivedHistory:
        """Return the archive; may raise ``Unavailable``."""
        return self._reader()

    def uncovered(self, root: str) -> range:
        """Return the offsets of a root's lane here that the sink has not archived yet, with the last that it has."""
        lane, partition = partition_of(root, self._lanes), partition_of(root, self._results_partitions)
        position = self._mysql.lane_positions().get(lane)
        if position is None:
            return range(0)
        covered = self._reader().coverage(position.progress.topic_id).get((lane, partition))
        return range(0 if covered is None else covered.lane_offset, position.progress.at.next_offset)

    def tail(self, address: str, currency: str, uncovered: range) -> Iterator[StatementRow]:
        """Yield the changes of an account that wait for the sink: the newest stretch first, within it in no order.

        Args:
            address: The account's.
            currency: The account's.
            uncovered: As ``uncovered`` returned it; of it the newest ``TAIL_OFFSETS_MAX`` are looked through.
        """
        lane, numbers = partition_of(root_of(address), self._lanes), self._mysql.slices()
        least = max(uncovered.start, uncovered.stop - TAIL_OFFSETS_MAX)
        for start in range(uncovered.stop - STRETCH_OFFSETS, least - STRETCH_OFFSETS, -STRETCH_OFFSETS):
            stretch = range(max(start, least), start + STRETCH_OFFSETS)
            for record in self._mysql.rows_that_name(address, lane, stretch, numbers=numbers):
                yield from _changes(decode_result(record.result), address, currency)

    def _is_whole(self, transaction_id: bytes, found: Iterable[Result]) -> bool:
        """Say whether every slice is here that a step may be in.

        A step's slice is its own id's, which may be older than the transaction's by the window. Asked after the rows:
        a slice that is here still was here when they were read.
        """
        time_ms = uuid7_time_ms(transaction_id)
        windows_ms = [rules.window_ms for of_lane in self._mysql.rules().values() for rules in of_lane.values()]
        if time_ms is None or not windows_ms:
            return False
        began_ms = min([time_ms, *(step.lane_time_ms for step in found)])  # ids may be ahead of lane time (I5)
        now_ms = time.time_ns() // 1_000_000 + _CLOCK_MS
        needed = range(slice_of(began_ms - max(windows_ms)), slice_of(now_ms) + 1)
        return set(needed) <= set(self._mysql.slices())

    def _in_mysql(self, transaction_id: bytes) -> dict[tuple[bytes, int, int, int], Result]:
        return _by_place(decode_result(row.result) for row in self._mysql.transaction(transaction_id))

    def _in_archive(self, transaction_id: bytes, most: int | None) -> dict[tuple[bytes, int, int, int], Result]:
        return _by_place(decode_result(step.result) for step in self._reader().steps(transaction_id, most=most))


def _is_above(found: Sized, most: int | None) -> bool:
    return most is not None and len(found) > most


def in_order(steps: Iterable[Result]) -> list[Result]:
    """Return a transaction's steps as they were decided.

    They may be of several lanes, whose versions (A2) run ahead of lane time by different amounts. In one lane both
    rise, and so they do for a partner who moves.
    """
    return sorted(steps, key=lambda step: (step.lane_time_ms, step.version_us, step.lane_offset, step.lane_index))


def _by_place(results: Iterable[Result]) -> dict[tuple[bytes, int, int, int], Result]:
    return {(each.incarnation, each.lane, each.lane_offset, each.lane_index): each for each in results}


def _changes(result: Result, address: str, currency: str) -> list[StatementRow]:
    return [row for key, row in changes_of(result).items() if (key.address, key.currency) == (address, currency)]
