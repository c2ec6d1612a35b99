"""What the archive lost comes back from the results topic, of rows that have left MySQL, too, on real servers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from processors.routing.buckets import partition_of
from processors.stores.archive_reader import ArchiveReader
from tests.archived import all_said, alter_change, empty
from tests.chaos.lanes import Shard
from tests.chaos.operator_process import run_until_it_kills_itself
from tests.end_to_end.conftest import balance
from tests.integration.test_archive_fill import (
    ALONE,
    LANES,
    LATER_US,
    OTHER,
    archive,
    last_rows,
    old_slices,
    remove,
    run_sink_until,
    run_sink_until_all_is_covered,
    truncate,
    two_old_mornings,
)
from tests.servers import Place

PACKED = ("journal", "transaction_index", "statement_chunk")


@pytest.fixture
def make(fresh_place: Callable[..., Place]) -> Callable[..., Shard]:
    """Return what makes a shard with two partners' old morning, all of it in the archive, and none of it in MySQL."""
    return partial(archived_alone, fresh_place)


def archived_alone(fresh_place: Callable[..., Place], payments: int = 20) -> Shard:
    shard = two_old_mornings(fresh_place, payments)
    run_sink_until_all_is_covered(shard)
    assert old_slices() & set(remove(shard))
    assert last_rows(shard) == {}
    return shard


def said(shard: Shard) -> dict[str, Any]:
    """Return all that the archive says, but for versions, which are later where something is written again.

    Of the index, what it says of chunks that are there: rows of it that name another cut are no harm (A3).
    """
    with archive(shard) as session:
        found = all_said(session)
    found["transaction_index"] = [entry for entry in found["transaction_index"] if entry[-1]]
    return {table: found[table] for table in (*PACKED, "coverage")}


def lose(shard: Shard, *tables: str) -> None:
    with archive(shard) as session:
        for table in tables:
            session.execute(f"TRUNCATE {table}")


def statement(shard: Shard, root: str) -> int:
    with archive(shard) as session:
        return len(list(ArchiveReader(session).statement(root, "USD")))


@pytest.mark.rule("A6")
@pytest.mark.parametrize("lost", [PACKED, *[(table,) for table in PACKED]], ids="+".join)
def test_what_left_mysql_and_was_lost_in_the_archive_is_named_then_brought_back(
    make: Callable[..., Shard], lost: tuple[str, ...]
) -> None:
    shard = make()
    before = said(shard)
    clean = balance(shard.place, "replay", "archive")
    assert (clean.status, "the archive has them all" in clean.out) == (0, True), clean.out + clean.err
    lose(shard, *lost)

    named = balance(shard.place, "replay", "archive")

    assert (named.status, "nothing was written: --write" in named.out) == (1, True), named.out + named.err
    assert not any(said(shard)[table] for table in lost)
    done = balance(shard.place, "replay", "archive", "--write")
    assert (done.status, " mended, 0 left" in done.out) == (0, True), done.out + done.err
    assert said(shard) == before
    assert statement(shard, ALONE) == statement(shard, OTHER) > 20


@pytest.mark.rule("A5")
def test_an_archive_that_lost_everything_is_filled_by_the_sink_alone(make: Callable[..., Shard]) -> None:
    shard = make()
    before = said(shard)
    with archive(shard) as session:
        empty(session)

    nothing = balance(shard.place, "replay", "archive", "--write")
    assert (nothing.status, nothing.out, "the sink" in nothing.err) == (0, "", True)
    run_sink_until(shard, lambda: said(shard) == before, "the archive says what it said before")


@pytest.mark.rule("A6")
def test_what_differs_is_named_and_never_overwritten(make: Callable[..., Shard]) -> None:
    shard = make()
    with archive(shard) as session:
        alter_change(session, ALONE, 6, LATER_US, lambda entry: entry[:-1] + b"\x02 ")
    before = said(shard)

    told = balance(shard.place, "replay", "archive", "--write")

    assert (told.status, told.out.count("ARCHIVE_CHANGE_DIFFERS s1 slice")) == (1, 1), told.out + told.err
    assert said(shard) == before


@pytest.mark.rule("A6")
def test_only_what_was_asked_for_is_compared(make: Callable[..., Shard]) -> None:
    shard = make()
    before = said(shard)
    lose(shard, "statement_chunk")

    one = balance(shard.place, "replay", "archive", "--write", "--partner", ALONE)
    assert one.status == 0, one.out + one.err
    assert (statement(shard, ALONE), statement(shard, OTHER)) == (statement(shard, ALONE), 0)
    partition = partition_of(OTHER, LANES)
    rest = balance(shard.place, "replay", "archive", "--write", "--from", f"{partition}=0")
    assert rest.status == 0, rest.out + rest.err
    assert said(shard) == before
    later = balance(shard.place, "replay", "archive", "--from", "2100-01-01T00:00:00Z")
    assert (later.status, "nothing was compared" in later.err) == (0, True)


@pytest.mark.rule("A6")
def test_what_has_left_the_topic_is_told_and_the_rest_comes_back(make: Callable[..., Shard]) -> None:
    shard = make()
    lose(shard, *PACKED)
    truncate(shard)

    done = balance(shard.place, "replay", "archive", "--write")

    assert done.status == 0, done.out + done.err
    assert f"not compared, since it has left the topic: partition {partition_of(ALONE, LANES)}, " in done.err
    assert (statement(shard, ALONE), statement(shard, OTHER) > 0) == (0, True)


@pytest.mark.rule("A6")
def test_one_that_is_killed_is_finished_by_the_next(make: Callable[..., Shard]) -> None:
    shard = make(2_500)
    before = said(shard)
    lose(shard, *PACKED)

    run_until_it_kills_itself(shard.place, "rearchive")
    half = said(shard)
    assert 0 < len(half["journal"]) < len(before["journal"])
    done = balance(shard.place, "replay", "archive", "--write")

    assert done.status == 0, done.out + done.err
    assert said(shard) == before
