from __future__ import annotations

from typing import Any

import pytest

from processors.ledger.outcomes import Contra, Outcome, Reason, Status
from processors.ledger.rows import Hold
from tests.unit.ledger.build import (
    IDS,
    capture_hold,
    expire_hold,
    get_balance,
    lane_with,
    open_account,
    place_hold,
    posting,
    void_hold,
)
from tests.unit.ledger.lane import START_MS


@pytest.mark.rule("H1")
def test_a_hold_says_what_it_took_and_until_when() -> None:
    lane = lane_with("acme", "acme:vn:shop")
    hold = place_hold(address="acme:vn:shop", amount_minor=30, expires_in_ms=60_000)

    answer = lane.send(hold)

    taken: Any = {"held_change": 30, "balance": 100, "held": 30, "sequence": 2}
    assert answer == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        hold.command_id,
        amount_minor=30,
        postings=(posting("acme", Contra.NONE, **taken), posting("acme:vn:shop", Contra.NONE, **taken)),
        levels=0b101,
        remaining_minor=30,
        expires_at_ms=START_MS + 60_000,
    )
    assert lane.rows.holds == {("acme", hold.command_id): Hold("acme:vn:shop", "USD", 30, 30, 0b101, START_MS + 60_000)}


@pytest.mark.rule("H1")
def test_a_capture_takes_from_the_holds_levels_whatever_was_opened_since() -> None:
    lane = lane_with("acme", "acme:vn:shop")
    hold = place_hold(address="acme:vn:shop", amount_minor=30)
    lane.send(hold)
    lane.send(open_account(address="acme:vn"))
    capture = capture_hold(hold, address="acme:vn:shop", amount_minor=20)

    answer = lane.send(capture)

    taken: Any = {"balance_change": -20, "held_change": -30, "balance": 80, "held": 0, "sequence": 3}
    assert answer == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        hold.command_id,
        amount_minor=20,
        postings=(posting("acme", **taken), posting("acme:vn:shop", **taken)),
        levels=0b101,
        related_id=hold.command_id,
        remaining_minor=0,
    )
    assert not lane.rows.holds


@pytest.mark.rule("H2")
def test_at_its_expiry_a_hold_is_expired_and_a_moment_before_it_is_not() -> None:
    lane = lane_with()
    first, second = place_hold(expires_in_ms=1_000), place_hold(expires_in_ms=1_000)
    lane.send(first)
    lane.send(second)

    early = lane.send(capture_hold(first), now_ms=START_MS + 999)
    late = lane.send(capture_hold(second), now_ms=START_MS + 1_000)

    assert isinstance(early, Outcome)
    assert early.status is Status.ACCEPTED
    assert isinstance(late, Outcome)
    assert late.reason is Reason.HOLD_EXPIRED


@pytest.mark.rule("H2")
@pytest.mark.rule("I7")
def test_an_expiry_before_its_time_is_silence_and_the_hold_stays() -> None:
    lane = lane_with()
    hold = place_hold(expires_in_ms=1_000)
    lane.send(hold)

    assert lane.send(expire_hold(hold), now_ms=START_MS + 999) is None
    assert lane.rows.holds


@pytest.mark.rule("I7")
def test_an_expiry_releases_once_and_then_finds_nothing() -> None:
    lane = lane_with()
    hold = place_hold(amount_minor=30, expires_in_ms=1_000)
    lane.send(hold)
    lane.send(capture_hold(hold, amount_minor=10, final=False))

    answer = lane.send(expire_hold(hold), now_ms=START_MS + 1_000)
    again = lane.send(expire_hold(hold), now_ms=START_MS + 1_000)

    assert answer == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        hold.command_id,
        amount_minor=20,
        postings=(posting("acme", Contra.NONE, held_change=-20, balance=90, held=0, sequence=4),),
        levels=1,
        related_id=hold.command_id,
    )
    assert again is None
    assert lane.rows.accounts["acme", "USD"].open_count == 0


@pytest.mark.rule("H2")
@pytest.mark.parametrize("row_is_there", [True, False], ids=["row kept", "row removed"])
def test_what_expired_is_known_for_a_window_and_no_longer_whatever_rows_are_left(row_is_there: bool) -> None:
    lane = lane_with()
    hold = place_hold(expires_in_ms=1_000)
    lane.send(hold)
    expired_ms = START_MS + 1_000
    lane.send(expire_hold(hold), now_ms=expired_ms)
    last_ms = expired_ms + lane.rules.window_ms

    known = lane.send(capture_hold(hold, command_id=IDS.at(last_ms)), now_ms=last_ms)
    if not row_is_there:  # the remover came
        lane.rows.holds.clear()
        lane.forget()
    forgotten = lane.send(capture_hold(hold, command_id=IDS.at(last_ms)), now_ms=last_ms + 1)

    assert isinstance(known, Outcome)
    assert known.reason is Reason.HOLD_EXPIRED
    assert isinstance(forgotten, Outcome)
    assert forgotten.reason is Reason.UNKNOWN_HOLD


@pytest.mark.rule("I7")
def test_an_expiry_is_outside_the_window() -> None:
    lane = lane_with()
    hold = place_hold(expires_in_ms=1_000)
    lane.send(hold)

    answer = lane.send(expire_hold(hold), now_ms=START_MS + 10 * lane.rules.window_ms)

    assert isinstance(answer, Outcome)
    assert answer.status is Status.ACCEPTED


@pytest.mark.rule("I7")
@pytest.mark.parametrize(
    "wrong",
    [{"command_id": IDS.at(START_MS)}, {"address": "acme:vn"}, {"currency": "EUR"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_expiry_that_is_not_the_services_own_about_just_that_hold_is_silence(wrong: dict[str, str]) -> None:
    lane = lane_with("acme", "acme:vn")
    hold = place_hold(expires_in_ms=1)
    lane.send(hold)

    assert lane.send(expire_hold(hold, **wrong), now_ms=START_MS + 1) is None
    assert lane.rows.holds


def test_a_capture_without_an_amount_takes_all_that_is_left() -> None:
    lane = lane_with()
    hold = place_hold(amount_minor=30)
    lane.send(hold)
    lane.send(capture_hold(hold, amount_minor=10, final=False))

    answer = lane.send(capture_hold(hold, amount_minor=None, final=False))

    assert isinstance(answer, Outcome)
    assert (answer.amount_minor, answer.remaining_minor) == (20, 0)
    assert not lane.rows.holds
    assert lane.rows.accounts["acme", "USD"].open_count == 0


def test_a_void_says_how_much_it_released() -> None:
    lane = lane_with()
    hold = place_hold(amount_minor=30)
    lane.send(hold)

    assert lane.send(void_hold(hold)) == Outcome(
        Status.ACCEPTED,
        Reason.NONE,
        hold.command_id,
        amount_minor=30,
        postings=(posting("acme", Contra.NONE, held_change=-30, balance=100, held=0, sequence=3),),
        levels=1,
        related_id=hold.command_id,
    )


def test_a_refusal_names_the_hold_and_the_amount_it_asked_for() -> None:
    lane = lane_with()
    hold = place_hold(amount_minor=30)
    lane.send(hold)
    capture = capture_hold(hold, amount_minor=31)

    assert lane.send(capture) == Outcome(
        Status.REJECTED,
        Reason.CAPTURE_ABOVE_HOLD,
        capture.command_id,
        amount_minor=31,
        related_id=hold.command_id,
    )


@pytest.mark.rule("H5")
def test_a_balance_is_read_in_order_with_the_writes() -> None:
    lane = lane_with("acme", "acme:vn")
    lane.send(place_hold(address="acme:vn", amount_minor=30))
    read = get_balance(address="acme:vn")

    answer = lane.send(read)

    seen: Any = {"balance": 100, "held": 30, "sequence": 2}
    assert isinstance(answer, Outcome)
    assert answer.postings == (posting("acme", Contra.NONE, **seen), posting("acme:vn", Contra.NONE, **seen))
    assert (answer.policy, answer.account_status, answer.levels) == ("CHECKED", "ACTIVE", 0b11)
