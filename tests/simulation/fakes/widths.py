"""How long a value may be in each column, by schemas/mysql: what MySQL refuses is refused in memory as well."""

from __future__ import annotations

import re
from typing import Any

from processors.stores.migrations import FOLDER

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) \((.*?)\n\)", re.DOTALL)
_COLUMN = re.compile(r"^  (\w+) +(?:VAR)?BINARY\((\d+)\)", re.MULTILINE)

WIDTHS: dict[str, dict[str, int]] = {
    table: {column: int(width) for column, width in _COLUMN.findall(columns)}
    for path in sorted(FOLDER.glob("*.sql"))
    for table, columns in _TABLE.findall(path.read_text())
}


def too_wide(table: str, row: object, key: tuple[Any, ...] = ()) -> str | None:
    """Return the first column of a table that has no room for a row's value, or None.

    Args:
        table: As MySQL names it.
        row: Its attributes are named as the columns are.
        key: Root and transaction id, of a row that does not hold them itself.
    """
    named = dict(zip(("root", "transaction_id"), key, strict=False))
    for column, width in WIDTHS[table].items():
        value: str | bytes | None = getattr(row, column, named.get(column))
        if value is not None and len(value.encode() if isinstance(value, str) else value) > width:
            return column
    return None
