"""A shard's database is lost under load, rebuilt, and put live: no command is lost, and none is answered twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from processors.faults import Misconfigured
from processors.ledger.commands import Pay
from processors.ops import addresses
from processors.ops.assembly.adopting import adopt, plan_adoption
from processors.ops.assembly.replaying import TO_THE_END, Until, replay_shard
from processors.ops.assembly.snapshots import take_snapshot
from processors.routing.buckets import partition_of
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.wire.results import decode_result
from tests.chaos.lanes import SHARD, Shard, new_id
from tests.end_to_end.conftest import balance
from tests.servers import Place
from tests.waiting import eventually

LANES = 2
ROOTS = ("acme", "bravo", "coral", "delta")
GROUP = f"balance-shard-{SHARD}"


@pytest.fixture
def shard(fresh_place: Callable[..., Place]) -> Shard:
    made = Shard(fresh_place(BALANCE_TOPICS__LANES=str(LANES), BALANCE_TOPICS__COMMANDS_PARTITIONS=str(LANES)))
    for root in ROOTS:
        made.write_day(root, payments=300)
    with made.worker():
        made.await_decided()
    return made


@pytest.fixture
def target(shard: Shard, fresh_database: Callable[[], str]) -> MysqlAddress:
    return replace(addresses.mysql_address(shard.settings, SHARD), database=fresh_database())


def pay(shard: Shard, payments: int) -> None:
    shard.write(
        [
            Pay(command_id=new_id(), address=ROOTS[number % 4], currency="USD", amount_minor=1 + number % 7)
            for number in range(payments)
        ]
    )


def lose_the_database(shard: Shard, payments: int) -> None:
    """Drop the database under a worker that is deciding payments, and end the worker."""
    lost = addresses.mysql_address(shard.settings, SHARD)
    before = {lane: at.at.next_offset for lane, at in shard.positions().items()}
    with shard.worker("lost"):
        pay(shard, payments)
        eventually(
            lambda: any(at.at.next_offset > before[lane] for lane, at in shard.positions().items()), "some are decided"
        )
        session = Session(lost, lane=False)
        session.execute(f"DROP DATABASE {lost.database}", "losing the database")
        session.close()


def rebuild(shard: Shard, target: MysqlAddress, until: Until = TO_THE_END, snapshots: Path | None = None) -> None:
    report = replay_shard(shard.settings, SHARD, target, on_progress=lambda _at: None, until=until, snapshots=snapshots)
    assert report.difference is None


def await_left(shard: Shard, target: MysqlAddress) -> None:
    """Wait until a killed worker is no member of the group any more."""

    def left() -> bool:
        try:
            plan_adoption(shard.settings, SHARD, target)
        except Misconfigured as fault:
            if "members" not in str(fault):
                raise
            return False
        return True

    eventually(left, "the shard's workers have left their group")


def dsn_of(target: MysqlAddress) -> str:
    return f"mysql://{target.user}:{target.password}@{target.host}:{target.port}/{target.database}"


def put_live(shard: Shard, target: MysqlAddress) -> None:
    """Adopt it, and have this test's shard mean it from here on."""
    await_left(shard, target)
    dsn = dsn_of(target)
    shown = balance(shard.place, "shard", "adopt", SHARD, "--dsn", dsn)
    assert (shown.status, "nothing was changed" in shown.out) == (0, True), shown
    done = balance(shard.place, "shard", "adopt", SHARD, "--dsn", dsn, "--yes")
    assert (done.status, f'database = "{target.database}"' in done.out) == (0, True), done
    shard.settings = shard.settings.changed(shards={SHARD: {"database": target.database}})
    shard.place.environment["BALANCE_SHARDS__S1__DATABASE"] = target.database


@pytest.mark.rule("V1")
@pytest.mark.rule("L4")
def test_a_shard_that_is_lost_under_load_is_rebuilt_from_snapshot_and_topic_and_goes_on(
    shard: Shard, target: MysqlAddress, tmp_path: Path
) -> None:
    take_snapshot(shard.settings, SHARD, tmp_path, keep=1, on_progress=lambda _table, _rows: None)
    lose_the_database(shard, payments=3_000)
    pay(shard, 500)  # they keep coming meanwhile

    rebuild(shard, target, snapshots=tmp_path)
    before = shard.settings
    put_live(shard, target)
    pay(shard, 500)
    with shard.worker("again"):
        shard.await_decided()

    shard.assert_exactly_once()
    shard.settings = before  # of an operator whose settings still name the lost database
    with pytest.raises(Misconfigured, match="neither empty nor a target that a replay began"):
        rebuild(shard, target)  # no replay takes over the lanes of what is live


@pytest.mark.rule("L4")
def test_a_shard_that_was_rebuilt_to_before_what_is_published_decides_in_silence_up_to_there(
    shard: Shard, target: MysqlAddress
) -> None:
    lose_the_database(shard, payments=1_000)
    rebuild(shard, target, until=Until(offsets={lane: 101 + lane for lane in range(LANES)}))

    put_live(shard, target)
    with shard.worker("again"):
        shard.await_decided()

    shard.assert_exactly_once()


@pytest.mark.rule("L4")
def test_a_rebuilt_shard_whose_group_offsets_are_lost_too_answers_again_under_the_same_ids(
    shard: Shard, target: MysqlAddress
) -> None:
    lose_the_database(shard, payments=1_000)
    rebuild(shard, target)
    put_live(shard, target)
    forget_offsets(shard)
    pay(shard, 100)

    with shard.worker("again"):
        shard.await_decided()

    for lane in range(LANES):
        for partition, values in shard.expected(lane).results.items():
            seen = [value for value in shard.results()[partition] if decode_result(value).lane == lane]
            assert list(dict.fromkeys(seen)) == values  # again, bit by bit, or once


@pytest.mark.rule("V2")
def test_a_rebuilt_shard_of_which_nothing_says_what_was_published_is_put_live_only_where_that_is_asked_for(
    shard: Shard, target: MysqlAddress
) -> None:
    lose_the_database(shard, payments=1_000)
    rebuild(shard, target)
    await_left(shard, target)
    forget_offsets(shard)
    command = ("shard", "adopt", SHARD, "--dsn", dsn_of(target), "--yes")

    refused = balance(shard.place, *command)
    assert refused.status != 0
    assert "nothing says of lanes [0, 1]" in refused.err
    assert balance(shard.place, *command, "--unproven").status == 0


def forget_offsets(shard: Shard) -> None:
    admin = AdminClient(shard.address.options())
    for done in admin.delete_consumer_groups([shard.address.topic_prefix + GROUP]).values():
        done.result(30)


@pytest.mark.rule("L4")
def test_what_is_not_what_was_published_is_not_put_live(shard: Shard, target: MysqlAddress) -> None:
    rebuild(shard, target)
    lane = partition_of("acme", LANES)
    session = Session(target, lane=False)
    session.execute(f"UPDATE batch_digest SET digest = REVERSE(digest) WHERE lane = {lane}", "changing it by hand")
    session.close()

    def refused() -> bool:
        try:
            adopt(target, plan_adoption(shard.settings, SHARD, target))
        except Misconfigured as fault:
            return f"is not what was published: lane {lane}" in str(fault)
        raise AssertionError("it was put live")

    eventually(refused, "it is refused for its digest")


def test_nothing_is_put_live_beside_a_worker_that_runs(shard: Shard, target: MysqlAddress) -> None:
    rebuild(shard, target)
    with shard.worker("still"):
        pay(shard, 10)
        shard.await_decided()
        with pytest.raises(Misconfigured, match=r"has 1 members: stop every worker"):
            plan_adoption(shard.settings, SHARD, target)
