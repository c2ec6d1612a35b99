from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from processors.faults import LaneStopped, StopCode
from processors.ledger.commands import AccountStatus, Pay, Policy, Recalled, Refund
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rows import OpenRefund, Refunded
from processors.ledger.rules import Rules
from tests.unit.ledger.build import (
    IDS,
    capture_hold,
    lane_with,
    open_account,
    pay,
    place_hold,
    posting,
    recall,
    refund,
    top_up,
    update_account,
)
from tests.unit.ledger.lane import DAY_MS, RULES, START_MS, SerialLane

WINDOW_MS, PERIOD_MS = RULES.window_ms, RULES.refund_period_ms


def reason_of(answer: object) -> Reason:
    assert isinstance(answer, Outcome)
    return answer.reason


def waiting_refund(lane: SerialLane, age_ms: int = WINDOW_MS + 1, **wishes: Any) -> Refund:
    """Leave a refund open on an original of which only the archive knows."""
    wish = refund(**{"original_id": IDS.at(START_MS - age_ms), **wishes})
    answer = lane.send(wish)
    assert isinstance(answer, Outcome)
    assert answer.status is Status.OPEN
    return wish


@pytest.mark.rule("H1")
@pytest.mark.rule("H3")
def test_a_refund_credits_exactly_the_levels_the_payment_took_from() -> None:
    lane = lane_with("acme", "acme:vn:shop")
    paid = pay(address="acme:vn:shop", amount_minor=30)
    lane.send(paid)
    lane.send(open_account(address="acme:vn"))
    wish = refund(address="acme:vn:shop", original_id=paid.command_id, amount_minor=10)

    answer = lane.send(wish)

    given: Any = {"balance_change": 10, "balance": 80, "sequence": 3}
    assert answer == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        wish.command_id,
        amount_minor=10,
        postings=(posting("acme", **given), posting("acme:vn:shop", **given)),
        levels=0b101,
        related_id=paid.command_id,
        remaining_minor=20,
    )
    assert lane.rows.refunded == {("acme", paid.command_id): Refunded(30, 10)}


@pytest.mark.rule("H3")
def test_a_holds_id_is_no_original_and_its_captures_are() -> None:
    lane = lane_with()
    hold = place_hold(amount_minor=30)
    lane.send(hold)
    capture = capture_hold(hold, amount_minor=30)
    lane.send(capture)

    assert reason_of(lane.send(refund(original_id=hold.command_id))) is Reason.ORIGINAL_NOT_REFUNDABLE
    assert reason_of(lane.send(refund(original_id=capture.command_id, amount_minor=30))) is Reason.NONE
    assert reason_of(lane.send(refund(original_id=capture.command_id, amount_minor=1))) is Reason.REFUND_ABOVE_ORIGINAL


@pytest.mark.rule("H3")
def test_an_original_at_the_refund_periods_edge_is_refunded_and_one_older_is_not() -> None:
    lane = lane_with()

    assert reason_of(lane.send(refund(original_id=IDS.at(START_MS - PERIOD_MS)))) is Reason.NONE
    assert reason_of(lane.send(refund(original_id=IDS.at(START_MS - PERIOD_MS - 1)))) is Reason.ORIGINAL_TOO_OLD


@pytest.mark.rule("H3")
def test_after_the_refund_period_grew_originals_of_before_stay_too_old() -> None:
    lane = lane_with(rules=Rules(version=2, refund_period_ms=2 * PERIOD_MS, refund_floor_ms=START_MS - PERIOD_MS))

    old = refund(original_id=IDS.at(START_MS - PERIOD_MS - 1))

    assert reason_of(lane.send(old, now_ms=START_MS + DAY_MS // 24)) is Reason.ORIGINAL_TOO_OLD


@pytest.mark.rule("H4")
def test_an_original_within_the_window_is_looked_up_and_an_older_one_never() -> None:
    lane = lane_with()
    paid = pay(command_id=IDS.at(START_MS), amount_minor=30)
    lane.send(paid)
    edge_ms = START_MS + WINDOW_MS

    now = lane.send(refund(command_id=IDS.at(edge_ms), original_id=paid.command_id), now_ms=edge_ms)
    later = lane.send(refund(command_id=IDS.at(edge_ms), original_id=paid.command_id), now_ms=edge_ms + 1)

    assert isinstance(now, Outcome)
    assert now.status is Status.ACCEPTED
    assert ("acme", paid.command_id) in lane.rows.decisions  # its row is still there
    assert isinstance(later, Outcome)
    assert later.status is Status.OPEN


@pytest.mark.rule("H4")
def test_an_open_refund_moves_no_money_and_keeps_its_accounts_from_closing() -> None:
    lane = lane_with("acme", "acme:vn", balance=0)
    before = deepcopy(lane.system)

    wish = waiting_refund(lane, address="acme:vn")

    row = OpenRefund("acme:vn", "USD", wish.original_id, 10, 0b11)
    assert lane.rows.open_refunds == {("acme", wish.command_id): row}
    assert lane.system == before
    for address in ("acme", "acme:vn"):
        closing = update_account(address=address, status=AccountStatus.CLOSED)
        assert reason_of(lane.send(closing)) is Reason.ACCOUNT_NOT_EMPTY


@pytest.mark.rule("H4")
@pytest.mark.rule("I7")
def test_a_recall_completes_the_refund_once() -> None:
    lane = lane_with()
    wish = waiting_refund(lane, amount_minor=10)
    found = recall(wish, original_amount_minor=30)

    answer = lane.send(found)

    assert answer == Outcome(
        Status.COMPLETED,
        Reason.NONE,
        wish.command_id,
        amount_minor=10,
        postings=(posting("acme", balance_change=10, balance=110, sequence=2),),
        levels=1,
        related_id=wish.original_id,
        remaining_minor=20,
    )
    assert not lane.rows.open_refunds
    assert lane.rows.accounts["acme", "USD"].open_count == 0
    assert lane.send(found) is None


@pytest.mark.rule("H4")
def test_a_refund_whose_original_is_nowhere_ends_rejected() -> None:
    lane = lane_with()
    wish = waiting_refund(lane)

    answer = lane.send(recall(wish, recalled=Recalled.NOT_FOUND))

    assert answer == Outcome(
        Status.REJECTED,
        Reason.UNKNOWN_ORIGINAL,
        wish.command_id,
        amount_minor=10,
        related_id=wish.original_id,
    )
    assert not lane.rows.open_refunds


@pytest.mark.rule("I7")
@pytest.mark.parametrize(
    "wrong",
    [
        {"command_id": IDS.at(START_MS)},
        {"original_id": IDS.at(START_MS)},
        {"address": "acme:vn"},
        {"currency": "EUR"},
        {"refund_id": IDS.at(START_MS)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_recall_that_is_not_the_services_own_about_just_that_refund_is_silence(wrong: dict[str, Any]) -> None:
    lane = lane_with("acme", "acme:vn")
    wish = waiting_refund(lane)

    assert lane.send(recall(wish, **wrong)) is None
    assert lane.rows.open_refunds


@pytest.mark.rule("H3")
def test_a_recall_counts_what_was_given_back_while_the_journal_knew_the_original() -> None:
    lane = lane_with()
    paid = pay(amount_minor=30)
    lane.send(paid)
    lane.send(refund(original_id=paid.command_id, amount_minor=25))
    late_ms = START_MS + WINDOW_MS + 1
    wish = refund(command_id=IDS.at(late_ms), original_id=paid.command_id, amount_minor=6)
    lane.send(wish, now_ms=late_ms)

    answer = lane.send(recall(wish, original_amount_minor=30), now_ms=late_ms)

    assert reason_of(answer) is Reason.REFUND_ABOVE_ORIGINAL


def refunded_before(lane: SerialLane) -> Refund:
    """Leave a second refund open on an original of 30 of which a part was given back."""
    first = waiting_refund(lane)
    lane.send(recall(first, original_amount_minor=30))
    return waiting_refund(lane, original_id=first.original_id)


@pytest.mark.rule("H3")
@pytest.mark.parametrize(
    "disagreeing",
    [
        {"original_amount_minor": 31},
        {"original_amount_minor": 29},
        {"recalled": Recalled.NOT_FOUND},
        {"original_type": "TOP_UP", "original_amount_minor": 30},
        {"original_accepted": False, "original_amount_minor": 30},
        {"original_address": "acme:vn", "original_amount_minor": 31},
        {"original_levels": 0, "original_amount_minor": 30},
        {"original_levels": 2, "original_amount_minor": 30},
    ],
    ids=str,
)
def test_two_recalls_that_disagree_stop_the_lane_before_anything_changes(disagreeing: dict[str, Any]) -> None:
    lane = lane_with()
    wish = refunded_before(lane)
    before = deepcopy((lane.rows, lane.system))

    with pytest.raises(LaneStopped) as stopped:
        lane.send(recall(wish, **disagreeing))

    assert stopped.value.code is StopCode.RECALLS_DISAGREE
    assert "31" not in stopped.value.detail.rpartition(":")[2]  # no amount: it goes into the log
    assert not lane.book.changed
    assert (lane.rows.accounts, lane.rows.open_refunds, lane.system) == (
        {key: lane.book.accounts[key] for key in before[0].accounts},
        {key: lane.book.open_refunds[key] for key in before[0].open_refunds},
        before[1],
    )


@pytest.mark.rule("H3")
@pytest.mark.parametrize("mistake", [{"address": "acme"}, {"address": "acme:vn", "currency": "EUR"}], ids=str)
def test_a_late_refund_of_the_wrong_account_is_refused_also_after_a_right_one(mistake: dict[str, Any]) -> None:
    lane = lane_with("acme", "acme:vn")
    lane.send(open_account(address="acme:vn", currency="EUR"))
    paid = pay(address="acme:vn", amount_minor=30)
    lane.send(paid)
    lane.send(refund(address="acme:vn", original_id=paid.command_id, amount_minor=10))
    late_ms = START_MS + WINDOW_MS + 1
    wish = refund(command_id=IDS.at(late_ms), original_id=paid.command_id, **mistake)
    lane.send(wish, now_ms=late_ms)
    found: Any = {"original_address": "acme:vn", "original_currency": "USD", "original_levels": 0b11}

    answer = lane.send(recall(wish, **mistake, **found, original_amount_minor=30), now_ms=late_ms)

    assert answer == Outcome(
        Status.REJECTED,
        Reason.ORIGINAL_MISMATCH,
        wish.command_id,
        amount_minor=10,
        related_id=paid.command_id,
    )
    assert not lane.rows.open_refunds
    assert not any(account.open_count for account in lane.rows.accounts.values())
    assert lane.rows.refunded["acme", paid.command_id] == Refunded(30, 10)


@pytest.mark.rule("H3")
def test_an_original_that_took_from_an_account_that_never_was_stops_the_lane() -> None:
    lane = lane_with("acme:vn")
    wish = waiting_refund(lane, address="acme:vn")

    with pytest.raises(LaneStopped) as stopped:
        lane.send(recall(wish, address="acme:vn", original_levels=0b11))

    assert stopped.value.code is StopCode.RECALLS_DISAGREE


@pytest.mark.rule("H3")
def test_a_recall_a_window_after_the_refund_period_comes_too_late_whatever_rows_are_left() -> None:
    lane = lane_with()
    wish = waiting_refund(lane, age_ms=PERIOD_MS)
    other = waiting_refund(lane, age_ms=PERIOD_MS)
    other_known = {("acme", other.original_id): Refunded(5, 5)}  # a row that the remover may have deleted, or not

    in_time = lane.send(recall(wish), now_ms=START_MS + WINDOW_MS)
    lane.rows.refunded.update(other_known)
    lane.forget()
    late = lane.send(recall(other), now_ms=START_MS + WINDOW_MS + 1)

    assert reason_of(in_time) is Reason.NONE
    assert reason_of(late) is Reason.ORIGINAL_TOO_OLD
    assert not lane.rows.open_refunds


def test_an_overflow_ends_an_open_refund() -> None:
    lane = lane_with(balance=2**63 - 1)
    wish = waiting_refund(lane)

    assert reason_of(lane.send(recall(wish))) is Reason.BALANCE_OVERFLOW
    assert not lane.rows.open_refunds


def test_a_parent_closed_meanwhile_refuses_the_refund_and_counts_nothing_open() -> None:
    lane = lane_with("acme", "acme:vn", balance=0)
    lane.send(update_account(address="acme", status=AccountStatus.CLOSED))
    wish = waiting_refund(lane, address="acme:vn")

    assert lane.rows.open_refunds["acme", wish.command_id].levels == 0b10
    assert lane.rows.accounts["acme", "USD"].open_count == 0
    assert reason_of(lane.send(recall(wish, address="acme:vn", original_levels=0b11))) is Reason.ACCOUNT_CLOSED
    assert lane.rows.accounts["acme:vn", "USD"].open_count == 0


def test_a_refund_of_itself_or_of_what_was_refused_is_none() -> None:
    lane = lane_with()
    command_id = IDS.at(START_MS)
    too_much = pay(amount_minor=1_000)
    lane.send(too_much)

    assert reason_of(lane.send(refund(command_id=command_id, original_id=command_id))) is Reason.UNKNOWN_ORIGINAL
    assert reason_of(lane.send(refund(original_id=too_much.command_id))) is Reason.ORIGINAL_NOT_REFUNDABLE


@pytest.mark.rule("H5")
def test_a_refund_is_given_to_a_frozen_account() -> None:
    lane = lane_with()
    paid: Pay = pay()
    lane.send(paid)
    lane.send(update_account(status=AccountStatus.FROZEN))

    assert reason_of(lane.send(refund(original_id=paid.command_id))) is Reason.NONE


@pytest.mark.rule("L15")
def test_system_accounts_are_unbounded() -> None:
    lane = lane_with("acme", "beta", balance=2**63 - 1)
    lane.send(replace(top_up(), address="gamma"))
    lane.send(open_account(address="gamma", policy=Policy.UNCHECKED))
    for _ in range(3):
        lane.send(pay(address="gamma", amount_minor=2**62))

    (funding,) = [balance for (_, contra, _), balance in lane.system.items() if contra == "FUNDING"]
    assert funding == -2 * (2**63 - 1)
