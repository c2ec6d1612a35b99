"""A row that moves from MySQL to the archive while it is looked for (A8)."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from processors.ids import make_command_id, slice_of
from processors.ledger.rows import Account, OpenRow, Refunded, TransactionKey
from processors.ledger.rules import Rules
from processors.lookup.history import Lookup, in_order
from processors.stores.archive_reader import Step
from processors.stores.archive_rows import Covered
from processors.stores.rows import JournalRow
from processors.stores.shard_reader import LanePosition
from processors.wire.result_format import write_result
from processors.wire.statement_chunk import StatementRow
from tests.archived import a_result

HOUR_MS = 3_600_000


@dataclass(slots=True)
class Moving:
    """Both stores. The row is in MySQL until ``moves_after`` questions were answered, then in the archive."""

    payload: bytes
    moves_after: int
    asked: list[str] = field(default_factory=list)
    left: bytes | None = None  # another step of the transaction, which is only in the archive
    given_back: dict[TransactionKey, Refunded] = field(default_factory=dict)
    slices_kept: int = 7  # a window's, and the one that is not wholly out of it

    def rules(self) -> dict[int, dict[int, Rules]]:
        return {0: {0: Rules(version=1)}}

    def transaction(self, transaction_id: bytes) -> list[JournalRow]:
        here = len(self.asked) < self.moves_after
        self.asked.append("mysql")
        row = JournalRow(
            slice=0, lane=0, lane_offset=0, lane_index=0, command_id=transaction_id, root="acme",
            result=self.payload,
        )  # fmt: skip
        return [row] if here else []

    def steps(self, transaction_id: bytes, *, most: int | None = None) -> list[Step]:
        here = len(self.asked) >= self.moves_after
        self.asked.append("archive")
        payloads = [self.payload] * here + [self.left] * (self.left is not None)
        there = [Step(root="acme", step=transaction_id, result=payload) for payload in payloads if payload is not None]
        return there[:most]

    def refunded(self, originals: Collection[TransactionKey]) -> dict[TransactionKey, Refunded]:
        return {key: row for key, row in self.given_back.items() if key in originals}

    def open_transactions(self, transaction_id: bytes) -> list[tuple[str, OpenRow]]:
        del transaction_id
        return []

    def account(self, address: str, currency: str) -> Account | None:
        raise NotImplementedError

    def lane_positions(self) -> dict[int, LanePosition]:
        raise NotImplementedError

    def slices(self) -> list[int]:
        now = slice_of(time.time_ns() // 1_000_000)
        return list(range(now - self.slices_kept, now + 2))

    def rows_that_name(self, address: str, lane: int, offsets: range, *, numbers: Sequence[int]) -> list[JournalRow]:
        raise NotImplementedError

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        raise NotImplementedError

    def newest_sequence(self, address: str, currency: str) -> int:
        raise NotImplementedError

    def first_sequence(self, address: str, currency: str, from_day: int) -> int | None:
        raise NotImplementedError

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        raise NotImplementedError


@pytest.mark.rule("A8")
@pytest.mark.parametrize("moves_after", [0, 1, 2, 3])
@pytest.mark.parametrize("age_ms", [0, 7 * HOUR_MS])
def test_a_row_is_found_whenever_it_moves(age_ms: int, moves_after: int) -> None:
    transaction_id = make_command_id(time.time_ns() // 1_000_000 - age_ms, bytes(10))
    result = a_result(command_id=transaction_id)
    stores = Moving(write_result(result), moves_after)
    lookup = Lookup(stores, lambda: stores, lanes=4, results_partitions=4)

    assert lookup.transaction(transaction_id).steps == [result], stores.asked


def test_a_payment_is_found_with_what_was_given_back_of_it() -> None:
    payment = make_command_id(time.time_ns() // 1_000_000, bytes(10))
    back = Refunded(500, 200)
    stores = Moving(write_result(a_result(command_id=payment)), moves_after=10)
    stores.given_back = {("acme", payment): back, ("other", payment): Refunded(1, 1)}

    found = Lookup(stores, lambda: stores, lanes=4, results_partitions=4).transaction(payment)
    assert found.refunded == {("acme", payment): back}


@pytest.mark.rule("A8")
def test_a_step_whose_id_is_older_than_its_transactions_is_found_once_it_has_left() -> None:
    now_ms = time.time_ns() // 1_000_000
    hold_id, capture_id = (make_command_id(now_ms - age_ms, bytes(10)) for age_ms in (3 * HOUR_MS, 8 * HOUR_MS))
    hold = a_result(command_id=hold_id)
    capture = a_result(1, command_id=capture_id, transaction_id=hold_id)
    stores = Moving(write_result(hold), moves_after=10, left=write_result(capture))

    assert Lookup(stores, lambda: stores, lanes=4, results_partitions=4).transaction(hold_id).steps == [hold, capture]


@pytest.mark.rule("A8")
def test_a_transaction_of_which_nothing_can_have_left_needs_mysql_alone() -> None:
    transaction_id = make_command_id(time.time_ns() // 1_000_000 - HOUR_MS, bytes(10))
    now = a_result(command_id=transaction_id, lane_time_ms=time.time_ns() // 1_000_000 - HOUR_MS)
    stores = Moving(write_result(now), moves_after=10, slices_kept=8)

    assert Lookup(stores, lambda: stores, lanes=4, results_partitions=4).transaction(transaction_id).steps == [now]
    assert stores.asked == ["mysql"]


def test_a_transaction_of_more_steps_than_are_wanted_is_not_shown_as_whole() -> None:
    hold_id = make_command_id(time.time_ns() // 1_000_000 - 8 * HOUR_MS, bytes(10))
    hold, capture = a_result(command_id=hold_id), a_result(1, transaction_id=hold_id)
    stores = Moving(write_result(hold), moves_after=10, left=write_result(capture))
    lookup = Lookup(stores, lambda: stores, lanes=4, results_partitions=4)

    assert not lookup.transaction(hold_id, steps_max=1).whole
    assert lookup.transaction(hold_id, steps_max=2).whole
    assert lookup.transaction(hold_id).whole


def test_steps_of_several_lanes_come_as_they_were_decided_not_as_lanes_are_asked() -> None:
    sent = a_result(lane_time_ms=1_000, version_us=9_000_000)  # of a lane with many records in a millisecond
    taken = a_result(1, lane_time_ms=1_014, version_us=1_014_000)
    ended = a_result(2, lane_time_ms=1_014, version_us=1_014_001)

    assert in_order([taken, ended, sent]) == [sent, taken, ended]
