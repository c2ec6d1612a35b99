"""A shard's database kept aside, as a backup keeps it, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session


@contextmanager
def kept_aside(address: MysqlAddress, backup: str) -> Iterator[Callable[[], None]]:
    """Copy every table now, and give what puts them back.

    Args:
        address: The shard's database.
        backup: An empty database on the same server.
    """
    session = Session(address, lane=False)
    tables = _asked(session, "table_name", "information_schema.tables", "table_type = 'BASE TABLE'")
    for table in tables:
        session.execute(f"CREATE TABLE {backup}.{table} LIKE {table}", "copying a table")
        _copy(session, table, f"{backup}.{table}")
    session.commit()

    def restore() -> None:
        for table in tables:
            session.execute(f"DELETE FROM {table}", "restoring a table")
            _copy(session, f"{backup}.{table}", table)
        session.commit()

    try:
        yield restore
    finally:
        session.close()


def _copy(session: Session, source: str, target: str) -> None:
    """Copy a table's rows; the server fills in the columns that it computes."""
    of_table = f"table_name = '{target.rpartition('.')[2]}' AND extra NOT LIKE '%GENERATED%'"
    columns = ", ".join(_asked(session, "column_name", "information_schema.columns", of_table))
    session.execute(f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {source}", "copying a table")


def _asked(session: Session, column: str, table: str, condition: str) -> list[str]:
    rows = session.query(
        f"SELECT {column} FROM {table} WHERE table_schema = DATABASE() AND {condition}", "reading the schema"
    )
    return [name.decode() if isinstance(name, bytes) else name for (name,) in rows]
