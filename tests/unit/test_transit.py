"""What is in transit, over all shards, is what open transfers took and nobody has yet (T5)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import pytest

from processors.faults import Undecodable
from processors.ids import make_command_id
from processors.ledger.outcomes import Reason, Status
from processors.ledger.rows import DecisionKey, OpenTransfer, TransactionKey
from processors.ledger.transfers import credit_id
from processors.recovery.transit import InFlight, money_in_transit, told
from processors.stores.archive_reader import StepKey
from processors.wire.causes import Cause
from processors.wire.result_format import write_result
from tests.archived import a_result

pytestmark = pytest.mark.rule("T5")

T1, T2 = (make_command_id(1_790_000_000_000, bytes([number]) * 10) for number in (1, 2))


@dataclass(slots=True)
class Books:
    sums: dict[str, int] = field(default_factory=dict)
    rows: dict[TransactionKey, OpenTransfer] = field(default_factory=dict)
    results: dict[DecisionKey, bytes] = field(default_factory=dict)

    def transit(self) -> dict[str, int]:
        return self.sums

    def owned_transfers(self) -> Iterator[tuple[TransactionKey, OpenTransfer]]:
        yield from self.rows.items()

    def decided(self, keys: Collection[DecisionKey]) -> dict[DecisionKey, bytes]:
        return {key: result for key, result in self.results.items() if key in keys}


def sender(*transfers: bytes, transit: int) -> Books:
    row = OpenTransfer("acme:vn", "USD", "beta", 500, 3)
    return Books(sums={"USD": transit}, rows={("acme", transfer): row for transfer in transfers})


def receiver(transfer: bytes, status: Status, transit: int = 0) -> Books:
    result = a_result(status=status, reason=Reason.NONE, postings=())
    return Books(sums={"USD": transit}, results={("beta", credit_id("acme", transfer)): write_result(result)})


@dataclass(slots=True)
class Archive:
    results: dict[StepKey, bytes | Undecodable] = field(default_factory=dict)

    def steps_at(self, keys: Collection[StepKey]) -> dict[StepKey, bytes | Undecodable]:
        return {key: result for key, result in self.results.items() if key in keys}


def archived(transfer: bytes, status: Status) -> Archive:
    ((root, credit), result), *_ = receiver(transfer, status).results.items()
    return Archive({StepKey(transfer, root, credit): result})


def open_(transfer: bytes, *, is_credited: bool) -> InFlight:
    return InFlight(
        transfer_id=transfer,
        address="acme:vn",
        to_address="beta",
        currency="USD",
        amount_minor=500,
        is_credited=is_credited,
    )


def test_nothing_open_and_nothing_in_transit_is_proven() -> None:
    check, in_flight = money_in_transit([Books(sums={"USD": 7}), Books(sums={"USD": -7})])

    assert (check.passed, check.counted, in_flight) == (True, 0, [])


def test_open_transfers_are_in_transit_until_the_receiver_has_the_money() -> None:
    shards = [sender(T1, T2, transit=1_000), receiver(T1, Status.ACCEPTED, -500)]
    check, in_flight = money_in_transit(shards)

    assert check.passed
    assert in_flight == [open_(T1, is_credited=True), open_(T2, is_credited=False)]
    assert told(in_flight[1], "5.00 USD").endswith("5.00 USD from acme:vn to beta is on its way")


def test_a_credit_that_was_refused_leaves_the_money_on_its_way() -> None:
    check, in_flight = money_in_transit([sender(T1, transit=500), receiver(T1, Status.REJECTED)])

    assert check.passed
    assert in_flight == [open_(T1, is_credited=False)]


def test_a_credit_whose_row_has_left_the_journal_is_known_by_the_archive() -> None:
    shards = [sender(T1, T2, transit=1_000), Books(sums={"USD": -500})]
    check, in_flight = money_in_transit(shards, lambda: archived(T1, Status.ACCEPTED))

    assert check.passed, check.details
    assert in_flight == [open_(T1, is_credited=True), open_(T2, is_credited=False)]


def test_a_refusal_whose_row_has_left_the_journal_leaves_the_money_on_its_way() -> None:
    check, in_flight = money_in_transit([sender(T1, transit=500)], lambda: archived(T1, Status.REJECTED))

    assert (check.passed, in_flight) == (True, [open_(T1, is_credited=False)])


def test_an_archived_credit_that_cannot_be_read_is_taken_for_nothing() -> None:
    archive = archived(T1, Status.ACCEPTED)
    archive.results = dict.fromkeys(archive.results, Undecodable(Cause.MALFORMED, "a chunk"))

    with pytest.raises(Undecodable):
        money_in_transit([sender(T1, transit=0)], lambda: archive)


def test_the_archive_is_not_asked_where_journals_have_every_credit() -> None:
    def never() -> Archive:
        pytest.fail("nothing is missing")

    assert money_in_transit([sender(T1, transit=500), receiver(T1, Status.ACCEPTED, -500)], never)[0].passed


@pytest.mark.parametrize("transit", [0, 499, 501])
def test_money_that_is_nowhere_or_twice_is_found(transit: int) -> None:
    check, _ = money_in_transit([sender(T1, transit=transit), receiver(T2, Status.ACCEPTED)])

    assert check.wrong == 1
    assert check.details == (f"USD: @transit is {transit}, on the way are 500",)
