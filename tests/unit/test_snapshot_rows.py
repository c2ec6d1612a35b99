"""Which of the journal's slices a snapshot has, before any database is asked."""

from __future__ import annotations

from typing import Any

import pytest

from processors.ids import SLICE_MS
from processors.ledger.rules import Rules
from processors.stores import snapshot_rows
from processors.stores.addresses import MysqlAddress
from processors.stores.rows import Progress
from processors.stores.snapshot_rows import SnapshotSource
from processors.wire.positions import LANE_START

NOW_MS = 480_000 * SLICE_MS
ADDRESS = MysqlAddress(host="127.0.0.1", port=1, user="u", password="", database="d")


class Answers:
    """A session that answers by what it is asked for; slices are asked for before its snapshot begins, and after."""

    slices: tuple[list[int], list[int]] = ([], [])
    sealed_ms: int | None = None

    def __init__(self, address: MysqlAddress, *, lane: bool) -> None:
        del address, lane
        self.begun = False

    def query(self, sql: str, what: str) -> list[Any]:
        if what == "reading the journal's partitions":
            return [(number,) for number in self.slices[self.begun]]
        if what == "looking for sealed placement keys":
            return [(self.sealed_ms,)]
        raise AssertionError(f"{what}: {sql}")

    def execute(self, sql: str, what: str) -> int:
        del sql, what
        return 0

    def begin(self, *, consistent_snapshot: bool) -> None:
        self.begun = consistent_snapshot

    def abandon(self) -> None:
        pass


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> type[Answers]:
    answers: type[Answers] = type("Answers", (Answers,), {})
    published = Progress(
        lane=0, topic_id=bytes(16), owner_epoch=1, at=LANE_START, version_us=0, published_offset=9,
        published_time_ms=NOW_MS,
    )  # fmt: skip
    monkeypatch.setattr(snapshot_rows, "Session", answers)
    monkeypatch.setattr(snapshot_rows, "check_schema", lambda _session, _shard: None)
    monkeypatch.setattr(snapshot_rows, "select_rules", lambda _session: {0: {0: Rules(version=1)}})
    monkeypatch.setattr(SnapshotSource, "positions", lambda _source: {0: published})
    return answers


def copied(answers: type[Answers]) -> list[int]:
    del answers
    return SnapshotSource(ADDRESS, "s1")._slices


@pytest.mark.rule("V1")
@pytest.mark.rule("M3")
def test_what_a_sealed_key_has_yet_to_hand_over_is_copied_however_old_it_is(source: type[Answers]) -> None:
    number, window = NOW_MS // SLICE_MS, Rules(version=1).window_ms // SLICE_MS
    everything = list(range(number - 3 * window, number + 1))
    source.slices = (everything, everything)

    assert copied(source)[0] == number - window
    source.sealed_ms = NOW_MS - 2 * Rules(version=1).window_ms
    assert copied(source)[0] == number - 2 * window


@pytest.mark.rule("A7")
def test_a_slice_that_was_made_just_before_the_snapshot_began_is_copied(source: type[Answers]) -> None:
    number = NOW_MS // SLICE_MS
    source.slices = ([number], [number, number + 1])

    assert copied(source) == [number, number + 1]
