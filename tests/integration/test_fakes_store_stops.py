"""A lane's store, MySQL's and the simulation's alike: stops, doubts, rules, home (``test_fakes_store``)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.faults import Fenced, Retryable, StopCode, UnknownOutcome
from processors.ledger.book import Rows
from processors.ledger.rules import Rules
from tests.integration.test_fakes_store import NOTHING, TOPIC_ID, Owner, Shard, database, fault_of, shard

__all__ = ["database", "shard"]  # fixtures


# ---------------------------------------------------------------------- stops


def test_a_stop_is_kept_until_the_lane_commits_again(shard: Shard) -> None:
    owner = Owner(shard)
    owner.store.stop(StopCode.CLOCK_AHEAD, "offset 0")
    again = Owner(shard)

    again.commit()

    assert (again.state.stop_code, again.state.stop_detail) == (StopCode.CLOCK_AHEAD, "offset 0")
    assert Owner(shard).state.stop_code is None


@pytest.mark.rule("L1")
def test_a_lane_is_not_stopped_by_an_owner_who_knows_it_elsewhere(shard: Shard) -> None:
    owner = Owner(shard)
    owner.commit()
    shard.lose_next_reply_to_commit(done=True)
    assert isinstance(fault_of(owner, owner.batch()), UnknownOutcome)

    with pytest.raises(Fenced):
        owner.store.stop(StopCode.BUG, "mine")


# ---------------------------------------------------------------------- replies that are lost


@pytest.mark.rule("L6")
@pytest.mark.parametrize("done", [True, False])
def test_only_a_takeover_tells_what_became_of_an_unanswered_commit(shard: Shard, *, done: bool) -> None:
    owner = Owner(shard)
    owner.commit()
    write = owner.batch()
    shard.lose_next_reply_to_commit(done=done)

    assert isinstance(fault_of(owner, write), UnknownOutcome)

    stands = write.progress if done else owner.progress
    assert owner.store.take_over(TOPIC_ID).progress == replace(stands, owner_epoch=2)


def test_after_a_fault_a_store_is_good_for_nothing_but_a_takeover(shard: Shard) -> None:
    owner = Owner(shard)
    shard.lose_next_reply_to_commit(done=False)
    fault_of(owner, owner.batch())

    with pytest.raises((AssertionError, Retryable, Fenced)):
        owner.store.begin(owner.progress, None, NOTHING)

    owner.progress = owner.store.take_over(TOPIC_ID).progress
    assert owner.load(accounts={("acme", "USD"): None}) == Rows()


@pytest.mark.rule("R2")
@pytest.mark.parametrize("home", [True, False])
def test_a_lanes_owner_is_told_whether_its_shard_is_the_home_shard(shard: Shard, *, home: bool) -> None:
    shard.set_home(home=home)

    assert shard.store().take_over(TOPIC_ID).home is home


def test_rules_of_the_shard_are_the_new_lanes(shard: Shard) -> None:
    assert isinstance(Owner(shard, lane=3).state.rules, Rules)


@pytest.mark.rule("I2")
@pytest.mark.parametrize("code", [StopCode.CLOCK_AHEAD, StopCode.TIMESTAMP_TYPE])
def test_that_a_lane_waits_for_a_time_outlives_the_stop(shard: Shard, code: StopCode) -> None:
    owner = Owner(shard)
    owner.commit()
    owner.store.stop(code, "offset 1")
    shard.clear_stop()
    owner.store.stop(StopCode.BUG, "of another release")

    again = Owner(shard)
    assert (again.state.stop_code, again.state.waiting_at) == (StopCode.BUG, 1)
    shard.clear_stop()
    again.store.stop(StopCode.LOG_GAP, "offset 1")
    assert Owner(shard).state.waiting_at == 1
