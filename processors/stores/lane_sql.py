"""The SQL statements of a lane: those that load the rows of a batch, and those that write a batch. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from processors.ids import id_time_ms, slice_of
from processors.ledger.book import Keys
from processors.ledger.rows import DecisionKey, SystemKey
from processors.ledger.tables import MOVED_IDS, ROOT_TABLES, AnyTable
from processors.stores import moved_ids, placement_sql, table_sql
from processors.stores.journal_sql import journal_writes
from processors.stores.packing import pack_ingress
from processors.stores.rows import BatchWrite, IngressKey, IngressPosition, Progress
from processors.stores.rules_rows import insert_rules
from processors.stores.sql_text import (
    chunks,
    hex_literal,
    row_chunks,
    select_by_keys,
    text_literal,
    update_by_keys,
)
from processors.stores.table_sql import SqlStatement


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A SELECT of some of a batch's rows; ``table`` says how to read them, None: where the journal has them.

    ``wanted``: which of those that came along are meant, where a row has many ids.
    """

    table: AnyTable | None
    sql: str
    wanted: Collection[DecisionKey] = ()

    @property
    def name(self) -> str:
        """Return the table's name."""
        return "journal" if self.table is None else self.table.name


def select_progress(lane: int) -> str:
    """Return the locking read that fences (L1)."""
    return f"SELECT next_offset, digest, owner_epoch FROM progress WHERE lane = {lane} FOR UPDATE"


def loads(keys: Keys, keys_max: int) -> list[Load]:
    """Return the SELECTs of a batch's rows, each for at most ``keys_max`` keys (L8), in key order.

    Rows that may change are locked, always in the same order of tables and keys; the journal's never change.
    """
    found = [
        Load(table=table, sql=table_sql.select(table, chunk))
        for table in ROOT_TABLES
        for chunk in chunks(sorted(table.keys_in(keys)), keys_max)
    ]
    found.extend(Load(table=None, sql=sql) for sql in select_decisions(keys.decisions, keys_max))
    found.extend(
        Load(table=MOVED_IDS, sql=sql, wanted=keys.moved_ids) for sql in moved_ids.selects(keys.moved_ids, keys_max)
    )
    return found


def select_decisions(keys: Iterable[DecisionKey], keys_max: int) -> Iterator[str]:
    """Yield SELECTs of root, id and place by id: its time tells the slice, so that one partition is looked into (I1).

    The index has all that is asked for: nothing else is read for an id that is new.
    """
    places = []
    for root, command_id in keys:
        time_ms = id_time_ms(command_id)
        if time_ms is not None:  # what has no time was never decided by its id (I5)
            places.append((command_id, root, slice_of(time_ms)))
    places.sort()
    for chunk in chunks(places, keys_max):
        rows = ",".join(f"ROW({hex_literal(id_)},{text_literal(root)},{number})" for id_, root, number in chunk)
        yield select_by_keys(
            "journal",
            "root, command_id, slice, lane, lane_offset, lane_index",
            ("command_id", "root", "slice"),
            rows,
            lock=False,
            index="by_command",
        )


def writes(
    write: BatchWrite,
    fence: Progress,
    stored_system: Iterable[SystemKey],
    stored_ingress: dict[IngressKey, IngressPosition],
    keys_max: int,
) -> Iterator[SqlStatement]:
    """Yield the statements that make a batch durable; ``progress`` last.

    Args:
        write: What the batch changes.
        fence: What ``progress`` still says.
        stored_system: Keys of the lane's system accounts that have a row.
        stored_ingress: The lane's rows of ``progress_source``.
        keys_max: Rows of a statement that finds rows by key (L8).
    """
    lane = write.progress.lane
    yield from journal_writes(write.journal)
    yield from placement_sql.writes(write)
    for table, changes in write.changes.rows.items():
        yield from table_sql.writes(table, changes, lane, keys_max)
    yield from _system_accounts(write, stored_system)
    yield from _ingress(write, stored_ingress)
    if write.rules:
        sql = insert_rules(lane, write.rules, since_time_ms=write.progress.at.lane_time_ms)
        yield SqlStatement(what="inserting rules", sql=sql, rows=len(write.rules))
    if write.lane_times:
        times = ",".join(
            f"({lane},{first},{told.last_offset},{told.time_ms})" for first, told in write.lane_times.items()
        )
        sql = f"INSERT INTO lane_time (lane, lane_offset, last_offset, time_ms) VALUES {times}"
        yield SqlStatement(what="inserting lane times", sql=sql, rows=len(write.lane_times))
    yield _batch_digest(write)
    yield _progress(write, fence)


def _system_accounts(write: BatchWrite, stored: Iterable[SystemKey]) -> Iterator[SqlStatement]:
    lane = write.progress.lane
    stored = set(stored)

    def values(row: tuple[SystemKey, int]) -> str:
        (level, name, currency), balance = row
        return f"{lane},{level},{text_literal(name.value)},{text_literal(currency)},{balance}"

    for rows, text in row_chunks(
        [row for row in write.changes.system.items() if row[0] not in stored], lambda row: f"({values(row)})"
    ):
        sql = f"INSERT INTO system_account (lane, level, name, currency, balance) VALUES {text}"
        yield SqlStatement(what="inserting system accounts", sql=sql, rows=rows)
    key = ("lane", "level", "name", "currency")
    for rows, text in row_chunks(
        [row for row in write.changes.system.items() if row[0] in stored], lambda row: f"ROW({values(row)})"
    ):
        sql = update_by_keys("system_account", key, ["balance"], text)
        yield SqlStatement(what="updating system accounts", sql=sql, rows=rows)


def _ingress(write: BatchWrite, stored: dict[IngressKey, IngressPosition]) -> Iterator[SqlStatement]:
    lane = write.progress.lane

    def values(row: tuple[IngressKey, IngressPosition]) -> str:
        (epoch, partition), position = row
        return f"{lane},{epoch},{partition},{position.offset},{position.leader_epoch}"

    columns = ["ingress_offset", "ingress_leader_epoch"]
    key = ("lane", "ingress_epoch", "ingress_partition")
    new = [row for row in write.ingress.items() if row[0] not in stored]
    for rows, text in row_chunks(new, lambda row: f"({values(row)})"):
        sql = f"INSERT INTO progress_source ({', '.join([*key, *columns])}) VALUES {text}"
        yield SqlStatement(what="inserting source positions", sql=sql, rows=rows)
    changed = [row for row in write.ingress.items() if row[0] in stored and row[1] != stored[row[0]]]
    for rows, text in row_chunks(changed, lambda row: f"ROW({values(row)})"):
        yield SqlStatement(
            what="updating source positions", sql=update_by_keys("progress_source", key, columns, text), rows=rows
        )


def _batch_digest(write: BatchWrite) -> SqlStatement:
    lane, at = write.progress.lane, write.progress.at
    sql = (
        "INSERT INTO batch_digest (lane, next_offset, digest, lane_time_ms, sources) "
        f"VALUES ({lane},{at.next_offset},{hex_literal(at.digest)},{at.lane_time_ms},"
        f"{hex_literal(pack_ingress(write.ingress))})"
    )
    return SqlStatement(what="inserting the batch's digest", sql=sql, rows=1)


def _progress(write: BatchWrite, fence: Progress) -> SqlStatement:
    progress, at = write.progress, write.progress.at
    sql = (
        f"UPDATE progress SET next_offset = {at.next_offset}, leader_epoch = {at.leader_epoch}, "
        f"last_time_ms = {at.lane_time_ms}, version_us = {progress.version_us}, digest = {hex_literal(at.digest)}, "
        f"published_offset = {progress.published_offset}, published_time_ms = {progress.published_time_ms}, "
        # A lane that commits is not stopped any more: the stop goes in the commit that stores the time, or whatever
        # else let the lane go on (I2).
        "stop_code = NULL, stop_detail = NULL, stopped_at_ms = NULL "
        f"WHERE lane = {progress.lane} AND owner_epoch = {fence.owner_epoch} AND next_offset = {fence.at.next_offset}"
    )
    return SqlStatement(what="updating progress", sql=sql, rows=1)
