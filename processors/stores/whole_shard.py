"""Everything of a shard that a decision reads, for comparing two databases that stand at the same offsets (V2)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from processors.ledger.rows import Account, AccountKey, SystemKey
from processors.ledger.rules import Rules
from processors.ledger.tables import MOVING_TABLES, AnyTable, RowChange
from processors.stores.addresses import MysqlAddress
from processors.stores.lane_rows import select_border, select_ingress, select_system_accounts
from processors.stores.mysql import Row, Session
from processors.stores.placement_sql import parked_of, select_parked
from processors.stores.rows import (
    Border,
    IngressKey,
    IngressPosition,
    JournalRow,
    ParkedRow,
    PlacementRow,
    Progress,
)
from processors.stores.shard_reader import RANGE_ROWS, ShardReader, open_reader, open_snapshot
from processors.stores.table_sql import columns_of, key_literals, row_of

# What a row says that nobody looks at any more may be deleted in one database and not in the other: an ended hold (H2).
_COMPARED = {"hold": "is_open = 1"}


class WholeShard:
    """Questions to a shard's database, of which each answer is whole. For one thread; close it after use."""

    def __init__(self, reader: ShardReader) -> None:
        """Ask over a reader, which belongs to this object from then on."""
        self._reader = reader

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()

    def positions(self) -> dict[int, Progress]:
        """Return each lane's progress; a lane that was never owned is missing."""
        return self._reader.positions()

    def last_border(self, lane: int, at_most: int) -> Border | None:
        """Return a lane's state at the last batch border up to an offset, if one is still known (L13)."""
        return self._reader.ask(lambda session: select_border(session, lane, at_most))

    def placements(self, lane: int) -> dict[str, PlacementRow]:
        """Return what a lane knows of placement keys, by key."""
        return self._reader.placements(lane)

    def system_accounts(self, lane: int) -> dict[SystemKey, int]:
        """Return the balances of a lane's system accounts, minor units, unbounded (L15)."""
        return self._reader.ask(lambda session: select_system_accounts(session, lane))

    def rules(self, lane: int) -> dict[int, Rules]:
        """Return by offset the rules in force in a lane from there on (I6)."""
        return self._reader.rules().get(lane, {})

    def ingress(self, lane: int) -> dict[IngressKey, IngressPosition]:
        """Return a lane's ingress positions (L10)."""
        return self._reader.ask(lambda session: select_ingress(session, lane))

    def waiting(self, lane: int) -> dict[int, ParkedRow]:
        """Return by offset the records of a lane that wait for their placement key (M1); all in memory."""
        sql = select_parked(lane, "unparked_offset IS NULL")
        rows = self._reader.ask(lambda session: session.query(sql, "reading parked records to compare them"))
        return {each.record.offset: each for each in map(parked_of, rows)}

    def window_start_ms(self, lane: int, now_ms: int) -> int:
        """Return before which id time a lane looks for no id any more at some lane time, by all of its rules (I3)."""
        return min(rules.window_start_ms(now_ms) for rules in self._reader.rules()[lane].values())

    def refund_start_ms(self, lane: int, now_ms: int) -> int:
        """Return since which time what was given back of an original is kept in a lane at some lane time (H3)."""
        return max(rules.recall_start_ms(now_ms) for rules in self._reader.rules()[lane].values())

    def accounts(self, after: AccountKey = ("", "")) -> Iterator[Account]:
        """Yield every account in key order."""
        return self._reader.accounts(after)

    def rows(self, table: AnyTable) -> Iterator[RowChange]:
        """Yield the rows of one of ``MOVING_TABLES`` that count, in key order, read in ranges, without ``before``."""
        assert table in MOVING_TABLES, f"{table.name} is compared by nobody"
        first, second = table.key
        where = _COMPARED.get(table.name, "TRUE")
        after = ""
        while True:
            sql = (
                f"SELECT {columns_of(table)} FROM {table.name} WHERE {where}{after} "
                f"ORDER BY {first}, {second} LIMIT {RANGE_ROWS}"
            )
            found = [row_of(table, row) for row in self._reader.ask(partial(_queried, sql))]
            yield from (RowChange(key, row, None) for key, row in found)
            if len(found) < RANGE_ROWS:
                return
            last = key_literals(table, found[-1][0])
            after = f" AND ({first} > {last[0]} OR ({first} = {last[0]} AND {second} > {last[1]}))"

    def slices(self) -> list[int]:
        """Return the journal's slices, ascending."""
        return self._reader.slices()

    def slice_rows(self, number: int, lane: int, after: tuple[int, int] = (-1, 0)) -> list[JournalRow]:
        """Return a slice's rows of a lane after an offset and index, in ranges."""
        return self._reader.slice_rows(number, lane, after)


def _queried(sql: str, session: Session) -> list[Row]:
    return session.query(sql, "reading a table to compare it")


def whole_reader(address: MysqlAddress) -> WholeShard:
    """Return what answers each question as of its own moment: for a database in which nobody writes."""
    return WholeShard(open_reader(address))


def whole_snapshot(address: MysqlAddress) -> WholeShard:
    """Return what answers every question as of one moment; see ``shard_reader.open_snapshot``."""
    return WholeShard(open_snapshot(address))
