"""Where a batch of a lane spends its time, told stage by stage."""

from __future__ import annotations

from processors.lane.intake import BatchLimits, Intake
from processors.lane.metrics import stage_clock
from processors.lane.stages import LaneStage, StageClock
from processors.metrics import LANE_STAGE_SECONDS_NAME, means_of, metrics_page
from processors.wire.records import Record


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Told:
    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds: list[tuple[LaneStage, float]] = []
        self.stages = StageClock(lambda stage, seconds: self.seconds.append((stage, seconds)), self.clock)


def record(offset: int) -> Record:
    return Record("shard", 0, offset, 0, 1, True, b"acme", b"", [])


def test_a_batch_is_told_from_stage_to_stage() -> None:
    told = Told()

    told.stages.taken(10, told.clock(), 0.5)
    told.clock.now_s += 2
    told.stages.committed(10)
    told.clock.now_s += 3
    began_s = told.stages.now_s()
    told.clock.now_s += 4
    told.stages.published(10, began_s)

    assert told.seconds == [
        (LaneStage.QUEUED, 0.5),
        (LaneStage.TRANSACTION, 2),
        (LaneStage.UNPUBLISHED, 3),
        (LaneStage.PUBLICATION, 4),
    ]


def test_each_batch_of_a_publication_waited_for_as_long_as_it_did() -> None:
    told = Told()
    for offset in (10, 20, 30):
        told.stages.taken(offset, told.clock(), 0.0)
        told.clock.now_s += 1
        told.stages.committed(offset)
    told.seconds.clear()

    told.stages.published(20, told.stages.now_s())

    assert [seconds for stage, seconds in told.seconds if stage is LaneStage.UNPUBLISHED] == [2, 1]


def test_a_take_that_becomes_two_batches_began_once() -> None:
    told = Told()
    told.stages.taken(20, told.clock(), 0.0)

    for offset in (10, 20):
        told.clock.now_s += 1
        told.stages.committed(offset)

    assert told.seconds[1:] == [(LaneStage.TRANSACTION, 1), (LaneStage.TRANSACTION, 2)]


def test_what_was_under_way_before_an_assignment_is_not_told() -> None:
    told = Told()
    told.stages.taken(10, told.clock(), 0.0)
    told.stages.committed(10)
    told.seconds.clear()

    told.stages.begin()
    told.stages.published(10, told.stages.now_s())

    assert told.seconds == []


def test_the_first_record_of_a_take_says_how_long_it_waited() -> None:
    clock = Clock()
    waiting = Intake(BatchLimits(batch_commands_max=3), lambda: None, clock)
    waits = []

    waiting.offer([record(0), record(1)])
    clock.now_s += 1
    waiting.offer([record(2), record(3)])
    clock.now_s += 1
    taken = waiting.take(0)  # 0 to 2
    waits.append(waiting.waited_s)
    waiting.give_back(taken[1:])
    clock.now_s += 1
    waiting.take(0)  # 1 to 3
    waits.append(waiting.waited_s)

    assert waits == [2, 3]


def test_the_metrics_page_tells_means_by_stage_over_all_lanes() -> None:
    first, second = stage_clock("s-staged", 0), stage_clock("s-staged", 1)
    began_s = first.now_s()
    first.taken(1, began_s, 0.010)
    second.taken(1, began_s, 0.030)
    page = metrics_page("shard-s-staged").decode()
    of_this_test = "\n".join(line for line in page.splitlines() if line.startswith("#") or "s-staged" in line)

    means = means_of(of_this_test + "\n", LANE_STAGE_SECONDS_NAME, "stage")

    assert {stage: round(seconds, 6) for stage, seconds in means.items()} == {LaneStage.QUEUED: 0.02}
