from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import fields

import pytest

from processors.ledger.book import GROUPS_TOGETHER, Book, Keys, Rows
from processors.ledger.commands import Command
from processors.ledger.decide import decide
from processors.ledger.needs import collect_needs
from processors.ledger.rows import Account, AccountKey, Decision
from processors.ledger.tables import ACCOUNTS, ROOT_TABLES, AnyTable, RowChange
from tests.unit.ledger import build
from tests.unit.ledger.lane import RULES, START_MS, Sent, SerialLane


def needs_of(command: Command, root: str = "acme") -> Keys:
    needs = Keys()
    collect_needs(command, root, needs)
    return needs


@pytest.mark.rule("H1")
def test_a_payment_needs_its_whole_chain_and_its_own_id() -> None:
    command = build.pay(address="acme:vn:shop")

    assert needs_of(command) == Keys(
        accounts={(address, "USD"): None for address in ("acme", "acme:vn", "acme:vn:shop")},
        decisions={("acme", command.command_id): None},
    )


@pytest.mark.rule("L9")
def test_a_command_needs_the_row_that_it_opens() -> None:
    hold, refund = build.place_hold(), build.refund()

    assert needs_of(hold).holds == {("acme", hold.command_id): None}
    assert needs_of(refund).open_refunds == {("acme", refund.command_id): None}
    assert needs_of(refund).decisions == {
        ("acme", refund.command_id): None,
        ("acme", refund.original_id): None,
    }


@pytest.mark.rule("I7")
def test_the_services_own_commands_look_for_no_first_decision() -> None:
    assert not needs_of(build.expire_hold(build.place_hold())).decisions
    assert not needs_of(build.recall(build.refund())).decisions


@pytest.mark.parametrize("name", [field.name for field in fields(Keys)])
def test_keys_are_some_where_one_of_any_kind_is_there(name: str) -> None:
    keys = Keys()
    assert not keys

    getattr(keys, name)["acme", "any"] = None
    assert keys


def test_a_malformed_address_needs_no_account() -> None:
    assert not needs_of(build.pay(address="acme::")).accounts


@pytest.mark.parametrize("currency", ["", "US", "USDT", "U" * 60_000, "usé", "€€€"], ids=lambda text: text[:4])
def test_what_has_not_the_form_of_a_currency_needs_no_account(currency: str) -> None:
    assert not needs_of(build.pay(currency=currency)).accounts
    assert not needs_of(build.transfer(currency=currency)).accounts


@pytest.mark.rule("F3")
def test_an_account_of_another_root_than_the_keys_is_not_needed() -> None:
    between = build.transfer(address="acme:us", to_address="beta:vn")

    assert not needs_of(build.pay(address="beta:vn")).accounts
    assert set(needs_of(between).accounts) == {("acme", "USD"), ("acme:us", "USD")}


def test_a_row_that_was_not_loaded_is_a_bug() -> None:
    command = build.pay()
    book = Book(RULES, {})
    book.decisions["acme", command.command_id] = None

    with pytest.raises(KeyError):
        decide(book, command, root="acme", body_hash=bytes(16), now_ms=START_MS)


@pytest.mark.rule("L9")
def test_what_a_batch_opened_stays_while_the_batch_is_not_committed() -> None:
    lane = build.lane_with()
    hold, refund = build.place_hold(), build.refund(original_id=build.IDS.at(START_MS - RULES.window_ms - 1))
    in_flight = Keys()
    for command in (hold, refund):
        collect_needs(command, "acme", in_flight)
    lane.batch([Sent(command=hold), Sent(command=refund)])

    lane.book.forget([in_flight], accounts_max=1_000)

    next_needs = needs_of(build.capture_hold(hold))
    collect_needs(build.recall(refund), "acme", next_needs)
    missing = lane.book.missing(next_needs)
    assert not missing.holds
    assert not missing.open_refunds


def test_the_book_lets_go_of_what_no_batch_names() -> None:
    lane = SerialLane()
    for address in ("a", "b", "c"):
        lane.send(build.open_account(address=address))
    kept = needs_of(build.pay(address="a"), "a")

    lane.book.forget([kept], accounts_max=2)

    assert set(lane.book.accounts) == {("a", "USD"), ("c", "USD")}  # "b" is the oldest that nobody names
    assert not lane.book.decisions


@pytest.mark.parametrize("accounts_max", [2, 3, 1_000])
def test_a_book_with_room_keeps_every_account(accounts_max: int) -> None:
    lane = build.lane_with("a", "b")

    lane.book.forget([], accounts_max=accounts_max)

    assert set(lane.book.accounts) == {("a", "USD"), ("b", "USD")}


class CountingSteps(OrderedDict[AccountKey, Account | None]):
    """Accounts that count how many of them were looked at in turn."""

    steps = 0

    def __iter__(self) -> Iterator[AccountKey]:
        for key in super().__iter__():
            self.steps += 1
            yield key


def test_forgetting_one_account_does_not_look_at_the_whole_book() -> None:
    book = Book(RULES, {})
    book.accounts = accounts = CountingSteps({(f"a{number}", "USD"): None for number in range(10_000)})
    in_flight = needs_of(build.pay(address="a0"), "a0")

    book.forget([in_flight], accounts_max=9_999)

    assert ("a0", "USD") in accounts
    assert ("a1", "USD") not in accounts
    assert accounts.steps <= 3


def test_a_row_asked_for_and_not_found_is_known_to_be_absent() -> None:
    book = Book(RULES, {})
    asked = Keys(accounts={("acme", "USD"): None}, decisions={("acme", b"x"): None})

    book.add(asked, Rows(accounts={("other", "USD"): Account("other", "USD")}))

    assert book.accounts == {("acme", "USD"): None}
    assert not book.missing(asked)


def test_changes_are_taken_once() -> None:
    lane = build.lane_with()
    lane.book.changed.accounts["acme", "USD"] = None

    account = lane.book.accounts["acme", "USD"]
    assert lane.book.take_changes().rows[ACCOUNTS] == [RowChange(("acme", "USD"), account, 1)]
    assert not any(lane.book.take_changes().rows.values())


def test_a_first_decision_is_found_under_its_root() -> None:
    lane = build.lane_with()
    command = build.pay()
    lane.send(command)

    decision = lane.book.decisions["acme", command.command_id]

    assert isinstance(decision, Decision)
    assert (decision.amount_minor, decision.levels, decision.address) == (10, 1, "acme")


@pytest.mark.rule("M6")
def test_the_book_has_a_place_for_each_table_of_a_roots_state() -> None:
    """A ``Decision`` is a row of the journal; of the ids alone a move takes those within the window."""
    plurals = {table.plural for table in ROOT_TABLES}

    assert plurals | {"decisions", "moved_ids", "system"} == {field.name for field in fields(Keys)}
    assert plurals | {"decisions"} == {field.name for field in fields(Rows)}
    assert plurals < set(Book.__slots__)


def test_a_row_that_comes_and_goes_within_a_batch_is_never_stored() -> None:
    lane = build.lane_with()
    hold = build.place_hold()

    lane.batch([Sent(command=hold), Sent(command=build.void_hold(hold))])

    assert lane.book.holds == {("acme", hold.command_id): None}
    assert not lane.rows.holds


@pytest.mark.parametrize("table", [table for table in ROOT_TABLES if not table.ends], ids=lambda table: table.name)
def test_a_row_that_no_lane_deletes_and_that_is_gone_is_a_bug(table: AnyTable) -> None:
    book = Book(RULES, {})
    table.rows_in(book)["acme", "USD"] = None
    table.keys_in(book.changed)["acme", "USD"] = None

    with pytest.raises(AssertionError, match=table.name):
        book.take_changes()


@pytest.mark.rule("M2")
def test_accounts_of_roots_that_come_or_go_are_found_among_those_of_their_group_alone() -> None:
    """A book may have a hundred thousand: a seal that looked at each would hold up all of the lane's partners."""
    book = Book(RULES, {}, group_of=lambda root: int(root[1:]) % 10 * GROUPS_TOGETHER)
    keys = Keys(accounts={(f"w{number}", "USD"): None for number in range(100)})
    book.add(keys, Rows(accounts={("w7", "USD"): Account("w7", "USD")}))
    book.forget([], 90)  # the first ten leave, w7 among them
    asked = []

    def is_meant(root: str) -> bool:
        asked.append(root)
        return root == "w17"

    book.forget_roots(7 * GROUPS_TOGETHER, is_meant)

    assert sorted(asked) == [f"w{number}" for number in range(17, 100, 10)]
    assert ("w17", "USD") not in book.accounts
    assert len(book.accounts) == 89
    assert sorted(key for keys in book.grouped.values() for key in keys) == sorted(book.accounts)
    book.forget([], 0)
    assert not any(book.grouped.values())
