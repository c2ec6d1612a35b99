"""SQL as text: literals of bytes and integers, and statements that name many rows by a table of values.

Every value is an integer or a hexadecimal literal made here, so nothing is ever quoted. Many rows are named by joining
a table of values to the real one, in that order, by its key: an IN list of many keys lets the optimizer scan the table
instead, and a locking read then waits for rows of other lanes (L8; tried).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

# Measured with journal rows that had their results of 220 bytes in hex: the server took 20 us for each in statements of
# 250 rows, 22.6 in statements of 1,000 and 23.5 in one of 4,000; below 100 the round trips show.
STATEMENT_ROWS_MAX = 400
# A statement ends here although it has fewer rows; a row above it stays below ``mysql_settings.PACKET_BYTES_MIN``.
STATEMENT_BYTES_MAX = 4 * 1024 * 1024
_TEXTS_MAX = 65_536  # addresses and roots of the recent batches; 300 bytes each at most


def hex_literal(value: bytes) -> str:
    """Return bytes as a literal.

    >>> hex_literal(b"a"), hex_literal(b"")
    ("X'61'", "X''")
    """
    return f"X'{value.hex()}'"


@lru_cache(maxsize=_TEXTS_MAX)
def text_literal(value: str) -> str:
    """Return text as a literal of its UTF-8 bytes, as VARBINARY columns hold it.

    >>> text_literal("acme")
    "X'61636d65'"
    """
    return f"X'{value.encode().hex()}'"


def cut_literal(value: str, bytes_max: int) -> str:
    """Return text for people as a literal, cut where its column ends."""
    return hex_literal(value.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore").encode())


def chunks(rows: Iterable[T], rows_max: int) -> Iterator[list[T]]:
    """Yield the rows in lists of at most ``rows_max``."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, rows_max)):
        yield chunk


def row_chunks(rows: Iterable[T], text_of: Callable[[T], str]) -> Iterator[tuple[int, str]]:
    """Yield the rows' texts joined by commas, each part within one statement's limits, with its number of rows."""
    texts: list[str] = []
    size = 0
    for row in rows:
        text = text_of(row)
        if texts and (len(texts) >= STATEMENT_ROWS_MAX or size + len(text) > STATEMENT_BYTES_MAX):
            yield len(texts), ",".join(texts)
            texts, size = [], 0
        texts.append(text)
        size += len(text)
    if texts:
        yield len(texts), ",".join(texts)


def select_by_keys(
    table: str, columns: str, key: Sequence[str], rows: str, *, lock: bool, index: str = "PRIMARY"
) -> str:
    """Return a SELECT of the table's rows whose key is among ``rows``, read one by one in the order of ``rows``.

    Args:
        table: Its alias is ``t``.
        columns: Of ``t``, separated by commas.
        key: The columns of a unique index, all of them; of the first ones, where several rows of each are meant.
        rows: ``ROW(...),ROW(...)`` with a value for each key column.
        lock: Whether the rows found are locked for this transaction.
        index: The unique index's name.
    """
    of_t = ", ".join(f"t.{column}" for column in columns.split(", "))
    return (
        f"SELECT {of_t} FROM (VALUES {rows}) AS v ({', '.join(key)}) "
        f"STRAIGHT_JOIN {table} AS t FORCE INDEX ({index}) ON {_equal(key)}{' FOR UPDATE OF t' if lock else ''}"
    )


def update_by_keys(table: str, key: Sequence[str], columns: Sequence[str], rows: str, *, where: str = "") -> str:
    """Return an UPDATE that sets ``columns`` of each row of ``rows``, which holds key, then columns, then ``before``.

    Args:
        table: Its alias is ``t``.
        key: The primary key's columns.
        columns: What is set.
        rows: ``ROW(...),ROW(...)``.
        where: A condition on ``t`` and ``v``; where it names ``v.before`` the rows have that value last.
    """
    names = [*key, *columns, *(["`before`"] if where else [])]
    settings = ", ".join(f"t.{column} = v.{column}" for column in columns)
    return (
        f"UPDATE (VALUES {rows}) AS v ({', '.join(names)}) "
        f"STRAIGHT_JOIN {table} AS t FORCE INDEX (PRIMARY) ON {_equal(key)} SET {settings}"
        f"{' WHERE ' + where if where else ''}"
    )


def delete_by_keys(table: str, key: Sequence[str], rows: str, *, where: str = "") -> str:
    """Return a DELETE of the rows whose primary key is among ``rows``; ``where`` is one more condition, on ``t``."""
    return (
        f"DELETE t FROM (VALUES {rows}) AS v ({', '.join(key)}) "
        f"STRAIGHT_JOIN {table} AS t FORCE INDEX (PRIMARY) ON {_equal(key)}{' WHERE ' + where if where else ''}"
    )


def _equal(key: Sequence[str]) -> str:
    return " AND ".join(f"t.{column} = v.{column}" for column in key)
