"""A shard's schema and its slices: made once, made ahead, dropped whole (A7)."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest

from processors.faults import Misconfigured, Retryable
from processors.ids import SLICE_MS, slice_of
from processors.ledger.rules import Rules
from processors.stores import partitions
from processors.stores.addresses import MysqlAddress
from processors.stores.databases import known_shard
from processors.stores.migrations import FOLDER, NARROW, check_database, check_schema, migrate, read_migrations
from processors.stores.mysql import Session
from processors.stores.partitions import TARGET_SLICES_MAX, ensure_slices, slices, slices_needed
from processors.stores.rules_rows import insert_rules
from processors.stores.shard_reader import ShardReader, open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from tests.integration.journal_before import apply_file
from tests.integration.mysql_shard import (
    RULES,
    SHARD,
    address_of,
    clock_ms,
    journal_row,
    new_id,
    rows_of,
    take_lane,
)
from tests.servers import Servers


@pytest.fixture
def session(address: MysqlAddress) -> Iterator[Session]:
    session = Session(address, lane=False)
    yield session
    session.close()


# ---------------------------------------------------------------------- schema


def test_migrating_twice_changes_nothing_the_second_time(address: MysqlAddress) -> None:
    assert migrate(address, SHARD, {0: RULES}, now_ms=clock_ms()) == []


def test_migrating_at_once_from_several_places_makes_one_shard(
    servers: Servers, fresh_database: Callable[[], str]
) -> None:
    address = address_of(servers, fresh_database())
    done: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: done.append(migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(len(each) > 0 for each in done) == [False, False, False, True]
    assert rows_of(address, "SELECT COUNT(*) FROM shard") == [(1,)]


def test_a_migration_that_was_interrupted_goes_on(servers: Servers, fresh_database: Callable[[], str]) -> None:
    address = address_of(servers, fresh_database())
    session = Session(address, lane=False)
    for statement in read_migrations()[0].statements[:3]:  # as if the process had been killed in the first file
        session.execute(statement, "half a migration")
    session.close()

    migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())

    assert take_lane(address).state.rules == RULES


@pytest.mark.rule("R2")
def test_a_shard_of_an_earlier_release_is_the_home_shard(servers: Servers, fresh_database: Callable[[], str]) -> None:
    address = address_of(servers, fresh_database())
    session = Session(address, lane=False)
    for migration in takewhile(lambda each: "home_shard" not in each.name, read_migrations()):
        for statement in migration.statements:
            session.execute(statement, migration.name)
    session.execute(
        "INSERT INTO shard (shard, lanes, results_partitions, created_at_ms) VALUES ('s1', 4, 4, 0)", "an old shard"
    )
    for lane in range(SHARD.lanes):
        session.execute(insert_rules(lane, {0: RULES}, since_time_ms=0), "its rules")
    session.close()

    assert known_shard(address) == SHARD
    migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())
    assert known_shard(address) == SHARD


@pytest.mark.rule("R2")
def test_a_shard_that_is_added_later_is_not_the_home_shard(servers: Servers, fresh_database: Callable[[], str]) -> None:
    address = address_of(servers, fresh_database())
    added = replace(SHARD, home=False)
    migrate(address, added, {0: RULES}, now_ms=clock_ms())

    assert check_database(address, "s1") == known_shard(address) == added
    assert not take_lane(address).state.home
    with pytest.raises(Misconfigured, match="the settings say"):
        migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())


def test_every_file_of_the_schema_may_run_twice(servers: Servers, fresh_database: Callable[[], str]) -> None:
    address = address_of(servers, fresh_database())
    session = Session(address, lane=False)
    for migration in read_migrations():
        apply_file(session, migration, times=2, noted=migration.number != NARROW)  # whose tables are still to be filled
    session.close()

    migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())

    before = take_lane(address).write(2)
    assert take_lane(address).state.progress == replace(before.progress, owner_epoch=2)


def test_a_file_that_was_edited_after_it_was_applied_is_refused(session: Session) -> None:
    session.begin()
    session.execute("UPDATE migration SET digest = X'" + 32 * "00" + "' WHERE number = 2", "as if edited")

    with pytest.raises(Misconfigured, match="0002_accounts was edited after it was applied"):
        check_schema(session, "s1")
    session.abandon()


def test_a_database_of_a_later_release_is_refused(session: Session) -> None:
    session.begin()
    session.execute("INSERT INTO migration VALUES (99, 'later', X'" + 32 * "00" + "')", "as if later")

    with pytest.raises(Misconfigured, match="migration 99 is of a later release"):
        check_schema(session, "s1")
    session.abandon()


def test_a_database_without_schema_says_what_to_do(servers: Servers, fresh_database: Callable[[], str]) -> None:
    session = Session(address_of(servers, fresh_database()), lane=False)

    with pytest.raises(Misconfigured, match="run `balance migrate`"):
        check_schema(session, "s1")
    session.close()


def test_a_shard_keeps_what_it_was_made_with(address: MysqlAddress, reader: ShardReader) -> None:
    assert reader.check("s1") == SHARD
    with pytest.raises(Misconfigured, match="holds shard s1, not s2"):
        reader.check("s2")
    with pytest.raises(Misconfigured, match="the settings say"):
        migrate(address, replace(SHARD, lanes=8), {0: RULES}, now_ms=clock_ms())


def test_a_worker_refuses_another_shards_database_and_is_told_what_its_own_was_made_with(address: MysqlAddress) -> None:
    assert check_database(address, SHARD.shard) == SHARD
    with pytest.raises(Misconfigured):
        check_database(address, "s2")


def test_a_shard_is_known_once_it_was_entered(servers: Servers, fresh_database: Callable[[], str]) -> None:
    address = address_of(servers, fresh_database())
    assert known_shard(replace(address, database="balance_test_nobody_made_it")) is None
    assert known_shard(address) is None
    migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())
    assert known_shard(address) == SHARD


@pytest.mark.rule("I6")
def test_rules_of_a_shard_that_exists_are_left_alone(address: MysqlAddress, reader: ShardReader) -> None:
    migrate(address, SHARD, {0: replace(RULES, skew_ms=1)}, now_ms=clock_ms())

    assert reader.rules() == {lane: {0: RULES} for lane in range(SHARD.lanes)}


def test_files_of_the_schema_are_numbered_without_a_gap(tmp_path: Path) -> None:
    copied = shutil.copytree(FOLDER, tmp_path / "mysql")
    (copied / "0002_accounts.sql").unlink()

    assert len(read_migrations()) == len(list(FOLDER.glob("*.sql")))
    with pytest.raises(AssertionError, match="gap"):
        read_migrations(copied)


# ---------------------------------------------------------------------- slices


@pytest.mark.rule("A7")
def test_slices_reach_from_a_window_back_to_twice_the_future_limit_ahead() -> None:
    rules = Rules(version=1)
    now_ms = 500_000 * SLICE_MS + 5

    needed = slices_needed([rules], from_ms=now_ms, to_ms=now_ms)

    assert (needed[0], needed[-1]) == (500_000 - 6, 500_000 + 48)
    wider = replace(rules, version=2, window_ms=10 * SLICE_MS)
    assert slices_needed([rules, wider], from_ms=now_ms, to_ms=now_ms)[0] == 500_000 - 10


@pytest.mark.rule("A7")
def test_a_new_shard_has_every_slice_that_an_id_may_lie_in(reader: ShardReader) -> None:
    now_ms = clock_ms()
    present = set(reader.slices())

    for id_time_ms in (now_ms - RULES.window_ms, now_ms, now_ms + RULES.future_limit_ms):
        assert slice_of(id_time_ms) in present


@pytest.mark.rule("A7")
def test_after_an_outage_every_hour_since_has_its_slice(
    address: MysqlAddress, reader: ShardReader, upkeep: ShardUpkeep
) -> None:
    lane = take_lane(address)
    batch = lane.batch(1)
    behind_ms = clock_ms() - 20 * SLICE_MS
    lane.commit(replace(batch, progress=replace(batch.progress, at=replace(batch.progress.at, lane_time_ms=behind_ms))))
    before = set(reader.slices())

    migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())

    present = reader.slices()
    assert present == list(range(slice_of(behind_ms - RULES.window_ms), max(before) + 1))
    for number in set(present) - before:
        upkeep.drop_slice(number)


@pytest.mark.rule("A7")
def test_slices_are_made_for_a_replay_from_long_ago(address: MysqlAddress, upkeep: ShardUpkeep) -> None:
    long_ago_ms = clock_ms() - 30 * SLICE_MS
    before = set(open_reader(address).slices())

    made = upkeep.ensure_slices(from_ms=long_ago_ms, to_ms=clock_ms())

    assert made == sorted(set(range(slice_of(long_ago_ms - RULES.window_ms), max(before) + 1)) - before)
    for number in made:
        upkeep.drop_slice(number)


@pytest.mark.rule("A7")
def test_a_thousand_slices_are_too_many(upkeep: ShardUpkeep) -> None:
    with pytest.raises(Misconfigured, match="1000 are too many"):
        upkeep.ensure_slices(from_ms=clock_ms() - 1_000 * SLICE_MS, to_ms=clock_ms())


@pytest.mark.rule("A7")
def test_a_replays_target_may_have_as_many_slices_as_mysql_allows(
    servers: Servers, fresh_database: Callable[[], str]
) -> None:
    target = address_of(servers, fresh_database())
    migrate(target, SHARD, {0: RULES}, now_ms=clock_ms(), slices_max=TARGET_SLICES_MAX)
    upkeep = ShardUpkeep(target)
    from_ms = clock_ms() - 1_100 * SLICE_MS
    made = upkeep.ensure_slices(from_ms=from_ms, to_ms=clock_ms(), slices_max=TARGET_SLICES_MAX)
    assert len(made) >= 1_100

    migrate(target, SHARD, {0: RULES}, now_ms=clock_ms(), slices_max=TARGET_SLICES_MAX)  # as a resumed replay does
    with pytest.raises(Misconfigured, match="8192 are too many: is the window within reason"):
        upkeep.ensure_slices(from_ms=clock_ms() - 8_192 * SLICE_MS, to_ms=clock_ms(), slices_max=TARGET_SLICES_MAX)
    upkeep.close()


@pytest.mark.rule("A7")
def test_a_slice_goes_with_all_its_rows_and_no_others(address: MysqlAddress, upkeep: ShardUpkeep) -> None:
    old_ms = clock_ms() - 10 * SLICE_MS
    upkeep.ensure_slices(from_ms=old_ms, to_ms=clock_ms())
    lane = take_lane(address)
    lane.write(3, journal=[journal_row(0), journal_row(1, command_id=new_id(old_ms)), journal_row(2)])

    upkeep.drop_slice(slice_of(old_ms))
    upkeep.drop_slice(slice_of(old_ms))

    assert rows_of(address, "SELECT lane_offset FROM journal ORDER BY 1") == [(0,), (2,)]
    assert slice_of(old_ms) not in open_reader(address).slices()


@pytest.mark.rule("A7")
def test_partition_ddl_is_not_tried_beside_an_old_transaction(holder: Session, session: Session) -> None:
    # It would wait for it, a second each time, and every statement on the journal behind it.
    holder.begin()
    holder.query("SELECT COUNT(*) FROM journal", "reading")
    time.sleep(2.1)
    waits, tried_before = list[float](), tried(session)

    def let_go_after_three(seconds: float) -> None:
        waits.append(seconds)
        assert tried(session) == tried_before
        if len(waits) == 3:
            holder.commit()
            time.sleep(1)  # the server looks at its transactions each 0.1 s only

    number = slices(session)[-1] + 1
    partitions.change_journal(
        session,
        f"ALTER TABLE journal ADD PARTITION (PARTITION p{number} VALUES IN ({number}))",
        "adding",
        sleep=let_go_after_three,
    )

    assert (waits, tried(session)) == ([0.05, 0.1, 0.2], tried_before + 1)
    partitions.drop_slice(session, number)


def tried(session: Session) -> int:
    """Return how often a session has sent DDL of a table, whatever became of it."""
    ((_, count),) = session.query("SHOW SESSION STATUS LIKE 'Com_alter_table'", "counting")
    return int(count)


@pytest.mark.rule("A7")
def test_partition_ddl_gives_up_when_the_journal_is_always_in_use(holder: Session, session: Session) -> None:
    holder.begin()
    holder.query("SELECT COUNT(*) FROM journal", "reading")
    time.sleep(2.1)
    before = slices(session)

    with pytest.raises(Retryable, match="in use 9 times"):
        partitions.change_journal(
            session, f"ALTER TABLE journal DROP PARTITION p{before[0]}", "dropping", sleep=lambda _: None
        )

    assert slices(session) == before


@pytest.mark.rule("A7")
def test_a_lane_does_not_wait_behind_ddl_for_long(address: MysqlAddress, holder: Session, session: Session) -> None:
    lane = take_lane(address)
    holder.begin()
    holder.query("SELECT COUNT(*) FROM journal", "reading")  # young: the DDL is tried, and waits for it
    number = slices(session)[-1] + 1
    ddl = threading.Thread(target=lambda: ensure_slices(session, range(number, number + 1)))
    ddl.start()
    time.sleep(0.3)

    lane.write(1)  # behind a DDL that waits for long it would meet a fault

    holder.commit()
    ddl.join()
    partitions.drop_slice(session, number)
