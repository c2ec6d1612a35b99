"""Shards on the real MySQL, and batches as a lane would write them; each test sets what it is about."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from processors.ids import make_command_id, slice_of
from processors.ledger.book import Keys
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Status
from processors.ledger.rows import Account, Decision, DecisionKey
from processors.ledger.rules import Rules
from processors.stores.addresses import MysqlAddress
from processors.stores.lane_store import MysqlLaneStore
from processors.stores.migrations import ShardRow, migrate
from processors.stores.mysql import Session
from processors.stores.rows import BatchWrite, LaneState, NewJournalRow, Progress
from processors.wire.packed_ids import IdOf, packed_in_rows
from processors.wire.packed_rows import unpack_row
from tests.changes import changes, new_journal_row
from tests.servers import Servers

TOPIC_ID = bytes(range(16))
NOTHING = Keys()
# Few slices make a database quick to set up.
RULES = Rules(version=1, window_ms=3_600_000, future_limit_ms=3_600_000)
SHARD = ShardRow(shard="s1", lanes=4, results_partitions=4, home=True)


def values_of_ids(ids: dict[DecisionKey, bytes]) -> list[list[Any]]:
    """Return the rows in which a hand-off brings some ids, each with its result, as a lane stores them."""
    packed = packed_in_rows([IdOf(root.encode(), id_, result) for (root, id_), result in ids.items()])
    return [unpack_row(row).values for row in packed]


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


def address_of(servers: Servers, database: str, **changed: Any) -> MysqlAddress:
    address = MysqlAddress(
        host=servers.mysql_host,
        port=servers.mysql_port,
        user=servers.mysql_user,
        password=servers.mysql_password,
        database=database,
    )
    return replace(address, **changed)


def make_shard(servers: Servers, fresh_database: Callable[[], str]) -> MysqlAddress:
    address = address_of(servers, fresh_database())
    migrate(address, SHARD, {0: RULES}, now_ms=clock_ms())
    return address


def empty_shard(address: MysqlAddress) -> None:
    """Take a shard back to the state just after ``migrate``: much quicker than another database."""
    tables = (
        "progress progress_source batch_digest lane_time account hold open_refund refunded system_account journal "
        "journal_chunk journal_step finding placement parked moved_id open_transfer lane_proof"
    )
    session = Session(address, lane=False)
    for table in tables.split():
        session.execute(f"DELETE FROM {table}", f"emptying {table}")
    session.execute("DELETE FROM rules WHERE version > 1", "emptying rules")
    session.close()


def rows_of(address: MysqlAddress, sql: str) -> list[tuple[Any, ...]]:
    session = Session(address, lane=False)
    try:
        return session.query(sql, "looking")
    finally:
        session.close()


def decision_of(result: bytes) -> Decision:
    """Return a decision that only says which result it was read from."""
    return Decision(bytes(16), 0, 0, CommandType.PAY, Status.ACCEPTED, "", "", 0, 0, result)


def store_of(address: MysqlAddress, lane: int = 0, **changed: Any) -> MysqlLaneStore:
    return MysqlLaneStore(address, lane, **{"decision_of": decision_of, "clock_ms": clock_ms, **changed})


def new_id(time_ms: int | None = None) -> bytes:
    return make_command_id(clock_ms() if time_ms is None else time_ms, secrets.token_bytes(10))


def journal_row(offset: int, **changed: Any) -> NewJournalRow:
    command_id = changed.pop("command_id", None) or new_id()
    values: dict[str, Any] = {
        "slice": slice_of(int.from_bytes(command_id[:6], "big")),
        "lane_offset": offset,
        "lane_index": 0,
        "command_id": command_id,
        "root": "acme",
        "transaction_id": command_id,
        "type": "PAY",
        "status": "ACCEPTED",
        "reason": "NONE",
        "currency": "USD",
        "amount_minor": 1250,
        "lane_time_ms": clock_ms(),
        "result": b"result of %d" % offset,
    }
    return new_journal_row(**{**values, **changed})


def account(address: str = "acme", **changed: Any) -> Account:
    return Account(address, "USD", **{"balance": 10_000, "sequence": 1, **changed})


@dataclass(slots=True)
class Lane:
    """A lane's store with what its worker would remember: the fence of the last commit."""

    store: MysqlLaneStore
    state: LaneState
    progress: Progress

    def batch(self, records: int = 1, **changed: Any) -> BatchWrite:
        """Return a batch of some records with a journal row each, unless told otherwise."""
        before = self.progress
        journal = changed.pop("journal", None)
        if journal is None:
            journal = [journal_row(before.at.next_offset + number) for number in range(records)]
        progress = replace(
            before,
            version_us=before.at.next_offset + records,
            at=replace(
                before.at,
                next_offset=before.at.next_offset + records,
                leader_epoch=0,
                lane_time_ms=clock_ms(),
                digest=hashlib.sha256(before.at.digest + b"".join(new.row.result for new in journal)).digest(),
            ),
        )
        for new in journal:
            new.row.lane = before.lane
        lanes = {name: changed.pop(name) for name in ("ingress", "rules", "lane_times") if name in changed}
        return BatchWrite(progress=progress, journal=journal, changes=changes(**changed), **lanes)

    def commit(self, write: BatchWrite) -> None:
        self.store.begin(self.progress, write, NOTHING)
        self.store.finish()
        self.progress = write.progress

    def write(self, records: int = 1, **changed: Any) -> BatchWrite:
        batch = self.batch(records, **changed)
        self.commit(batch)
        return batch


def take_lane(address: MysqlAddress, lane: int = 0, **changed: Any) -> Lane:
    store = store_of(address, lane, **changed)
    state = store.take_over(TOPIC_ID)
    return Lane(store, state, state.progress)
