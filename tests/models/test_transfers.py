"""Transfers between trees, state by state: each ends once, whatever comes again, is frozen or late."""

from __future__ import annotations

import pytest

from tests.models.transfers.cases import TRANSFERS


def violation_without(mutation: str) -> str:
    report = TRANSFERS.mutations[mutation].check()
    print(report)  # noqa: T201 - the way into the violation, shown where a test fails
    return report.violation


@pytest.mark.parametrize("scenario", TRANSFERS.scenarios)
def test_every_transfer_ends_once_and_the_total_is_constant(scenario: str) -> None:
    report = TRANSFERS.scenarios[scenario]()
    print(report)  # noqa: T201 - the number of states

    assert report.violation == "", str(report)


@pytest.mark.rule("T1")
def test_a_credit_that_a_duplicate_sends_again_does_no_harm() -> None:
    assert TRANSFERS.redundant["T1"].check().violation == ""


@pytest.mark.rule("T2")
def test_a_credit_that_is_known_is_silent() -> None:
    assert violation_without("T2 known") == "transfer t is credited twice"


@pytest.mark.rule("T2")
def test_a_credit_older_than_the_window_would_be_given_twice() -> None:
    assert violation_without("T2 too old") == "transfer t is credited twice"


@pytest.mark.rule("T2")
def test_a_credit_that_comes_too_late_goes_back_or_the_transfer_stays_open() -> None:
    assert violation_without("T2 silent") == "deadlock"


@pytest.mark.rule("T2")
def test_a_rejected_credit_leaves_a_row_or_it_is_given_when_it_comes_again() -> None:
    assert violation_without("T2 row") == "transfer t is credited and returned"


@pytest.mark.rule("T3")
@pytest.mark.rule("T4")
@pytest.mark.rule("I7")
def test_a_return_without_the_open_row_would_pay_back_twice() -> None:
    assert violation_without("T3 row") == "transfer t ends twice"


@pytest.mark.rule("T3")
def test_the_end_of_a_transfer_is_never_too_old() -> None:
    assert violation_without("T3 window") == "deadlock"


@pytest.mark.rule("T3")
def test_a_return_is_paid_to_a_frozen_account() -> None:
    assert violation_without("T3 frozen") == "deadlock"


@pytest.mark.rule("T3")
def test_a_credit_that_takes_the_room_of_a_return_would_make_it_overflow() -> None:
    assert violation_without("T3 room") == "a balance is above the ceiling"


@pytest.mark.rule("T5")
def test_a_credit_sent_again_under_another_id_is_given_twice() -> None:
    assert violation_without("T5") == "transfer t is credited twice"


@pytest.mark.rule("T5")
def test_an_open_row_is_no_money_on_its_way_once_the_other_side_has_it() -> None:
    assert violation_without("T5 in flight") == "@transit is not what is on its way"


@pytest.mark.rule("H5")
def test_an_account_with_an_open_transfer_is_not_closed() -> None:
    assert violation_without("H5") == "a closed account has money"


@pytest.mark.rule("M6")
def test_a_sender_who_moves_takes_his_open_transfers_along() -> None:
    assert violation_without("M6 open transfers") == "@transit is not what is on its way"


@pytest.mark.rule("M6")
def test_a_receiver_who_moves_takes_the_ids_of_credits_along() -> None:
    assert violation_without("M6 ids") == "transfer t is credited twice"


@pytest.mark.rule("P2")
def test_a_leg_that_is_committed_before_it_is_acknowledged_never_comes() -> None:
    assert violation_without("P2") == "deadlock"


@pytest.mark.rule("P2")
@pytest.mark.rule("P3")
def test_a_return_that_overtakes_the_completion_before_it_pays_back_what_was_credited() -> None:
    assert violation_without("P2 order") == "transfer t is credited and returned"
