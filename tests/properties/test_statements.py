"""A statement of a period, page by page, wherever its changes lie in archive and MySQL: against a plain list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.ledger.rows import Account
from processors.lookup.history import TAIL_OFFSETS_MAX, ArchivedHistory
from processors.lookup.statements import DAY_MS, Part, Period, Statement, read_statement
from processors.lookup.times import begin_of_day, show_time, zone_of
from processors.stores.archive_reader import Step
from processors.stores.archive_rows import Covered
from processors.wire.statement_chunk import StatementRow

ZONES = ["UTC", "Europe/Vienna", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]
CLOCKS_CHANGE = [date(2026, 3, 29), date(2026, 10, 25), date(2026, 4, 5), date(2026, 11, 1), date(2011, 12, 30)]


@dataclass(slots=True)
class History:
    """An account's changes: the first ``archived`` of them in the archive, the rest in the tails of two shards.

    ``lost`` are in neither. The archive does not know where ``lost_days`` begin. At the ``moves_at``-th question the
    sink archives everything, and all leaves MySQL.
    """

    rows: list[StatementRow]
    archived: int
    decided_before: int = 0  # up to this sequence by the other shard
    lost: frozenset[int] = frozenset()
    lost_days: frozenset[int] = frozenset()
    moves_at: int | None = None
    waiting: int = 1
    asked: int = 0
    questions: list[str] = field(default_factory=list)

    def ask(self, question: str) -> None:
        self.questions.append(question)
        if self.asked == self.moves_at:
            self.archived = len(self.rows)
        self.asked += 1

    def known(self, first: int, last: int) -> list[StatementRow]:
        return [row for row in self.rows[first - 1 : last] if row.sequence not in self.lost]

    def shards(self) -> list[Shard]:
        return [Shard(self, home=True), Shard(self, home=False)]


@dataclass(slots=True)
class Shard:
    """One of the two shards; the archive is the same for both."""

    history: History
    home: bool

    @property
    def archive(self) -> ArchivedHistory:
        return Archive(self.history)

    def account(self, address: str, currency: str) -> Account | None:
        return Account(address, currency, sequence=len(self.history.rows))

    def uncovered(self, root: str) -> range:
        del root
        self.history.ask("uncovered")
        return range(self.history.waiting)

    def tail(self, address: str, currency: str, uncovered: range) -> Iterator[StatementRow]:
        del address, currency, uncovered
        self.history.ask("tail")
        rows = self.history.known(self.history.archived + 1, len(self.history.rows))
        yield from (row for row in reversed(rows) if (row.sequence > self.history.decided_before) == self.home)


@dataclass(slots=True)
class Archive:
    history: History

    def steps(self, transaction_id: bytes, *, most: int | None = None) -> list[Step]:
        raise NotImplementedError

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        raise NotImplementedError

    def newest_sequence(self, address: str, currency: str) -> int:
        del address, currency
        self.history.ask("newest_sequence")
        return self.history.archived

    def first_sequence(self, address: str, currency: str, from_day: int) -> int | None:
        del address, currency
        days = ((row.sequence, row.lane_time_ms // DAY_MS) for row in self.history.rows[: self.history.archived])
        lost = self.history.lost_days
        return next((sequence for sequence, day in days if day >= from_day and day not in lost), None)

    def statement(
        self, address: str, currency: str, *, from_sequence: int = 1, to_sequence: int | None = None
    ) -> Iterator[StatementRow]:
        del address, currency
        self.history.ask("statement")
        last = self.history.archived if to_sequence is None else min(to_sequence, self.history.archived)
        yield from self.history.known(from_sequence, last)


def changes_at(times_ms: Sequence[int]) -> list[StatementRow]:
    rows, balance, held = [], 0, 0
    for sequence, time_ms in enumerate(sorted(times_ms), 1):
        change, held_change = sequence * 7 % 11 - 5 or 1, sequence % 3 - 1
        balance, held = balance + change, held + held_change
        rows.append(
            StatementRow("PAY", bytes(16), bytes(16), "", change, held_change, balance, held, 0, sequence, time_ms, b"")
        )
    return rows


def pages_of(history: History, period: Period, rows_max: int) -> list[Statement]:
    pages, after = [], 0
    while True:
        owner, other = history.shards()
        page = read_statement(
            owner, "acme", "USD", others=[other], period=period, part=Part(after=after, rows_max=rows_max)
        )
        assert page is not None
        pages.append(page)
        if page.next_after is None:
            return pages
        assert page.next_after > after
        after = page.next_after


@st.composite
def histories(draw: st.DrawFn) -> tuple[History, Period]:
    zone = zone_of(draw(st.sampled_from(ZONES)))
    day = draw(st.sampled_from(CLOCKS_CHANGE))
    period = Period(from_ms=begin_of_day(day, zone), until_ms=begin_of_day(day + timedelta(days=1), zone))
    borders = [border + off for border in (period.from_ms, period.until_ms) for off in (-1, 0, 1)]
    anywhere = st.integers(period.from_ms - 2 * DAY_MS, period.until_ms + 2 * DAY_MS)
    rows = changes_at(draw(st.lists(st.sampled_from(borders) | anywhere, max_size=40)))
    history = History(
        rows,
        archived=draw(st.integers(0, len(rows))),
        decided_before=draw(st.integers(0, len(rows))),
        moves_at=draw(st.none() | st.integers(0, 12)),
    )
    return history, period


@pytest.mark.rule("A8")
@given(histories(), st.integers(1, 9))
def test_pages_of_a_period_have_its_changes_and_each_opens_where_the_last_closed(
    drawn: tuple[History, Period], rows_max: int
) -> None:
    history, period = drawn
    inside = [row for row in history.rows if period.from_ms <= row.lane_time_ms < period.until_ms]
    before = [row for row in history.rows if row.lane_time_ms < period.from_ms]

    pages = pages_of(history, period, rows_max)

    assert [row for page in pages for row in page.rows] == inside
    assert {page.count for page in pages} == {len(inside)}
    assert pages[0].opening == (before[-1].balance if before else 0)
    assert pages[0].opening_held == (before[-1].held if before else 0)
    assert pages[-1].closing == pages[0].opening + sum(row.balance_change for row in inside)
    assert all(page.complete and page.adds_up for page in pages)
    assert [page.opening for page in pages[1:]] == [page.closing for page in pages[:-1]]
    assert [page.opening_held for page in pages[1:]] == [page.closing_held for page in pages[:-1]]


@given(histories(), st.integers(1, 9))
def test_the_newest_of_a_period_are_its_last(drawn: tuple[History, Period], rows_max: int) -> None:
    history, period = drawn
    inside = [row for row in history.rows if period.from_ms <= row.lane_time_ms < period.until_ms]
    owner, other = history.shards()

    found = read_statement(
        owner, "acme", "USD", others=[other], period=period, part=Part(rows_max=rows_max, newest=True)
    )

    assert found is not None
    assert (found.rows, found.count) == (inside[-rows_max:], len(inside))
    assert found.before == len(inside) - len(found.rows)
    assert found.next_after is None
    assert found.adds_up


@st.composite
def losing_histories(draw: st.DrawFn) -> tuple[History, Period]:
    """Draw a history of one shard, of which up to four changes are found nowhere, and a period."""
    history, period = draw(histories().filter(lambda drawn: bool(drawn[0].rows)))
    history.moves_at = None
    history.lost = frozenset(draw(st.sets(st.integers(1, len(history.rows)), max_size=4)))
    return history, period


@given(losing_histories())
def test_a_lost_change_is_missing_in_the_statement_of_one_of_two_periods_that_touch(
    drawn: tuple[History, Period],
) -> None:
    history, period = drawn
    periods = [Period(until_ms=period.from_ms), period, Period(from_ms=period.until_ms)]

    pages = [page for each in periods for page in pages_of(history, each, 9)]

    assert sorted({sequence for page in pages for sequence in page.missing}) == sorted(history.lost)
    assert [row.sequence for page in pages for row in page.rows] == [
        row.sequence for row in history.rows if row.sequence not in history.lost
    ]


@given(losing_histories())
def test_a_period_that_may_have_a_lost_change_is_not_shown_as_whole(
    drawn: tuple[History, Period],
) -> None:
    history, period = drawn
    inside = {row.sequence for row in history.rows if period.from_ms <= row.lane_time_ms < period.until_ms}

    missing = {sequence for page in pages_of(history, period, 9) for sequence in page.missing}

    assert missing >= inside & history.lost


@given(histories(), st.data())
def test_where_a_day_begins_may_be_lost_in_the_archive(drawn: tuple[History, Period], data: st.DataObject) -> None:
    history, period = drawn
    days = sorted({row.lane_time_ms // DAY_MS for row in history.rows})
    history.lost_days = frozenset(data.draw(st.sets(st.sampled_from(days))) if days else ())
    inside = [row for row in history.rows if period.from_ms <= row.lane_time_ms < period.until_ms]

    pages = pages_of(history, period, 9)

    assert [row for page in pages for row in page.rows] == inside
    assert all(page.complete and page.adds_up for page in pages)


def test_a_quiet_partner_in_a_busy_lane_is_not_looked_for_in_what_waits_for_the_sink() -> None:
    history = History(changes_at([DAY_MS * day for day in range(1, 8)]), archived=7, waiting=2 * TAIL_OFFSETS_MAX)

    (page,) = pages_of(history, Period(), 100)

    assert (page.count, page.complete, page.sink_behind) == (7, True, False)
    assert "tail" not in history.questions


def test_a_period_that_the_archive_has_is_not_looked_for_in_what_waits_for_the_sink() -> None:
    history = History(changes_at([DAY_MS * day for day in range(1, 8)]), archived=5)

    (page,) = pages_of(history, Period(from_ms=2 * DAY_MS, until_ms=5 * DAY_MS), 100)

    assert [row.sequence for row in page.rows] == [2, 3, 4]
    assert "tail" not in history.questions


def test_what_waits_for_the_sink_is_not_held_in_memory() -> None:
    history = History(changes_at(range(1_000)), archived=0)
    owner, _ = history.shards()

    page = read_statement(owner, "acme", "USD", part=Part(after=500, rows_max=3))

    assert page is not None
    assert [row.sequence for row in page.rows] == [501, 502, 503]
    assert page.opening == history.rows[499].balance


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Vienna", date(2026, 3, 29), 23),
        ("Europe/Vienna", date(2026, 10, 25), 25),
        ("Asia/Kathmandu", date(2026, 3, 29), 24),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Pacific/Apia", date(2011, 12, 30), 0),  # the day that Samoa left out
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # its midnight was skipped
        ("America/Havana", date(2026, 11, 1), 25),  # its midnight comes twice
    ],
)
def test_a_day_lasts_from_its_begin_to_the_next_ones(zone: str, day: date, hours: float) -> None:
    place = zone_of(zone)
    begins, ends = begin_of_day(day, place), begin_of_day(day + timedelta(days=1), place)

    assert (ends - begins) / 3_600_000 == hours


def test_a_day_begins_by_the_zones_offset_of_three_quarters_of_an_hour() -> None:
    begins = begin_of_day(date(2026, 3, 29), zone_of("Asia/Kathmandu"))

    assert show_time(begins) == "2026-03-28T18:15:00.000Z"
    assert show_time(begins - 1, zone_of("Asia/Kathmandu")) == "2026-03-28T23:59:59.999+05:45"


@pytest.mark.parametrize("name", ["", "Vienna", "../../etc/passwd", "/etc/localtime", "Europe", "a\0b", "x" * 300])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        zone_of(name)
