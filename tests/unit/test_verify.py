"""What is proven, and what is not, where results come twice, lanes are of two topics, or the archive is away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from processors.faults import Unavailable
from processors.ids import slice_of
from processors.ledger.rows import Account, Hold, OpenRefund, OpenTransfer, TransactionKey
from processors.recovery.verify import Check, VerifyParts, verify
from processors.stores.archive_reader import ChangeKey
from processors.stores.archive_rows import Covered
from processors.stores.rows import JournalRow, PlacementRow, PlacementState, Progress
from processors.wire.journal_chunk import ChunkRow
from processors.wire.positions import LanePoint
from processors.wire.records import Record
from processors.wire.result_format import write_result
from processors.wire.result_keys import keys_of
from processors.wire.results import decode_result
from processors.wire.statement_chunk import StatementRow
from tests.archived import INCARNATION, NOW_MS, Ledger, a_posting, a_result

PROGRESS = Progress(
    lane=0,
    topic_id=INCARNATION,
    owner_epoch=1,
    version_us=1,
    published_offset=3,
    published_time_ms=NOW_MS,
    at=LanePoint(next_offset=3, leader_epoch=0, lane_time_ms=NOW_MS, digest=bytes(32)),
)
IDLE = Account("idle", "USD", balance=100, sequence=7)


@dataclass(slots=True)
class Books:
    """A shard with one slice, whose lane 0 journalled some results."""

    journal: list[bytes] = field(default_factory=list)
    every_account: list[Account] = field(default_factory=list)
    lanes: list[Progress] = field(default_factory=lambda: [PROGRESS])
    placed: list[PlacementRow] = field(default_factory=list)

    def positions(self) -> dict[int, Progress]:
        return {progress.lane: progress for progress in self.lanes}

    def trial_balance(self, lanes: int) -> dict[tuple[int, int, str], int]:
        del lanes
        return {}

    def accounts(self) -> Iterator[Account]:
        return iter(self.every_account)

    def holds(self) -> Iterator[tuple[TransactionKey, Hold]]:
        return iter(())

    def open_refunds(self) -> Iterator[tuple[TransactionKey, OpenRefund]]:
        return iter(())

    def placements(self, lane: int) -> dict[str, PlacementRow]:
        return {row.placement_key: row for row in self.placed if lane == 0}

    def open_transfers(self) -> Iterator[tuple[TransactionKey, OpenTransfer]]:
        return iter(())

    def slices(self) -> list[int]:
        return [slice_of(NOW_MS)]

    def slice_bounds(self, number: int) -> dict[int, tuple[int, int]]:
        del number
        return {0: (0, len(self.journal) - 1)} if self.journal else {}

    def slice_rows(self, number: int, lane: int, after: tuple[int, int] = (-1, 0)) -> list[JournalRow]:
        results = [(decode_result(payload), payload) for payload in self.journal]
        return [
            JournalRow(
                slice=number, lane=lane, lane_offset=result.lane_offset, lane_index=0, command_id=result.command_id,
                root=result.root, transaction_id=result.transaction_id, body_hash=bytes(16), result=payload,
            )
            for result, payload in results
            if (result.lane_offset, result.lane_index) > after
        ]  # fmt: skip


@dataclass(slots=True)
class EmptyArchive:
    """Cassandra has no row but some changes, and may be away once single changes are asked for."""

    away: bool = False
    changes: dict[ChangeKey, set[bytes]] = field(default_factory=dict)

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        del incarnation
        return {}

    def journal(self, incarnation: bytes, lane: int, from_offset: int, to_offset: int) -> list[ChunkRow]:
        del incarnation, lane, from_offset, to_offset
        return []

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        del address, currency, from_sequence, to_sequence
        return iter(())

    def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
        if self.away:
            raise Unavailable("Cassandra is away")
        return {key: self.changes[key] for key in keys if key in self.changes}


def checked(books: Books, published: list[bytes], archive: EmptyArchive | None = None) -> dict[str, Check]:
    records = [Record("results", 0, n, 0, NOW_MS, True, b"acme", value, []) for n, value in enumerate(published)]
    parts = VerifyParts(
        books=books, lanes=1, results_partitions=1, archive=archive, results=lambda: records,
        on_progress=lambda _what, _count: None,
    )  # fmt: skip
    return {check.name.split()[0]: check for check in verify(parts)}


def three_payments() -> list[bytes]:
    ledger = Ledger()
    for _ in range(3):
        ledger.pay()
    return ledger.results


@pytest.mark.rule("L4")
@pytest.mark.rule("A1")
@pytest.mark.parametrize("again", [slice(2, 3), slice(1, 3), slice(0, 3)])
def test_a_stretch_that_was_published_twice_is_no_finding(again: slice) -> None:
    results = three_payments()
    assert checked(Books(results), results + results[again])["each"].passed


@pytest.mark.rule("A1")
def test_a_result_that_was_published_again_with_other_bytes_is_found() -> None:
    results = three_payments()
    other = write_result(replace(decode_result(results[1]), amount_minor=101))
    said = checked(Books(results), [*results, other])["each"]
    assert (said.wrong, "offset (1, 0): published again" in said.details[0]) == (1, True)


@pytest.mark.rule("A1")
def test_a_result_that_is_missing_is_found_though_another_is_there_twice() -> None:
    results = three_payments()
    assert checked(Books(results), [results[0], results[2], results[2]])["each"].wrong == 1


@pytest.mark.rule("L3")
def test_lanes_of_two_topics_are_told() -> None:
    other = replace(PROGRESS, lane=1, topic_id=bytes(16))
    said = checked(Books(lanes=[PROGRESS, other]), [], EmptyArchive())["lanes"]
    assert said.details == (f"topic id {INCARNATION.hex()}: lanes 0", f"topic id {bytes(16).hex()}: lanes 1")


@pytest.mark.rule("V4")
def test_an_idle_account_is_not_proven_without_the_archives_answer() -> None:
    with pytest.raises(Unavailable):
        checked(Books(every_account=[IDLE]), [], EmptyArchive(away=True))
    assert checked(Books(every_account=[IDLE]), [], EmptyArchive())["balances"].wrong == 1
    left_out = checked(Books(every_account=[IDLE]), [])["balances"]
    assert (left_out.counted, left_out.wrong) == (0, 0)


def placed(state: PlacementState, *, since_offset: int = 0) -> PlacementRow:
    return PlacementRow(placement_key="acme", generation=2, state=state, other_shard="s2", since_offset=since_offset)


def a_stay_elsewhere() -> tuple[list[bytes], Account]:
    """Return what is here of a partner who came back: a payment before he left, two after, some elsewhere between."""
    ledger = Ledger()
    ledger.pay()
    ledger._sequences["acme"], ledger._balances["acme"] = 7, 5_000
    ledger.pay()
    ledger.pay()
    return ledger.results, Account("acme", "USD", balance=4_800, sequence=9)


@pytest.mark.rule("V4")
@pytest.mark.parametrize("archive", [None, EmptyArchive()], ids=["without the archive", "with one that is behind"])
def test_of_a_partner_who_came_back_the_rows_since_then_lead_to_his_accounts(archive: EmptyArchive | None) -> None:
    results, account = a_stay_elsewhere()
    books = Books(results, [account], placed=[placed(PlacementState.OWNED, since_offset=1)])

    said = checked(books, results, archive)["balances"]

    assert (said.counted, said.details) == (1, ())


@pytest.mark.rule("V4")
def test_what_is_wrong_since_a_partner_came_is_still_found() -> None:
    results, account = a_stay_elsewhere()
    placements = [placed(PlacementState.OWNED, since_offset=1)]
    wrong = replace(account, balance=4_801)

    assert checked(Books(results, [wrong], placed=placements), results)["balances"].wrong == 1


@pytest.mark.rule("V4")
def test_an_account_that_came_and_has_not_changed_since_is_what_the_archive_says_if_that_has_it() -> None:
    placements = [placed(PlacementState.OWNED)]
    account = Account("acme", "USD", balance=100, sequence=7)
    at = ChangeKey("acme", "USD", 7)

    def archived(balance: int) -> bytes:
        return keys_of(a_result(postings=(a_posting(sequence=7, balance=balance),))).changes[0].entry

    assert checked(Books([], [account], placed=placements), [], EmptyArchive())["balances"].passed
    for balances, count in (([100], 0), ([99], 1), ([99, 100], 1)):  # copies that differ are no proof
        archive = EmptyArchive(changes={at: set(map(archived, balances))})
        assert checked(Books([], [account], placed=placements), [], archive)["balances"].wrong == count


@pytest.mark.rule("M2")
@pytest.mark.parametrize(
    "state", [PlacementState.ARRIVING, PlacementState.SEALED, PlacementState.LEFT, PlacementState.AWAY]
)
def test_rows_of_a_partner_who_is_not_owned_prove_nothing_and_refute_nothing(state: PlacementState) -> None:
    results = three_payments()
    frozen = Account("acme", "USD", balance=1, held=3, sequence=99, open_count=2)

    said = checked(Books(results, [frozen], placed=[placed(state)]), results)

    assert [(name, check.counted) for name, check in said.items() if name in {"held", "balances"}] == [
        ("held", 0),
        ("balances", 0),
    ]
    assert all(check.passed for check in said.values())
