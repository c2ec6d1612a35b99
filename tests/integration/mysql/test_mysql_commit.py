"""A COMMIT whose answer is lost, and everything else that can happen to a lane's transaction (L1, L6, L7, L8)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from processors.faults import Fenced, LaneStopped, Misconfigured, Retryable, StopCode, Unavailable, UnknownOutcome
from processors.ledger.book import Keys, Rows
from processors.stores.addresses import MysqlAddress
from processors.stores.lane_store import TAKE_OVER_DEADLINE_S
from processors.stores.mysql import LOCK_WAIT_TIMEOUT_S, WAIT_TIMEOUT_S, Session
from processors.stores.rules_rows import insert_rules
from tests.chaos.mysql_proxy import AtCommit, MysqlProxy, Saying
from tests.integration.mysql_shard import (
    NOTHING,
    RULES,
    TOPIC_ID,
    account,
    journal_row,
    new_id,
    rows_of,
    store_of,
    take_lane,
)


@pytest.fixture
def proxy(address: MysqlAddress) -> Iterator[MysqlProxy]:
    with MysqlProxy(address.host, address.port) as proxy:
        yield proxy


@pytest.mark.rule("L1")
def test_a_new_owner_sees_the_rules_that_the_one_before_was_still_committing(
    address: MysqlAddress, holder: Session
) -> None:
    take_lane(address).write(1)
    holder.begin()
    holder.query("SELECT next_offset FROM progress WHERE lane = 0 FOR UPDATE", "locking the lane")
    holder.execute(insert_rules(0, {2: replace(RULES, version=2, window_ms=60_000)}, since_time_ms=1), "new rules")
    holder.execute("UPDATE progress SET next_offset = 2 WHERE lane = 0", "moving on")
    commit = threading.Timer(0.5, holder.commit)
    commit.start()

    state = store_of(address).take_over(TOPIC_ID)

    commit.join()
    assert (state.progress.at.next_offset, state.rules.version) == (2, 2)


def journal_count(address: MysqlAddress) -> int:
    ((count,),) = rows_of(address, "SELECT COUNT(*) FROM journal")
    return int(count)


def kill_connections(address: MysqlAddress) -> None:
    """Kill every other connection to the database, as an operator or a failover would."""
    session = Session(address, lane=False)
    found = session.query(
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()", "looking"
    )
    for (number,) in found:
        session.execute(f"KILL {number}", "killing")
    session.close()


# ---------------------------------------------------------------------- the reply to COMMIT


@pytest.mark.rule("L6")
def test_a_commit_whose_reply_is_lost_is_found_done(address: MysqlAddress, proxy: MysqlProxy) -> None:
    lane = take_lane(replace(address, host="127.0.0.1", port=proxy.port))
    batch = lane.batch(3)
    proxy.arm(AtCommit.LOSE_REPLY)

    with pytest.raises(UnknownOutcome):
        lane.commit(batch)

    state = lane.store.take_over(TOPIC_ID)
    assert state.progress == replace(batch.progress, owner_epoch=2)
    assert journal_count(address) == 3


@pytest.mark.rule("L6")
def test_a_commit_that_never_arrives_is_found_not_done(address: MysqlAddress, proxy: MysqlProxy) -> None:
    lane = take_lane(replace(address, host="127.0.0.1", port=proxy.port))
    batch = lane.batch(3)
    proxy.arm(AtCommit.CUT_BEFORE)

    with pytest.raises(UnknownOutcome):
        lane.commit(batch)

    state = lane.store.take_over(TOPIC_ID)
    assert state.progress == replace(lane.progress, owner_epoch=2)
    assert journal_count(address) == 0


@pytest.mark.rule("L6")
def test_a_commit_on_its_way_is_waited_for_through_lock_wait_timeouts(address: MysqlAddress, proxy: MysqlProxy) -> None:
    through = replace(address, host="127.0.0.1", port=proxy.port, read_timeout_s=4)
    lane = take_lane(through)
    batch = lane.batch(3)
    proxy.arm(AtCommit.STALL)
    with pytest.raises(UnknownOutcome):
        lane.commit(batch)
    # The old transaction still holds the row; its COMMIT arrives after a new owner's lock wait has timed out once.
    late_s = LOCK_WAIT_TIMEOUT_S + 2
    timer = threading.Timer(late_s, proxy.release)
    began_s = time.monotonic()
    timer.start()

    state = take_lane(address).state

    assert time.monotonic() - began_s >= late_s
    assert state.progress == replace(batch.progress, owner_epoch=2)
    assert journal_count(address) == 3
    timer.join()


@pytest.mark.rule("L7")
def test_a_worker_that_fell_silent_keeps_its_locks_no_longer_than_wait_timeout(
    address: MysqlAddress, holder: Session
) -> None:
    take_lane(address)
    began_s = time.monotonic()
    holder.begin()
    holder.query("SELECT * FROM progress WHERE lane = 0 FOR UPDATE", "locking")

    assert take_lane(address).state.progress.owner_epoch == 2

    assert 15 < time.monotonic() - began_s < TAKE_OVER_DEADLINE_S + LOCK_WAIT_TIMEOUT_S


# ---------------------------------------------------------------------- before COMMIT


def test_a_killed_connection_before_commit_changes_nothing(address: MysqlAddress) -> None:
    lane = take_lane(address)
    kill_connections(address)

    with pytest.raises(Retryable):
        lane.commit(lane.batch(3))

    assert lane.store.take_over(TOPIC_ID).progress == replace(lane.progress, owner_epoch=2)
    assert journal_count(address) == 0


def test_a_deadlock_is_rolled_back_and_may_be_tried_again(address: MysqlAddress, holder: Session) -> None:
    lane = take_lane(address)
    lane.write(1, opened=[account("acme"), account("zeta")])
    holder.begin()
    # A heavy transaction, so that the lane's is the one that InnoDB rolls back.
    holder.execute("UPDATE account SET bucket = 1 WHERE address = X'7a657461'", "locking zeta")
    for number in range(200):
        holder.execute(f"INSERT INTO finding (kind, subject, detail, raised_at_ms) VALUES ('k', {number}, '', 0)", "")
    batch = lane.batch(1, accounts=[(account("zeta", sequence=2), 1)])
    waits = threading.Thread(
        target=lambda: holder.execute("UPDATE account SET bucket = 1 WHERE address = X'61636d65'", "locking acme")
    )
    lane.store.begin(lane.progress, batch, Keys(accounts={("acme", "USD"): None}))
    waits.start()

    with pytest.raises(Retryable, match=r"1213|1205"):
        lane.store.finish()

    waits.join()
    assert lane.store.take_over(TOPIC_ID).progress.at.next_offset == 1
    assert journal_count(address) == 1


def test_a_lock_wait_timeout_leaves_nothing_of_the_batch(address: MysqlAddress, holder: Session) -> None:
    # MySQL keeps the transaction open after error 1205: a COMMIT would persist the journal rows without the balance.
    lane = take_lane(address)
    lane.write(1, opened=[account()])
    holder.begin()
    holder.execute("UPDATE account SET bucket = 1 WHERE address = X'61636d65'", "locking")

    with pytest.raises(Retryable, match="1205"):
        lane.commit(lane.batch(3, accounts=[(account(sequence=2), 1)]))

    holder.abandon()
    assert journal_count(address) == 1
    assert lane.store.take_over(TOPIC_ID).progress.at.next_offset == 1


def test_a_server_that_is_down_is_unavailable(address: MysqlAddress, proxy: MysqlProxy) -> None:
    lane = take_lane(replace(address, host="127.0.0.1", port=proxy.port))
    proxy.cut()
    with pytest.raises(Retryable):
        lane.commit(lane.batch())
    closed = replace(address, port=1)

    with pytest.raises(Unavailable):
        take_lane(closed)


def test_a_way_to_the_server_that_lets_no_two_statements_pass_is_refused_at_the_start(
    address: MysqlAddress, proxy: MysqlProxy
) -> None:
    proxy.answer(Saying.SEVERAL, [1064], "You have an error in your SQL syntax")

    with pytest.raises(Misconfigured, match="several statements"):
        take_lane(replace(address, host="127.0.0.1", port=proxy.port))


def test_after_a_fault_the_lane_must_be_taken_over_again(address: MysqlAddress) -> None:
    lane = take_lane(address)
    kill_connections(address)
    with pytest.raises(Retryable):
        lane.commit(lane.batch())

    with pytest.raises(Retryable, match="taken over again"):
        lane.commit(lane.batch())

    lane.progress = lane.store.take_over(TOPIC_ID).progress
    lane.write(2)
    assert journal_count(address) == 2


# ---------------------------------------------------------------------- the fence


@pytest.mark.rule("L1")
def test_a_worker_whose_lane_was_taken_over_writes_nothing(address: MysqlAddress) -> None:
    zombie = take_lane(address)
    zombie.write(2)
    owner = take_lane(address)

    with pytest.raises(Fenced):
        zombie.commit(zombie.batch(1))

    owner.write(1)
    assert journal_count(address) == 3
    assert zombie.store.take_over(TOPIC_ID).progress.at.next_offset == 3


@pytest.mark.rule("L1")
@pytest.mark.parametrize(
    "went_back", ["next_offset = next_offset - 1", "digest = X'" + 32 * "aa" + "'", "owner_epoch = owner_epoch - 1"]
)
def test_a_database_that_is_not_as_remembered_stops_the_batch(address: MysqlAddress, went_back: str) -> None:
    lane = take_lane(address)
    lane.write(2)
    session = Session(address, lane=False)
    session.execute(f"UPDATE progress SET {went_back}", "going back")
    session.close()

    with pytest.raises(Fenced):
        lane.commit(lane.batch())

    assert journal_count(address) == 2


@pytest.mark.rule("L1")
def test_a_fenced_worker_is_given_no_rows(address: MysqlAddress) -> None:
    zombie = take_lane(address)
    take_lane(address)

    zombie.store.begin(zombie.progress, None, Keys(accounts={("acme", "USD"): None}))
    with pytest.raises(Fenced):
        zombie.store.loaded()


@pytest.mark.rule("L1")
def test_what_a_fenced_worker_wrote_along_with_the_question_is_rolled_back_at_once(address: MysqlAddress) -> None:
    zombie = take_lane(address)
    owner = take_lane(address)

    zombie.store.begin(zombie.progress, None, NOTHING, open_end=True)
    assert zombie.store.loaded() == Rows()
    zombie.store.end(zombie.batch(3))
    with pytest.raises(Fenced):
        zombie.store.finish()

    assert journal_count(address) == 0
    owner.write(1)  # nobody holds the lane's row any more: who waits for a lock meets a fault


@pytest.mark.rule("L8")
def test_of_statements_that_go_together_none_counts_once_one_fails(address: MysqlAddress) -> None:
    lane = take_lane(address)
    batch = lane.batch(2)
    lane.commit(batch)

    lane.store.begin(batch.progress, batch, NOTHING)
    with pytest.raises(LaneStopped, match="BUG"):  # the same rows again: the insert fails, and the rest does not run
        lane.store.finish()

    assert rows_of(address, "SELECT next_offset FROM progress") == [(2,)]


@pytest.mark.rule("L5")
def test_the_owner_epoch_is_read_as_it_is_now(address: MysqlAddress) -> None:
    first = take_lane(address)
    assert first.store.owner_epoch() == 1
    take_lane(address)

    assert first.store.owner_epoch() == 2


def test_two_workers_that_take_a_new_lane_at_once_both_get_an_epoch(address: MysqlAddress) -> None:
    epochs: list[int] = []
    threads = [
        threading.Thread(target=lambda: epochs.append(take_lane(address).state.progress.owner_epoch)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(epochs) == [1, 2, 3, 4]


# ---------------------------------------------------------------------- counts


@pytest.mark.rule("L8")
def test_an_account_that_is_not_at_its_sequence_stops_the_lane(address: MysqlAddress) -> None:
    lane = take_lane(address)
    lane.write(1, opened=[account("acme", sequence=1), account("beta", sequence=1)])
    changed = [(account("acme", sequence=2), 1), (account("beta", sequence=7), 6)]

    with pytest.raises(LaneStopped) as stopped:
        lane.commit(lane.batch(1, accounts=changed))

    assert stopped.value.code is StopCode.BUG
    assert rows_of(address, "SELECT MAX(sequence) FROM account") == [(1,)]
    assert journal_count(address) == 1


@pytest.mark.rule("L8")
def test_an_update_that_changes_no_value_still_counts_its_row(address: MysqlAddress) -> None:
    # Without CLIENT.FOUND_ROWS the server counts changed rows only, and a batch of refusals would look like a bug.
    lane = take_lane(address)
    lane.write(1, opened=[account("acme"), account("beta")])

    lane.write(1, accounts=[(account("acme"), 1), (account("beta"), 1)])

    assert journal_count(address) == 2


@pytest.mark.rule("L8")
def test_a_joined_update_touches_exactly_the_rows_it_names(address: MysqlAddress) -> None:
    lane = take_lane(address)
    opened = [account(f"p{number:04}") for number in range(50)]
    lane.write(1, opened=opened)

    lane.write(1, accounts=[(account(f"p{number:04}", balance=-number, sequence=2), 1) for number in range(0, 50, 5)])

    assert rows_of(address, "SELECT address, balance FROM account WHERE sequence = 2 ORDER BY address") == [
        (b"p%04d" % number, -number) for number in range(0, 50, 5)
    ]
    assert rows_of(address, "SELECT COUNT(*) FROM account WHERE sequence = 1 AND balance = 10000") == [(40,)]


@pytest.mark.rule("L8")
def test_a_hold_that_is_not_there_to_delete_stops_the_lane(address: MysqlAddress) -> None:
    lane = take_lane(address)

    with pytest.raises(LaneStopped, match="deleting from hold: 0 rows, not 1"):
        lane.commit(lane.batch(1, holds=[(("acme", new_id()), None, True)]))

    assert journal_count(address) == 0


def test_an_id_that_is_journalled_already_stops_the_lane(address: MysqlAddress) -> None:
    lane = take_lane(address)
    first = journal_row(0)
    lane.write(1, journal=[first])

    with pytest.raises(LaneStopped) as stopped:
        lane.commit(lane.batch(1, journal=[journal_row(1, command_id=first.row.command_id)]))

    assert stopped.value.code is StopCode.BUG
    assert "acme" not in str(stopped.value)


def test_a_row_that_no_column_takes_stops_the_lane(address: MysqlAddress) -> None:
    lane = take_lane(address)

    with pytest.raises(LaneStopped) as stopped:
        lane.commit(lane.batch(1, journal=[journal_row(0, amount_minor=2**63)]))

    assert stopped.value.code is StopCode.BUG
    assert journal_count(address) == 0


def test_a_batch_that_cannot_be_made_into_sql_leaves_no_lock(address: MysqlAddress) -> None:
    lane = take_lane(address)

    with pytest.raises(KeyError):
        lane.commit(lane.batch(1, journal=[journal_row(0, type="NO_SUCH_TYPE")]))

    began_s = time.monotonic()
    assert lane.store.take_over(TOPIC_ID).progress.at.next_offset == 0
    assert time.monotonic() - began_s < WAIT_TIMEOUT_S - LOCK_WAIT_TIMEOUT_S


@pytest.mark.rule("A7")
@pytest.mark.parametrize("slices_away", [-1_000, 1_000])
def test_a_lane_that_meets_a_slice_without_a_partition_stops(address: MysqlAddress, slices_away: int) -> None:
    lane = take_lane(address)
    new = journal_row(0)
    new.row.slice += slices_away

    with pytest.raises(LaneStopped) as stopped:
        lane.commit(lane.batch(1, journal=[new]))

    assert stopped.value.code is StopCode.MISSING_SLICE
    assert lane.store.take_over(TOPIC_ID).progress.at.next_offset == 0


# ---------------------------------------------------------------------- stops and silence


def test_a_stop_is_stored_by_the_owner_only_and_ends_with_his_next_commit(address: MysqlAddress) -> None:
    zombie = take_lane(address)
    owner = take_lane(address)

    with pytest.raises(Fenced):
        zombie.store.stop(StopCode.BUG, "not mine to say")
    owner.store.stop(StopCode.LOG_GAP, "offset 7 after 5 \udcff" + "é" * 3_000)

    state = owner.store.take_over(TOPIC_ID)
    assert state.stop_code is StopCode.LOG_GAP
    assert state.stop_detail.startswith("offset 7 after 5 ?é")
    owner.progress = state.progress
    owner.write(1)
    assert owner.store.take_over(TOPIC_ID).stop_code is None


def test_a_stop_can_be_stored_after_the_fault_that_caused_it(address: MysqlAddress) -> None:
    lane = take_lane(address)
    with pytest.raises(LaneStopped) as stopped:
        lane.commit(lane.batch(1, journal=[journal_row(0, amount_minor=2**63)]))

    lane.store.stop(stopped.value.code, stopped.value.detail)

    assert lane.store.take_over(TOPIC_ID).stop_code is StopCode.BUG


def test_a_stop_is_stored_behind_a_batch_that_was_being_written(address: MysqlAddress) -> None:
    lane = take_lane(address)
    lane.store.begin(lane.progress, lane.batch(1), NOTHING)

    lane.store.stop(StopCode.LOG_GAP, "offset 7 after 5")

    state = lane.store.take_over(TOPIC_ID)
    assert (state.stop_code, state.progress.at.next_offset) == (StopCode.LOG_GAP, 1)


@pytest.mark.rule("L7")
def test_a_lane_that_was_idle_longer_than_wait_timeout_goes_on(address: MysqlAddress) -> None:
    lane = take_lane(address)
    kill_connections(address)
    lane.store._used_s -= 11  # as if eleven seconds had passed: what the server did after twenty is done above

    lane.write(1)

    assert journal_count(address) == 1


def test_begin_waits_for_nothing_when_only_the_fence_is_asked(address: MysqlAddress) -> None:
    lane = take_lane(address)

    lane.store.begin(lane.progress, None, NOTHING)
    assert not lane.store.loaded().accounts
    lane.store.finish()
    lane.store.finish()
