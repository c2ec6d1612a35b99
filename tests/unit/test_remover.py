"""What a remover asks of its shard, however many lanes that has (A6)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from processors.ids import SLICE_MS
from processors.ledger.rules import Rules
from processors.stores.archive_reader import ChangeKey, IndexedPlace
from processors.stores.archive_rows import Covered
from processors.stores.partitions import Room
from processors.stores.rows import JournalRow, Progress
from processors.stores.shard_reader import LanePosition
from processors.stores.shard_upkeep import Finding, LeftKey
from processors.wire.journal_chunk import ChunkRow
from processors.wire.positions import LanePoint
from processors.wire.records import OutRecord
from processors.workers.remover import Remover, RemoverOptions

NOW_MS = 500_000 * SLICE_MS
RULES = Rules(version=1, window_ms=SLICE_MS)


@dataclass(slots=True)
class Shard:
    """A shard's database without any rows, and an archive without any: it notes before when holds are deleted."""

    lanes: int
    sealed: list[int] = field(default_factory=list)
    holds_before_ms: list[int] = field(default_factory=list)

    def lane_positions(self) -> dict[int, LanePosition]:
        at = LanePoint(next_offset=9, leader_epoch=0, lane_time_ms=NOW_MS, digest=bytes(32))
        return {
            lane: LanePosition(
                progress=Progress(
                    lane=lane, topic_id=bytes(16), owner_epoch=1, at=at, version_us=0, published_offset=9,
                    published_time_ms=NOW_MS + lane,
                ),
                stop_code=None, stop_detail="", stopped_at_ms=0,
            )
            for lane in range(self.lanes)
        }  # fmt: skip

    def rules(self) -> dict[int, dict[int, Rules]]:
        return {lane: {0: RULES} for lane in range(self.lanes)}

    def slices_with_any_table(self) -> list[int]:
        return []

    def slice_last_rows(self, number: int, results_partitions: int) -> dict[tuple[int, int], tuple[int, int]]:
        raise NotImplementedError

    def slice_rows(
        self, number: int, lane: int, after: tuple[int, int] = (-1, 0), *, rows_max: int = 0
    ) -> list[JournalRow]:
        raise NotImplementedError

    def make_room(self, *, from_ms: int, to_ms: int) -> Room:
        del from_ms, to_ms
        return Room(made=[], slices=0, lacking=0)

    def drop_slice(self, number: int) -> None:
        raise NotImplementedError

    def delete_old_digests(self, lane: int, *, before_ms: int) -> int:
        del lane, before_ms
        return 0

    def delete_old_refunded(self, *, before_ms: int) -> int:
        del before_ms
        return 0

    def delete_expired_holds(self, lane: int, *, before_ms: int) -> int:
        del lane
        self.holds_before_ms.append(before_ms)
        return 0

    def delete_old_moved_ids(self, *, before_ms: int) -> int:
        del before_ms
        return 0

    def delete_published_parked(self, lane: int) -> int:
        del lane
        return 0

    def sealed_ids_since_ms(self) -> list[int]:
        return self.sealed

    def left_keys(self) -> list[LeftKey]:
        return []

    def delete_left_rows(self, left: LeftKey) -> int:
        raise NotImplementedError

    def oldest_seal_ms(self) -> int | None:
        return None

    def open_transfers(self) -> tuple[int, int | None]:
        return 0, None

    def raise_finding(self, kind: str, subject: str, detail: str, *, now_ms: int) -> None:
        raise NotImplementedError

    def resolve_finding(self, kind: str, subject: str, *, now_ms: int) -> bool:
        del kind, subject, now_ms
        return False

    def findings(self) -> list[Finding]:
        return []

    def coverage(self, incarnation: bytes) -> dict[tuple[int, int], Covered]:
        raise NotImplementedError

    def chunks(
        self, incarnation: bytes, lane: int, from_offset: int, to_offset: int
    ) -> Iterator[tuple[int, list[ChunkRow]]]:
        raise NotImplementedError

    def places_in(self, incarnation: bytes, lane: int, ids: Iterable[bytes]) -> dict[bytes, set[IndexedPlace]]:
        raise NotImplementedError

    def entries_at(self, keys: Iterable[ChangeKey]) -> dict[ChangeKey, set[bytes]]:
        raise NotImplementedError

    def send(self, record: OutRecord) -> None:
        raise NotImplementedError

    def flush(self, deadline_s: float) -> None:
        raise NotImplementedError


@pytest.mark.rule("A6")
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(
    ("sealed", "before_ms"), [([], NOW_MS - SLICE_MS), ([NOW_MS - 3 * SLICE_MS], NOW_MS - 3 * SLICE_MS)]
)
def test_a_shard_of_any_number_of_lanes_is_looked_after_from_where_its_window_begins(
    lanes: int, sealed: list[int], before_ms: int
) -> None:
    shard = Shard(lanes, sealed)
    options = RemoverOptions(shard="s1", lanes=lanes, results_partitions=1, archived_topic="balance.archived")
    remover = Remover(options, shard, shard, shard, shard, stopping=threading.Event())

    assert remover.step(NOW_MS) == []
    assert shard.holds_before_ms == [before_ms] * lanes
