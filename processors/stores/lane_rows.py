"""Turns a lane's rows, as MySQL returns them, into the values the core knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from processors.faults import StopCode
from processors.ledger.book import Rows
from processors.ledger.outcomes import Contra
from processors.ledger.rows import Decision, SystemKey
from processors.ledger.tables import MOVED_IDS
from processors.stores import moved_ids
from processors.stores.journal_reading import Place, decided_in
from processors.stores.lane_sql import Load
from processors.stores.mysql import Row, Session
from processors.stores.packing import unpack_ingress
from processors.stores.rows import Border, IngressKey, IngressPosition, OverriddenTime, Progress
from processors.stores.table_sql import row_of
from processors.wire.positions import LanePoint

PROGRESS_COLUMNS = (
    "lane, topic_id, next_offset, leader_epoch, owner_epoch, last_time_ms, version_us, digest, published_offset, "
    "published_time_ms"
)


def add_rows(
    found: Rows,
    load: Load,
    rows: Iterable[Row],
    results: Mapping[Place, bytes],
    decision_of: Callable[[bytes], Decision],
) -> None:
    """Add what a load returned; ``results`` has those of the journal's rows.

    Raises:
        Undecodable: The journal lacks a row's result.
    """
    table = load.table
    if table is None:
        found.decisions.update((key, decision_of(result)) for key, result in decided_in(rows, results))
    elif table is MOVED_IDS:
        for key, result in moved_ids.wanted_in(rows, load.wanted):
            found.decisions.setdefault(key, decision_of(result))
    else:
        table.rows_in(found).update(row_of(table, row) for row in rows)


def progress_of(row: Row) -> Progress:
    """Return a lane's progress from ``PROGRESS_COLUMNS``."""
    return Progress(
        lane=row[0],
        topic_id=row[1],
        owner_epoch=row[4],
        version_us=row[6],
        published_offset=row[8],
        published_time_ms=row[9],
        at=LanePoint(next_offset=row[2], leader_epoch=row[3], lane_time_ms=row[5], digest=row[7]),
    )


def stop_of(code: bytes | None, detail: bytes | None) -> tuple[StopCode | None, str]:
    """Return why a lane stopped; None for one that runs."""
    return (None if code is None else StopCode(code.decode()), "" if detail is None else detail.decode())


def select_ingress(session: Session, lane: int) -> dict[IngressKey, IngressPosition]:
    """Return a lane's rows of ``progress_source`` (L10)."""
    rows = session.query(
        "SELECT ingress_epoch, ingress_partition, ingress_offset, ingress_leader_epoch FROM progress_source "
        f"WHERE lane = {lane} ORDER BY ingress_epoch, ingress_partition",
        "reading source positions",
    )
    return {
        (epoch, partition): IngressPosition(offset=offset, leader_epoch=leader_epoch)
        for epoch, partition, offset, leader_epoch in rows
    }


def select_border(session: Session, lane: int, at_most: int) -> Border | None:
    """Return a lane's state at the last batch border up to an offset, if one is still known (L13)."""
    rows = session.query(
        f"SELECT next_offset, digest, lane_time_ms, sources FROM batch_digest WHERE lane = {lane} "
        f"AND next_offset <= {at_most} ORDER BY next_offset DESC LIMIT 1",
        "reading a batch's digest",
    )
    if not rows:
        return None
    ((next_offset, digest, lane_time_ms, sources),) = rows
    at = LanePoint(next_offset=next_offset, digest=digest, lane_time_ms=lane_time_ms)
    return Border(ingress=unpack_ingress(sources), at=at)


def select_system_accounts(session: Session, lane: int) -> dict[SystemKey, int]:
    """Return the balances of a lane's system accounts, minor units, unbounded (L15)."""
    rows = session.query(
        f"SELECT level, name, currency, balance FROM system_account WHERE lane = {lane} ORDER BY level, name, currency",
        "reading system accounts",
    )
    return {(level, Contra(name.decode()), currency.decode()): int(balance) for level, name, currency, balance in rows}


def select_lane_times(session: Session, lane: int) -> dict[int, OverriddenTime]:
    """Return the times of records by the overrides that are in force, by the first offset of each stretch (I2)."""
    rows = session.query(
        # An older release, whose overrides are about one record each, does not know the last one's column.
        "SELECT lane_offset, COALESCE(last_offset, lane_offset), time_ms FROM lane_time "
        f"WHERE lane = {lane} ORDER BY lane_offset",
        "reading lane times",
    )
    return {first: OverriddenTime(last_offset=last, time_ms=time_ms) for first, last, time_ms in rows}
