"""What a lane's new owner remembers of the ids that were decided before (I3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from processors.ids import derived_id, slice_of
from processors.ledger.book import Keys
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.stores.recent_ids import LOADED_MS, RecentIds, select_recent
from tests.integration.mysql_shard import RULES, Lane, clock_ms, journal_row, new_id, take_lane


@pytest.fixture
def session(address: MysqlAddress) -> Iterator[Session]:
    session = Session(address, lane=False)
    yield session
    session.close()


def write(lane: Lane, ids: list[bytes]) -> None:
    first = lane.progress.at.next_offset
    lane.write(len(ids), journal=[journal_row(first + number, command_id=id_) for number, id_ in enumerate(ids)])


def recent_of(session: Session, now_ms: int, ids_max: int = 100) -> RecentIds:
    return select_recent(session, 0, now_ms, ids_max=ids_max)


@pytest.mark.rule("I3")
def test_a_new_owner_knows_what_the_lane_decided_lately(address: MysqlAddress, session: Session) -> None:
    lane, other, now_ms = take_lane(address), take_lane(address, 1), clock_ms()
    further_ms = RULES.future_limit_ms + 60_000  # of a transfer that another shard took, by its own rules
    decided = [new_id(now_ms + ahead_ms) for ahead_ms in (0, 0, -LOADED_MS, further_ms, -LOADED_MS - 1)]
    write(lane, decided)
    lane.write(1, journal=[journal_row(5, command_id=derived_id("EXPIRE_HOLD", decided[0]), slice=slice_of(now_ms))])
    write(other, [new_id(now_ms)])

    recent = recent_of(session, now_ms)

    assert recent.floor_ms == now_ms - LOADED_MS
    assert all(recent.may_be_decided(id_) for id_ in decided)
    assert recent.may_be_decided(new_id(now_ms - LOADED_MS - 1))
    assert not any(recent.may_be_decided(new_id(now_ms + ahead_ms)) for ahead_ms in (-LOADED_MS, 0, 60_000))


@pytest.mark.rule("I3")
def test_of_more_than_it_can_keep_the_newest_are_known(address: MysqlAddress, session: Session) -> None:
    lane, now_ms = take_lane(address), clock_ms()
    decided = [new_id(now_ms - number // 2) for number in range(9)]
    write(lane, decided)

    recent = recent_of(session, now_ms, ids_max=4)

    assert recent.floor_ms == now_ms
    assert all(recent.may_be_decided(id_) for id_ in decided)
    assert not recent.may_be_decided(new_id(now_ms))


@pytest.mark.rule("I3")
def test_a_lane_finds_its_ids_again_whoever_decided_them_and_whenever(address: MysqlAddress) -> None:
    lane, now_ms = take_lane(address), clock_ms()
    old, recent = new_id(now_ms - 2 * LOADED_MS), new_id(now_ms)
    write(lane, [old, recent])

    assert found_by(lane, old, recent) == {old, recent}
    assert found_by(take_lane(address), old, recent) == {old, recent}


def found_by(lane: Lane, *decided: bytes) -> set[bytes]:
    """Return which ids a lane finds of some that were decided and some that were not."""
    keys = {("acme", id_): None for id_ in (*decided, new_id(), new_id(clock_ms() - 2 * LOADED_MS))}
    lane.store.begin(lane.progress, None, Keys(decisions=keys))
    found = lane.store.loaded().decisions
    lane.store.finish()
    return {id_ for _, id_ in found}
