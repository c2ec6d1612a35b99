"""Every table that a decision reads, copied out of a shard's database as of one moment, and into another (rule V1).

The database itself says which columns there are, so that no release copies less than its schema has. What is left out
is named here, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from processors.faults import Misconfigured, Retryable
from processors.ids import slice_of
from processors.stores.addresses import MysqlAddress
from processors.stores.lane_rows import PROGRESS_COLUMNS, progress_of
from processors.stores.migrations import ShardRow, check_schema
from processors.stores.mysql import Row, Session
from processors.stores.partitions import TARGET_SLICES_MAX, ensure_slices, slices, slices_needed
from processors.stores.placement_sql import select_sealed_ids_since_ms
from processors.stores.rows import Progress
from processors.stores.rules_rows import select_rules
from processors.stores.sql_text import hex_literal, row_chunks
from processors.wire.snapshot_file import Column, ColumnKind

# In the order in which they are copied; whatever is smaller first. After them those which have a partition for each
# slice, the journal's: of these only the window's slices are copied (I3, L4).
COPIED = (
    "shard",
    "rules",
    "progress",
    "progress_source",
    "lane_time",
    "system_account",
    "placement",
    "batch_digest",
    "parked",
    "open_refund",
    "open_transfer",
    "hold",
    "account",
    "refunded",
    "moved_id",
)
TARGET_MARK = "replay_target"  # a table without rows, made before all others: a dump of a live shard lacks it
_LOADING, _LOADED = "snapshot_loading", "snapshot_loaded"  # tables without rows: DDL, so it is there or it is not
NOT_COPIED = {
    "finding": "is found again",
    "lane_proof": "is of the database in which it lies: another one is proven anew",
    "migration": "the copy is read by a database of the same schema",
    TARGET_MARK: "marks what a replay may write to",
    _LOADING: "marks a target into which a snapshot is being loaded",
    _LOADED: "marks one into which it was loaded",
}
_KINDS = {
    "tinyint": ColumnKind.NUMBER,
    "smallint": ColumnKind.NUMBER,
    "int": ColumnKind.NUMBER,
    "bigint": ColumnKind.NUMBER,
    "decimal": ColumnKind.LARGE_NUMBER,
    "binary": ColumnKind.BYTES,
    "varbinary": ColumnKind.BYTES,
    "blob": ColumnKind.BYTES,
    "mediumblob": ColumnKind.BYTES,
}
LOAD_MARKS = (_LOADING, _LOADED)


class Loaded(Enum):
    """What a replay's target has of a snapshot."""

    EMPTY = "EMPTY"  # nothing, and no lane was decided
    BEGUN = "BEGUN"  # nothing: lanes were decided from their first records on
    LOADING = "LOADING"  # a part: a run was cut off, and nothing that is there counts
    LOADED = "LOADED"  # all of one


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedTable:
    """A table, or one slice of it: its columns in their order; ``slice`` is None where the table is copied whole."""

    name: str
    columns: tuple[Column, ...]
    slice: int | None = None


class SnapshotSource:
    """A shard's database as of one moment, the present one. For one thread; after a fault it is unusable.

    Its transaction keeps partition DDL waiting (A7), and the server keeps what is changed meanwhile; payments go on.
    """

    def __init__(self, address: MysqlAddress, shard: str) -> None:
        """Begin.

        Raises:
            Misconfigured: It is another shard's database, or of another release.
            Unavailable: The server does not answer.
        """
        self._session = Session(address, lane=False)
        try:
            self.row: ShardRow = check_schema(self._session, shard)
            known = slices(self._session)  # before: what is removed from here on is missed at the end
            self._session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "beginning a snapshot")
            self._session.begin(consistent_snapshot=True)
            known += slices(self._session)  # and after: what was made meanwhile may have rows of this moment
            first = self._first_slice()
            self._slices = sorted({number for number in known if number >= first})
        except BaseException:
            self._session.abandon()
            raise

    def close(self) -> None:
        """End the transaction, and give the connection back."""
        self._session.abandon()

    def schema(self) -> int:
        """Return the number of the last file of schemas/mysql that was applied."""
        ((number,),) = self._session.query("SELECT MAX(number) FROM migration", "reading the schema's number")
        return int(number)

    def positions(self) -> dict[int, Progress]:
        """Return lane -> its progress; a lane that was never owned is missing."""
        rows = self._session.query(f"SELECT {PROGRESS_COLUMNS} FROM progress ORDER BY lane", "reading the lanes")
        return {row[0]: progress_of(row) for row in rows}

    def tables(self) -> list[CopiedTable]:
        """Return what is copied, in order; a sliced table once for each of its slices."""
        session = self._session
        sliced = sliced_tables(session)
        strange = _tables(session) - {*COPIED, *NOT_COPIED, *sliced}
        assert not strange, f"nobody says whether {sorted(strange)} decide"
        found = [CopiedTable(name=name, columns=_columns(session, name)) for name in COPIED]
        for name in sliced:
            columns = _columns(session, name)
            found += [CopiedTable(name=name, columns=columns, slice=number) for number in self._slices]
        return found

    def rows(self, table: CopiedTable) -> Iterator[Row]:
        """Yield a table's rows in the order of its key, some thousand in memory at once."""
        columns = ", ".join(column.name for column in table.columns)
        if table.slice is not None:
            where = f"WHERE slice = {table.slice}"
        elif table.name == "batch_digest":
            where = _BORDERS_KEPT
        else:
            where = ""
        return self._session.stream(f"SELECT {columns} FROM {table.name} {where}", f"copying {table.name}")

    def refuse_dropped(self) -> None:
        """Refuse a copy of slices of which one was removed meanwhile: fewer rows came, without an error (A7).

        Raises:
            Retryable: One was; nothing of this copy counts.
        """
        session = Session(self._session.address, lane=False)  # this one's answers may be as old as its transaction
        try:
            lost = set(self._slices) - set(slices(session))
        finally:
            session.close()
        if lost:
            raise Retryable(f"slices {sorted(lost)} were removed while they were copied: take the snapshot again")

    def _first_slice(self) -> int:
        """Return the first slice that may have an id of the window, a row from P on, or an id of a sealed key (M3)."""
        rules = [each for of_lane in select_rules(self._session).values() for each in of_lane.values()]
        positions = self.positions()
        from_ms = min((progress.published_time_ms for progress in positions.values()), default=0)
        needed = slices_needed(rules, from_ms=from_ms, to_ms=from_ms).start
        return min([needed, *map(slice_of, select_sealed_ids_since_ms(self._session))])


# From the last border up to P on: where a lane begins that answers again (L4), and which digests can be compared.
_BORDERS_KEPT = (
    "AS b JOIN (SELECT p.lane AS of_lane, COALESCE((SELECT MAX(d.next_offset) FROM batch_digest AS d "
    "WHERE d.lane = p.lane AND d.next_offset <= p.published_offset), 0) AS first FROM progress AS p) AS kept "
    "ON b.lane = kept.of_lane AND b.next_offset >= kept.first"
)


def sliced_tables(session: Session) -> list[str]:
    """Return the tables that have a partition for each slice, in the order of their names."""
    rows = session.query(
        "SELECT DISTINCT CAST(table_name AS BINARY) FROM information_schema.partitions "
        "WHERE table_schema = DATABASE() AND partition_name IS NOT NULL",
        "looking for the journal's tables",
    )
    return sorted(name.decode() for (name,) in rows)


def _tables(session: Session) -> set[str]:
    rows = session.query(
        "SELECT CAST(table_name AS BINARY) FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'",
        "looking for tables",
    )
    return {name.decode() for (name,) in rows}


def _columns(session: Session, table: str) -> tuple[Column, ...]:
    rows = session.query(
        "SELECT CAST(column_name AS BINARY), CAST(data_type AS BINARY), is_nullable = 'YES' "
        f"FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{table}' "
        "AND generation_expression = '' ORDER BY ordinal_position",
        "reading a table's columns",
    )
    return tuple(
        Column(name=name.decode(), kind=_KINDS[type_.decode()], nullable=bool(nullable))
        for name, type_, nullable in rows
    )


class SnapshotTarget:
    """An empty database, or one into which a snapshot was begun to be loaded. For one thread; close it after use."""

    def __init__(self, address: MysqlAddress) -> None:
        """Connect."""
        self._address = address
        self._session = Session(address, lane=False)

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    def state(self) -> Loaded:
        """Return what it has of a snapshot."""
        tables = _tables(self._session)
        if _LOADING in tables:
            return Loaded.LOADING
        if _LOADED in tables:
            return Loaded.LOADED
        if "progress" in tables and self._session.query("SELECT 1 FROM progress LIMIT 1", "looking for lanes"):
            return Loaded.BEGUN
        return Loaded.EMPTY

    def mark(self) -> None:
        """Say that a snapshot is being loaded, and drop whatever a run that was cut off has made.

        Nothing that is there counts from here to ``end``: a table may have some of its rows, the schema some of its
        files.
        """
        self._session.execute(
            f"CREATE TABLE IF NOT EXISTS {_LOADING} (here TINYINT) ENGINE = InnoDB", "marking the load's begin"
        )
        for name in sorted(_tables(self._session) - {TARGET_MARK, _LOADING}):
            self._session.execute(f"DROP TABLE {name}", f"dropping {name}")

    def begin(self, numbers: Iterable[int]) -> None:
        """Empty the tables of a target that is marked, and was migrated, and make the journal's slices."""
        for name in (*COPIED, *sliced_tables(self._session)):
            self._session.execute(f"TRUNCATE TABLE {name}", f"emptying {name}")
        wanted = sorted(numbers)
        if wanted:
            ensure_slices(self._session, range(wanted[0], wanted[-1] + 1), slices_max=TARGET_SLICES_MAX)

    def load(self, table: CopiedTable, rows: Iterable[tuple[Any, ...]]) -> int:
        """Insert a table's rows, and return how many.

        Raises:
            Misconfigured: The table has other columns here than in the snapshot.
        """
        if set(_columns(self._session, table.name)) != set(table.columns):
            raise Misconfigured(f"{table.name} has other columns in {self._address} than in the snapshot")
        names = ", ".join(column.name for column in table.columns)
        count = 0
        for some, text in row_chunks(rows, _literals):
            sql = f"INSERT INTO {table.name} ({names}) VALUES {text}"
            inserted = self._session.execute(sql, f"loading {table.name}")
            assert inserted == some, f"{table.name}: {inserted} rows, not {some}"
            count += some
        return count

    def end(self) -> None:
        """Say that all is loaded."""
        self._session.execute(f"RENAME TABLE {_LOADING} TO {_LOADED}", "marking the load's end")


def _literals(row: tuple[Any, ...]) -> str:
    return f"({','.join(map(_literal, row))})"


def _literal(value: int | bytes | None) -> str:
    if value is None:
        return "NULL"
    return hex_literal(value) if isinstance(value, bytes) else str(value)
