"""What command line, API and page say of a statement: as JSON, as CSV, and what is wrong with it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any

from processors.lookup.statements import ALWAYS, DAY_MS, END_OF_TIME_MS, Period, Statement
from processors.lookup.times import begin_of_day, show_time
from processors.ops.durations import PeriodBorder
from processors.ops.money import show_amount
from processors.ops.result_text import show_id
from processors.wire.statement_chunk import StatementRow

CSV_COLUMNS = (
    "sequence", "time", "type", "currency", "change", "held_change", "balance", "held", "available", "contra",
    "transaction_id", "command_id", "metadata",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementHead:
    """Whose statement it is, of which period, and in which zone its times are shown."""

    address: str
    currency: str
    period: Period = ALWAYS
    zone: tzinfo = UTC

    @property
    def begins(self) -> str:
        """Return when the period begins; nothing where it does with the first change."""
        return show_time(self.period.from_ms, self.zone)

    @property
    def ends(self) -> str:
        """Return when the period ends, which is not part of it; nothing where it does with the last change."""
        return "" if self.period.until_ms == END_OF_TIME_MS else show_time(self.period.until_ms, self.zone)


def period_of(begins: PeriodBorder | None, ends: PeriodBorder | None, zone: tzinfo) -> Period:
    """Return the period between two borders, each a day's begin in a zone or ms since the epoch; None: no border.

    Raises:
        ValueError: It ends before it begins, or at the end of time; the text says so.
    """
    from_ms = 0 if begins is None else max(0, _border_ms(begins, zone))
    until_ms = END_OF_TIME_MS if ends is None else min(END_OF_TIME_MS, _border_ms(ends, zone))
    if until_ms < from_ms:
        raise ValueError("the period ends before it begins: exchange the two")
    if max({from_ms, until_ms} - {END_OF_TIME_MS}, default=0) > END_OF_TIME_MS - DAY_MS:
        raise ValueError("no zone can show what comes after the year 9999: leave the border out")
    return Period(from_ms=from_ms, until_ms=until_ms)


def _border_ms(border: PeriodBorder, zone: tzinfo) -> int:
    return (border.time_ms or 0) if border.day is None else begin_of_day(border.day, zone)


def statement_as_json(found: Statement, head: StatementHead) -> dict[str, Any]:
    """Return a statement as it is; amounts in minor units."""
    return {
        "address": head.address,
        "currency": head.currency,
        "from": head.begins,
        "until": head.ends,
        "opening_balance_minor": found.opening,
        "opening_held_minor": found.opening_held,
        "changes": [_row_as_json(row, head) for row in found.rows],
        "closing_balance_minor": found.closing,
        "closing_held_minor": found.closing_held,
        "count": found.count,
        "before": found.before,
        "next_after": found.next_after,
        "missing": list(found.missing),
    }


def _row_as_json(row: StatementRow, head: StatementHead) -> dict[str, Any]:
    return {
        "sequence": row.sequence,
        "time": show_time(row.lane_time_ms, head.zone),
        "type": row.type,
        "currency": head.currency,
        "balance_change_minor": row.balance_change,
        "held_change_minor": row.held_change,
        "balance_minor": row.balance,
        "held_minor": row.held,
        "overdraft_limit_minor": row.overdraft_limit,
        "contra": row.contra,
        "transaction_id": show_id(row.transaction_id),
        "command_id": show_id(row.command_id),
        "metadata": json.loads(row.metadata) if row.metadata else None,
    }


def statement_as_csv(found: Statement, head: StatementHead) -> str:
    """Return a statement as RFC 4180 has it, with a header: the opening balance, each change, the closing balance."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    writer.writerow(_border_cells("OPENING", head.begins, found.opening, found.opening_held, head.currency))
    writer.writerows(_csv_cells(found, head))
    writer.writerow(_border_cells("CLOSING", head.ends, found.closing, found.closing_held, head.currency))
    return text.getvalue()


def _border_cells(name: str, time: str, balance: int, held: int, currency: str) -> list[str]:
    known = {
        "time": time,
        "type": name,
        "currency": currency,
        "balance": show_amount(balance, currency),
        "held": show_amount(held, currency),
    }
    return [known.get(column, "") for column in CSV_COLUMNS]


def _csv_cells(found: Statement, head: StatementHead) -> Iterator[list[str]]:
    for row in found.rows:
        figures = (row.balance_change, row.held_change, row.balance, row.held, available(row))
        yield [
            str(row.sequence),
            show_time(row.lane_time_ms, head.zone),
            row.type,
            head.currency,
            *(show_amount(each, head.currency) for each in figures),
            row.contra,
            show_id(row.transaction_id),
            show_id(row.command_id),
            row.metadata.decode(),
        ]


def available(row: StatementRow) -> int:
    """Return what could be spent after a change, in minor units."""
    return row.balance - row.held + row.overdraft_limit


def what_is_missing(found: Statement) -> str:
    """Say how many of a statement's changes are missing, why, and what brings them back."""
    count, first = len(found.missing), found.missing[0]
    told = f"1 change is missing, {first}: " if count == 1 else f"{count} changes are missing, the first is {first}: "
    if found.sink_behind:
        return told + "the sink is behind, by more than is looked through here; see `balance status`"
    return told + "it is not in the archive any more; `balance archive repair` brings back what MySQL has"


def what_is_wrong(found: Statement) -> str:
    """Say why a statement must not be relied on; nothing where it may be."""
    if not found.complete:
        return what_is_missing(found)
    if not found.adds_up:
        return "opening balance and changes do not make the closing balance; `balance verify` says what differs"
    return ""
