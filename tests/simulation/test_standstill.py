"""A call that never returns holds a lane's thread for good: the worker's poll thread notices, and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event

import pytest

from processors.lane.lane import LaneParts
from processors.lane.publishing import Publisher
from processors.lane.runner import LaneLimits
from processors.troubles import TROUBLES
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord
from processors.workers.shard import ShardConfig, ShardWorker
from tests.simulation.fakes.consumers import FakeLaneLog
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.test_regressions import TOPIC, Worker
from tests.waiting import eventually

STANDSTILL_S = 0.6
SUBJECT = "progress of s1 lane 0"


class Gate:
    """Holds up whoever comes by, once it is shut, until it is opened."""

    def __init__(self) -> None:
        self._open = Event()
        self.open()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_by(self) -> None:
        assert self._open.wait(60)


class GatedStore(FakeLaneStore):
    gate: Gate

    def finish(self) -> None:
        self.gate.pass_by()
        super().finish()


class GatedLog(FakeLaneLog):
    gate: Gate

    def topic_id(self) -> bytes:
        self.gate.pass_by()
        return super().topic_id()


class GatedPublisher:
    def __init__(self, inner: Publisher, gate: Gate) -> None:
        self._inner, self._gate = inner, gate

    def open(self) -> None:
        self._inner.open()

    def publish(self, records: list[OutRecord], position: GroupPosition) -> None:
        self._gate.pass_by()
        self._inner.publish(records, position)

    def close(self) -> None:
        self._inner.close()


def while_writing(worker: Worker, gate: Gate) -> LaneParts:
    store = GatedStore(worker.database, 0, worker.crash_points)
    store.gate = gate
    return replace(worker.parts, store=store)


def while_publishing(worker: Worker, gate: Gate) -> LaneParts:
    return replace(worker.parts, make_publisher=lambda: GatedPublisher(worker.parts.make_publisher(), gate))


def while_assigning(worker: Worker, gate: Gate) -> LaneParts:
    log = GatedLog(worker.broker, worker.consumer, TOPIC, 0, crash_points=worker.crash_points)
    log.gate = gate
    gate.shut()
    return replace(worker.parts, log=log)


@contextmanager
def running(worker: Worker, parts: LaneParts, read_topic_id: Callable[[], bytes] | None = None) -> Iterator[None]:
    """Run a shard worker with the worker's only lane, until the end of the block."""
    TROUBLES.clear()
    topic_id = worker.broker.topic(TOPIC).topic_id
    limits = LaneLimits(standstill_s=STANDSTILL_S)
    config = ShardConfig(shard="s1", lanes=1, limits=limits, topic_id=topic_id)
    shard = ShardWorker(config, lambda _lane: parts, read_topic_id or (lambda: topic_id))
    worker.on_start = lambda: shard.started(0)
    stopping = Event()
    shard.assigned([0])
    thread = threading.Thread(target=shard.run, args=(worker.consumer, stopping))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def standing_still() -> list[str]:
    return [each.detail for each in TROUBLES.now() if each.subject == SUBJECT and each.loud]


def published(worker: Worker) -> int:
    return worker.broker.group("workers").offsets.get((TOPIC, 0), (0, ""))[0]


@pytest.mark.parametrize(
    ("gated", "where"),
    [(while_writing, "Committer.settle"), (while_publishing, "Intake.take"), (while_assigning, "Lane.assign")],
)
def test_a_lane_whose_thread_or_publication_is_held_for_good_is_told_of_until_it_moves(
    gated: Callable[[Worker, Gate], LaneParts], where: str
) -> None:
    worker, gate = Worker.begin(), Gate()
    with running(worker, gated(worker, gate)):
        if gated is not while_assigning:
            worker.write(count=2)
            eventually(lambda: published(worker) == 2, "the lane runs")
            gate.shut()
        worker.write()

        eventually(standing_still, "it is told")
        assert where in standing_still()[0]
        gate.open()
        eventually(lambda: not standing_still(), "it is over")
        eventually(lambda: published(worker) == worker.broker.log(TOPIC, 0).next_offset, "all is published")


def test_a_lane_that_began_anew_and_one_that_stopped_do_not_stand_still() -> None:
    worker, begun_anew = Worker.begin(), Event()
    other_ids = iter([bytes(16)])  # at the first look at the topic, after a second

    def topic_id() -> bytes:
        for other_id in other_ids:
            begun_anew.set()
            return other_id
        return worker.broker.topic(TOPIC).topic_id

    with running(worker, worker.parts, topic_id):
        worker.write(count=2)
        assert begun_anew.wait(10)
        assert not Event().wait(2 * STANDSTILL_S)
        assert published(worker) == 2
        assert standing_still() == []
        worker.write()
        worker.broker.log(TOPIC, 0).lose(2)
        worker.write(count=2)
        eventually(lambda: worker.database.tables.stops, "it stops at the gap")
        assert not Event().wait(2 * STANDSTILL_S)
        assert standing_still() == []
