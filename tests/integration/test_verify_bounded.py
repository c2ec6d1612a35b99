"""A proof goes on where the last one ended, at no cost to the shard, and each kind of damage is found once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from processors.ids import slice_of
from processors.ledger.commands import Command, OpenAccount, Pay, Refund, TopUp
from processors.ops import addresses
from processors.ops.assembly import proving
from processors.recovery.checks import Check
from processors.stores.lane_proofs import LaneProof
from processors.stores.mysql import Session
from processors.stores.shard_upkeep import ShardUpkeep
from processors.stores.verify_reader import VerifyReader
from tests.chaos.lanes import SHARD, Shard, new_id, now_ms
from tests.end_to_end.conftest import Said, balance
from tests.integration.journal_chunks import change_result
from tests.integration.test_verify import (
    OLD_MS,
    an_old_morning,
    archive_all,
    change,
    drop_old,
    payments_of_today,
)
from tests.servers import Place

ONE_LANE = {"BALANCE_TOPICS__LANES": "1", "BALANCE_TOPICS__COMMANDS_PARTITIONS": "1"}
DEAD_PORT = 9  # discard: nobody listens


def a_day_with_refunds(root: str, payments: int) -> list[Command]:
    """Return commands of today, of which some give back what was paid."""
    pays = [Pay(command_id=new_id(), address=root, currency="USD", amount_minor=n + 1) for n in range(payments)]
    refunds = [
        Refund(command_id=new_id(), address=root, currency="USD", amount_minor=1, original_id=pay.command_id)
        for pay in pays[::3]
    ]
    return [
        OpenAccount(command_id=new_id(), address=root, currency="USD"),
        TopUp(command_id=new_id(), address=root, currency="USD", amount_minor=100_000),
        *pays,
        *refunds,
    ]


def verified(shard: Shard, *, everything: bool = False, with_archive: bool = True) -> dict[str, Check]:
    """Verify, and return the checks by the first word of their names, the archive's by "archive"."""
    checks = proving.verify_shard(
        shard.settings,
        SHARD,
        on_progress=lambda _what, _rows: None,
        everything=everything,
        with_archive=with_archive,
    )
    return {"archive" if "archive" in check.name else check.name.split()[0]: check for check in checks}


def not_passed(checks: dict[str, Check]) -> dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]]:
    return {name: (each.wrong, each.details, each.incomplete) for name, each in checks.items() if not each.passed}


def proofs(shard: Shard) -> dict[int, LaneProof]:
    reader = VerifyReader(addresses.mysql_address(shard.settings, SHARD))
    found = reader.proofs()
    reader.close()
    return found


def decide(shard: Shard, commands: list[Command]) -> None:
    shard.write(commands)
    with shard.worker():
        shard.await_decided()


@pytest.fixture(scope="module")
def archived(fresh_place: Callable[..., Place]) -> Shard:
    """A shard of a lane with a day, all of it archived."""
    shard = Shard(fresh_place(**ONE_LANE))
    decide(shard, [*a_day_with_refunds("acme", 30), *a_day_with_refunds("bravo", 30)])
    decide(shard, payments_of_today("acme", 1))  # with it the lane notes that what is before was published
    archive_all(shard)
    return shard


@pytest.mark.rule("V4")
@pytest.mark.rule("V5")
def test_a_proof_goes_on_where_the_last_one_ended_through_what_has_left_mysql(
    fresh_place: Callable[..., Place],
) -> None:
    shard = Shard(fresh_place(**ONE_LANE))
    decide(shard, [*an_old_morning("acme", 20), *payments_of_today("acme", 20)])
    archive_all(shard)
    assert not_passed(verified(shard)) == {}
    (first,) = proofs(shard).values()
    (position,) = shard.positions().values()
    assert (first.next_offset, first.digest) == (position.at.next_offset, position.at.digest)
    assert first.archived_offset == first.next_offset

    later = [Pay(command_id=new_id(OLD_MS), address="acme", currency="USD", amount_minor=2) for _ in range(5)]
    decide(shard, [*later, *payments_of_today("acme", 5)])
    archive_all(shard)
    drop_old(shard)  # the five are in the archive alone
    said = verified(shard)

    assert not_passed(said) == {}
    assert (said["columns"].counted, said["archive"].counted, said["system"].counted) == (5, 10, 2)
    (second,) = proofs(shard).values()
    assert (second.first_offset, second.next_offset) == (first.first_offset, first.next_offset + 10)
    assert not_passed(verified(shard, everything=True)) == {}


@pytest.mark.rule("V5")
def test_a_proof_that_was_killed_goes_on_where_it_was_kept(fresh_place: Callable[..., Place]) -> None:
    shard = Shard(fresh_place(**ONE_LANE))
    shard.write_day("acme", payments=9_000)
    with shard.worker():
        shard.await_decided()
    command = [sys.executable, "-m", "tests.chaos.verify_process", SHARD, "6000"]
    ended = subprocess.run(command, env={**os.environ, **shard.place.environment}, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    (kept,) = proofs(shard).values()
    (position,) = shard.positions().values()
    assert 0 < kept.next_offset < position.at.next_offset

    said = verified(shard, with_archive=False)

    assert not_passed(said) == {}
    assert said["columns"].counted < position.at.next_offset - kept.next_offset + 1
    assert proofs(shard)[0].next_offset == position.at.next_offset


A_REFUND = "(SELECT transaction_id FROM (SELECT MIN(transaction_id) AS transaction_id FROM refunded) AS first)"
A_ROW = "lane_offset = 7"
FIVE = "IF(name = 'FUNDING', 5, -5) WHERE name IN ('FUNDING', 'SETTLEMENT')"
DAMAGES = {
    "a posting to another system account": (
        f"UPDATE system_account SET balance = balance + {FIVE}",
        f"UPDATE system_account SET balance = balance - {FIVE}",
        {"system": 2},
    ),
    "a column that is not what the result says": (
        f"UPDATE journal SET amount_minor = amount_minor + 1 WHERE {A_ROW}",
        f"UPDATE journal SET amount_minor = amount_minor - 1 WHERE {A_ROW}",
        {"columns": 1},
    ),
    "what was refunded": (
        f"UPDATE refunded SET refunded_minor = refunded_minor + 1 WHERE transaction_id = {A_REFUND}",
        f"UPDATE refunded SET refunded_minor = refunded_minor - 1 WHERE transaction_id = {A_REFUND}",
        {"refunded": 1},
    ),
    "a balance": (
        "UPDATE account SET balance = balance + 1 WHERE address = X'61636d65'",
        "UPDATE account SET balance = balance - 1 WHERE address = X'61636d65'",
        {"trial": 1, "balances": 1},
    ),
    "a lane without progress": (
        "INSERT INTO system_account (lane, level, name, currency, balance) VALUES (5, 1, 'FUNDING', 'USD', 0)",
        "DELETE FROM system_account WHERE lane = 5",
        {"lanes": 1},
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_kind_of_damage_is_found_once(archived: Shard, damage: str) -> None:
    statement, undo, found = DAMAGES[damage]
    assert not_passed(verified(archived, everything=True)) == {}
    change(archived, statement)
    try:
        assert {
            name: check.wrong for name, check in verified(archived, everything=True).items() if check.wrong
        } == found
        again = {name: check.wrong for name, check in verified(archived).items() if check.wrong}
        assert again == found  # a finding is no proof: the bounded run finds it, too
    finally:
        change(archived, undo)
    assert not_passed(verified(archived)) == {}


def test_a_result_whose_bytes_were_changed_is_found_by_digest_results_and_archive(archived: Shard) -> None:
    mysql = addresses.mysql_address(archived.settings, SHARD)
    session = Session(mysql, lane=False)
    ((number,),) = session.query(f"SELECT slice FROM journal WHERE {A_ROW}", "looking for a row")
    session.close()

    def other(result: bytes) -> bytes:
        return result[:-1] + bytes([result[-1] ^ 2])  # another leader epoch, and still a result

    change_result(mysql, number, 0, 7, other)
    try:
        found = {name for name, check in verified(archived, everything=True).items() if check.wrong}
    finally:
        change_result(mysql, number, 0, 7, other)
    assert {"rows", "each", "archive"} <= found
    assert not_passed(verified(archived)) == {}


@pytest.mark.rule("V5")
def test_what_cannot_be_compared_is_told_as_incomplete_and_never_as_clean(
    fresh_place: Callable[..., Place],
) -> None:
    shard = Shard(fresh_place(**ONE_LANE))
    decide(shard, [*an_old_morning("acme", 5), *payments_of_today("acme", 5)])
    archive_all(shard)
    drop_old(shard)
    environment = {**shard.place.environment, "BALANCE_CASSANDRA__PORT": str(DEAD_PORT)}
    away = Place(environment=environment, settings=shard.settings)

    said = balance(away, "verify")

    assert said.status == 3
    assert "INCOMPLETE" in said.out
    assert "Cassandra" in said.out
    assert balance(away, "verify", "--json").json[0]["verdict"] == "proven"
    assert not_passed(verified(shard)) == {}


def test_two_runs_print_the_same(archived: Shard) -> None:
    change(archived, "UPDATE journal SET bucket = bucket ^ 1 WHERE lane_offset < 40")
    try:
        first, second = (told(archived, "--all") for _ in range(2))
        bounded, again = (told(archived) for _ in range(2))
    finally:
        change(archived, "UPDATE journal SET bucket = bucket ^ 1 WHERE lane_offset < 40")
    assert (first.status, second.status) == (1, 1)
    assert first.out == second.out
    assert (bounded.status, bounded.out) == (again.status, again.out)
    assert "and 30 more" in first.out
    clean, clean_again = (told(archived, "--all") for _ in range(2))
    assert (clean.status, clean.out) == (0, clean_again.out)


def told(shard: Shard, *options: str) -> Said:
    return balance(shard.place, "verify", *options)


@pytest.mark.rule("A7")
@pytest.mark.rule("V5")
def test_the_remover_removes_while_a_proof_is_under_way(fresh_place: Callable[..., Place]) -> None:
    shard = Shard(fresh_place(**ONE_LANE))
    decide(shard, [*an_old_morning("acme", 20), *payments_of_today("acme", 20)])
    archive_all(shard)
    upkeep = ShardUpkeep(addresses.mysql_address(shard.settings, SHARD))
    dropped: list[int] = []
    old = slice_of(now_ms() - OLD_MS)

    def drop(_what: str, _rows: int) -> None:
        if not dropped:
            for number in (old - 1, old, old + 1):
                upkeep.drop_slice(number)  # Retryable, where a transaction is open
                dropped.append(number)

    checks = proving.verify_shard(shard.settings, SHARD, on_progress=drop)
    upkeep.close()

    assert dropped
    assert [(check.name, check.details, check.incomplete) for check in checks if not check.passed] == []
    assert not_passed(verified(shard, everything=True)) == {}


@pytest.mark.rule("V5")
def test_a_proof_that_was_changed_by_hand_counts_for_nothing(archived: Shard) -> None:
    assert not_passed(verified(archived)) == {}
    (good,) = proofs(archived).values()
    change(archived, "UPDATE lane_proof SET next_offset = next_offset + 1")
    assert proofs(archived) == {}
    assert not_passed(verified(archived)) == {}
    assert proofs(archived) == {0: replace(good, proven_at_ms=proofs(archived)[0].proven_at_ms)}
