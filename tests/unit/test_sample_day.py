"""The sample day against the ledger core itself: each command gets the answer it is planned with."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import get_args

import pytest

from devtools.cli.demo import is_clean
from devtools.sample_day import SHORT_HOLD_MS, Day, Place, Planned, plan_day
from processors.ids import make_command_id, root_of
from processors.ledger.book import Book, Keys, Rows
from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import PartnersCommand
from processors.ledger.decide import Duplicate, decide
from processors.ledger.needs import collect_needs
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.rows import Decision
from processors.ledger.rules import Rules
from processors.recovery.checks import Check
from processors.recovery.moved import money_moved
from processors.recovery.transit import InFlight
from processors.wire.commands import body_hash

MORNING_MS = 1_700_000_000_000


@pytest.fixture
def day() -> Day:
    numbers = count(1)

    def new_id() -> bytes:
        return make_command_id(MORNING_MS, next(numbers).to_bytes(10, "big"))

    return plan_day(seed=7, actions=600, tag="t", now_ms=MORNING_MS, new_id=new_id)


def answer(book: Book, planned: Planned, now_ms: int) -> Outcome | Duplicate:
    command = planned.command
    root = command.address.partition(":")[0]
    needed = Keys()
    collect_needs(command, root, needed)
    book.add(book.missing(needed), Rows())
    hashed = body_hash(command)
    outcome = decide(book, command, root=root, body_hash=hashed, now_ms=now_ms)
    assert outcome is not None
    if isinstance(outcome, Outcome) and outcome.journalled:
        book.decisions[root, command.command_id] = Decision(
            hashed, 0, 0, TYPE_OF[type(command)], outcome.status, command.address, command.currency,
            outcome.amount_minor, outcome.levels, b"",
        )  # fmt: skip
    return outcome


def test_each_command_of_the_day_gets_the_answer_it_is_planned_with(day: Day) -> None:
    book = Book(Rules(version=1), {})
    evening = {id(planned) for planned in day.evening}
    for planned in day:
        now_ms = MORNING_MS + (SHORT_HOLD_MS if id(planned) in evening else 0)
        got = answer(book, planned, now_ms)
        if planned.duplicate:
            assert isinstance(got, Duplicate)
        else:
            assert isinstance(got, Outcome)
            status = Status.OPEN if planned.until_final else planned.status
            assert got.status is status, planned
            assert planned.until_final or got.reason in planned.reasons, (planned, got.reason)
    assert {key: total for key, total in Counter(_by_level(book)).items() if total} == {}


def _by_level(book: Book) -> Counter[tuple[int, str]]:
    totals: Counter[tuple[int, str]] = Counter()
    for (level, _, currency), amount in book.system.items():
        totals[level, currency] += amount
    for account in book.accounts.values():
        if account is not None:
            totals[account.address.count(":") + 1, account.currency] += account.balance
    return totals


def test_the_day_meets_every_kind_of_command_and_nearly_every_reason(day: Day) -> None:
    kinds = {type(planned.command) for planned in day}
    reasons = {reason for planned in day for reason in planned.reasons}

    assert set(get_args(PartnersCommand)) == kinds
    # No client of ours sends such records.
    others = {Reason.TRANSFER_TOO_OLD, Reason.MOVE_REFUSED, Reason.TRANSFER_BETWEEN_TREES}  # a window, moves, release 2
    assert set(Reason) - reasons == {Reason.KEY_IS_NOT_ROOT, Reason.INVALID_ADDRESS, *others}


def test_the_same_seed_gives_the_same_day(day: Day) -> None:
    numbers = count(1)
    again = plan_day(
        seed=7,
        actions=600,
        tag="t",
        now_ms=MORNING_MS,
        new_id=lambda: make_command_id(MORNING_MS, next(numbers).to_bytes(10, "big")),
    )

    assert list(again) == list(day)


def test_a_place_knows_its_partner() -> None:
    assert Place("kite-1:vn:shop-1", "USD").root == "kite-1"


def test_the_day_is_clean_only_if_nothing_is_wrong_unproven_or_still_on_its_way() -> None:
    proven = Check(name="a check", counted=1, wrong=0, details=())
    wrong = money_moved({"s1": {"USD": 5}, "s2": {"USD": -4}}, moving=[])
    on_its_way = InFlight(
        transfer_id=bytes(16), address="kite", to_address="pearl", currency="USD", amount_minor=1, is_credited=False
    )

    assert is_clean([], [proven], [])
    assert not is_clean(["a mistake"], [proven], [])
    assert not is_clean([], [proven, wrong], [])
    assert not is_clean([], [proven], [on_its_way])


def test_a_partner_moves_in_the_middle_of_the_day_with_business_before_and_after(day: Day) -> None:
    half = len(day.business) // 2
    before, after = (
        [planned for planned in part if root_of(planned.command.address) == day.moving]
        for part in (day.business[:half], day.business[half:])
    )

    assert day.moving in day.roots
    assert min(len(before), len(after)) > 20
