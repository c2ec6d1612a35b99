"""A statement as CSV and JSON, and the words where it must not be relied on."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, date
from decimal import Decimal

import pytest

from processors.lookup.statements import Period, Statement
from processors.lookup.times import zone_of
from processors.ops.durations import PeriodBorder, parse_border
from processors.ops.result_text import with_amounts
from processors.ops.statement_text import (
    StatementHead,
    period_of,
    statement_as_csv,
    statement_as_json,
    what_is_wrong,
)
from processors.wire.statement_chunk import StatementRow

VIENNA = zone_of("Europe/Vienna")
# 29 March 2026 in Vienna, whose clocks go on by an hour.
BEGINS_MS, ENDS_MS = 1_774_738_800_000, 1_774_821_600_000


def row(sequence: int, change: int, balance: int, time_ms: int = BEGINS_MS) -> StatementRow:
    return StatementRow(
        sequence=sequence, type="PAY", transaction_id=bytes(16), command_id=bytes(16), contra="SETTLEMENT",
        balance_change=change, held_change=0, balance=balance, held=0, overdraft_limit=0, lane_time_ms=time_ms,
        metadata=b'{"note": "a, \\"b\\"\\n"}',
    )  # fmt: skip


PAGE = Statement(
    opening=10_000, opening_held=0, rows=[row(8, -1_250, 8_750), row(9, 50, 8_800)], count=3, before=0, newest=11
)
HEAD = StatementHead(address="acme", currency="USD", period=Period(from_ms=BEGINS_MS, until_ms=ENDS_MS), zone=VIENNA)


def test_csv_begins_with_the_opening_balance_and_its_changes_make_the_closing_one() -> None:
    rows = list(csv.DictReader(io.StringIO(statement_as_csv(PAGE, HEAD))))

    assert [(each["type"], each["sequence"], each["balance"]) for each in rows] == [
        ("OPENING", "", "100.00"), ("PAY", "8", "87.50"), ("PAY", "9", "88.00"), ("CLOSING", "", "88.00"),
    ]  # fmt: skip
    assert Decimal(rows[0]["balance"]) + sum(Decimal(each["change"] or 0) for each in rows) == Decimal("88.00")
    assert [rows[0]["time"], rows[1]["time"], rows[-1]["time"]] == [
        "2026-03-29T00:00:00.000+01:00", "2026-03-29T00:00:00.000+01:00", "2026-03-30T00:00:00.000+02:00",
    ]  # fmt: skip
    assert rows[1]["metadata"] == '{"note": "a, \\"b\\"\\n"}'


def test_json_says_how_many_changes_there_are_and_where_the_period_goes_on() -> None:
    told = with_amounts(statement_as_json(PAGE, HEAD))

    assert (told["opening_balance"], told["closing_balance"]) == ("100.00", "88.00")
    assert (told["count"], told["before"], told["next_after"]) == (3, 0, 9)
    assert [change["balance"] for change in told["changes"]] == ["87.50", "88.00"]
    assert statement_as_json(replace(PAGE, count=2), HEAD)["next_after"] is None


def test_what_must_not_be_relied_on_says_why() -> None:
    lost = replace(PAGE, rows=[row(8, -1_250, 8_750), row(10, 50, 8_800)], missing=(9,))
    wrong = replace(PAGE, rows=[row(8, -1_250, 8_750), row(9, 50, 8_801)])

    assert what_is_wrong(PAGE) == ""
    assert what_is_wrong(lost).startswith("1 change is missing, 9: it is not in the archive any more")
    assert what_is_wrong(replace(lost, sink_behind=True)).startswith("1 change is missing, 9: the sink is behind")
    assert what_is_wrong(wrong).startswith("opening balance and changes do not make the closing balance")


@pytest.mark.parametrize(
    ("begins", "ends", "period"),
    [
        ("2026-03-29", "2026-03-30", Period(from_ms=BEGINS_MS, until_ms=ENDS_MS)),
        ("2026-03-28T23:00:00Z", "2026-03-30T00:00:00+02:00", Period(from_ms=BEGINS_MS, until_ms=ENDS_MS)),
        ("2026-03-29", None, Period(from_ms=BEGINS_MS)),
        ("0001-01-01", "9999-12-31", Period(from_ms=0, until_ms=253_402_210_800_000)),
    ],
)
def test_a_period_lies_between_days_of_its_zone_or_times(begins: str, ends: str | None, period: Period) -> None:
    assert period_of(parse_border(begins), parse_border(ends) if ends else None, VIENNA) == period


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    begins, ends = PeriodBorder(day=date(2026, 3, 2)), PeriodBorder(day=date(2026, 3, 1))

    with pytest.raises(ValueError, match="before it begins: exchange the two"):
        period_of(begins, ends, UTC)
