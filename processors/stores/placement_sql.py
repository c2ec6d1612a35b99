"""The SQL of moves: placement keys, parked records, and the rows that move with a placement key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields

from processors.ledger.outcomes import Contra
from processors.ledger.rows import SystemKey
from processors.ledger.tables import ACCOUNTS, MOVED_IDS, MOVING_TABLES, AnyTable
from processors.routing.buckets import placement_key_of
from processors.stores import moved_ids, table_sql
from processors.stores.mysql import Row, Session
from processors.stores.packing import pack_headers, unpack_headers
from processors.stores.rows import BatchWrite, ParkedRow, PlacementRow, PlacementState, RowsOf, rows_of
from processors.stores.sql_text import hex_literal, row_chunks, text_literal, update_by_keys
from processors.stores.table_sql import SqlStatement
from processors.wire.records import Record

_PLACEMENT_COLUMNS = ", ".join(field.name for field in fields(PlacementRow))
_ONLY_WAITS = f"state = '{PlacementState.AWAY}' AND other_shard = ''"
_PARKED_COLUMNS = (
    "lane, lane_offset, placement_key, topic, record_key, record_value, headers, timestamp_ms, leader_epoch, "
    "is_move_out, unparked_offset, unparked_index"
)


# ---------------------------------------------------------------------- placement keys


def select_placements(session: Session, lane: int) -> dict[str, PlacementRow]:
    """Return a lane's placement keys."""
    return _select_placements(session, f"lane = {lane}")


def select_roots_placed(session: Session, lane: int) -> dict[str, PlacementRow]:
    """Return a lane's placement keys that are roots, not buckets."""
    first, last = text_literal("bucket:"), text_literal("bucket;")  # what comes after a colon is between the two
    return _select_placements(session, f"lane = {lane} AND (placement_key < {first} OR placement_key >= {last})")


def select_placements_of(session: Session, lane: int, root: str) -> dict[str, PlacementRow]:
    """Return a root's own placement key and its bucket's, as far as its lane knows them."""
    keys = f"{text_literal(root)}, {text_literal(placement_key_of(root))}"
    return _select_placements(session, f"lane = {lane} AND placement_key IN ({keys})")


def select_every_placement(session: Session) -> dict[str, PlacementRow]:
    """Return the placement keys of all lanes."""
    return _select_placements(session, "TRUE")


def select_placements_at(session: Session, lanes: Mapping[str, int]) -> dict[str, PlacementRow]:
    """Return what the lanes of some placement keys know of them."""
    keys = ", ".join(f"({lane}, {text_literal(key)})" for key, lane in lanes.items())
    return _select_placements(session, f"(lane, placement_key) IN ({keys})")


def select_moving(session: Session, rows_max: int) -> list[PlacementRow]:
    """Return some placement keys that are sealed or arriving, or for which records wait; of all lanes."""
    where = f"state IN ('{PlacementState.SEALED}', '{PlacementState.ARRIVING}') OR parked > 0"
    return list(_select_placements(session, where, f"LIMIT {rows_max}").values())


def select_sealed_ids_since_ms(session: Session) -> list[int]:
    """Return from which id time on, in ms, sealed placement keys have ids to hand over: the lowest, if any (M3)."""
    ((lowest,),) = session.query(
        f"SELECT MIN(sealed_ids_since_ms) FROM placement WHERE state = '{PlacementState.SEALED}'",
        "looking for sealed placement keys",
    )
    return [] if lowest is None else [lowest]


def _select_placements(session: Session, where: str, limit: str = "") -> dict[str, PlacementRow]:
    rows = session.query(
        f"SELECT {_PLACEMENT_COLUMNS} FROM placement WHERE {where} ORDER BY placement_key {limit}", "reading placements"
    )
    return {row.placement_key: row for row in map(_placement_of, rows)}


def _placement_of(row: Row) -> PlacementRow:
    values = dict(zip((field.name for field in fields(PlacementRow)), row, strict=True))
    for name in ("placement_key", "other_shard"):
        values[name] = values[name].decode()
    return PlacementRow(**{**values, "state": PlacementState(values["state"].decode())})


def _placement(row: PlacementRow, lane: int) -> str:
    return (
        f"({lane},{text_literal(row.placement_key)},{row.generation},{text_literal(row.state.value)},"
        f"{text_literal(row.other_shard)},{row.since_offset},{row.since_time_ms},{row.version_us},{row.parts},"
        f"{hex_literal(row.rest)},{hex_literal(row.digest)},{row.parked},{row.ids_since_ms},{row.refunds_since_ms},"
        f"{row.sealed_ids_since_ms},{row.sealed_refunds_since_ms},{row.sealed_from_offset},"
        f"{row.ahead_generation},{row.ahead_offset})"
    )


def insert_placements(rows: Iterable[PlacementRow], lane: int) -> Iterator[SqlStatement]:
    """Yield what stores placement keys of a lane, each whole."""
    for _, text in row_chunks(rows, lambda row: _placement(row, lane)):
        yield SqlStatement(
            what="storing placements", sql=f"REPLACE INTO placement (lane, {_PLACEMENT_COLUMNS}) VALUES {text}"
        )


# ---------------------------------------------------------------------- parked records


def select_parked(lane: int, where: str) -> str:
    """Return the SELECT of some parked records of a lane, in their order; ``where`` is one more condition, or more."""
    return f"SELECT {_PARKED_COLUMNS} FROM parked WHERE lane = {lane} AND {where} ORDER BY lane_offset"


def parked_of(row: Row) -> ParkedRow:
    """Return a parked record from ``select_parked``'s columns."""
    lane, offset, placement_key, topic, key, value, headers, timestamp_ms, leader_epoch, is_move_out, *unparked = row
    headers = unpack_headers(headers)
    record = Record(topic.decode(), lane, offset, leader_epoch, timestamp_ms, True, key, value, headers)
    return ParkedRow(
        placement_key=placement_key.decode(),
        record=record,
        is_move_out=bool(is_move_out),
        unparked=None if unparked[0] is None else (unparked[0], unparked[1]),
    )


def _parked(row: ParkedRow) -> str:
    record = row.record
    offset, index = row.unparked or ("NULL", "NULL")
    return (
        f"({record.partition},{record.offset},{text_literal(row.placement_key)},{text_literal(record.topic)},"
        f"{hex_literal(record.key or b'')},"
        f"{hex_literal(record.value or b'')},{hex_literal(pack_headers(record.headers))},{record.timestamp_ms},"
        f"{record.leader_epoch},{int(row.is_move_out)},{offset},{index})"
    )


# ---------------------------------------------------------------------- a batch


def writes(write: BatchWrite) -> Iterator[SqlStatement]:
    """Yield what a batch writes for moves; the placement key's row first, which locks it (M7)."""
    lane = write.progress.lane
    yield from insert_placements(write.placements, lane)
    for cleared in write.cleared:
        for table in MOVING_TABLES:
            sql = f"DELETE FROM {table.name} WHERE {where_of(table, cleared)}"
            yield SqlStatement(what=f"deleting frozen rows of {table.name}", sql=sql)
    for table, arrived in write.arrived.items():
        yield from moved_ids.inserts(arrived) if table is MOVED_IDS else table_sql.inserts(table, arrived, lane)
    for rows, text in row_chunks(write.parked, _parked):
        yield SqlStatement(
            what="parking records", sql=f"INSERT INTO parked ({_PARKED_COLUMNS}) VALUES {text}", rows=rows
        )
    yield from _unparked(write, lane)


def _unparked(write: BatchWrite, lane: int) -> Iterator[SqlStatement]:
    def text(row: tuple[int, tuple[int, int]]) -> str:
        return f"ROW({lane},{row[0]},{row[1][0]},{row[1][1]})"

    for rows, values in row_chunks(write.unparked.items(), text):
        sql = update_by_keys("parked", ["lane", "lane_offset"], ["unparked_offset", "unparked_index"], values)
        yield SqlStatement(what="unparking records", sql=sql, rows=rows)


# ---------------------------------------------------------------------- the rows of a placement key


def where_of(table: AnyTable, rows: RowsOf) -> str:
    """Return the condition that finds a table's rows of a placement key, by its index of buckets."""
    in_bucket = f"bucket = {rows.bucket}"
    if rows.root is not None:
        return f"{in_bucket} AND {_is_root(table, rows.root)}"
    if not rows.but_roots:
        return in_bucket
    others = ",".join(map(text_literal, sorted(rows.but_roots)))
    return f"{in_bucket} AND {_root_of(table, table.name)} NOT IN ({others})"


def where_frozen(table: AnyTable, placement_key: str, lane: int) -> str:
    """Return the condition on the rows that move with a sealed placement key, as of the statement that has it.

    Meanwhile a root that had left the bucket may come to this lane by itself: its rows are not the bucket's. It is the
    same statement that sees the root's rows and its placement key, which come in one transaction.
    """
    rows = rows_of(placement_key, {})
    where = where_of(table, rows)
    return where if rows.root is not None else f"{where} AND {stays_in_bucket(_root_of(table, table.name), lane)}"


def stays_in_bucket(root: str, lane: int) -> str:
    """Return the condition that a root of a lane has no placement key of its own; ``root`` is SQL."""
    return (
        f"NOT EXISTS (SELECT 1 FROM placement AS own WHERE own.lane = {lane} AND own.placement_key = {root} "
        f"AND NOT ({_ONLY_WAITS}))"
    )


def delete_rows(session: Session, rows: RowsOf, rows_max: int) -> int:
    """Delete some of the rows of a placement key, and return how many: fewer than ``rows_max`` were the last ones."""
    room = rows_max
    for table in MOVING_TABLES:
        # In the order of the index of buckets, which has the rows of one bucket by their keys.
        sql = f"DELETE FROM {table.name} WHERE {where_of(table, rows)} ORDER BY {', '.join(table.key)} LIMIT {room}"
        room -= session.execute(sql, f"deleting frozen rows of {table.name}")
        if room == 0:
            break
    return rows_max - room


def _is_root(table: AnyTable, root: str) -> str:
    if "root" in table.key:
        return f"root = {text_literal(root)}"
    first, last = text_literal(f"{root}:"), text_literal(f"{root};")  # what comes after a colon is between the two
    return f"(address = {text_literal(root)} OR (address > {first} AND address < {last}))"


def _root_of(table: AnyTable, alias: str) -> str:
    return f"{alias}.root" if "root" in table.key else f"SUBSTRING_INDEX({alias}.address, X'3A', 1)"


def owner_state(table: AnyTable, alias: str) -> str:
    """Return the SQL of the state of the placement key that has a row's root: its own, else its bucket's; or NULL.

    A root's own key that is known here only by what waits for it has nothing: it has not come yet (M1).

    Args:
        table: One of those that move.
        alias: The table's in the statement. NULL means that no key has moved: the home shard's rows are its own.
    """
    root = _root_of(table, alias)
    of_lane = f"lane = ({alias}.bucket & (SELECT lanes - 1 FROM shard))"
    bucket = f"CAST(CONCAT('bucket:', {alias}.bucket) AS BINARY)"
    own = f"SELECT state FROM placement WHERE {of_lane} AND placement_key = {root} AND NOT ({_ONLY_WAITS})"
    return f"COALESCE(({own}), (SELECT state FROM placement WHERE {of_lane} AND placement_key = {bucket}))"


def is_owned(table: AnyTable, alias: str) -> str:
    """Return the condition that a row is a partner's of this shard: neither frozen (M2) nor still arriving (M4)."""
    return f"COALESCE({owner_state(table, alias)}, '{PlacementState.OWNED}') = '{PlacementState.OWNED}'"


def is_owned_or_ahead(alias: str) -> str:
    """Return the condition that a row of ids is a partner's of this shard, or came ahead of his move here (M6)."""
    state = f"COALESCE({owner_state(MOVED_IDS, alias)}, '{PlacementState.OWNED}')"
    return f"{state} IN ('{PlacementState.OWNED}', '{PlacementState.AWAY}')"


def is_counted(table: AnyTable, alias: str) -> str:
    """Return the condition that a row counts in the trial balance: arriving ones do, frozen ones do not (M2)."""
    return (
        f"COALESCE({owner_state(table, alias)}, '{PlacementState.OWNED}') "
        f"IN ('{PlacementState.OWNED}', '{PlacementState.ARRIVING}')"
    )


def select_sums(rows: RowsOf) -> str:
    """Return the SELECT of what the accounts of a placement key hold, by level and currency, in minor units (M2)."""
    level = "LENGTH(address) - LENGTH(REPLACE(address, X'3A', X'')) + 1"
    return (
        f"SELECT {level} AS level, currency, SUM(balance) FROM account WHERE {where_of(ACCOUNTS, rows)} "
        "GROUP BY level, currency ORDER BY level, currency"
    )


def sums_of(rows: Iterable[Row]) -> dict[SystemKey, int]:
    """Return the sums from ``select_sums``, by the system account that they are posted against."""
    return {(int(level), Contra.MOVED, currency.decode()): int(total) for level, currency, total in rows}
