from __future__ import annotations

from dataclasses import replace

import pytest

from processors.ids import derived_id
from processors.ledger.decide import Duplicate
from processors.ledger.identity import identify
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rules import Rules
from tests.unit.ledger.build import IDS, lane_with, pay
from tests.unit.ledger.lane import HOUR_MS, RULES, START_MS, Sent, body_hash

WINDOW_MS, SKEW_MS, FUTURE_MS = RULES.window_ms, RULES.skew_ms, RULES.future_limit_ms


def unanswered(reason: Reason, command_id: bytes, status: Status = Status.REJECTED) -> Outcome:
    return Outcome(status, reason, command_id, journalled=False)


@pytest.mark.rule("I1")
def test_the_same_id_under_another_root_is_another_command() -> None:
    lane = lane_with("acme", "other")
    first = pay()
    lane.send(first)

    answer = lane.send(replace(first, address="other"))

    assert isinstance(answer, Outcome)
    assert answer.status is Status.ACCEPTED


@pytest.mark.rule("I3")
def test_the_same_body_again_is_a_duplicate_of_the_first_decision() -> None:
    lane = lane_with()
    command = pay()
    lane.send(command)

    answer = lane.send(command, now_ms=START_MS + HOUR_MS)

    assert answer == Duplicate(lane.rows.decisions["acme", command.command_id])
    assert lane.rows.accounts["acme", "USD"].balance == 90


@pytest.mark.rule("I3")
def test_a_refusal_is_a_first_decision_too() -> None:
    lane = lane_with(balance=0)
    command = pay(amount_minor=10)
    lane.send(command)
    lane.send(pay())

    assert isinstance(lane.send(command), Duplicate)


@pytest.mark.rule("I3")
def test_another_body_under_a_known_id_is_refused_and_leaves_no_row() -> None:
    lane = lane_with()
    command = pay()
    lane.send(command)

    answer = lane.send(replace(command, amount_minor=11))

    assert answer == unanswered(Reason.COMMAND_ID_REUSED, command.command_id)
    assert lane.rows.decisions["acme", command.command_id].body_hash == body_hash(command)


@pytest.mark.rule("I3")
@pytest.mark.rule("L9")
def test_a_duplicate_in_the_same_batch_is_seen() -> None:
    lane = lane_with()
    command = pay()

    first, second, reused = lane.batch(
        [Sent(command=command), Sent(command=command), Sent(command=replace(command, amount_minor=1))]
    )

    assert isinstance(first, Outcome)
    assert isinstance(second, Duplicate)
    assert reused == unanswered(Reason.COMMAND_ID_REUSED, command.command_id)
    assert lane.rows.accounts["acme", "USD"].balance == 90


@pytest.mark.rule("I4")
def test_an_id_at_the_windows_edge_is_decided_and_one_older_is_unknown() -> None:
    lane = lane_with()
    edge, older = IDS.at(START_MS - WINDOW_MS), IDS.at(START_MS - WINDOW_MS - 1)

    assert lane.send(pay(command_id=edge)) != unanswered(Reason.COMMAND_TOO_OLD, edge, Status.UNKNOWN)
    assert lane.send(pay(command_id=older)) == unanswered(Reason.COMMAND_TOO_OLD, older, Status.UNKNOWN)


@pytest.mark.rule("I4")
def test_an_id_older_than_the_window_is_not_looked_up_even_if_its_row_is_there() -> None:
    lane = lane_with()
    command = pay()
    lane.send(command)

    late = lane.send(command, now_ms=START_MS + WINDOW_MS + 1)

    assert late == unanswered(Reason.COMMAND_TOO_OLD, command.command_id, Status.UNKNOWN)


@pytest.mark.rule("I5")
def test_ahead_by_the_skew_is_now_and_by_more_is_refused_with_a_row() -> None:
    lane = lane_with()
    ahead, further = IDS.at(START_MS + SKEW_MS), IDS.at(START_MS + SKEW_MS + 1)

    accepted = lane.send(pay(command_id=ahead))
    refused = lane.send(pay(command_id=further))

    assert isinstance(accepted, Outcome)
    assert accepted.status is Status.ACCEPTED
    assert refused == Outcome(Status.REJECTED, Reason.COMMAND_FROM_FUTURE, further)


@pytest.mark.rule("I5")
def test_a_late_copy_of_what_came_from_the_future_gets_the_same_answer() -> None:
    lane = lane_with()
    command = pay(command_id=IDS.at(START_MS + HOUR_MS))
    lane.send(command)

    assert isinstance(lane.send(command, now_ms=START_MS + HOUR_MS), Duplicate)


@pytest.mark.rule("I5")
@pytest.mark.parametrize(
    "command_id",
    [
        IDS.at(START_MS + FUTURE_MS + 1),
        bytes(16),
        b"\xff" * 16,
        derived_id("PAY", bytes(16)),
        IDS.at(START_MS)[:15],
        b"",
    ],
)
def test_an_id_that_tells_no_plausible_time_is_refused_without_a_row(command_id: bytes) -> None:
    lane = lane_with()

    assert lane.send(pay(command_id=command_id)) == unanswered(Reason.IMPLAUSIBLE_ID, command_id)
    assert ("acme", command_id) not in lane.rows.decisions


@pytest.mark.rule("I5")
def test_an_id_at_the_future_limit_is_still_kept() -> None:
    lane = lane_with()
    command_id = IDS.at(START_MS + FUTURE_MS)

    assert lane.send(pay(command_id=command_id)) == Outcome(Status.REJECTED, Reason.COMMAND_FROM_FUTURE, command_id)


@pytest.mark.rule("I6")
def test_after_the_window_grew_ids_of_before_are_no_younger_than_they_were() -> None:
    grown = Rules(version=2, window_ms=2 * WINDOW_MS, window_floor_ms=START_MS - WINDOW_MS)
    lane = lane_with(rules=grown)
    within, gone = IDS.at(START_MS - WINDOW_MS), IDS.at(START_MS - WINDOW_MS - 1)
    later_ms = START_MS + HOUR_MS

    accepted = lane.send(pay(command_id=within), now_ms=later_ms)
    refused = lane.send(pay(command_id=gone), now_ms=later_ms)

    assert isinstance(accepted, Outcome)
    assert accepted.status is Status.ACCEPTED
    assert refused == unanswered(Reason.COMMAND_TOO_OLD, gone, Status.UNKNOWN)


@pytest.mark.rule("L4")
def test_an_answer_without_a_row_is_a_function_of_record_time_and_journal() -> None:
    lane = lane_with()
    command = pay()
    lane.send(command)
    reused = replace(command, amount_minor=11)

    answer = lane.send(reused)
    again = identify(
        lane.book,
        root="acme",
        command_id=reused.command_id,
        body_hash=body_hash(reused),
        now_ms=START_MS,
    )

    assert again == answer
