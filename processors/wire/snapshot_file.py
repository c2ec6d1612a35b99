"""Rows of a table as an Avro container file, which any tool that reads Avro can read (rule V1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, BinaryIO

import fastavro

CODEC = "deflate"  # results' bytes shrink to a third; every reader of Avro has it
# Bytes of rows in a block: what a reader or writer has in memory at once.
BLOCK_BYTES = 256 * 1024


class ColumnKind(Enum):
    """What a column's values are, and the Avro type that holds them: numbers above 64 bits are text."""

    NUMBER = "long"
    LARGE_NUMBER = "string"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: its name, what its values are, and whether NULL is one."""

    name: str
    kind: ColumnKind
    nullable: bool


def write_rows(file: BinaryIO, table: str, columns: Sequence[Column], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write rows as one container file.

    Args:
        file: Open for writing, at its beginning.
        table: Names the record.
        columns: In the order of the rows' values.
        rows: Read one by one: memory is that of a block.

    Raises:
        ValueError: A value is not of its column's kind.
    """
    names = [column.name for column in columns]
    large = [column.name for column in columns if column.kind is ColumnKind.LARGE_NUMBER]

    def records() -> Iterator[dict[str, Any]]:
        for row in rows:
            record = dict(zip(names, row, strict=True))
            record |= {name: str(record[name]) for name in large if record[name] is not None}
            yield record

    fastavro.writer(file, _schema(table, columns), records(), codec=CODEC, sync_interval=BLOCK_BYTES, strict=True)


def read_rows(file: BinaryIO, columns: Sequence[Column]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a file that ``write_rows`` wrote, block by block, with the values of some columns in order.

    Args:
        file: Open for reading; its checksum was compared before.
        columns: Those of the file.

    Raises:
        ValueError: It is no such file.
    """
    names = [column.name for column in columns]
    large = {place for place, column in enumerate(columns) if column.kind is ColumnKind.LARGE_NUMBER}
    for record in fastavro.reader(file):
        assert isinstance(record, dict)
        values = [record[name] for name in names]
        for place in large:
            values[place] = None if values[place] is None else int(values[place])
        yield tuple(values)


def _schema(table: str, columns: Sequence[Column]) -> Any:
    fields = [
        {"name": column.name, "type": ["null", column.kind.value] if column.nullable else column.kind.value}
        for column in columns
    ]
    return fastavro.parse_schema({"type": "record", "name": table, "namespace": "balance.snapshot", "fields": fields})
