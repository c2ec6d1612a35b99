"""A shard decided again from its topic, on real servers: equal, resumed, and found out where it differs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from processors.faults import Misconfigured
from processors.ledger.commands import Pay
from processors.ops import addresses
from processors.ops.assembly import proving, replaying
from processors.recovery.replay import BATCH_RECORDS, ReplayProgress
from processors.routing.buckets import partition_of
from processors.stores.addresses import MysqlAddress
from processors.stores.databases import TargetLock
from processors.stores.mysql import Session
from processors.stores.shard_reader import open_reader
from processors.streams.topics import shard_topic
from tests.chaos.lanes import SHARD, Shard, new_id
from tests.chaos.operator_process import run_until_it_kills_itself
from tests.end_to_end.conftest import balance
from tests.servers import Place

LANES = 2
LARGE = "acme"  # has some batches, so that a replay has a border to go on from


@pytest.fixture(scope="module")
def shard(fresh_place: Callable[..., Place]) -> Shard:
    """A shard of two lanes with days on each, decided and published; no worker runs any more."""
    made = Shard(fresh_place(BALANCE_TOPICS__LANES=str(LANES), BALANCE_TOPICS__COMMANDS_PARTITIONS=str(LANES)))
    made.write_day(LARGE, payments=3 * BATCH_RECORDS)
    for root in ("bravo", "coral", "delta"):
        made.write_day(root, payments=300)
    with made.worker():
        made.await_decided()
    return made


@pytest.fixture
def target(shard: Shard, fresh_database: Callable[[], str]) -> MysqlAddress:
    return proving.target_address(shard.settings, SHARD, dsn_of(shard, fresh_database()))


def dsn_of(shard: Shard, database: str) -> str:
    live = addresses.mysql_address(shard.settings, SHARD)
    return f"mysql://{live.user}:{live.password}@{live.host}:{live.port}/{database}"


def replay(shard: Shard, target: MysqlAddress) -> replaying.ReplayReport:
    return replaying.replay_shard(shard.settings, SHARD, target, on_progress=lambda _at: None)


def in_the_database(address: MysqlAddress, statement: str) -> None:
    session = Session(address, lane=False)
    session.execute(statement, "changing the database")
    session.commit()
    session.close()


@pytest.mark.rule("L13")
def test_a_shard_replayed_from_its_topic_is_equal(shard: Shard, target: MysqlAddress) -> None:
    seen = shard.results()
    told: list[int] = []
    report = replaying.replay_shard(shard.settings, SHARD, target, on_progress=lambda at: told.append(at.offset))
    assert (report.difference, report.not_compared) == (None, ())
    assert shard.results() == seen  # nothing was published
    assert max(told) == max(progress.at.next_offset for progress in shard.positions().values())


@pytest.mark.rule("V2")
def test_a_shard_whose_database_is_lost_is_rebuilt_from_logs_alone(shard: Shard, target: MysqlAddress) -> None:
    lost = shard.settings.changed(shards={SHARD: {"database": "balance_test_is_not_there"}})

    report = replaying.replay_shard(lost, SHARD, target, on_progress=lambda _at: None)

    live = shard.positions()
    rebuilt = open_reader(target)
    positions, rules = rebuilt.positions(), rebuilt.rules()
    rebuilt.close()
    assert {lane: at.at.digest for lane, at in positions.items()} == {lane: at.at.digest for lane, at in live.items()}
    assert rules == {lane: {0: shard.rules} for lane in range(LANES)}
    assert report.difference is None
    assert report.compared == tuple(
        f"lane {lane}: the digest of what was published, at offset {at.at.next_offset}" for lane, at in live.items()
    )
    assert [told.startswith("the live database is not there") for told in report.not_compared] == [True]
    # where its lanes begin to answer, should the group's offsets be lost, too
    assert all(0 < at.published_offset <= live[lane].at.next_offset for lane, at in positions.items())


@pytest.mark.rule("V2")
def test_an_earlier_state_is_compared_by_its_digest(shard: Shard, target: MysqlAddress) -> None:
    lane = partition_of(LARGE, LANES)
    other = 1 - lane
    earlier = BATCH_RECORDS + 11  # no border of the live lane
    until = replaying.Until(offsets={lane: earlier})

    report = replaying.replay_shard(shard.settings, SHARD, target, on_progress=lambda _at: None, until=until)

    live = shard.positions()
    assert report.offsets == {lane: earlier, other: live[other].at.next_offset}
    assert report.difference is None
    assert f"lane {lane}: the live digest, at offset {earlier}" in report.compared
    assert len(report.not_compared) == 2  # what was published, and balances, of that lane
    with pytest.raises(Misconfigured, match="stands further already"):
        replaying.replay_shard(
            shard.settings, SHARD, target, on_progress=lambda _at: None, until=replaying.Until(offsets={lane: 5})
        )


@pytest.mark.rule("V2")
def test_a_rebuilt_shard_that_is_not_what_was_published_is_told(shard: Shard, target: MysqlAddress) -> None:
    until = replaying.Until(offsets=dict.fromkeys(range(LANES), 40))
    replaying.replay_shard(shard.settings, SHARD, target, on_progress=lambda _at: None, until=until)
    lane = partition_of(LARGE, LANES)
    in_the_database(target, f"UPDATE progress SET digest = REVERSE(digest) WHERE lane = {lane}")
    in_the_database(target, f"UPDATE batch_digest SET digest = REVERSE(digest) WHERE lane = {lane}")

    report = replay(shard, target)

    assert report.difference is not None
    assert report.difference.what == f"lane {lane}"


def test_a_replay_that_was_killed_goes_on_where_it_was(shard: Shard, fresh_database: Callable[[], str]) -> None:
    dsn = dsn_of(shard, fresh_database())
    target, lane = proving.target_address(shard.settings, SHARD, dsn), partition_of(LARGE, LANES)
    run_until_it_kills_itself(shard.place, "replay", dsn, str(lane))
    reached = _reached(target, lane)
    assert 0 < reached < shard.positions()[lane].at.next_offset

    told: list[ReplayProgress] = []
    assert replaying.replay_shard(shard.settings, SHARD, target, on_progress=told.append).difference is None

    of_lane = [at for at in told if at.lane == lane]
    assert sum(at.offset > reached for at in of_lane) == len(of_lane) > 0
    again = balance(shard.place, "replay", "shard", SHARD, "--into", dsn, "--json")
    assert again.status == 0, again.err
    assert (again.json["equal"], again.json["difference"], again.json["not_compared"]) == (True, None, [])


def _reached(address: MysqlAddress, lane: int) -> int:
    with closing(open_reader(address)) as reader:
        return reader.positions()[lane].at.next_offset


def test_a_balance_changed_by_hand_is_the_first_difference_told(
    shard: Shard, target: MysqlAddress, fresh_database: Callable[[], str]
) -> None:
    live = addresses.mysql_address(shard.settings, SHARD)
    in_the_database(live, "UPDATE account SET balance = balance + 1 WHERE address = X'636f72616c'")  # coral
    try:
        difference = replay(shard, target).difference
        replayed = balance(shard.place, "replay", "shard", SHARD, "--into", dsn_of(shard, fresh_database()))
        verified = balance(shard.place, "verify", "--no-archive")
    finally:
        in_the_database(live, "UPDATE account SET balance = balance - 1 WHERE address = X'636f72616c'")
    assert difference is not None
    assert difference.what == "account coral USD"
    assert (replayed.status, verified.status) == (1, 1)
    assert "account coral USD differs" in replayed.out
    assert "coral" in verified.out


OF_ONE_LANE = {
    "rules": ("UPDATE rules SET skew_ms = skew_ms {} 1 WHERE lane = 1", "lane 1: rules, 0"),
    "ingress positions": (
        "UPDATE progress_source SET ingress_offset = ingress_offset {} 1 WHERE lane = 1",
        "lane 1: ingress positions, (",
    ),
}


@pytest.mark.rule("V2")
@pytest.mark.parametrize("what", OF_ONE_LANE)
def test_what_a_lane_keeps_of_its_own_is_compared_too(shard: Shard, target: MysqlAddress, what: str) -> None:
    live = addresses.mysql_address(shard.settings, SHARD)
    statement, told = OF_ONE_LANE[what]
    in_the_database(live, statement.format("+"))
    try:
        difference = replay(shard, target).difference
    finally:
        in_the_database(live, statement.format("-"))
    assert difference is not None
    assert difference.what.startswith(told)


@pytest.mark.rule("V2")
@pytest.mark.parametrize("table", ["parked", "moved_id"])
def test_what_came_with_a_move_or_waits_for_one_is_compared_too(shard: Shard, target: MysqlAddress, table: str) -> None:
    live, now = addresses.mysql_address(shard.settings, SHARD), new_id().hex()
    insert = {
        "parked": "INSERT INTO parked VALUES (1, 3, X'61', X'61', X'61', X'', X'', 1, 0, 0, NULL, NULL)",
        "moved_id": "INSERT INTO moved_id (root, command_id, bucket, result, last_id) "
        f"VALUES (X'636f72616c', X'{now}', 0, X'00', X'')",
    }[table]
    in_the_database(live, insert)
    try:
        difference = replay(shard, target).difference
    finally:
        in_the_database(live, f"DELETE FROM {table}")
    assert difference is not None
    assert difference.what.startswith({"parked": "lane 1: parked records, 3", "moved_id": "moved id coral"}[table])
    assert difference.replayed == "no row"


def test_two_replays_into_one_database_at_once_are_refused(shard: Shard, target: MysqlAddress) -> None:
    with closing(TargetLock(target)), pytest.raises(Misconfigured, match="another replay is writing into"):
        replay(shard, target)
    assert replay(shard, target).difference is None


def test_a_lane_whose_digest_differs_is_told_before_any_account(shard: Shard, target: MysqlAddress) -> None:
    live = addresses.mysql_address(shard.settings, SHARD)
    in_the_database(live, "UPDATE progress SET digest = REVERSE(digest) WHERE lane = 1")
    try:
        difference = replay(shard, target).difference
    finally:
        in_the_database(live, "UPDATE progress SET digest = REVERSE(digest) WHERE lane = 1")
    assert difference is not None
    assert difference.what == "lane 1"


def test_a_lane_that_differs_is_told_with_its_first_journal_row_that_does(shard: Shard, target: MysqlAddress) -> None:
    live = addresses.mysql_address(shard.settings, SHARD)
    tampered = "UPDATE journal SET command_id = REVERSE(command_id) WHERE lane = 1 AND lane_offset IN (3, 4)"
    in_the_database(live, "UPDATE progress SET digest = REVERSE(digest) WHERE lane = 1")
    in_the_database(live, tampered)
    try:
        difference = replay(shard, target).difference
    finally:
        in_the_database(live, "UPDATE progress SET digest = REVERSE(digest) WHERE lane = 1")
        in_the_database(live, tampered)
    assert difference is not None
    assert difference.what == "lane 1 offset 3 index 0"
    assert difference.live.startswith("offset 3, command ")
    assert difference.live != difference.replayed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433"])  # one and the same
def test_the_live_database_is_no_target_by_whatever_name(shard: Shard, host: str) -> None:
    live = addresses.mysql_address(shard.settings, SHARD)
    owners = {lane: progress.owner_epoch for lane, progress in shard.positions().items()}
    with pytest.raises(Misconfigured, match="is the live database"):
        replay(shard, replace(live, host=host))
    assert {lane: progress.owner_epoch for lane, progress in shard.positions().items()} == owners  # nobody is fenced


def test_a_copy_of_the_live_database_is_no_target(shard: Shard, target: MysqlAddress) -> None:
    live = addresses.mysql_address(shard.settings, SHARD)
    tables = Session(live, lane=False)
    names = tables.query(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'",
        "listing tables",
    )
    tables.close()
    for (name,) in names:
        if name in {"hold", "moved_id"}:  # a computed column takes no values, and no digest or balance needs it
            continue
        in_the_database(target, f"CREATE TABLE {name} LIKE {live.database}.{name}")
        in_the_database(target, f"INSERT INTO {name} SELECT * FROM {live.database}.{name}")
    with pytest.raises(Misconfigured, match="neither empty nor a target that a replay began"):
        replay(shard, target)


def test_verify_is_clean_and_finds_what_was_tampered_with(shard: Shard) -> None:
    live = addresses.mysql_address(shard.settings, SHARD)

    def wrong() -> dict[str, int]:
        checks = proving.verify_shard(shard.settings, SHARD, on_progress=lambda _what, _rows: None)
        return {check.name.split()[0]: check.wrong for check in checks if not check.passed}

    assert wrong() == {}
    for statement, undo, found in (
        (
            "UPDATE account SET balance = balance + 1 WHERE address = X'61636d65'",
            "UPDATE account SET balance = balance - 1 WHERE address = X'61636d65'",
            {"trial": 1, "balances": 1},
        ),
        (
            "UPDATE account SET held = held + 1 WHERE address = X'61636d65'",
            "UPDATE account SET held = held - 1 WHERE address = X'61636d65'",
            {"held": 1, "balances": 1},
        ),
        (
            "UPDATE account SET sequence = sequence + 1 WHERE address = X'61636d65'",
            "UPDATE account SET sequence = sequence - 1 WHERE address = X'61636d65'",
            {"balances": 1},
        ),
    ):
        in_the_database(live, statement)
        try:
            assert wrong() == found
        finally:
            in_the_database(live, undo)
    assert wrong() == {}


def test_a_topic_that_no_longer_reaches_back_is_a_clear_error(shard: Shard, target: MysqlAddress) -> None:
    # The last test of the module: what is deleted does not come back.
    lane = next(lane for lane in range(LANES) if shard.topics.end(shard_topic(SHARD), lane))
    place = TopicPartition(shard.address.topic_prefix + shard_topic(SHARD), lane, 5)
    admin = AdminClient(shard.address.options())  # kept: its futures end with it
    for done in admin.delete_records([place]).values():
        done.result(30)
    with pytest.raises(Misconfigured, match=f"lane {lane}: the topic begins at offset 5, the target needs 0"):
        replay(shard, target)


def test_a_payment_decided_meanwhile_is_followed(
    fresh_place: Callable[..., Place], fresh_database: Callable[[], str]
) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))
    shard.write_day("acme", payments=100)
    with shard.worker():
        shard.await_decided()
        target = proving.target_address(shard.settings, SHARD, dsn_of(shard, fresh_database()))
        paid: list[int] = []

        def pay(_at: object) -> None:
            if len(paid) < 3:
                paid.append(1)
                shard.write([Pay(command_id=new_id(), address="acme", currency="USD", amount_minor=3)])
                shard.await_decided()

        assert replaying.replay_shard(shard.settings, SHARD, target, on_progress=pay).difference is None
        assert paid
