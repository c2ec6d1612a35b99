"""What tests of the archive share: results as lanes publish them, keyspaces, a look at every row with its version."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from processors.ids import make_command_id, slice_of, uuid7_time_ms
from processors.ledger.commands import CommandType
from processors.ledger.outcomes import Contra, Posting, Reason, Status
from processors.routing.buckets import bucket_of
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_rows import PLACE
from processors.stores.archive_schema import migrate_archive, open_archive
from processors.stores.cassandra import CassandraSession
from processors.stores.rows import NewJournalRow
from processors.wire.journal_chunk import decode_chunk
from processors.wire.result_format import write_result
from processors.wire.results import Result, decode_result
from processors.wire.statement_chunk import decode_statement_chunk, encode_statement_chunk
from tests.changes import new_journal_row
from tests.servers import Servers

INCARNATION = bytes(range(16))
NOW_MS = 1_800_000_000_000  # a fixed time, so that runs repeat; its slice, its day and its minute begin here

# Every table that the sink writes: its key, and the cells whose version is compared.
TABLES = {
    "journal": ("shard, lane, bucket, first_offset, last_offset, hash", "chunk"),
    "transaction_index": ("second, bucket, shard, lane, first_offset, hash", "places"),
    "statement_chunk": ("root, address, currency, bucket, first_sequence, last_sequence, hash", "chunk"),
    "statement_day": ("address, currency, day", "first_sequence"),
    "coverage": ("shard, lane, results_partition", "lane_offset lane_index lane_time_ms"),
    "sink_position": ("topic_id, partition", "next_offset"),
}


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


def id_at(time_ms: int = NOW_MS) -> bytes:
    return make_command_id(time_ms, secrets.token_bytes(10))


def archive_address(servers: Servers, keyspace: str, **changed: Any) -> CassandraAddress:
    address = CassandraAddress(
        hosts=(servers.cassandra_host,),
        port=servers.cassandra_port,
        keyspace=keyspace,
        local_dc="datacenter1",
    )
    return replace(address, **changed)


def make_archive(servers: Servers, fresh_keyspace: Callable[[], str]) -> CassandraAddress:
    address = archive_address(servers, fresh_keyspace())
    migrate_archive(address, replication_factor=1)
    return address


@contextmanager
def session_of(address: CassandraAddress, *, requests_max: int = 32) -> Iterator[CassandraSession]:
    session = open_archive(address, requests_max=requests_max)
    try:
        yield session
    finally:
        session.close()


def all_rows(session: CassandraSession, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of some tables, by default of all, each cell with its writetime."""
    found = {}
    for table in tables or TABLES:
        key, cells = TABLES[table]
        columns = ", ".join(f"{cell}, writetime({cell})" for cell in cells.split())
        select = session.prepare(f"SELECT {key}, {columns} FROM ${table}", page_rows=1_000)
        found[table] = sorted(session.rows(select, ()))
    return found


def all_said(session: CassandraSession) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that the archive says, each thing once: where chunks are cut depends on what was read at once (A3).

    Rows of tables without chunks have their writetimes; places of the index say whether the chunk has the row.
    """
    found = all_rows(session)
    journal: set[tuple[Any, ...]] = set()
    at: set[tuple[Any, ...]] = set()
    for *key, chunk, _ in found["journal"]:
        for offset, lane_index, payload in decode_chunk(chunk):
            journal.add((*key[:3], offset, lane_index, payload))
            at.add((*key[:2], key[3], offset, lane_index))
    index: set[tuple[Any, ...]] = set()
    for second, bucket, shard, lane, *_, places, _ in found["transaction_index"]:
        for id_, offset, lane_index, chunk_offset in PLACE.iter_unpack(places):
            there = (shard, lane, chunk_offset, offset, lane_index) in at
            index.add((second, bucket, shard, lane, id_, offset, lane_index, there))
    changes = {
        (*key[:4], *change) for *key, chunk, _ in found["statement_chunk"] for change in decode_statement_chunk(chunk)
    }
    packed = {"journal": journal, "transaction_index": index, "statement_chunk": changes}
    return found | {table: sorted(rows) for table, rows in packed.items()}


def empty(session: CassandraSession) -> None:
    for table in TABLES:
        session.execute(f"TRUNCATE {table}")


Place = tuple[bytes, int, int, int]
"""An entry of the index: id, lane offset, lane index, first offset of the chunk."""


def alter(
    session: CassandraSession, table: str, change: Callable[[tuple[Any, ...], bytes], bytes], version_us: int
) -> None:
    """Change what rows of a packed table have, which are given by key and blob; left with nothing, a row is deleted."""
    key, cell = TABLES[table]
    columns = key.split(", ")
    for *values, blob in list(session.rows(session.prepare(f"SELECT {key}, {cell} FROM ${table}"), ())):
        changed = change(tuple(values), blob)
        if changed and changed != blob:
            marks = ", ".join("?" * (len(columns) + 1))
            insert = f"INSERT INTO ${table} ({key}, {cell}) VALUES ({marks}) USING TIMESTAMP ?"
            session.note(insert, (*values, changed, version_us))
        elif not changed:
            where = " AND ".join(f"{column} = ?" for column in columns)
            session.note(f"DELETE FROM ${table} USING TIMESTAMP ? WHERE {where}", (version_us, *values))


def alter_places(
    session: CassandraSession,
    id_: bytes,
    version_us: int,
    change: Callable[[Place], Place | None] = lambda _place: None,
) -> None:
    """Change an id's entries in the index; what becomes None is taken out, and by default each does."""

    def changed(_key: tuple[Any, ...], blob: bytes) -> bytes:
        entries: Iterator[Any] = PLACE.iter_unpack(blob)
        kept = [change(entry) if entry[0] == id_ else entry for entry in entries]
        return b"".join(PLACE.pack(*entry) for entry in kept if entry is not None)

    alter(session, "transaction_index", changed, version_us)


def alter_change(
    session: CassandraSession,
    address: str,
    sequence: int,
    version_us: int,
    change: Callable[[bytes], bytes | None] = lambda _entry: None,
) -> None:
    """Change the entry of one change of an account; what becomes None is taken out, and by default it does."""

    def changed(key: tuple[Any, ...], blob: bytes) -> bytes:
        if key[1] != address:
            return blob
        entries = decode_statement_chunk(blob)
        kept = [(number, change(entry) if number == sequence else entry) for number, entry in entries]
        left = [(number, entry) for number, entry in kept if entry is not None]
        return encode_statement_chunk(left) if left else b""

    alter(session, "statement_chunk", changed, version_us)


def a_result(offset: int = 0, **changed: Any) -> Result:
    """Return an accepted payment; each test sets what it is about. A posting is made unless ``postings`` are given."""
    command_id = changed.pop("command_id", None) or id_at(NOW_MS + offset)
    values: dict[str, Any] = {
        "incarnation": INCARNATION,
        "shard": "s1",
        "lane": 0,
        "lane_offset": offset,
        "lane_index": 0,
        "lane_time_ms": NOW_MS + offset,
        "version_us": (NOW_MS + offset) * 1000,
        "rules_version": 1,
        "type": CommandType.PAY,
        "status": Status.ACCEPTED,
        "reason": Reason.NONE,
        "root": "acme",
        "command_id": command_id,
        "transaction_id": command_id,
        "body_hash": bytes(16),
        "address": "acme",
        "currency": "USD",
        "amount_minor": 100,
        "levels": 1,
        **changed,
    }
    values.setdefault("postings", (a_posting(address=values["address"], sequence=offset + 1),))
    return Result(**values)


def a_posting(**changed: Any) -> Posting:
    values: dict[str, Any] = {
        "address": "acme",
        "contra": Contra.SETTLEMENT,
        "balance_change": -100,
        "held_change": 0,
        "balance": 9_900,
        "held": 0,
        "overdraft_limit": 0,
        "sequence": 1,
        **changed,
    }
    return Posting(**values)


@dataclass(slots=True)
class Ledger:
    """Makes the results of one lane in order, with sequences and balances as a lane would count them."""

    lane: int = 0
    offset: int = 0
    time_ms: int = NOW_MS
    results: list[bytes] = field(default_factory=list)
    _balances: dict[str, int] = field(default_factory=dict)
    _sequences: dict[str, int] = field(default_factory=dict)

    def pay(self, root: str = "acme", amount_minor: int = 100, **changed: Any) -> Result:
        sequence = self._sequences[root] = self._sequences.get(root, 0) + 1
        balance = self._balances[root] = self._balances.get(root, 1_000_000) - amount_minor
        posting = a_posting(address=root, balance_change=-amount_minor, balance=balance, sequence=sequence)
        return self.add(root=root, address=root, amount_minor=amount_minor, postings=(posting,), **changed)

    def add(self, **changed: Any) -> Result:
        result = a_result(
            self.offset,
            **{
                "lane": self.lane,
                "lane_time_ms": self.time_ms,
                "version_us": self.time_ms * 1000,
                "command_id": id_at(self.time_ms),
                **changed,
            },
        )
        self.results.append(write_result(result))
        self.offset += 1
        self.time_ms += 1
        return result


def journal_row_of(payload: bytes) -> NewJournalRow:
    """Return the journal row that a lane would have written for a result."""
    result = decode_result(payload)
    id_time_ms = uuid7_time_ms(result.command_id)
    return new_journal_row(
        lane=result.lane,
        slice=slice_of(result.lane_time_ms if id_time_ms is None else id_time_ms),
        lane_offset=result.lane_offset,
        lane_index=result.lane_index,
        command_id=result.command_id,
        root=result.root,
        transaction_id=result.transaction_id,
        type=result.type,
        status=result.status,
        reason=result.reason,
        currency=result.currency,
        amount_minor=result.amount_minor,
        lane_time_ms=result.lane_time_ms,
        result=payload,
    )


def roots_of(lane: int, count: int, lanes: int = 4) -> list[str]:
    """Return partners whose lane, and results partition, is this one."""
    names = (f"p{number}" for number in range(10**9))
    mine = (name for name in names if bucket_of(name) & (lanes - 1) == lane)
    return [next(mine) for _ in range(count)]
