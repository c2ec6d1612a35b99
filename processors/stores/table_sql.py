"""The statements by which a lane reads and writes the tables of ``ledger.tables``, and their rows as values. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from processors.ledger.tables import AnyTable, K, R, RowChange, Table
from processors.routing.buckets import bucket_of
from processors.stores.mysql import Row
from processors.stores.sql_text import (
    chunks,
    delete_by_keys,
    hex_literal,
    row_chunks,
    select_by_keys,
    text_literal,
    update_by_keys,
)

_Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlStatement:
    """A statement that writes, and how many rows it must insert, match or delete (L8); None: however many there are."""

    what: str
    sql: str
    rows: int | None = None


def columns_of(table: AnyTable) -> str:
    """Return the columns that ``row_of`` reads, separated by commas."""
    return ", ".join(table.columns)


def key_literals(table: AnyTable, key: Any) -> list[str]:
    """Return the values of a key as literals, in the order of its columns."""
    types = table.key.values()
    return [_literal(type_)(each) for each, type_ in zip(key, types, strict=True)]


def row_of(table: Table[K, R], row: Row) -> tuple[K, R]:
    """Return a row's key and the row, from the values of ``columns_of``."""
    values = list(row)
    for place, convert in _values(table):
        values[place] = convert(values[place])
    return table.made_of(values)


def select(table: AnyTable, keys: Iterable[Any]) -> str:
    """Return the SELECT that reads and locks the rows of some keys, in the order of the keys."""
    form = _form(table, tuple(table.key))
    rows = ",".join([f"ROW({_text(key, form)})" for key in keys])
    return select_by_keys(table.name, columns_of(table), [*table.key], rows, lock=True)


def writes(table: AnyTable, changes: Iterable[RowChange], lane: int, keys_max: int) -> Iterator[SqlStatement]:
    """Yield the statements that store changes, each in key order: inserts, updates, deletes.

    Args:
        table: Whose rows were changed.
        changes: What is to be stored.
        lane: The rows' lane.
        keys_max: Rows of a statement that finds rows by key (L8).
    """
    changes = sorted(changes, key=lambda change: change.key)
    yield from inserts(table, [table.values_of(each) for each in changes if each.before is None], lane)
    stored = [each for each in changes if each.before is not None]
    yield from _updates(table, [each for each in stored if each.row is not None], keys_max)
    yield from _deletes(table, [each for each in stored if each.row is None], keys_max)


def inserts(table: AnyTable, new: Iterable[list[Any]], lane: int) -> Iterator[SqlStatement]:
    """Yield the statements that insert rows, given by the values of their columns; none of them is stored."""
    form = _form(table, tuple(table.columns))
    lane_text = f",{lane}" if table.has_lane else ""

    def text(values: list[Any]) -> str:
        return f"({_text(values, form)},{bucket_of(table.root_of(values))}{lane_text})"

    names = f"{columns_of(table)}, bucket{', lane' if table.has_lane else ''}"
    for rows, values in row_chunks(new, text):
        sql = f"INSERT INTO {table.name} ({names}) VALUES {values}"
        yield SqlStatement(what=f"inserting into {table.name}", sql=sql, rows=rows)


def _updates(table: AnyTable, changed: list[RowChange], keys_max: int) -> Iterator[SqlStatement]:
    assert table.changing or not changed, f"rows of {table.name} are never changed"
    form = _form(table, (*table.key, *table.changing))

    def text(change: RowChange) -> str:
        before = f",{change.before}" if table.sequence else ""
        return f"ROW({_text(table.changing_values_of(change), form)}{before})"

    where = f"t.{table.sequence} = v.`before`" if table.sequence else ""
    for chunk in chunks(changed, keys_max):
        for rows, values in row_chunks(chunk, text):
            sql = update_by_keys(table.name, [*table.key], table.changing, values, where=where)
            yield SqlStatement(what=f"updating {table.name}", sql=sql, rows=rows)


def _deletes(table: AnyTable, ended: list[RowChange], keys_max: int) -> Iterator[SqlStatement]:
    form = _form(table, tuple(table.key))
    for chunk in chunks(ended, keys_max):
        rows = ",".join([f"ROW({_text(change.key, form)})" for change in chunk])
        sql = delete_by_keys(table.name, [*table.key], rows)
        yield SqlStatement(what=f"deleting from {table.name}", sql=sql, rows=len(chunk))


class _RowTemplate(NamedTuple):
    """How some columns' values become text: a template, and the conversion of those that do not go in as they are.

    1.9 us for the statement of an account's row, where a call for each of its values takes 3.4.
    """

    template: str
    literals: list[tuple[int, _Convert]]


@cache
def _form(table: AnyTable, names: tuple[str, ...]) -> _RowTemplate:
    types = [table.columns[name] for name in names]
    literals = [(place, _literal(type_)) for place, type_ in enumerate(types) if type_ is not int]
    return _RowTemplate(",".join(["%s"] * len(names)), literals)


def _text(values: Iterable[Any], form: _RowTemplate) -> str:
    texts = [*values]
    for place, literal in form.literals:
        texts[place] = literal(texts[place])
    return form.template % (*texts,)


def _literal(type_: type) -> _Convert:
    if issubclass(type_, Enum):
        return {member: f"'{member.value}'" for member in type_}.__getitem__
    return text_literal if type_ is str else hex_literal


@cache
def _values(table: AnyTable) -> list[tuple[int, _Convert]]:
    """Return place and conversion of the columns whose values are not what the driver returns."""
    types = enumerate(table.columns.values())
    return [(place, _value(type_)) for place, type_ in types if type_ not in (int, bytes)]


def _value(type_: type) -> _Convert:
    if issubclass(type_, Enum):
        return {member.value.encode(): member for member in type_}.__getitem__
    return bytes.decode
