"""The simulation's shard database and the real one: the same questions, the same answers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from processors.faults import Fault, Fenced, LaneStopped, StopCode
from processors.ids import SLICE_MS, make_command_id, slice_of
from processors.lane.lane import LaneStore
from processors.ledger.book import Keys, Rows
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Contra, Reason, Status
from processors.ledger.rows import Account, Hold, OpenRefund, Refunded
from processors.stores.addresses import MysqlAddress
from processors.stores.lane_store import MysqlLaneStore
from processors.stores.migrations import migrate
from processors.stores.mysql import Session
from processors.stores.rows import (
    BatchWrite,
    Border,
    IngressPosition,
    LaneState,
    NewJournalRow,
    OverriddenTime,
    Progress,
)
from processors.stores.shard_upkeep import ShardUpkeep
from processors.wire.positions import LANE_START, LanePoint
from processors.wire.result_format import write_result
from processors.wire.results import Result, decision_of
from tests.changes import changes, new_journal_row
from tests.chaos.mysql_proxy import AtCommit, MysqlProxy
from tests.integration.mysql_shard import RULES, SHARD, address_of, clock_ms, empty_shard
from tests.servers import Servers
from tests.simulation.fakes.clock import Clock
from tests.simulation.fakes.crash_points import NoCrashes
from tests.simulation.fakes.database import Database
from tests.simulation.fakes.lane_store import FakeLaneStore

TOPIC_ID = bytes(range(16))
NOTHING = Keys()
HOLD_ID, REFUND_ID = b"h" * 16, b"r" * 16


class Shard(ABC):
    """A shard database and what can go wrong with it."""

    now_ms: int

    @abstractmethod
    def store(self, lane: int = 0) -> LaneStore:
        """Return a lane's store, not yet taken over."""

    @abstractmethod
    def lose_next_reply_to_commit(self, *, done: bool) -> None:
        """Have the next COMMIT carried out or not, and not answered."""

    @abstractmethod
    def clear_stop(self, lane: int = 0) -> None:
        """Let a stopped lane go on, as an operator does."""

    @abstractmethod
    def set_home(self, *, home: bool) -> None:
        """Make it the home shard, or another one."""


class MysqlShard(Shard):
    """The real one, through a proxy."""

    def __init__(self, address: MysqlAddress, proxy: MysqlProxy) -> None:
        self.now_ms = clock_ms()
        self._address = replace(address, host="127.0.0.1", port=proxy.port)
        self._proxy = proxy
        self.stores: list[MysqlLaneStore] = []

    def store(self, lane: int = 0) -> LaneStore:
        store = MysqlLaneStore(self._address, lane, decision_of=decision_of, clock_ms=clock_ms)
        self.stores.append(store)
        return store

    def lose_next_reply_to_commit(self, *, done: bool) -> None:
        self._proxy.arm(AtCommit.LOSE_REPLY if done else AtCommit.CUT_BEFORE)

    def clear_stop(self, lane: int = 0) -> None:
        upkeep = ShardUpkeep(self._address)
        upkeep.clear_stop(lane)
        upkeep.close()

    def set_home(self, *, home: bool) -> None:
        session = Session(self._address, lane=False)
        session.execute(f"UPDATE shard SET home = {int(home)}", "making it the home shard, or not")
        session.close()


class FakeShard(Shard):
    """The simulation's."""

    def __init__(self) -> None:
        clock = Clock()
        self.now_ms = clock.now_ms
        self._database = Database(clock, RULES)
        self._crash_points = NoCrashes()
        for number in range(slice_of(self.now_ms) - 2, slice_of(self.now_ms) + 3):
            self._database.tables.journal[number] = {}

    def store(self, lane: int = 0) -> LaneStore:
        return FakeLaneStore(self._database, lane, self._crash_points)

    def lose_next_reply_to_commit(self, *, done: bool) -> None:
        self._crash_points.failures["store.finish"] = 1 if done else 2

    def clear_stop(self, lane: int = 0) -> None:
        del self._database.tables.stops[lane]

    def set_home(self, *, home: bool) -> None:
        self._database.home = home


@pytest.fixture(scope="module")
def database(servers: Servers, fresh_database: Callable[[], str]) -> MysqlAddress:
    address = address_of(servers, fresh_database())
    migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())
    return address


@pytest.fixture(params=["the simulation's", "MySQL"])
def shard(request: pytest.FixtureRequest) -> Iterator[Shard]:
    if request.param == "the simulation's":
        yield FakeShard()
        return
    address: MysqlAddress = request.getfixturevalue("database")
    empty_shard(address)
    with MysqlProxy(address.host, address.port) as proxy:
        shard = MysqlShard(address, proxy)
        yield shard
        shard.set_home(home=True)
        for store in shard.stores:
            store.close()


class Owner:
    """A lane's store, and what its worker would remember."""

    def __init__(self, shard: Shard, lane: int = 0) -> None:
        self.store = shard.store(lane)
        self.state: LaneState = self.store.take_over(TOPIC_ID)
        self.progress = self.state.progress
        self._now_ms = shard.now_ms

    def row(self, offset: int, **changed: Any) -> NewJournalRow:
        command_id = changed.pop("command_id", make_command_id(self._now_ms, b"%010d" % offset))
        result = Result(
            incarnation=TOPIC_ID, shard="s1", lane=0, lane_offset=offset, lane_index=0, lane_time_ms=self._now_ms,
            version_us=offset + 1, rules_version=1, type=CommandType.PAY, status=Status.ACCEPTED, reason=Reason.NONE,
            root="acme", command_id=command_id, transaction_id=command_id, body_hash=bytes(16), address="acme",
            currency="USD", amount_minor=7,
        )  # fmt: skip
        values: dict[str, Any] = {
            "slice": slice_of(int.from_bytes(command_id[:6], "big")), "lane_offset": offset, "lane_index": 0,
            "command_id": command_id, "root": "acme", "transaction_id": command_id, "type": "PAY",
            "status": "ACCEPTED", "reason": "NONE", "currency": "USD", "amount_minor": 7,
            "lane_time_ms": self._now_ms, "result": write_result(result),
        }  # fmt: skip
        return new_journal_row(**{**values, **changed})

    def batch(self, **changed: Any) -> BatchWrite:
        """Return a batch of one record with one journal row, unless told otherwise."""
        before = self.progress
        journal = changed.pop("journal", [self.row(before.at.next_offset)])
        lanes = {name: changed.pop(name) for name in ("ingress", "rules", "lane_times") if name in changed}
        progress = replace(
            before,
            version_us=before.at.next_offset + 1,
            published_offset=before.at.next_offset,
            published_time_ms=before.at.lane_time_ms,
            at=replace(
                before.at,
                next_offset=before.at.next_offset + 1,
                leader_epoch=3,
                lane_time_ms=self._now_ms,
                digest=hashlib.sha256(before.at.digest).digest(),
            ),
        )
        return BatchWrite(progress=progress, journal=journal, changes=changes(**changed), **lanes)

    def commit(self, **changed: Any) -> BatchWrite:
        write = self.batch(**changed)
        self.store.begin(self.progress, write, NOTHING)
        self.store.finish()
        self.progress = write.progress
        return write

    def load(self, **wanted: dict[Any, None]) -> Rows:
        self.store.begin(self.progress, None, Keys(**wanted))
        rows = self.store.loaded()
        self.store.finish()
        return rows


def account(**changed: Any) -> Account:
    return Account("acme", "USD", **{"balance": 100, "sequence": 1, "metadata": b'{"a":1}', **changed})


def fault_of(owner: Owner, write: BatchWrite) -> Fault | None:
    """Return what became of a batch: its fault, from ``begin`` or ``finish``."""
    try:
        owner.store.begin(owner.progress, write, NOTHING)
        owner.store.finish()
    except Fault as fault:
        return fault
    return None


# ---------------------------------------------------------------------- ownership


def test_a_new_lane_begins_at_zero_and_is_owned_from_one(shard: Shard) -> None:
    state = shard.store().take_over(TOPIC_ID)

    assert state == LaneState(
        progress=Progress(lane=0, topic_id=TOPIC_ID, owner_epoch=1, version_us=0, published_offset=0,
            published_time_ms=0, at=LANE_START),
        ingress={}, rules=RULES, rules_since={0: RULES}, system={}, lane_times={}, waiting_at=None,
        stop_code=None, stop_detail="", home=True,
    )  # fmt: skip


def test_a_known_lane_keeps_the_topic_that_it_was_applied_from(shard: Shard) -> None:
    shard.store().take_over(TOPIC_ID)

    assert shard.store().take_over(b"x" * 16).progress.topic_id == TOPIC_ID


@pytest.mark.rule("L1")
@pytest.mark.rule("L5")
def test_each_owner_has_an_epoch_of_its_own_and_the_earlier_one_sees_it(shard: Shard) -> None:
    first, second = Owner(shard), Owner(shard)

    assert (first.progress.owner_epoch, second.progress.owner_epoch) == (1, 2)
    assert first.store.owner_epoch() == second.store.owner_epoch() == 2


@pytest.mark.rule("L1")
@pytest.mark.parametrize(
    "other",
    [{"owner_epoch": 9}, {"at": replace(LANE_START, next_offset=9)}, {"at": replace(LANE_START, digest=b"x" * 32)}],
    ids=["owner epoch", "offset", "digest"],
)
def test_nothing_is_written_behind_a_fence_that_differs(shard: Shard, other: dict[str, Any]) -> None:
    owner = Owner(shard)
    stands, owner.progress = owner.progress, replace(owner.progress, **other)

    with pytest.raises(Fenced):
        owner.commit()

    assert Owner(shard).progress == replace(stands, owner_epoch=2)


@pytest.mark.rule("L1")
def test_an_earlier_owner_can_neither_write_nor_stop_the_lane(shard: Shard) -> None:
    first, second = Owner(shard), Owner(shard)

    assert isinstance(fault_of(first, first.batch()), Fenced)
    with pytest.raises(Fenced):
        first.store.stop(StopCode.BUG, "mine")

    assert second.commit().progress == second.progress
    assert Owner(shard).state.stop_code is None


# ---------------------------------------------------------------------- what a batch writes


def test_everything_a_batch_writes_is_read_again_as_it_was(shard: Shard) -> None:
    owner = Owner(shard)
    hold = Hold("acme", "USD", 50, 20, 1, shard.now_ms + 5)
    open_refund = OpenRefund("acme", "USD", b"o" * 16, 9, 1)
    rules = replace(RULES, version=2, window_ms=SLICE_MS, window_floor_ms=5)
    write = owner.commit(
        opened=[account()],
        holds=[(("acme", HOLD_ID), hold, False)],
        open_refunds=[(("acme", REFUND_ID), open_refund, False)],
        refunded=[(("acme", HOLD_ID), Refunded(10, 4), False)],
        system={(1, Contra.FUNDING, "USD"): -(10**30)},
        ingress={(1, 0): IngressPosition(offset=7, leader_epoch=2)},
        rules={1: rules},
        lane_times={40: OverriddenTime(last_offset=44, time_ms=123)},
    )
    command_id = write.journal[0].row.command_id

    rows = owner.load(
        accounts={("acme", "USD"): None, ("beta", "USD"): None},
        holds={("acme", HOLD_ID): None, ("beta", HOLD_ID): None},
        open_refunds={("acme", REFUND_ID): None},
        refunded={("acme", HOLD_ID): None},
        decisions={("acme", command_id): None, ("beta", command_id): None, ("acme", bytes(16)): None},
    )
    state = Owner(shard).state

    assert rows == Rows(
        accounts={("acme", "USD"): account()},
        holds={("acme", HOLD_ID): hold},
        open_refunds={("acme", REFUND_ID): open_refund},
        refunded={("acme", HOLD_ID): Refunded(10, 4)},
        decisions={("acme", command_id): decision_of(write.journal[0].row.result)},
    )
    assert state == LaneState(
        progress=replace(write.progress, owner_epoch=2),
        ingress={(1, 0): IngressPosition(offset=7, leader_epoch=2)},
        rules=rules,
        rules_since={0: RULES, 1: rules},
        system={(1, Contra.FUNDING, "USD"): -(10**30)},
        lane_times={40: OverriddenTime(last_offset=44, time_ms=123)},
        waiting_at=None,
        stop_code=None,
        stop_detail="",
        home=True,
    )


def test_a_row_is_changed_and_ended(shard: Shard) -> None:
    owner = Owner(shard)
    key, hold = ("acme", HOLD_ID), Hold("acme", "USD", 50, 50, 1, 5)
    owner.commit(opened=[account()], holds=[(key, hold, False)], refunded=[(key, Refunded(9, 1), False)])
    smaller = replace(hold, remaining_minor=20)

    owner.commit(
        accounts=[(account(balance=-5, sequence=2), 1)],
        holds=[(key, smaller, True)],
        refunded=[(key, Refunded(9, 9), True)],
    )
    changed = owner.load(accounts={("acme", "USD"): None}, holds={key: None}, refunded={key: None})
    owner.commit(holds=[(key, None, True)])

    assert changed == Rows(
        accounts={("acme", "USD"): account(balance=-5, sequence=2)},
        holds={key: smaller},
        refunded={key: Refunded(9, 9)},
    )
    assert owner.load(holds={key: None}) == Rows()


def test_the_values_of_a_batch_are_those_at_its_beginning(shard: Shard) -> None:
    owner = Owner(shard)
    book_account = account()
    write = owner.batch(opened=[book_account])
    owner.store.begin(owner.progress, write, NOTHING)

    book_account.balance = 999  # the next batch is decided meanwhile
    owner.store.finish()
    owner.progress = write.progress

    assert owner.load(accounts={("acme", "USD"): None}).accounts == {("acme", "USD"): account()}


@pytest.mark.rule("L1")
def test_a_transaction_may_be_told_what_it_writes_once_it_has_read(shard: Shard) -> None:
    owner = Owner(shard)
    owner.commit(opened=[account()])
    key = ("acme", "USD")

    owner.store.begin(owner.progress, None, Keys(accounts={key: None}), open_end=True)
    found = owner.store.loaded().accounts[key]
    write = owner.batch(accounts=[(replace(found, balance=found.balance - 7, sequence=2), 1)])
    owner.store.end(write)
    owner.store.finish()
    owner.progress = write.progress

    assert owner.load(accounts={key: None}).accounts[key] == account(balance=93, sequence=2)


@pytest.mark.rule("L11")
def test_a_transaction_that_is_told_to_write_nothing_leaves_all_as_it_was(shard: Shard) -> None:
    owner = Owner(shard)

    owner.store.begin(owner.progress, None, NOTHING, open_end=True)
    owner.store.loaded()
    owner.store.end(None)
    owner.store.finish()

    owner.commit()  # behind the same fence


@pytest.mark.rule("L13")
def test_answers_and_digests_are_found_by_offset(shard: Shard) -> None:
    owner = Owner(shard)
    ingress = {(1, 0): IngressPosition(offset=3, leader_epoch=0)}
    writes = [owner.commit(ingress=ingress) for _ in range(3)]

    assert owner.store.answers(1, 3) == [new.row for write in writes[1:] for new in write.journal]
    assert owner.store.last_border(2) == Border(
        ingress=ingress, at=LanePoint(next_offset=2, digest=writes[1].progress.at.digest, lane_time_ms=shard.now_ms)
    )
    assert owner.store.last_border(9) == owner.store.last_border(3)
    assert owner.store.last_border(0) is None


# ---------------------------------------------------------------------- what the counts and keys refuse


@pytest.mark.rule("L8")
@pytest.mark.parametrize(
    "changed",
    [
        {"opened": [account()]},
        {"accounts": [(account(sequence=5), 4)]},
        {"accounts": [(Account("beta", "USD", sequence=2), 1)]},
        {"holds": [(("acme", HOLD_ID), Hold("acme", "USD", 1, 1, 1, 1), True)]},
        {"holds": [(("acme", HOLD_ID), None, True)]},
        {"open_refunds": [(("acme", REFUND_ID), None, True)]},
        {"refunded": [(("acme", HOLD_ID), Refunded(1, 1), True)]},
        {"rules": {1: RULES}},
    ],
    ids=[
        "an account is opened twice", "an account has another sequence", "an account is not there",
        "a hold is not there", "a hold that ends is not there", "a refund that ends is not there",
        "a refunded original is not there", "rules of a known version",
    ],
)  # fmt: skip
def test_a_count_that_is_not_the_expected_one_stops_the_lane_and_nothing_is_written(
    shard: Shard, changed: dict[str, Any]
) -> None:
    owner = Owner(shard)
    owner.commit(opened=[account()])

    stop = fault_of(owner, owner.batch(**changed))

    assert isinstance(stop, LaneStopped)
    assert stop.code is StopCode.BUG
    assert Owner(shard).progress == replace(owner.progress, owner_epoch=2)


@pytest.mark.parametrize(
    "changed",
    [
        {"opened": [Account("acme:" + "x" * 251, "USD")]},
        {"opened": [Account("acme", "USDT")]},
        {"opened": [Account("acme", "USD", metadata=b"m" * 4_097)]},
        {"holds": [(("acme", HOLD_ID), Hold("acme", "€€€", 1, 1, 1, 1), False)]},
        {"holds": [(("x" * 65, HOLD_ID), Hold("acme", "USD", 1, 1, 1, 1), False)]},
        {"open_refunds": [(("acme", REFUND_ID), OpenRefund("acme", "USDT", HOLD_ID, 1, 1), False)]},
        {"refunded": [(("x" * 65, HOLD_ID), Refunded(1, 1), False)]},
        {"journal": {"currency": "usé"}},
        {"journal": {"root": "x" * 65}},
    ],
    ids=[
        "an account's address", "an account's currency", "its metadata", "a hold's currency", "a hold's root",
        "an open refund's currency", "a refunded original's root", "a journal row's currency", "its root",
    ],
)  # fmt: skip
def test_a_value_that_is_wider_than_its_column_stops_the_lane_and_nothing_is_written(
    shard: Shard, changed: dict[str, Any]
) -> None:
    owner = Owner(shard)
    owner.commit()
    if "journal" in changed:
        changed = {"journal": [owner.row(1, **changed["journal"])]}

    stop = fault_of(owner, owner.batch(**changed))

    assert isinstance(stop, LaneStopped)
    assert stop.code is StopCode.BUG
    assert Owner(shard).progress == replace(owner.progress, owner_epoch=2)


@pytest.mark.rule("I1")
def test_an_id_is_decided_once_for_each_root(shard: Shard) -> None:
    owner = Owner(shard)
    command_id = owner.commit().journal[0].row.command_id
    owner.commit(journal=[owner.row(1, command_id=command_id, root="beta")])

    stop = fault_of(owner, owner.batch(journal=[owner.row(2, command_id=command_id)]))

    assert isinstance(stop, LaneStopped)
    assert stop.code is StopCode.BUG


@pytest.mark.rule("A7")
def test_a_slice_without_a_partition_stops_the_lane(shard: Shard) -> None:
    owner = Owner(shard)

    stop = fault_of(owner, owner.batch(journal=[owner.row(0, slice=slice_of(shard.now_ms) - 500)]))

    assert isinstance(stop, LaneStopped)
    assert stop.code is StopCode.MISSING_SLICE
