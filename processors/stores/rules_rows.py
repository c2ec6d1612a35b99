"""Rows of ``rules``: what decides, by lane and by the offset from which it is in force (I6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from processors.ledger.rules import Rules
from processors.stores.mysql import Session
from processors.stores.sql_text import text_literal

_COLUMN_OF = {"release": "rules_release", "keys": "signing_keys"}  # RELEASE and KEYS are words of SQL
_FIELDS = tuple(field.name for field in fields(Rules))
_COLUMNS = ", ".join(_COLUMN_OF.get(name, name) for name in _FIELDS)


def insert_rules(lane: int, rules: Mapping[int, Rules], *, since_time_ms: int) -> str:
    """Return the INSERT of some versions of a lane's rules, by the lane offset from which they are in force."""
    rows = ",".join(
        f"({lane},{since_offset},{since_time_ms},{','.join(_literal(getattr(each, name)) for name in _FIELDS)})"
        for since_offset, each in rules.items()
    )
    return f"INSERT INTO rules (lane, since_offset, since_time_ms, {_COLUMNS}) VALUES {rows}"


def select_rules(session: Session, lane: int | None = None) -> dict[int, dict[int, Rules]]:
    """Return lane -> offset -> the rules in force from that offset on, in the order of their versions."""
    where = "" if lane is None else f" WHERE lane = {lane}"
    found: dict[int, dict[int, Rules]] = {}
    rows = session.query(
        f"SELECT lane, since_offset, {_COLUMNS} FROM rules{where} ORDER BY lane, version", "reading the rules"
    )
    for of_lane, since_offset, *values in rows:
        found.setdefault(of_lane, {})[since_offset] = Rules(**dict(zip(_FIELDS, map(_value, values), strict=True)))
    return found


def _literal(value: int | str | None) -> str:
    if value is None:
        return "NULL"
    return text_literal(value) if isinstance(value, str) else str(value)


def _value(column: int | bytes | None) -> Any:
    return column.decode() if isinstance(column, bytes) else column
