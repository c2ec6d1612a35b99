"""What is proven, and what is not, where results come twice, lanes are of two topics, or the archive is away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.faults import Unavailable
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Contra
from processors.ledger.rows import Account, Hold, Refunded
from processors.recovery.checks import DETAILS_MAX
from processors.stores.archive_reader import ChangeKey
from processors.stores.journal_names import STATUS_NUMBERS
from processors.stores.rows import PlacementRow, PlacementState
from processors.wire.result_format import write_result
from processors.wire.result_keys import keys_of
from processors.wire.results import decode_result
from tests.archived import INCARNATION, NOW_MS, Ledger, a_posting, a_result, id_at
from tests.proven_books import EmptyArchive, ProvenBooks, proven

IDLE = Account("idle", "USD", balance=100, sequence=7)


def a_ledger() -> Ledger:
    """Return one whose accounts begin at nothing, as real ones do."""
    return Ledger(_balances={"acme": 0, "bravo": 0})


def payments(count: int, ledger: Ledger | None = None) -> list[bytes]:
    ledger = ledger or a_ledger()
    before = len(ledger.results)
    for number in range(count):
        ledger.pay("acme" if number % 2 else "bravo")
    return ledger.results[before:]


def shard_of(results: list[bytes], **changed: object) -> ProvenBooks:
    books = ProvenBooks(**changed)  # type: ignore[arg-type] # each test names fields
    books.decide(results)
    return books


def wrong(books: ProvenBooks, **how: object) -> dict[str, int]:
    """Return how much is wrong, by check."""
    return {name: check.wrong for name, check in proven(books, **how).items() if check.wrong}  # type: ignore[arg-type]


# ---------------------------------------------------------------------- results


@pytest.mark.rule("L4")
@pytest.mark.rule("A1")
@pytest.mark.parametrize("again", [slice(2, 3), slice(1, 3), slice(0, 3)])
def test_a_stretch_that_was_published_twice_is_no_finding(again: slice) -> None:
    results = payments(3)
    assert proven(shard_of(results), published=results + results[again])["each"].passed


@pytest.mark.rule("A1")
def test_a_result_that_was_published_again_with_other_bytes_is_found() -> None:
    results = payments(3)
    other = write_result(replace(decode_result(results[1]), amount_minor=101))
    said = proven(shard_of(results), published=[*results, other])["each"]
    assert (said.wrong, "offset (1, 0): published again" in said.details[0]) == (1, True)


@pytest.mark.rule("A1")
def test_a_result_that_is_missing_is_found_though_another_is_there_twice() -> None:
    results = payments(3)
    assert wrong(shard_of(results), published=[results[0], results[2], results[2]]) == {"each": 1}


@pytest.mark.rule("A1")
def test_results_that_have_left_the_topic_are_told_as_incomplete_and_not_as_missing() -> None:
    said = proven(shard_of(payments(3)), published=[], left_ms=NOW_MS + 10)["each"]
    assert (said.wrong, said.verdict, len(said.incomplete)) == (0, "INCOMPLETE", 1)


@pytest.mark.rule("A1")
def test_results_with_misleading_stamps_are_found_by_reading_all_of_the_topic() -> None:
    ledger = a_ledger()
    books = shard_of(payments(2, ledger))
    assert proven(books)["each"].passed
    ledger.time_ms -= 1_000_000  # an operator's word on their time, or another broker's clock
    books.decide(payments(2, ledger))
    assert proven(books)["each"].passed


# ---------------------------------------------------------------------- lanes


@pytest.mark.rule("L3")
def test_lanes_of_two_topics_are_told() -> None:
    books = shard_of([])
    books.other_lanes = [replace(books.progress, lane=1, topic_id=bytes(16))]
    said = proven(books)["lanes"]
    assert f"topic id {INCARNATION.hex()}: lanes 0" in said.details
    assert f"topic id {bytes(16).hex()}: lanes 1" in said.details


def test_a_lane_that_has_rows_and_no_progress_is_told() -> None:
    said = proven(shard_of(payments(2), rows_of_lanes={3}))["lanes"]
    assert said.details == ("lane 3 has rows, and nothing says where it stands",)


# ---------------------------------------------------------------------- what was not proven before


@pytest.mark.rule("L14")
def test_a_column_that_disagrees_with_its_result_is_named() -> None:
    said = proven(shard_of(payments(4), wrong_columns={2: ("amount_minor", 101)}))
    assert [name for name, check in said.items() if check.wrong] == ["columns"]
    assert said["columns"].details == ("lane 0 offset 2 index 0: amount_minor",)


@pytest.mark.rule("L13")
@pytest.mark.parametrize("damage", ["bytes", "row"])
def test_rows_that_do_not_lead_to_a_batchs_digest_are_named_by_their_batch(damage: str) -> None:
    books = shard_of(payments(6))
    if damage == "row":
        books.missing = {2}
    else:
        books.other_bytes = {2: books.journal[4]}
    assert proven(books)["rows"].details == ("lane 0, offsets 2 to 3: the rows lead to another digest than the lane's",)


@pytest.mark.rule("L15")
def test_a_posting_to_another_system_account_is_named() -> None:
    books = shard_of(payments(4))
    books.system = {(1, Contra.SETTLEMENT, "USD"): 300, (1, Contra.FUNDING, "USD"): 100}
    said = proven(books)
    assert [name for name, check in said.items() if check.wrong] == ["system"]
    assert said["system"].details == (
        "lane 0 level 1 @funding USD is 100, its postings lead to 0",
        "lane 0 level 1 @settlement USD is 300, its postings lead to 400",
    )


def a_refund(ledger: Ledger, original_id: bytes, *, remaining_minor: int) -> None:
    sequence = ledger._sequences["acme"] = ledger._sequences["acme"] + 1
    ledger._balances["acme"] += 10
    posting = a_posting(balance_change=10, balance=ledger._balances["acme"], sequence=sequence)
    ledger.add(type=CommandType.REFUND, related_id=original_id, remaining_minor=remaining_minor, postings=(posting,))


@pytest.mark.rule("H3")
@pytest.mark.parametrize(("refunded_minor", "count"), [(20, 0), (19, 1)])
def test_refunded_is_what_the_last_refund_left(refunded_minor: int, count: int) -> None:
    ledger = a_ledger()
    original = ledger.pay("acme")
    a_refund(ledger, original.command_id, remaining_minor=90)
    a_refund(ledger, original.command_id, remaining_minor=80)
    rows = {("acme", original.command_id): Refunded(100, refunded_minor)}
    assert proven(shard_of(ledger.results, refunded_rows=rows))["refunded"].wrong == count


@pytest.mark.rule("H3")
def test_a_refunded_row_that_is_gone_before_its_time_is_named_and_an_old_one_is_not() -> None:
    for age_ms, count in ((0, 1), (48 * 3_600_000, 0)):
        ledger = a_ledger()
        original_id = id_at(NOW_MS - age_ms)
        ledger.pay("acme")
        a_refund(ledger, original_id, remaining_minor=90)
        assert proven(shard_of(ledger.results))["refunded"].wrong == count


# ---------------------------------------------------------------------- going on


@pytest.mark.rule("V5")
def test_a_proof_goes_on_where_the_last_one_ended() -> None:
    ledger = a_ledger()
    books = shard_of(payments(10, ledger))
    assert all(check.passed for check in proven(books).values())
    assert books.kept[0].next_offset == 10
    books.decide(payments(4, ledger))
    books.read_from.clear()

    said = proven(books)

    assert all(check.passed for check in said.values())
    assert min(books.read_from) == 10
    assert (said["columns"].counted, books.kept[0].next_offset) == (4, 14)


@pytest.mark.rule("V5")
def test_a_proof_that_was_killed_goes_on_where_it_was_kept() -> None:
    books = shard_of(payments(10_000), batch_rows=500, keeps_before_kill=1)
    with pytest.raises(Unavailable):
        proven(books, keep_every=1_000)
    assert books.kept[0].next_offset == 4_000
    books.keeps_before_kill = 100

    said = proven(books, keep_every=1_000)

    assert all(check.passed for check in said.values())
    assert (said["columns"].counted, books.kept[0].next_offset) == (6_000, 10_000)


@pytest.mark.rule("V5")
@pytest.mark.parametrize("damage", ["column", "bytes", "row"])
def test_what_has_a_finding_is_found_again_by_each_proof_until_it_is_mended(damage: str) -> None:
    ledger = a_ledger()
    books = shard_of(payments(10, ledger))
    proven(books)
    books.decide(payments(6, ledger))
    changed: dict[str, dict[str, object]] = {
        "column": {"wrong_columns": {12: ("status", STATUS_NUMBERS["REJECTED"])}},
        "bytes": {"other_bytes": {12: books.journal[13]}},
        "row": {"missing": {12}},
    }
    for name, value in changed[damage].items():
        setattr(books, name, value)

    first = {name: (check.wrong, check.details) for name, check in proven(books).items() if check.wrong}
    second = {name: (check.wrong, check.details) for name, check in proven(books).items() if check.wrong}
    books.wrong_columns, books.other_bytes, books.missing = {}, {}, set()

    assert first
    assert first == second
    assert wrong(books) == {}
    assert books.kept[0].next_offset == 16


@pytest.mark.rule("V5")
def test_an_account_that_was_changed_though_nothing_was_posted_to_it_is_found_once_and_again() -> None:
    archive = EmptyArchive()
    books = shard_of(payments(10))
    assert wrong(books, archive=archive) == {}
    books.every_account[0].balance += 1
    assert wrong(books, archive=archive) == wrong(books, archive=archive) == {"trial": 1, "balances": 1}
    books.every_account[0].balance -= 1
    assert wrong(books, archive=archive) == {}


@pytest.mark.rule("V5")
def test_a_proof_of_another_log_or_of_rows_that_are_not_here_counts_for_nothing() -> None:
    books = shard_of(payments(10))
    proven(books)
    good = books.kept[0]
    for other in (
        replace(good, topic_id=bytes(16)), replace(good, next_offset=12), replace(good, digest=bytes(32)),
    ):  # fmt: skip
        books.kept[0] = other
        said = proven(books)
        assert all(check.passed for check in said.values())
        assert (said["columns"].counted, books.kept[0].next_offset) == (10, 10)


def test_many_of_a_kind_are_one_finding_with_their_count_and_a_sample() -> None:
    books = shard_of(payments(40), wrong_columns=dict.fromkeys(range(40), ("bucket", 70000)))
    said = proven(books)["columns"]
    assert (said.wrong, len(said.details)) == (40, DETAILS_MAX)
    assert list(said.details) == sorted(said.details)


# ---------------------------------------------------------------------- accounts


def test_what_accounts_hold_is_what_open_holds_say() -> None:
    books = shard_of(payments(2))
    hold = Hold("acme", "USD", amount_minor=5, remaining_minor=5, levels=1, expires_at_ms=NOW_MS)
    books.holds = [hold]
    assert wrong(books) == {"held": 1}


@pytest.mark.rule("V4")
def test_an_idle_account_is_not_proven_without_the_archives_answer() -> None:
    away = proven(ProvenBooks(every_account=[IDLE]), archive=EmptyArchive(away=True))
    assert (away["balances"].verdict, away["archive"].verdict) == ("INCOMPLETE", "INCOMPLETE")
    assert proven(ProvenBooks(every_account=[IDLE]), archive=EmptyArchive())["balances"].wrong == 1
    left_out = proven(ProvenBooks(every_account=[IDLE]))["balances"]
    assert (left_out.counted, left_out.wrong) == (0, 0)


def placed(state: PlacementState, *, since_offset: int = 0) -> PlacementRow:
    return PlacementRow(placement_key="acme", generation=2, state=state, other_shard="s2", since_offset=since_offset)


def a_stay_elsewhere(**changed: object) -> ProvenBooks:
    """Return what is here of a partner who came back: a payment before he left, two after, some elsewhere between."""
    ledger = Ledger()
    ledger.pay()
    ledger._sequences["acme"], ledger._balances["acme"] = 7, 5_000
    ledger.pay()
    ledger.pay()
    books = shard_of(ledger.results, placed=[placed(PlacementState.OWNED, since_offset=1)])
    books.every_account = [Account("acme", "USD", **{"balance": 4_800, "sequence": 9, **changed})]  # type: ignore[arg-type]
    return books


@pytest.mark.rule("V4")
@pytest.mark.parametrize("archive", [None, EmptyArchive()], ids=["without the archive", "with one that is behind"])
def test_of_a_partner_who_came_back_the_rows_since_then_lead_to_his_accounts(archive: EmptyArchive | None) -> None:
    said = proven(a_stay_elsewhere(), archive=archive)["balances"]
    assert (said.counted, said.details) == (1, ())


@pytest.mark.rule("V4")
def test_what_is_wrong_since_a_partner_came_is_still_found() -> None:
    assert proven(a_stay_elsewhere(balance=4_801))["balances"].wrong == 1


@pytest.mark.rule("V4")
def test_an_account_that_came_and_has_not_changed_since_is_what_the_archive_says_if_that_has_it() -> None:
    at = ChangeKey("acme", "USD", 7)

    def books() -> ProvenBooks:
        account = Account("acme", "USD", balance=100, sequence=7)
        return ProvenBooks(every_account=[account], placed=[placed(PlacementState.OWNED)])

    def archived(balance: int) -> bytes:
        return keys_of(a_result(postings=(a_posting(sequence=7, balance=balance),))).changes[0].entry

    assert proven(books(), archive=EmptyArchive())["balances"].passed
    for balances, count in (([100], 0), ([99], 1), ([99, 100], 1)):  # copies that differ are no proof
        archive = EmptyArchive(changes={at: set(map(archived, balances))})
        assert proven(books(), archive=archive)["balances"].wrong == count


@pytest.mark.rule("M2")
@pytest.mark.parametrize(
    "state", [PlacementState.ARRIVING, PlacementState.SEALED, PlacementState.LEFT, PlacementState.AWAY]
)
def test_rows_of_a_partner_who_is_not_owned_prove_nothing_and_refute_nothing(state: PlacementState) -> None:
    ledger = a_ledger()
    for _ in range(3):
        ledger.pay("acme")
    books = shard_of(ledger.results, placed=[placed(state)])
    books.every_account = [Account("acme", "USD", balance=1, held=3, sequence=99, open_count=2)]
    books.system[1, Contra.MOVED, "USD"] = -300 - (state is PlacementState.ARRIVING)

    said = proven(books)

    assert (said["held"].counted, said["balances"].counted) == (0, 0)
    assert {name: check.details for name, check in said.items() if not check.passed} == {}
