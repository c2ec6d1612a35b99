"""A lane's rows as they are loaded and written: what goes in comes out, by key, without touching other rows."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from typing import Any

import pytest

from processors.faults import Misconfigured
from processors.ledger.book import Keys, Rows
from processors.ledger.commands import AccountStatus, Policy
from processors.ledger.outcomes import Contra
from processors.ledger.rows import Account, Hold, OpenRefund, Refunded
from processors.ledger.tables import MOVED_IDS, MOVING_TABLES
from processors.stores.addresses import MysqlAddress
from processors.stores.lane_sql import loads
from processors.stores.mysql import Session
from processors.stores.rows import Border, IngressPosition, OverriddenTime
from processors.wire.positions import LanePoint
from tests.integration.mysql_shard import (
    NOTHING,
    RULES,
    TOPIC_ID,
    Lane,
    account,
    clock_ms,
    decision_of,
    journal_row,
    new_id,
    rows_of,
    store_of,
    take_lane,
)

# The largest metadata that canonical JSON may be, with characters that a JSON column would store otherwise.
METADATA = '{"a":1,"b":"é\\u0000☃","c":12345678901234567890}'.encode()


def load(lane: Lane, **keys: Any) -> Rows:
    wanted = Keys(**{name: dict.fromkeys(of_table) for name, of_table in keys.items()})
    lane.store.begin(lane.progress, None, wanted)
    rows = lane.store.loaded()
    lane.store.finish()
    return rows


# ---------------------------------------------------------------------- what goes in comes out


def test_accounts_come_back_as_they_were_written(address: MysqlAddress) -> None:
    lane = take_lane(address)
    plain = Account("acme", "USD")
    full = Account(
        "acme:vn:shop-17",
        "KWD",
        balance=-(2**63),
        held=2**63 - 1,
        overdraft_limit=2**63 - 1,
        policy=Policy.UNCHECKED,
        status=AccountStatus.CLOSED,
        sequence=2**63 - 1,
        open_count=3,
        metadata=METADATA,
    )
    lane.write(1, opened=[full, plain])
    changed = replace(full, balance=7, held=0, status=AccountStatus.FROZEN, metadata=b"")
    lane.write(1, accounts=[(changed, full.sequence)])

    rows = load(lane, accounts=[("acme", "USD"), ("acme:vn:shop-17", "KWD"), ("acme", "KWD"), ("", "")])

    assert rows == Rows(accounts={("acme", "USD"): plain, ("acme:vn:shop-17", "KWD"): changed})


def test_open_rows_come_back_until_they_are_deleted(address: MysqlAddress) -> None:
    lane = take_lane(address)
    hold_id, refund_id, original_id = new_id(), new_id(), new_id()
    hold = Hold("acme:vn", "USD", 500, 500, 0b11, 1_700_000_000_000)
    refund = OpenRefund("acme:vn", "USD", original_id, 30, 0b11)
    keys = {
        "holds": [("acme", hold_id), ("other", hold_id)],
        "open_refunds": [("acme", refund_id), ("acme", hold_id)],
        "refunded": [("acme", original_id), ("acme", hold_id)],
    }
    lane.write(
        1,
        holds=[(("acme", hold_id), hold, False)],
        open_refunds=[(("acme", refund_id), refund, False)],
        refunded=[(("acme", original_id), Refunded(500, 30), False)],
    )
    lane.write(
        1,
        holds=[(("acme", hold_id), replace(hold, remaining_minor=20), True)],
        refunded=[(("acme", original_id), Refunded(500, 60), True)],
    )

    assert load(lane, **keys) == Rows(
        holds={("acme", hold_id): replace(hold, remaining_minor=20)},
        open_refunds={("acme", refund_id): refund},
        refunded={("acme", original_id): Refunded(500, 60)},
    )

    lane.write(1, holds=[(("acme", hold_id), None, True)], open_refunds=[(("acme", refund_id), None, True)])
    assert load(lane, **keys) == Rows(refunded={("acme", original_id): Refunded(500, 60)})


@pytest.mark.rule("I1")
def test_a_decision_is_found_by_root_and_id_in_the_slice_of_its_id(address: MysqlAddress) -> None:
    lane = take_lane(address)
    first = journal_row(0, root="acme", result=b"first answer")
    late = journal_row(1, root="beta", command_id=first.row.command_id, result=b"another partner's")
    hour_before = journal_row(2, command_id=new_id(clock_ms() - 3_600_000), result=b"an hour before")
    lane.write(3, journal=[first, late, hour_before])

    rows = load(
        lane,
        decisions=[
            ("acme", first.row.command_id),
            ("gamma", first.row.command_id),
            ("acme", new_id()),
            ("acme", hour_before.row.command_id),
            ("acme", bytes(16)),  # no UUIDv7: never decided
        ],
    )

    assert rows.decisions == {
        ("acme", first.row.command_id): decision_of(b"first answer"),
        ("acme", hour_before.row.command_id): decision_of(b"an hour before"),
    }


@pytest.mark.rule("L15")
def test_system_accounts_outgrow_64_bits(address: MysqlAddress) -> None:
    lane = take_lane(address)
    lane.write(1, system={(1, Contra.FUNDING, "USD"): -(2**63), (2, Contra.FUNDING, "USD"): 5})
    lane.write(1, system={(1, Contra.FUNDING, "USD"): -(10**37), (1, Contra.TRANSIT, "JPY"): 2**64})

    assert lane.store.take_over(TOPIC_ID).system == {
        (1, Contra.FUNDING, "USD"): -(10**37),
        (2, Contra.FUNDING, "USD"): 5,
        (1, Contra.TRANSIT, "JPY"): 2**64,
    }


@pytest.mark.rule("L14")
def test_a_result_keeps_every_byte(address: MysqlAddress) -> None:
    lane = take_lane(address)
    every_byte = bytes(range(256)) * 400  # above 64 KiB: what a VARBINARY or a BLOB would not hold
    lane.write(1, journal=[journal_row(0, result=every_byte)])

    assert [row.result for row in lane.store.answers(0, 1)] == [every_byte]


@pytest.mark.rule("L13")
def test_a_batch_keeps_the_sources_of_thousands_of_ingress_partitions(address: MysqlAddress) -> None:
    lane = take_lane(address)
    ingress = {(1, partition): IngressPosition(offset=1 << 40, leader_epoch=7) for partition in range(5_000)}

    lane.write(1, ingress=ingress)

    border = lane.store.last_border(1)
    assert border is not None
    assert border.ingress == ingress


@pytest.mark.rule("L13")
def test_each_batch_leaves_digest_time_and_sources_of_its_border(address: MysqlAddress) -> None:
    lane = take_lane(address)
    at_two = {(1, 0): IngressPosition(offset=1, leader_epoch=4), (1, 8): IngressPosition(offset=9, leader_epoch=-1)}
    at_five = {**at_two, (2, 0): IngressPosition(offset=0, leader_epoch=0)}
    first = lane.write(2, ingress=at_two).progress
    second = lane.write(3, ingress=at_five).progress

    last_border = lane.store.last_border
    assert last_border(2) == Border(
        ingress=at_two, at=LanePoint(next_offset=2, digest=first.at.digest, lane_time_ms=first.at.lane_time_ms)
    )
    assert last_border(5) == Border(
        ingress=at_five, at=LanePoint(next_offset=5, digest=second.at.digest, lane_time_ms=second.at.lane_time_ms)
    )
    assert last_border(4) == last_border(2)
    assert last_border(1) is None


@pytest.mark.rule("L10")
def test_source_positions_are_kept_with_the_batch(address: MysqlAddress) -> None:
    lane = take_lane(address)
    ingress = {(1, 0): IngressPosition(offset=1, leader_epoch=4), (1, 8): IngressPosition(offset=9, leader_epoch=0)}
    lane.write(1, ingress=ingress)
    lane.write(1, ingress={**ingress, (1, 8): IngressPosition(offset=12, leader_epoch=1)})

    assert lane.store.take_over(TOPIC_ID).ingress == {
        (1, 0): IngressPosition(offset=1, leader_epoch=4),
        (1, 8): IngressPosition(offset=12, leader_epoch=1),
    }


@pytest.mark.rule("I6")
def test_rules_are_kept_by_the_offset_from_which_they_are_in_force(address: MysqlAddress) -> None:
    lane, other = take_lane(address), take_lane(address, 1)
    more: Any = {"window_floor_ms": 5, "refund_floor_ms": 6, "recall_floor_ms": 7, "keys": "a=b", "registry_ids": ""}
    second = replace(RULES, version=2, window_ms=7_200_000, release=3, **more)
    lane.write(1, rules={8: second})

    state = lane.store.take_over(TOPIC_ID)
    assert state.rules == second
    assert state.rules_since == {0: RULES, 8: second}
    assert other.store.take_over(TOPIC_ID).rules == RULES


@pytest.mark.rule("I2")
def test_lane_times_are_kept(address: MysqlAddress) -> None:
    lane = take_lane(address)
    told = {7: OverriddenTime(last_offset=9, time_ms=1_700_000_000_000)}
    lane.write(1, lane_times=told)

    assert lane.store.take_over(TOPIC_ID).lane_times == told


def test_a_new_lane_stands_at_its_beginning(address: MysqlAddress) -> None:
    state = take_lane(address, 3).state

    progress = state.progress
    assert (progress.at.next_offset, progress.at.leader_epoch, progress.owner_epoch) == (0, -1, 1)
    assert (progress.at.lane_time_ms, progress.version_us, progress.at.digest) == (0, 0, bytes(32))
    assert (progress.published_offset, progress.published_time_ms) == (0, 0)
    assert (state.ingress, state.system, state.lane_times, state.stop_code) == ({}, {}, {}, None)


@pytest.mark.rule("L3")
def test_the_topic_id_is_the_first_owners(address: MysqlAddress) -> None:
    store_of(address).take_over(TOPIC_ID)

    assert store_of(address).take_over(bytes(16)).progress.topic_id == TOPIC_ID


def test_a_lane_that_the_shard_does_not_have_is_refused(address: MysqlAddress) -> None:
    with pytest.raises(Misconfigured, match="no rules for lane 9"):
        take_lane(address, 9)


@pytest.mark.rule("L4")
def test_answers_come_from_every_slice_in_the_order_of_the_log(address: MysqlAddress) -> None:
    lane, other = take_lane(address), take_lane(address, 1)
    hour_before = journal_row(1, command_id=new_id(clock_ms() - 3_600_000), result=b"an hour before")
    lane.write(4, journal=[journal_row(0), hour_before, journal_row(3)])
    other.write(4)

    answers = lane.store.answers(1, 4)

    assert [(answer.lane_offset, answer.result) for answer in answers] == [(1, b"an hour before"), (3, b"result of 3")]
    assert answers[0] == hour_before.row
    assert lane.store.answers(2, 3) == []


def test_values_are_taken_before_begin_returns(address: MysqlAddress) -> None:
    lane = take_lane(address)
    opened = account(balance=1)
    batch = lane.batch(1, opened=[opened])
    lane.store.begin(lane.progress, batch, NOTHING)
    opened.balance = 2  # the next batch is decided meanwhile
    lane.store.finish()

    assert rows_of(address, "SELECT balance FROM account") == [(1,)]


# ---------------------------------------------------------------------- locks and keys


@pytest.mark.rule("L8")
def test_a_statement_names_at_most_two_thousand_keys() -> None:
    keys = Keys(
        accounts={(f"p{number}", "USD"): None for number in range(4_001)},
        decisions={("acme", new_id(clock_ms() + number)): None for number in range(4_001)},
    )

    assert [load.sql.count("ROW(") for load in loads(keys, 2_000)] == [2_000, 2_000, 1, 2_000, 2_000, 1]


@pytest.mark.rule("L8")
@pytest.mark.parametrize("accounts", [3, 3_000])
def test_loading_and_writing_wait_for_no_other_lanes_rows(
    address: MysqlAddress, holder: Session, accounts: int
) -> None:
    # In a small table the optimizer prefers a scan, with an IN list of many keys too: the locks would be met there.
    lane, other = take_lane(address), take_lane(address, 1)
    ours = [account(f"p{number:04}") for number in range(accounts)]
    lane.write(1, opened=ours, holds=[(("p0000", new_id()), Hold("p0000", "USD", 1, 1, 1, 1), False)])
    theirs = [account(f"q{number:04}") for number in range(accounts)]
    hold_key = ("q0000", new_id())
    other.write(1, opened=theirs, holds=[(hold_key, Hold("q0000", "USD", 1, 1, 1, 1), False)])
    holder.begin()
    holder.execute("UPDATE account SET bucket = 9 WHERE address >= X'71'", "locking every account of the other lane")
    holder.execute("UPDATE hold SET bucket = 9 WHERE root >= X'71'", "locking its holds")
    holder.execute("UPDATE progress SET next_offset = 77 WHERE lane = 1", "locking its progress")
    wanted = [(f"p{number:04}", "USD") for number in range(2_000)]

    # Who waited for a lock of the other lane's would meet a fault.
    rows = load(lane, accounts=wanted, holds=[(f"p{number:04}", new_id()) for number in range(2_000)])
    lane.write(1, accounts=[(replace(each, sequence=2), 1) for each in ours[:2_000]])

    assert len(rows.accounts) == min(accounts, 2_000)


def test_loading_waits_for_who_holds_the_row_and_sees_what_he_committed(address: MysqlAddress, holder: Session) -> None:
    lane = take_lane(address)
    lane.write(1, opened=[account(balance=1)])
    holder.begin()
    holder.execute("UPDATE account SET balance = 2", "locking")
    timer = threading.Timer(1.0, holder.commit)
    timer.start()

    rows = load(lane, accounts=[("acme", "USD")])

    timer.join()
    assert rows.accounts["acme", "USD"].balance == 2


def test_large_rows_go_in_several_statements(address: MysqlAddress) -> None:
    lane = take_lane(address)
    large = [journal_row(number, result=secrets.token_bytes(200_000)) for number in range(60)]

    lane.write(60, journal=large)

    assert [row.result for row in lane.store.answers(0, 60)] == [new.row.result for new in large]


# ---------------------------------------------------------------------- the descriptions of the tables


@pytest.mark.rule("M6")
def test_the_tables_with_a_bucket_are_those_described_with_their_columns_and_keys(address: MysqlAddress) -> None:
    """What carries a bucket belongs to a root; without a description it would stay behind when the root moves."""
    columns: dict[str, set[str]] = {}
    for table, column in rows_of(
        address,
        "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables "
        "USING (table_schema, table_name) WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' "
        "AND generation_expression = ''",
    ):
        columns.setdefault(_text(table), set()).add(_text(column))
    keys: dict[str, list[str]] = {}
    for table, column in rows_of(
        address,
        "SELECT table_name, column_name FROM information_schema.statistics "
        "WHERE table_schema = DATABASE() AND index_name = 'PRIMARY' ORDER BY table_name, seq_in_index",
    ):
        keys.setdefault(_text(table), []).append(_text(column))

    with_bucket = {table: names for table, names in columns.items() if "bucket" in names}
    del with_bucket["journal"]  # of its rows a move takes the ids alone
    assert with_bucket == {
        table.name: {*table.columns, "bucket", *(["lane"] if table.has_lane else [])} for table in MOVING_TABLES
    } | {"moved_id": {*MOVED_IDS.columns, "bucket", "last_id"}}  # of which a row has some ids
    assert {name: keys[name] for name in with_bucket} == {table.name: [*table.key] for table in MOVING_TABLES}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
