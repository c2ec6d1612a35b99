"""Answering again around a move, state by state: the next owner's answers are those of the last one."""

from __future__ import annotations

import pytest

from tests.models.answering.cases import ANSWERING


def violation_without(mutation: str) -> str:
    report = ANSWERING.mutations[mutation].check()
    print(report)  # noqa: T201 - the way into the violation, shown where a test fails
    return report.violation


@pytest.mark.rule("L4")
@pytest.mark.rule("M5")
@pytest.mark.parametrize("scenario", ANSWERING.scenarios)
def test_wherever_a_lane_dies_its_next_owner_gives_the_same_answers(scenario: str) -> None:
    report = ANSWERING.scenarios[scenario]()
    print(report)  # noqa: T201 - the number of states

    assert report.violation == "", str(report)


@pytest.mark.rule("L4")
@pytest.mark.rule("M1")
def test_a_parked_row_is_kept_until_p_has_passed_where_it_was_unparked() -> None:
    assert violation_without("L4 parked") == "first nothing, again 0.0 a duplicate, decided elsewhere"


@pytest.mark.rule("L4")
@pytest.mark.rule("M1")
def test_that_a_record_was_parked_is_told_from_its_row_and_not_from_the_generation_of_now() -> None:
    assert violation_without("L4 generation") == "first nothing, again 0.0 a duplicate, decided elsewhere"


@pytest.mark.rule("L10")
def test_the_source_positions_are_those_of_p() -> None:
    assert violation_without("L10 border") == "first 1.0 a duplicate, decided elsewhere, again nothing"


@pytest.mark.rule("M5")
@pytest.mark.rule("A1")
def test_an_unparked_record_that_is_answered_under_its_own_offset_is_dropped_by_consumers() -> None:
    assert violation_without("M5 offset").endswith("a consumer drops it")


@pytest.mark.rule("M5")
@pytest.mark.rule("A1")
def test_two_records_that_one_record_unparks_have_two_ids() -> None:
    assert violation_without("M5 index").endswith("a consumer drops it")


@pytest.mark.rule("M5")
def test_an_unparked_record_is_answered_again_as_of_when_it_was_unparked() -> None:
    assert violation_without("M5 time again").endswith(
        "again 2.0 install 1 installed, 2.1 a duplicate, decided elsewhere"
    )


@pytest.mark.rule("P3")
def test_a_seal_that_is_unparked_behind_others_has_results_of_its_own_record_before_it() -> None:
    assert violation_without("P3 alone") == "offset 2 has results before its seal"


@pytest.mark.rule("P3")
@pytest.mark.rule("M7")
def test_ids_that_go_before_the_results_before_the_seal_are_committed_are_missed() -> None:
    assert "2.1 a no journal row" in violation_without("P3 position")
