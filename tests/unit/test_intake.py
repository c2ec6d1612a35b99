"""What waits for a lane: in order, in batches within the limits, and none of it lost on the way."""

from __future__ import annotations

import pytest

from processors.lane.intake import WAITING_BATCHES_MAX, WAITING_BYTES_MAX, BatchLimits, Intake
from processors.wire.records import Record


def record(offset: int, size: int = 0) -> Record:
    return Record("shard", 0, offset, 0, 1, True, b"acme", bytes(size), [])


def intake(**limits: int) -> Intake:
    return Intake(BatchLimits(**limits), on_taken=lambda: None)


def offsets(waiting: Intake) -> list[int]:
    return [each.offset for each in waiting.take(0)]


@pytest.mark.rule("L8")
def test_a_batch_ends_at_its_number_of_records() -> None:
    waiting = intake(batch_commands_max=2)
    waiting.offer([record(offset) for offset in range(3)])

    assert [offsets(waiting), offsets(waiting), offsets(waiting)] == [[0, 1], [2], []]


@pytest.mark.rule("L8")
def test_a_batch_ends_before_what_may_become_too_much_sql() -> None:
    waiting = intake(batch_sql_bytes_max=10_000)
    waiting.offer([record(0, 1_000), record(1, 1_000), record(2, 60_000), record(3)])

    assert [offsets(waiting), offsets(waiting), offsets(waiting)] == [[0, 1], [2], [3]]


def test_what_is_given_back_comes_first_again() -> None:
    waiting = intake()
    waiting.offer([record(offset) for offset in range(4)])
    taken = waiting.take(0)
    waiting.offer([record(4)])

    waiting.give_back(taken[1:])

    assert offsets(waiting) == [1, 2, 3, 4]


def test_it_is_full_and_hungry_by_whole_batches() -> None:
    waiting = intake(batch_commands_max=2)
    assert (waiting.full, waiting.hungry) == (False, True)

    waiting.offer([record(offset) for offset in range(2 * WAITING_BATCHES_MAX)])
    assert (waiting.full, waiting.hungry) == (True, False)

    waiting.clear()
    assert offsets(waiting) == []


def test_it_is_full_of_few_large_records() -> None:
    waiting = intake()
    large = [record(offset, WAITING_BYTES_MAX // 4) for offset in range(4)]
    waiting.offer(large)
    assert (waiting.full, waiting.hungry) == (True, False)

    taken = waiting.take(0)
    assert len(taken) == 1  # L8
    assert (waiting.full, waiting.hungry) == (False, False)
    waiting.give_back(taken)
    assert (waiting.full, waiting.hungry) == (True, False)

    waiting.clear()
    assert (waiting.full, waiting.hungry) == (False, True)


def test_records_are_waited_for_while_something_else_goes_on_and_no_longer() -> None:
    waiting = intake()
    looks = iter([True, True, False])

    assert waiting.take_while(lambda: next(looks)) == []
    assert next(looks, None) is None

    def arrives() -> bool:
        waiting.offer([record(7)])
        return True

    assert [each.offset for each in waiting.take_while(arrives)] == [7]
