"""Reads the frozen rows of a sealed placement key, in the same order each time: they are the hand-off (M3)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from processors.ids import lowest_id, slice_of
from processors.ledger.command_types import SLICED_BY_LANE_TIME
from processors.ledger.tables import HOLDS, MOVED_IDS, MOVING_TABLES, REFUNDED, AnyTable
from processors.routing.buckets import bucket_named, bucket_of
from processors.stores import moved_ids
from processors.stores.addresses import MysqlAddress
from processors.stores.journal_index import INDEX, has_bucket_index
from processors.stores.journal_names import TYPE_NUMBERS
from processors.stores.journal_reading import with_results
from processors.stores.mysql import Reconnecting, Row
from processors.stores.partitions import slices
from processors.stores.placement_sql import select_placements_at, stays_in_bucket, where_frozen
from processors.stores.rows import PlacementRow
from processors.stores.shard_reader import Connection
from processors.stores.sql_text import chunks, hex_literal, text_literal
from processors.stores.table_sql import columns_of
from processors.wire.packed_ids import SLOT_MS, IdOf, gathered, packed_in_rows, slot_of
from processors.wire.packed_rows import pack_row

PAGE_ROWS = 2_000  # read at once: half a megabyte
PAGE_ROWS_OF_IDS = 200  # each has some dozen ids: as much
# Of what was decided here: each may lie in another window of the journal, of which 250 results are read for it.
PAGE_ROWS_DECIDED = 500
_DECIDED_COLUMNS = "root, command_id, slice, lane, lane_offset, lane_index"
# Of the journal, looked at by one statement: some tenths of a second, and at most some megabytes.
RANGE_OFFSETS = 20_000
_BY_BUCKET = f"/*+ INDEX(journal {INDEX}) */"  # no fault where the index is gone by then


class FrozenRowsReader:
    """A lane's frozen rows, over a connection of its own. For one thread."""

    def __init__(self, address: MysqlAddress, lane: int, connection: Connection | None = None) -> None:
        """Nothing is connected yet; with a ``connection``, all is read over that one."""
        self._connection = connection or Reconnecting(address)
        self._lane = lane

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def placement(self, placement_key: str) -> PlacementRow | None:
        """Return what the database has of a placement key now; None where it has nothing."""
        lanes = {placement_key: self._lane}
        return self._connection.ask(lambda session: select_placements_at(session, lanes)).get(placement_key)

    def read(self, sealed: PlacementRow) -> Iterator[bytes | None]:
        """Yield the rows that move with a sealed placement key, packed, table by table; the ids of the window last.

        None now and then, where looking for them took a while: whoever reads them may say that he is alive.

        Raises:
            Fault: The server's.
        """
        present = self._with_rows(sealed.placement_key)
        for table in MOVING_TABLES:
            if table is MOVED_IDS:
                yield from self.read_ids(sealed, came_along=table in present)
            elif table in present:
                yield from self._rows(table, sealed)

    def read_ids(self, sealed: PlacementRow, *, came_along: bool = True) -> Iterator[bytes | None]:
        """Yield the ids of the window that move with a placement key, packed, but for those that went ahead.

        None now and then, as ``read``. ``came_along`` says whether any may have come with an earlier move; they were
        there before anything of this stay was decided, so they go ahead with its first ids.
        """
        yield from gathered(self._decided_here(sealed))
        if came_along and not sealed.ahead_offset:
            yield from self._came_along(sealed)

    def _with_rows(self, placement_key: str) -> list[AnyTable]:
        """Return the tables that have any rows of a placement key: most buckets are empty, and asked once."""
        each = ", ".join(
            f"EXISTS (SELECT 1 FROM {table.name} WHERE {where_frozen(table, placement_key, self._lane)})"
            for table in MOVING_TABLES
        )
        (found,) = self._query(f"SELECT {each}", "every table")
        return [table for table, has_rows in zip(MOVING_TABLES, found, strict=True) if has_rows]

    def _rows(self, table: AnyTable, sealed: PlacementRow) -> Iterator[bytes]:
        for row in self._pages(table, columns_of(table), _kept(table, sealed), sealed, PAGE_ROWS):
            yield pack_row(table, row)

    def _came_along(self, sealed: PlacementRow) -> Iterator[bytes]:
        """Yield the ids that came along with an earlier move, in the order of their keys, however rows have them."""
        oldest = lowest_id(sealed.sealed_ids_since_ms)
        first = lowest_id(slot_of(oldest) * SLOT_MS)
        kept = f" AND command_id >= {hex_literal(first)}"
        rows = self._pages(MOVED_IDS, moved_ids.COLUMNS, kept, sealed, PAGE_ROWS_OF_IDS)
        for (root, _), of_minute in groupby(rows, key=lambda row: (row[0], slot_of(row[1]))):
            ids = (each for row in of_minute for each in moved_ids.ids_in(row))
            yield from packed_in_rows([IdOf(root, id_, result) for id_, result in ids if id_ >= oldest])

    def _pages(self, table: AnyTable, columns: str, kept: str, sealed: PlacementRow, page_rows: int) -> Iterator[Row]:
        """Yield a table's rows that move with a sealed placement key, by their keys, some read at a time."""
        meant = where_frozen(table, sealed.placement_key, self._lane) + kept
        key, after = ", ".join(table.key), ""
        while True:
            sql = f"SELECT {columns} FROM {table.name} WHERE {meant}{after} ORDER BY {key} LIMIT {page_rows}"
            page = self._query(sql, table.name)
            yield from page
            if len(page) < page_rows:
                return
            after = f" AND {_above(table, page[-1])}"

    def _decided_here(self, sealed: PlacementRow) -> Iterator[IdOf | None]:
        """Yield what this lane decided within the window, in its order, and None now and then.

        Nobody repeats the ids of the service's own (I7).

        Of this stay alone: what was decided here before is among the ids that came along with the placement key, or
        it is of a root that has left the bucket since, of which this lane knows nothing.
        """
        key = sealed.placement_key
        others = ",".join(str(TYPE_NUMBERS[kind]) for kind in sorted(SLICED_BY_LANE_TIME))
        oldest = lowest_id(sealed.sealed_ids_since_ms)
        is_bucket = bucket_named(key) is not None
        root = stays_in_bucket("journal.root", self._lane) if is_bucket else f"root = {text_literal(key)}"
        meant = (
            f"bucket = {bucket_of(key)} AND {root} AND command_id >= {hex_literal(oldest)} AND type NOT IN ({others})"
        )
        first_offset = max(sealed.sealed_from_offset, sealed.ahead_offset)
        stay = f"lane_offset >= {first_offset} AND lane_offset < {sealed.since_offset}"
        indexed = self._connection.ask(has_bucket_index)
        of_slice = self._of_slice_by_bucket if indexed else self._of_slice
        for number in self._slices_with_rows(slice_of(sealed.sealed_ids_since_ms), bucket_of(key) if indexed else None):
            for found in of_slice(f"slice = {number} AND lane = {self._lane} AND {stay}", meant):
                yield None if found is None else IdOf(*found)

    def _slices_with_rows(self, first: int, bucket: int | None) -> list[int]:
        """Return the slices, from one on, in which the lane has rows: most that a shard keeps ready are empty.

        With a ``bucket``, which needs the index, those in which that has some.
        """
        known = [number for number in self._connection.ask(slices) if number >= first]
        if not known:
            return []
        here = f"slice IN ({','.join(map(str, known))}) AND lane = {self._lane}"
        by_bucket = "" if bucket is None else f" AND bucket = {bucket}"
        hint = "" if bucket is None else _BY_BUCKET
        sql = f"SELECT {hint} DISTINCT slice FROM journal WHERE {here}{by_bucket}"
        return sorted(number for (number,) in self._query(sql, "journal"))

    def _of_slice_by_bucket(self, here: str, meant: str) -> Iterator[tuple[bytes, bytes, bytes] | None]:
        """Yield the same as ``_of_slice``, in the same order, by the index; None after each page."""
        after = (-1, 0)
        while True:
            offset, index = after
            page = self._query(
                f"SELECT {_BY_BUCKET} {_DECIDED_COLUMNS} FROM journal WHERE {here} AND {meant} "
                f"AND (lane_offset > {offset} OR (lane_offset = {offset} AND lane_index > {index})) "
                f"ORDER BY lane_offset, lane_index LIMIT {PAGE_ROWS_DECIDED}",
                "journal",
            )
            yield from self._with_results(page)
            if len(page) < PAGE_ROWS_DECIDED:
                return
            after = page[-1][4:]
            yield None

    def _of_slice(self, here: str, meant: str) -> Iterator[tuple[bytes, bytes, bytes] | None]:
        """Yield root, id and result of a slice's rows that meet a condition, in the lane's order.

        There is no index, so all of the lane's rows are looked at, ``RANGE_OFFSETS`` at a time; None after each.
        """
        bounds = f"SELECT COALESCE(MIN(lane_offset), 0), COALESCE(MAX(lane_offset), -1) FROM journal WHERE {here}"
        ((first, last),) = self._query(bounds, "journal")
        for start in range(first, last + 1, RANGE_OFFSETS):
            page = self._query(
                f"SELECT {_DECIDED_COLUMNS} FROM journal WHERE {here} AND lane_offset >= {start} "
                f"AND lane_offset < {start + RANGE_OFFSETS} AND {meant} ORDER BY lane_offset, lane_index",
                "journal",
            )
            for some in chunks(page, PAGE_ROWS_DECIDED):
                yield from self._with_results(some)
                yield None
            yield None

    def _with_results(self, page: list[Row]) -> Iterator[tuple[bytes, bytes, bytes]]:
        found = self._connection.ask(lambda session: with_results(session, page))
        yield from ((root.encode(), id_, result) for (root, id_), result in found)

    def _query(self, sql: str, name: str) -> list[Row]:
        return self._connection.ask(lambda session: session.query(sql, f"reading frozen rows of {name}"))


def _kept(table: AnyTable, sealed: PlacementRow) -> str:
    """Return the condition on the rows that no remover may have deleted yet, as of the seal.

    What has left its period is deleted some time later, and another database may have it still: a source that was
    restored would send other parts than before (M3). No shard needs these rows any more.
    """
    if table is HOLDS:
        return f" AND NOT (remaining_minor = 0 AND expires_at_ms < {sealed.sealed_ids_since_ms})"
    if table is REFUNDED:
        return f" AND transaction_id >= {hex_literal(lowest_id(sealed.sealed_refunds_since_ms))}"
    return ""


def _above(table: AnyTable, row: Row) -> str:
    """Return the condition on rows behind a row, in the key's order: each moving table's key has two columns."""
    first, second = table.key
    literals = [hex_literal(value) for value in row[:2]]
    return f"({first} > {literals[0]} OR ({first} = {literals[0]} AND {second} > {literals[1]}))"
