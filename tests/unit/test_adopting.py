"""Whether the lanes of a rebuilt database can go on where it stands, before any server is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from processors.faults import Misconfigured
from processors.ops.assembly import adopting
from processors.ops.assembly.adopting import AdoptionPlan
from processors.recovery.comparing import ComparedBooks, compare_published
from processors.stores.addresses import MysqlAddress
from processors.stores.migrations import ShardRow
from processors.stores.rows import Border, Progress
from processors.streams.topics import TopicAdmin
from processors.wire.positions import GroupPosition, LanePoint

ROW = ShardRow(shard="s1", lanes=1, results_partitions=1, home=True)
TOPIC_ID = bytes(16)


def at(offset: int) -> LanePoint:
    return LanePoint(next_offset=offset, lane_time_ms=1, digest=bytes(32))


class Books:
    """A lane that has borders at 100, 200, 300, and stands at the last."""

    def last_border(self, lane: int, at_most: int) -> Border | None:
        del lane
        below = [each for each in (100, 200, 300) if each <= at_most]
        return Border(at=at(below[-1]), ingress={}) if below else None


class Topic:
    def __init__(self, begins: int) -> None:
        self.begins = begins

    def bounds(self, name: str, partition: int) -> tuple[int, int]:
        del name, partition
        return self.begins, 1_000


@pytest.mark.rule("L4")
@pytest.mark.parametrize(
    ("group", "stored", "needed"),
    [(250, 100, 200), (300, 0, 300), (900, 0, 300), (None, 100, 100), (None, 99, 0), (150, 250, 200)],
    ids=["answers again", "stands at P", "before P", "no group", "no group, nothing stored", "an old commit"],
)
def test_nothing_is_put_live_whose_next_record_the_topic_has_forgotten(
    group: int | None, stored: int, needed: int
) -> None:
    progress = Progress(
        lane=0, topic_id=TOPIC_ID, owner_epoch=1, at=at(300), version_us=0, published_offset=stored,
        published_time_ms=1,
    )  # fmt: skip
    published: Mapping[int, GroupPosition] = (
        {} if group is None else {0: GroupPosition(topic_id=TOPIC_ID, lane=0, at=at(group))}
    )

    first = adopting._first_needed(cast("ComparedBooks", Books()), {0: progress}, published)

    assert first == {0: needed}
    adopting._refuse_forgotten(cast("TopicAdmin", Topic(needed)), ROW, first)
    with pytest.raises(Misconfigured, match=f"lane 0 needs offset {needed}, and the topic begins at {needed + 1}"):
        adopting._refuse_forgotten(cast("TopicAdmin", Topic(needed + 1)), ROW, first)


@pytest.mark.rule("V2")
@pytest.mark.parametrize("of_group", [None, 100, 300, 900], ids=["no offset", "before all borders", "at P", "before P"])
def test_nothing_is_put_live_of_which_nothing_says_that_it_was_published(of_group: int | None) -> None:
    published = {} if of_group is None else {0: GroupPosition(topic_id=TOPIC_ID, lane=0, at=at(of_group))}

    proof = compare_published(cast("ComparedBooks", Restored()), published, from_start=False)

    plan = AdoptionPlan(decided={0: 300}, published={}, ends={0: 300}, proof=proof)
    if of_group in {300, 900}:  # compared, or to be compared by the worker that goes on
        assert not proof.unproven
        return
    with pytest.raises(Misconfigured, match=r"nothing says of lanes \[0\]"):
        adopting.adopt(MysqlAddress(host="127.0.0.1", port=1, user="", database=""), plan)


class Restored:
    """A lane that stands at 300, and has no border before, since a snapshot has none."""

    def positions(self) -> Mapping[int, Progress]:
        progress = Progress(
            lane=0, topic_id=TOPIC_ID, owner_epoch=1, at=at(300), version_us=0, published_offset=0, published_time_ms=1
        )
        return {0: progress}

    def last_border(self, lane: int, at_most: int) -> Border | None:
        del lane
        return Border(at=at(300), ingress={}) if at_most >= 300 else None

    def slices(self) -> list[int]:
        return []
