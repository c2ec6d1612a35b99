from __future__ import annotations

from enum import StrEnum

import pytest

from processors.ledger.tables import ACCOUNTS, HOLDS, ROOT_TABLES, AnyTable, RowChange
from tests.unit.ledger import build


@pytest.mark.parametrize("table", ROOT_TABLES, ids=lambda table: table.name)
def test_columns_are_integers_texts_bytes_or_one_of_some_words(table: AnyTable) -> None:
    assert [
        each for each in table.columns.values() if each not in (int, str, bytes) and not issubclass(each, StrEnum)
    ] == []


@pytest.mark.parametrize("table", ROOT_TABLES, ids=lambda table: table.name)
def test_what_changes_and_what_counts_changes_are_columns_beside_the_key(table: AnyTable) -> None:
    rest = table.columns.keys() - table.key.keys()

    assert rest.issuperset(table.changing)
    assert table.sequence is None or table.sequence in table.changing


def test_a_row_is_made_again_of_its_values() -> None:
    lane = build.lane_with("acme")
    lane.send(hold := build.place_hold())

    for table in (ACCOUNTS, HOLDS):  # one whose rows know their key, one whose rows do not
        ((key, row),) = table.rows_in(lane.book).items()
        assert table.made_of(table.values_of(RowChange(key, row, None))) == (key, row)
        assert table.root_of(key) == "acme"
    assert list(lane.book.holds) == [("acme", hold.command_id)]


@pytest.mark.parametrize("table", ROOT_TABLES, ids=lambda table: table.name)
def test_an_update_has_the_key_and_then_what_changes(table: AnyTable) -> None:
    # One value of its own for each column, of the column's type: a compiled row takes no other.
    values = {name: _value_of(kind, number) for number, (name, kind) in enumerate(table.columns.items())}
    key, row = table.made_of(list(values.values()))

    changing = table.changing_values_of(RowChange(key, row, 0))

    assert changing == [values[name] for name in (*table.key, *table.changing)]


def _value_of(kind: type, number: int) -> object:
    if issubclass(kind, StrEnum):
        return list(kind)[number % len(kind)]
    return number if kind is int else kind(str(number), "ascii") if kind is bytes else str(number)
