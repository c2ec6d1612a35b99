"""Money between trees, at the edges that no story reaches (T1 to T3), and what the ledger says of a move (R3, M6)."""

from __future__ import annotations

import pytest

from processors.ids import derived_id
from processors.ledger.book import Keys, KnownSince, Rows
from processors.ledger.commands import CommandType, MovePartner, Policy
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.postings import why_not
from processors.ledger.rows import Account, Decision
from processors.ledger.rules import BALANCE_MINOR_MAX
from processors.ledger.transfers import SEND
from tests.unit.ledger import build
from tests.unit.ledger.lane import START_MS, Sent, SerialLane

REFUSED_MARKER = MovePartner(command_id=bytes(16), placement_key="acme", generation=1, source="s1", target="s2")


def answer(lane: SerialLane, command: object) -> Outcome | None:
    found = lane.send(command)  # type: ignore[arg-type]
    assert found is None or isinstance(found, Outcome)
    return found


@pytest.mark.rule("T1")
def test_a_transfer_from_an_account_that_is_not_there_takes_nothing() -> None:
    found = answer(SerialLane(), build.transfer(to_address="beta"))

    assert found is not None
    assert (found.status, found.reason) == (Status.REJECTED, Reason.UNKNOWN_ACCOUNT)


@pytest.mark.rule("T1")
def test_a_transfer_beyond_the_payers_funds_takes_nothing() -> None:
    found = answer(build.lane_with(balance=9), build.transfer(to_address="beta", amount_minor=10))

    assert found is not None
    assert (found.status, found.reason) == (Status.REJECTED, Reason.INSUFFICIENT_FUNDS)


@pytest.mark.rule("T3")
def test_what_is_in_transit_never_grows_beyond_what_can_come_back() -> None:
    account = Account("acme", "USD", policy=Policy.UNCHECKED, in_transit_minor=BALANCE_MINOR_MAX)

    rejection = why_not([account], 1, SEND)

    assert rejection is not None
    assert rejection.reason is Reason.BALANCE_OVERFLOW


@pytest.mark.rule("T5")
def test_a_leg_with_another_id_than_its_transfers_is_silence() -> None:
    lane = build.lane_with("acme", "beta")
    sent = build.transfer(to_address="beta")
    lane.send(sent)

    assert answer(lane, build.credit(sent, command_id=derived_id("OTHER", sent.command_id))) is None
    assert answer(lane, build.completed(sent, command_id=derived_id("OTHER", sent.command_id))) is None
    assert answer(lane, build.completed(sent)) is not None


@pytest.mark.rule("T5")
def test_a_credit_under_another_key_than_its_receivers_is_silence_and_needs_no_row_of_his() -> None:
    lane = build.lane_with("acme", "beta")
    sent = build.transfer(to_address="beta")
    lane.send(sent)

    assert lane.send(build.credit(sent), root="acme") is None
    assert answer(lane, build.credit(sent)) is not None


@pytest.mark.rule("R3")
def test_a_marker_that_the_router_did_not_find_good_is_refused_without_a_row() -> None:
    found = answer(build.lane_with(), REFUSED_MARKER)

    assert found is not None
    assert (found.status, found.reason, found.journalled) == (Status.REJECTED, Reason.MOVE_REFUSED, False)
    assert Sent(command=REFUSED_MARKER).key == "acme"
    assert REFUSED_MARKER.currency == ""


@pytest.mark.rule("M6")
def test_what_a_root_has_known_since_a_later_time_counts_before_the_rules_do() -> None:
    book = build.lane_with().book
    before = [ask("acme", START_MS) for ask in (book.window_start_ms, book.refund_start_ms, book.recall_start_ms)]
    book.known_since = lambda _root: KnownSince(ids_ms=START_MS - 1, refunds_ms=START_MS - 2)

    after = [ask("acme", START_MS) for ask in (book.window_start_ms, book.refund_start_ms, book.recall_start_ms)]

    assert after == [START_MS - 1, START_MS - 2, START_MS - 2]
    assert all(early < late for early, late in zip(before, after, strict=True))


@pytest.mark.rule("M2")
def test_a_root_that_comes_or_goes_is_forgotten_and_others_are_not() -> None:
    book = build.lane_with("acme", "beta").book
    ids: dict[tuple[str, bytes], None] = {("acme", b"1"): None, ("beta", b"1"): None}
    book.add(Keys(decisions=ids, holds=ids), Rows(decisions={("beta", b"1"): decision()}))

    book.forget_roots(0, lambda root: root == "acme")

    assert list(book.accounts) == [("beta", "USD")]
    assert list(book.holds) == [("beta", b"1")]
    assert {root for root, _ in book.decisions} == {"beta"}
    needed = Keys(accounts={("acme", "USD"): None, ("beta", "USD"): None})
    assert list(book.missing(needed).accounts) == [("acme", "USD")]


def decision() -> Decision:
    return Decision(bytes(16), 0, 0, CommandType.PAY, Status.ACCEPTED, "beta", "USD", 1, 1, b"")
