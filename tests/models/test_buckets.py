"""A root that leaves its bucket while the bucket moves, state by state."""

from __future__ import annotations

import pytest

from tests.models.buckets.cases import BUCKETS


def violation_without(mutation: str) -> str:
    report = BUCKETS.mutations[mutation].check()
    print(report)  # noqa: T201 - the way into the violation, shown where a test fails
    return report.violation


@pytest.mark.rule("M6")
@pytest.mark.parametrize("scenario", BUCKETS.scenarios)
def test_a_root_and_its_bucket_each_go_their_way(scenario: str) -> None:
    report = BUCKETS.scenarios[scenario]()
    print(report)  # noqa: T201 - the number of states

    assert report.violation == "", str(report)


@pytest.mark.rule("M1")
@pytest.mark.rule("R2")
def test_a_root_that_leaves_its_bucket_waits_where_the_bucket_has_not_come_yet() -> None:
    assert violation_without("M1 leaving") == "move out 4 of r is a dead letter"


@pytest.mark.rule("M6")
def test_a_bucket_does_not_take_along_a_root_that_is_placed_by_hand() -> None:
    assert violation_without("M6 own") == "B is installed over rows that count"


@pytest.mark.rule("M7")
def test_a_bucket_that_is_back_before_its_receipt_leaves_no_rows_of_a_root_that_left_it() -> None:
    assert violation_without("M7 whole") == "deadlock"


@pytest.mark.rule("M7")
def test_deleting_a_buckets_frozen_rows_spares_a_root_that_came_back_by_itself() -> None:
    assert violation_without("M7 own") == "command 3 of r is decided without the rows of r"
