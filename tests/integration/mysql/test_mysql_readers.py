"""What other processes ask of a shard, and do to it beside its lanes' writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.faults import StopCode
from processors.ledger.outcomes import Contra
from processors.ledger.rows import Account, Hold, OpenRefund, Refunded
from processors.routing.buckets import partition_of, placement_key_of
from processors.stores.addresses import MysqlAddress
from processors.stores.moves_reader import MovesReader
from processors.stores.rows import PlacementRow, PlacementState
from processors.stores.shard_reader import OverdueHold, ShardReader, open_snapshot
from processors.stores.shard_upkeep import ShardUpkeep
from tests.integration.mysql_shard import (
    SHARD,
    TOPIC_ID,
    account,
    journal_row,
    new_id,
    rows_of,
    take_lane,
)

# ---------------------------------------------------------------------- readers


def test_positions_show_each_lane_and_why_it_stopped(address: MysqlAddress, reader: ShardReader) -> None:
    running, stopped = take_lane(address, 0), take_lane(address, 2)
    running.write(3)
    stopped.store.stop(StopCode.LOG_GAP, "offset 9 after 7")

    positions = reader.lane_positions()

    assert sorted(positions) == [0, 2]
    assert positions[0].progress == running.progress
    assert (positions[0].stop_code, positions[0].stopped_at_ms) == (None, 0)
    assert (positions[2].stop_code, positions[2].stop_detail) == (StopCode.LOG_GAP, "offset 9 after 7")
    assert positions[2].stopped_at_ms > 0
    assert reader.positions()[0] == running.progress


def test_an_operator_lets_a_stopped_lane_go_on(address: MysqlAddress, upkeep: ShardUpkeep) -> None:
    lane = take_lane(address)
    lane.store.stop(StopCode.BUG, "a bug")

    assert upkeep.clear_stop(0)
    assert not upkeep.clear_stop(0)
    assert lane.store.take_over(TOPIC_ID).stop_code is None


@pytest.mark.rule("H2")
def test_overdue_holds_are_the_lanes_own_the_longest_overdue_first(address: MysqlAddress, reader: ShardReader) -> None:
    lane, other = take_lane(address), take_lane(address, 1)
    ids = [new_id() for _ in range(4)]
    expiries = [300, 100, 200, 201]
    lane.write(
        1,
        holds=[
            (("acme", id_), Hold("acme:vn", "USD", 5, 5, 1, expires_at_ms), False)
            for id_, expires_at_ms in zip(ids, expiries, strict=True)
        ],
    )
    other.write(1, holds=[(("zeta", ids[0]), Hold("zeta", "USD", 5, 5, 1, 50), False)])

    overdue = reader.overdue_holds(0, now_ms=200, holds_max=10)

    assert overdue == [
        OverdueHold(root="acme", transaction_id=ids[1], address="acme:vn", currency="USD"),
        OverdueHold(root="acme", transaction_id=ids[2], address="acme:vn", currency="USD"),
    ]
    assert len(reader.overdue_holds(0, now_ms=10**13, holds_max=3)) == 3


@pytest.mark.rule("H2")
def test_a_hold_that_expired_is_open_to_nobody_and_goes_when_its_time_has_come(
    address: MysqlAddress, reader: ShardReader, upkeep: ShardUpkeep
) -> None:
    lane, other = take_lane(address), take_lane(address, 1)
    early, late, left_open = ("acme", new_id()), ("acme", new_id()), ("acme", new_id())
    still = Hold("acme", "USD", 5, 5, 1, 99)
    lane.write(
        1,
        holds=[
            (early, Hold("acme", "USD", 5, 0, 1, 99), False),
            (late, Hold("acme", "USD", 5, 0, 1, 100), False),
            (left_open, still, False),
        ],
    )
    other.write(1, holds=[(("zeta", new_id()), Hold("zeta", "USD", 5, 0, 1, 99), False)])

    assert [hold.transaction_id for hold in reader.overdue_holds(0, now_ms=200, holds_max=10)] == [left_open[1]]
    assert dict(reader.holds()) == {left_open: still}
    assert reader.open_transactions(early[1]) == []
    assert reader.counts().open_holds == 1
    assert rows_of(address, "SELECT COUNT(*) FROM hold_text") == [(1,)]
    assert upkeep.delete_expired_holds(0, before_ms=100) == 1
    left = rows_of(address, "SELECT transaction_id FROM hold WHERE lane = 0 ORDER BY expires_at_ms")
    assert left == [(left_open[1],), (late[1],)]


def test_accounts_are_read_whole_in_ranges_and_by_partner(address: MysqlAddress, reader: ShardReader) -> None:
    lane = take_lane(address)
    names = [
        "acme",
        "acme-2",
        "acme:vn",
        "acme:vn:shop",
        "acme;",
        "acmf",
        *(f"p{number:05}" for number in range(6_000)),
    ]
    lane.write(1, opened=[account(name.replace(";", "."), balance=1) for name in names])

    assert [each.address for each in reader.accounts()] == sorted(name.replace(";", ".") for name in names)
    assert [each.address for each in reader.accounts_below("acme")] == ["acme", "acme:vn", "acme:vn:shop"]
    assert [each.address for each in reader.accounts(("p05997", "USD"))] == ["p05998", "p05999"]
    assert reader.account("acme:vn", "USD") == account("acme:vn", balance=1)
    assert reader.account("acme:vn", "JPY") is None


def test_a_page_of_accounts_ends_with_a_whole_address_and_says_where_to_go_on(
    address: MysqlAddress, reader: ShardReader
) -> None:
    lane = take_lane(address)
    opened = [account("acme"), account("acme:a"), account("acme:b"), Account("acme:b", "JPY"), account("b")]
    lane.write(1, opened=opened)

    def names(page: list[Account]) -> list[str]:
        return [f"{each.address} {each.currency}" for each in page]

    page = reader.accounts_page("acme", rows_max=3)
    assert names(page) == ["acme USD", "acme:a USD", "acme:b JPY", "acme:b USD"]
    assert names(reader.accounts_page("acme", after="acme:a", rows_max=3)) == ["acme:b JPY", "acme:b USD"]
    assert reader.accounts_page("acme", after=page[-1].address) == []
    assert names(reader.accounts_page(None, after="acme:b")) == ["b USD"]
    assert [reader.count_accounts(below, most=9) for below in ("acme", None, "b")] == [4, 5, 1]
    assert reader.count_accounts(None, most=3) == 3


def test_open_rows_are_read_whole_in_ranges(address: MysqlAddress, reader: ShardReader) -> None:
    lane = take_lane(address)
    holds = {("acme", new_id()): Hold("acme", "USD", 9_999, number, 1, 77) for number in range(1, 5_002)}
    refunds = {("acme", new_id()): OpenRefund("acme", "USD", new_id(), 5, 1) for _ in range(2)}
    lane.write(
        1,
        holds=[(key, hold, False) for key, hold in holds.items()],
        open_refunds=[(key, refund, False) for key, refund in refunds.items()],
    )

    assert dict(reader.holds()) == holds
    assert dict(reader.open_refunds()) == refunds
    key, hold = next(iter(holds.items()))
    assert reader.open_transactions(key[1]) == [("acme", hold)]
    counts = reader.counts()
    assert (counts.open_holds, counts.open_refunds) == (5_001, 2)


def test_the_trial_balance_is_the_sum_of_partners_and_system_accounts(
    address: MysqlAddress, reader: ShardReader
) -> None:
    names = [f"p{number}" for number in range(8)]
    for number in range(4):
        lane = take_lane(address, number)
        ours = [name for name in names if partition_of(name, 4) == number]
        lane.write(
            1,
            opened=[account(name, balance=2**62) for name in ours] + [account(f"{name}:a", balance=7) for name in ours],
            system={(1, Contra.FUNDING, "USD"): -(2**62) * len(ours), (2, Contra.FUNDING, "USD"): -6 * len(ours)},
        )

    totals = reader.trial_balance(4)

    assert {total for (_, level, _), total in totals.items() if level == 1} == {0}
    assert sum(total for (_, level, _), total in totals.items() if level == 2) == len(names)


def test_a_snapshot_sees_one_moment(address: MysqlAddress) -> None:
    lane = take_lane(address)
    lane.write(1, opened=[account("acme", balance=1)])
    snapshot = open_snapshot(address)
    before = snapshot.positions()
    lane.write(1, opened=[account("beta", balance=1)])

    assert snapshot.positions() == before
    assert [each.address for each in snapshot.accounts()] == ["acme"]
    snapshot.close()


def test_a_transactions_steps_are_found_by_its_id(address: MysqlAddress, reader: ShardReader) -> None:
    lane = take_lane(address)
    hold_id = new_id()
    place = journal_row(0, command_id=hold_id, type="PLACE_HOLD")
    capture = journal_row(1, transaction_id=hold_id, type="CAPTURE_HOLD")
    same_id = journal_row(2, command_id=hold_id, root="beta")
    lane.write(4, journal=[place, capture, same_id, journal_row(3)])

    assert [row.lane_offset for row in reader.transaction(hold_id)] == [0, 1, 2]
    assert [row.lane_offset for row in reader.transaction(capture.row.command_id)] == [1]
    assert [row.result for row in reader.transaction(hold_id) if row.root == "beta"] == [b"result of 2"]
    assert reader.transaction(bytes(16)) == []


@pytest.mark.rule("A6")
def test_a_slice_is_read_in_ranges_and_its_last_rows_are_known(address: MysqlAddress, reader: ShardReader) -> None:
    lane, other = take_lane(address), take_lane(address, 3)
    roots = [f"p{number % 16}" for number in range(40)]
    lane.write(40, journal=[journal_row(number, root=root) for number, root in enumerate(roots)])
    other.write(2, journal=[journal_row(1, root="", currency="", type="CONTROL")])
    number = journal_row(0).row.slice

    rows = reader.slice_rows(number, 0, rows_max=25)
    rows += reader.slice_rows(number, 0, (rows[-1].lane_offset, rows[-1].lane_index), rows_max=25)

    assert [row.lane_offset for row in rows] == list(range(40))
    assert reader.slice_bounds(number) == {0: (0, 39), 3: (1, 1)}
    last = {(0, partition_of(root, 4)): (offset, 0) for offset, root in enumerate(roots)}
    assert reader.slice_last_rows(number, 4) == {**last, (3, 3): (1, 0)}  # a control row's partition is its lane's


# ---------------------------------------------------------------------- upkeep


@pytest.mark.rule("L13")
def test_old_batch_digests_go_but_what_is_perhaps_not_published_stays(
    address: MysqlAddress, upkeep: ShardUpkeep
) -> None:
    lane, other = take_lane(address), take_lane(address, 1)
    other.write(1)
    for number in range(1, 6):
        batch = lane.batch(1)
        lane.commit(
            replace(
                batch,
                progress=replace(
                    batch.progress, published_offset=3, at=replace(batch.progress.at, lane_time_ms=number * 1_000)
                ),
            )
        )

    assert upkeep.delete_old_digests(0, before_ms=2_000) == 1
    assert upkeep.delete_old_digests(0, before_ms=10**15) == 1
    assert rows_of(address, "SELECT next_offset FROM batch_digest WHERE lane = 0 ORDER BY 1") == [(3,), (4,), (5,)]
    assert rows_of(address, "SELECT COUNT(*) FROM batch_digest WHERE lane = 1") == [(1,)]


@pytest.mark.rule("L13")
@pytest.mark.rule("H3")
def test_refunded_originals_go_by_the_time_of_their_id(address: MysqlAddress, upkeep: ShardUpkeep) -> None:
    lane = take_lane(address)
    old, at, new = (new_id(time_ms) for time_ms in (999_999, 1_000_000, 1_000_001))
    lane.write(
        1, refunded=[((root, id_), Refunded(5, 1), False) for root, id_ in zip("zya", (old, at, new), strict=True)]
    )

    assert upkeep.delete_old_refunded(before_ms=1_000_000) == 1
    assert rows_of(address, "SELECT root FROM refunded ORDER BY root") == [(b"a",), (b"y",)]


def test_a_finding_has_one_row_until_it_is_resolved_and_raised_again(upkeep: ShardUpkeep) -> None:
    upkeep.raise_finding("row_missing", "slice 5", "first", now_ms=10)
    upkeep.raise_finding("row_missing", "slice 5", "seen again", now_ms=20)
    upkeep.raise_finding("row_missing", "slice 6", "another", now_ms=30)

    shown = [(found.subject, found.detail, found.raised_at_ms) for found in upkeep.findings()]
    assert shown == [("slice 6", "another", 30), ("slice 5", "seen again", 10)]

    assert upkeep.resolve_finding("row_missing", "slice 5", now_ms=40)
    assert not upkeep.resolve_finding("row_missing", "slice 5", now_ms=50)
    assert [found.subject for found in upkeep.findings()] == ["slice 6"]
    assert [found.resolved_at_ms for found in upkeep.findings(resolved=True)] == [40]
    upkeep.raise_finding("row_missing", "slice 5", "and again", now_ms=60)
    assert [(found.subject, found.raised_at_ms) for found in upkeep.findings()] == [("slice 6", 30), ("slice 5", 60)]


@pytest.mark.rule("M2")
@pytest.mark.parametrize("key", ["acme", placement_key_of("acme")])
@pytest.mark.parametrize(
    ("state", "total"),
    [
        (PlacementState.OWNED, 10_000),
        (PlacementState.ARRIVING, 10_000),
        (PlacementState.SEALED, None),
        (PlacementState.LEFT, None),
    ],
)
def test_frozen_accounts_do_not_count_in_the_trial_balance_and_arriving_ones_do(
    address: MysqlAddress, reader: ShardReader, key: str, state: PlacementState, total: int | None
) -> None:
    number = partition_of("acme", SHARD.lanes)
    lane = take_lane(address, number)
    row = PlacementRow(placement_key=key, generation=1, state=state, other_shard="s2")
    lane.commit(replace(lane.batch(1, opened=[account("acme")]), placements=[row]))

    assert reader.trial_balance(SHARD.lanes).get((number, 1, "USD")) == total


@pytest.mark.rule("M11")
@pytest.mark.parametrize("key", ["acme", placement_key_of("acme")])
@pytest.mark.parametrize("state", PlacementState)
def test_nobody_is_shown_rows_of_a_partner_who_is_not_owned_here(
    address: MysqlAddress, reader: ShardReader, key: str, state: PlacementState
) -> None:
    lane, id_ = take_lane(address, partition_of("acme", SHARD.lanes)), new_id()
    row = PlacementRow(placement_key=key, generation=1, state=state, other_shard="s2")
    batch = lane.batch(
        1,
        opened=[account("acme")],
        holds=[(("acme", id_), Hold("acme", "USD", 5, 5, 1, 99), False)],
        refunded=[(("acme", id_), Refunded(100, 40), False)],
    )
    lane.commit(replace(batch, placements=[row]))

    shown = {
        "account": reader.account("acme", "USD"),
        "below": reader.accounts_below("acme"),
        "page": reader.accounts_page(None),
        "count": reader.count_accounts(None, most=9),
        "open": reader.open_transactions(id_),
        "refunded": reader.refunded([("acme", id_)]),
    }

    assert {what for what, found in shown.items() if found} == (set(shown) if state is PlacementState.OWNED else set())


def test_moves_under_way_are_told_and_what_is_between_the_shards(address: MysqlAddress) -> None:
    lane, reader = take_lane(address), MovesReader(address)
    moving = [
        PlacementRow(placement_key="a", generation=1, state=PlacementState.ARRIVING, other_shard="s2", parts=3),
        PlacementRow(placement_key="b", generation=2, state=PlacementState.OWNED, other_shard="s2", parked=9),
        PlacementRow(placement_key="c", generation=3, state=PlacementState.SEALED, other_shard="s2", since_time_ms=7),
    ]
    settled = [
        PlacementRow(placement_key=f"of {state}", generation=1, state=state, other_shard="s2")
        for state in (PlacementState.OWNED, PlacementState.LEFT, PlacementState.AWAY)
    ]
    posted = {(1, Contra.MOVED, "USD"): 700, (2, Contra.MOVED, "USD"): -200, (1, Contra.MOVED, "EUR"): 0}
    batch = lane.batch(1, system={**posted, (1, Contra.TRANSIT, "USD"): 5, (1, Contra.SETTLEMENT, "USD"): 6})
    lane.commit(replace(batch, placements=[*moving, *settled]))

    assert reader.under_way() == moving
    assert reader.between_shards() == {(Contra.MOVED, "USD"): 500, (Contra.TRANSIT, "USD"): 5}
    reader.close()
