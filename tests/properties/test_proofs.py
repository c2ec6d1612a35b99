"""A proof that goes on finds what one of everything finds, wherever the new rows begin, whatever is wrong of them."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.ledger.outcomes import Contra
from processors.stores.journal_names import STATUS_NUMBERS
from tests.archived import Ledger
from tests.proven_books import ProvenBooks, proven

ROOTS = ("acme", "bravo", "coral")


def a_shard(old: list[int], new: list[int], batch_rows: int) -> ProvenBooks:
    """Return a shard whose old payments are proven, and whose new ones are not; each of a root by its number."""
    ledger = Ledger(_balances=dict.fromkeys(ROOTS, 0))
    books = ProvenBooks(batch_rows=batch_rows)
    for payments in (old, new):
        proven(books)
        before = len(ledger.results)
        for number in payments:
            ledger.pay(ROOTS[number])
        books.decide(ledger.results[before:])
    return books


def spoil(books: ProvenBooks, damage: str, place: int, first: int) -> None:
    """Damage one of the new rows, or what all rows lead to."""
    offset = first + place % max(1, len(books.journal) - first)
    match damage:
        case "column":
            books.wrong_columns = {offset: ("status", STATUS_NUMBERS["REJECTED"])}
        case "bytes":
            books.other_bytes = {offset: books.journal[offset - 1]}
        case "row":
            books.missing = {offset}
        case "balance":
            account = books.every_account[place % len(books.every_account)]
            account.balance += 1
        case "sequence":
            books.every_account[place % len(books.every_account)].sequence += 1
        case "system account":
            books.system[1, Contra.SETTLEMENT, "USD"] -= 5
            books.system[1, Contra.FUNDING, "USD"] = 5
        case _:
            assert damage == "none"


def findings(books: ProvenBooks, *, everything: bool) -> dict[str, int]:
    checks = proven(copy.deepcopy(books), everything=everything)
    return {name: check.wrong for name, check in checks.items() if check.wrong}


@pytest.mark.rule("V5")
@settings(deadline=None, max_examples=60)
@given(
    old=st.lists(st.integers(0, 2), min_size=1, max_size=30),
    new=st.lists(st.integers(0, 2), min_size=1, max_size=30),
    batch_rows=st.integers(1, 7),
    damage=st.sampled_from(["none", "column", "bytes", "row", "balance", "sequence", "system account"]),
    place=st.integers(0, 100),
)
def test_a_proof_that_goes_on_finds_what_one_of_everything_finds(
    old: list[int], new: list[int], batch_rows: int, damage: str, place: int
) -> None:
    books = a_shard(old, new, batch_rows)
    spoil(books, damage, place, len(old))

    bounded, everything = (findings(books, everything=each) for each in (False, True))

    assert bounded == everything
    assert bool(bounded) == (damage != "none")
