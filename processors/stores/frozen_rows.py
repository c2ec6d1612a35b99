"""Reads the frozen rows of a sealed placement key, in the same order each time: they are the hand-off (M3)."""

from __future__ import annotations

from collections.abc import Iterator

from processors.ids import slice_of
from processors.ledger.commands import SLICED_BY_LANE_TIME
from processors.ledger.tables import HOLDS, MOVED_IDS, MOVING_TABLES, REFUNDED, AnyTable
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Reconnecting, Row
from processors.stores.partitions import slices
from processors.stores.placement_sql import select_placements_at, select_roots_placed, where_of
from processors.stores.rows import PlacementRow, PlacementState, RowsOf, rows_of
from processors.stores.sql_text import hex_literal, text_literal
from processors.stores.table_sql import columns_of
from processors.wire.packed_rows import pack_row

PAGE_ROWS = 2_000  # read at once: half a megabyte
# Of the journal, looked at by one statement: some tenths of a second, and at most some megabytes.
RANGE_OFFSETS = 20_000


class FrozenRowsReader:
    """A lane's frozen rows, over a connection of its own. For one thread."""

    def __init__(self, address: MysqlAddress, lane: int) -> None:
        """Nothing is connected yet."""
        self._connection = Reconnecting(address)
        self._lane = lane

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def is_sealed(self, sealed: PlacementRow) -> bool:
        """Say whether a placement key is still sealed as it was; else the target has it, and needs no more (M7)."""
        key = sealed.placement_key
        row = self._connection.ask(lambda session: select_placements_at(session, {key: self._lane})).get(key)
        seal = (PlacementState.SEALED, sealed.generation)
        return row is not None and (row.state, row.generation) == seal

    def read(self, sealed: PlacementRow) -> Iterator[bytes | None]:
        """Yield the rows that move with a sealed placement key, packed, table by table; the ids of the window last.

        None now and then, where looking for them took a while: whoever reads them may say that he is alive.

        Raises:
            Fault: The server's.
        """
        rows = rows_of(
            sealed.placement_key, self._connection.ask(lambda session: select_roots_placed(session, self._lane))
        )
        for table in MOVING_TABLES:
            if table is MOVED_IDS:
                yield from self._decided_here(rows, sealed)
            yield from self._rows(table, rows, _kept(table, sealed))

    def _rows(self, table: AnyTable, rows: RowsOf, kept: str) -> Iterator[bytes]:
        key, after = ", ".join(table.key), ""
        while True:
            sql = (
                f"SELECT {columns_of(table)} FROM {table.name} WHERE {where_of(table, rows)}{kept}{after} "
                f"ORDER BY {key} LIMIT {PAGE_ROWS}"
            )
            page = self._query(sql, table.name)
            for row in page:
                yield pack_row(table, row)
            if len(page) < PAGE_ROWS:
                return
            after = f" AND {_above(table, page[-1])}"

    def _decided_here(self, rows: RowsOf, sealed: PlacementRow) -> Iterator[bytes | None]:
        """Yield what this lane decided within the window, by id; nobody repeats the ids of the service's own (I7).

        What came back with its partner is among the ids that came along: the digest has each id once.
        """
        others = ",".join(text_literal(kind.value) for kind in sorted(SLICED_BY_LANE_TIME))
        oldest = _oldest_id(sealed.sealed_ids_since_ms)
        first = slice_of(sealed.sealed_ids_since_ms)
        meant = f"bucket = {rows.bucket} AND command_id >= {hex_literal(oldest)} AND type NOT IN ({others})"
        for number in self._slices_with_rows(first):
            for found in self._of_slice(number, meant):
                if found is None:
                    yield None
                elif rows.has(found[0].decode(), rows.bucket):
                    yield pack_row(MOVED_IDS, found)

    def _slices_with_rows(self, first: int) -> list[int]:
        """Return the slices, from one on, in which the lane has rows: most that a shard keeps ready are empty."""
        known = [number for number in self._connection.ask(slices) if number >= first]
        if not known:
            return []
        sql = f"SELECT DISTINCT slice FROM journal WHERE slice IN ({','.join(map(str, known))}) AND lane = {self._lane}"
        return sorted(number for (number,) in self._query(sql, "journal"))

    def _of_slice(self, number: int, meant: str) -> Iterator[tuple[bytes, bytes, bytes] | None]:
        """Yield root, id and result of a slice's rows that meet a condition, in the lane's order.

        No index finds a root's rows, so all of the lane's are looked at, ``RANGE_OFFSETS`` at a time; None after each.
        """
        here = f"slice = {number} AND lane = {self._lane}"
        bounds = f"SELECT COALESCE(MIN(lane_offset), 0), COALESCE(MAX(lane_offset), -1) FROM journal WHERE {here}"
        ((first, last),) = self._query(bounds, "journal")
        for start in range(first, last + 1, RANGE_OFFSETS):
            page = self._query(
                f"SELECT root, command_id, result FROM journal WHERE {here} AND lane_offset >= {start} "
                f"AND lane_offset < {start + RANGE_OFFSETS} AND {meant} "
                "AND NOT EXISTS (SELECT 1 FROM moved_id AS other "
                "WHERE other.root = journal.root AND other.command_id = journal.command_id) "
                "ORDER BY lane_offset, lane_index",
                "journal",
            )
            yield from page
            yield None

    def _query(self, sql: str, name: str) -> list[Row]:
        return self._connection.ask(lambda session: session.query(sql, f"reading frozen rows of {name}"))


def _oldest_id(time_ms: int) -> bytes:
    """Return the lowest of all ids with a time (RFC 9562)."""
    return time_ms.to_bytes(6, "big") + bytes(10)


def _kept(table: AnyTable, sealed: PlacementRow) -> str:
    """Return the condition on the rows that no remover may have deleted yet, as of the seal.

    What has left its period is deleted some time later, and another database may have it still: a source that was
    restored would send other parts than before (M3). No shard needs these rows any more.
    """
    if table is HOLDS:
        return f" AND NOT (remaining_minor = 0 AND expires_at_ms < {sealed.sealed_ids_since_ms})"
    if table is REFUNDED:
        return f" AND transaction_id >= {hex_literal(_oldest_id(sealed.sealed_refunds_since_ms))}"
    if table is MOVED_IDS:
        return f" AND command_id >= {hex_literal(_oldest_id(sealed.sealed_ids_since_ms))}"
    return ""


def _above(table: AnyTable, row: Row) -> str:
    """Return the condition on rows behind a row, in the key's order: each moving table's key has two columns."""
    first, second = table.key
    literals = [hex_literal(value) for value in row[:2]]
    return f"({first} > {literals[0]} OR ({first} = {literals[0]} AND {second} > {literals[1]}))"
