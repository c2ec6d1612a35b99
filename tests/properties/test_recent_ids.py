"""What a lane remembers of its recent ids never hides one that was decided, however they come, leave and come back."""

from __future__ import annotations

from random import Random

import pytest

from processors.ids import id_time_ms, make_command_id
from processors.stores.recent_ids import RecentIds

IDS_MAX = 16
SPAN_MS = 60


def an_id(chance: Random, about_ms: int) -> bytes:
    """Return an id of a time that others often share, now and then of long ago or far ahead."""
    far = chance.choice([0] * 18 + [-40 * SPAN_MS, 40 * SPAN_MS])
    time_ms = max(about_ms + far + chance.randrange(-SPAN_MS, SPAN_MS), 0)
    return make_command_id(time_ms, chance.randbytes(chance.choice([1, 10])).ljust(10, b"\x00"))


@pytest.mark.rule("I3")
@pytest.mark.parametrize("seed", range(40))
def test_no_id_that_was_decided_is_taken_for_new(seed: int) -> None:
    chance = Random(seed)
    now_ms, decided = 100 * SPAN_MS, set[bytes]()
    recent, skipped = RecentIds(now_ms - SPAN_MS, (), ids_max=IDS_MAX), 0
    for _ in range(300):
        now_ms += chance.randrange(20)
        batch = [an_id(chance, now_ms) for _ in range(chance.randrange(1, 9))]
        asked = [*batch, *chance.sample(sorted(decided), min(len(decided), 5))]

        may_be = recent.may_be_any([("acme", id_) for id_ in asked])

        assert not [id_ for id_ in asked if id_ in decided and ("acme", id_) not in may_be]
        assert not recent.floor_ms or all(("acme", id_) in may_be for id_ in asked if time_of(id_) < recent.floor_ms)
        skipped += len(set(asked)) - len(may_be)
        decided |= set(batch)
        recent.add(batch)
        if chance.random() < 0.05:  # another owner takes over
            floor_ms = now_ms - SPAN_MS
            recent = RecentIds(floor_ms, [id_ for id_ in decided if time_of(id_) >= floor_ms], ids_max=IDS_MAX)
    assert skipped > 100, "nothing was spared"


def time_of(id_: bytes) -> int:
    return id_time_ms(id_) or 0
