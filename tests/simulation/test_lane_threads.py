"""A lane's real threads on the in-memory servers: what becomes of its last results, and what its metrics say then."""

from __future__ import annotations

import gc
import io
import json
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import cast

import pytest

from processors.faults import Fenced, LaneStopped, Refused, StopCode, UnknownOutcome
from processors.ids import make_command_id
from processors.lane.lane import LaneParts
from processors.lane.publishing import Publisher
from processors.lane.runner import LaneCondition, LaneLimits, LaneRunner
from processors.ledger.commands import GetBalance, SetLaneTime, SetRules
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules
from processors.metrics import REGISTRY
from processors.telemetry import configure_logging
from processors.wire.commands import encode_command
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord, Record
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign, trusted_keys
from processors.workers.shard import ShardConfig, ShardWorker
from tests.simulation.fakes.clock import START_MS
from tests.simulation.test_regressions import HOUR_MS, PLACE, TOPIC, Worker
from tests.simulation.workload import KEYRING
from tests.waiting import eventually


class FailingPublisher:
    """Fails as often as it is told to, then does what the lane's own does; at an event it hangs until that is set."""

    def __init__(self, inner: Publisher, faults: list[Exception | Event]) -> None:
        self._inner, self._faults = inner, faults

    def open(self) -> None:
        self._inner.open()

    def publish(self, records: list[OutRecord], position: GroupPosition) -> None:
        if self._faults:
            fault = self._faults.pop()
            if isinstance(fault, Event):
                fault.wait()
                raise Fenced("another producer took over meanwhile")
            raise fault
        self._inner.publish(records, position)

    def close(self) -> None:
        self._inner.close()


class Process:
    """Runs a worker's only lane in its threads; its poll thread is the test's own."""

    def __init__(self, worker: Worker, *faults: Exception | Event, **limits: float) -> None:
        self.worker = worker
        left = list(faults)
        parts = replace(worker.parts, make_publisher=lambda: FailingPublisher(worker.parts.make_publisher(), left))
        self.runner = LaneRunner(
            "s1",
            0,
            lambda: parts,
            LaneLimits(stopped_look_s=0.05, bug_after_s=1.0, **limits),  # type: ignore[arg-type]
            on_taken=lambda: None,
        )
        worker.on_start = self.runner.intake.clear  # when the lane first starts, nothing waits yet

    def poll_until(self, is_so: Callable[[], object], what: str) -> None:
        def polled() -> object:
            records, _ = self.worker.consumer.poll(100, 0)
            self.runner.intake.offer(records.get(0, []))
            return is_so()

        eventually(polled, what)

    @property
    def published(self) -> int:
        return self.worker.broker.group("workers").offsets.get(PLACE, (0, ""))[0]

    @property
    def stopped_by(self) -> StopCode | None:
        return self.worker.database.tables.stops.get(0, (None, ""))[0]

    def end(self) -> None:
        self.runner.end(drop=True)
        assert self.runner.join(5.0)


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"balance_lane_{name}", {"shard": "s1", "lane": "0", **labels})


def publishing_threads() -> list[Thread]:
    return [thread for thread in enumerate_threads() if thread.name == "publish-0"]


def with_a_gap_at(offset: int) -> Worker:
    worker = Worker.begin()
    worker.write(count=offset + 4)
    worker.broker.log(TOPIC, 0).lose(offset)
    return worker


@pytest.mark.rule("L5")
def test_a_publication_that_never_ends_is_left_behind_and_its_results_are_published_anew() -> None:
    worker, forever = Worker.begin(), Event()
    worker.write(count=3)
    process = Process(worker, forever, publish_step_max_s=0.2, stop_deadline_s=0.2)

    process.poll_until(lambda: process.published == 3, "all is published")

    forever.set()
    process.end()


def test_a_publication_that_ends_long_after_its_lane_was_given_away_is_not_shown() -> None:
    worker, forever = Worker.begin(), Event()
    worker.write(count=3)
    process = Process(worker, forever, stop_deadline_s=0.2)
    process.poll_until(lambda: process.worker.next_offset == 3, "all is decided")
    process.end()

    forever.set()

    eventually(lambda: not publishing_threads(), "the publication has ended")
    assert gauge("published_offset") is None


def test_a_lane_that_has_nothing_to_do_is_shown_as_published_up_to_its_end_from_the_start() -> None:
    worker = Worker.begin()
    worker.write(count=8)
    process = Process(worker)
    process.poll_until(lambda: process.published == 8, "all is published")
    process.end()
    assert gauge("published_offset") is None

    process = Process(worker)

    process.poll_until(lambda: gauge("published_offset") == 8, "it is shown")
    process.end()


@pytest.mark.rule("L2")
@pytest.mark.rule("L5")
def test_what_a_lane_decided_before_it_stopped_is_published_though_a_publication_failed() -> None:
    process = Process(with_a_gap_at(4), UnknownOutcome("the broker went away"))

    process.poll_until(lambda: process.stopped_by is StopCode.LOG_GAP, "the lane stops")

    assert process.published == process.worker.next_offset == 4
    process.end()


def test_a_publication_that_is_refused_for_a_while_is_waited_out_before_the_lane_stops() -> None:
    process = Process(with_a_gap_at(4), *[Refused("no right to write")] * 3)

    process.poll_until(lambda: process.stopped_by, "the lane stops")

    assert process.stopped_by is StopCode.LOG_GAP
    assert process.published == 4
    process.end()


LACKING = KeyRing(signing="k2", keys={**KEYRING.keys, "k2": bytes([7]) * 32})


def announce(worker: Worker, release: int = RULES_RELEASE) -> None:
    """Write rules with a key that no keys file of the worker has, and an override that is signed by it."""
    command = SetRules(
        bytes(16), 2, release, HOUR_MS, 0, HOUR_MS, HOUR_MS, HOUR_MS, RESULT_VERSION, keys=trusted_keys(LACKING)
    )
    worker.write(encode_command(command))
    override = encode_command(SetLaneTime(bytes(16), 1 << 40, START_MS, 1 << 41))
    worker.broker.write(OutRecord(TOPIC, 0, None, override, [(SIGNATURE_HEADER, sign(LACKING, None, override))]))


@pytest.mark.rule("L11")
@pytest.mark.parametrize(
    ("release", "code"), [(RULES_RELEASE, StopCode.KEY_MISSING), (RULES_RELEASE + 1, StopCode.UNKNOWN_VERSION)]
)
def test_what_is_being_committed_is_published_before_a_look_ahead_stops_the_lane(release: int, code: StopCode) -> None:
    worker = Worker.begin()
    worker.database.rules = Rules(version=1, keys=trusted_keys(KEYRING), registry_ids="")
    process = Process(worker, batch_commands_max=3)
    process.poll_until(lambda: process.runner.condition is LaneCondition.RUNNING, "the lane runs")
    worker.write(count=3)
    worker.clock.advance(2 * worker.parts.context.clock_ahead_max_ms)
    worker.write()  # so much later that the log is read to its end once more before it
    announce(worker, release)

    process.poll_until(lambda: process.stopped_by is code, "the lane stops")

    assert process.published == process.worker.next_offset == 3
    process.end()


@pytest.mark.rule("L11")
def test_an_exception_while_deciding_is_logged_once_with_its_own_traceback_and_stops_the_lane() -> None:
    def no_clock() -> int:
        raise KeyError("clock")

    lines = io.StringIO()
    configure_logging("shard-s1", stream=lines)
    worker = Worker.begin()
    worker.write(count=4)
    worker.parts = replace(worker.parts, clock_ms=no_clock)
    process = Process(worker)

    process.poll_until(lambda: process.stopped_by is StopCode.BUG, "the lane stops")
    process.poll_until(lambda: "lane_stopped" in lines.getvalue(), "it says so")
    process.end()

    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    (trace,) = [line["exception"] for line in told if line["event"] == "lane_bug"]
    assert trace.endswith("in no_clock\n    raise KeyError(\"clock\")\nKeyError: 'clock'\n")
    assert [line["event"] for line in told if line["level"] == "error"] == ["lane_bug", "lane_stopped"]


def test_a_lane_that_was_given_away_is_not_shown_as_stopped_any_more() -> None:
    process = Process(with_a_gap_at(4))
    process.poll_until(lambda: gauge("stopped", code="LOG_GAP") == 1, "the lane stops")

    process.end()

    assert gauge("stopped", code="LOG_GAP") == 0
    assert gauge("next_offset") is None
    assert gauge("published_offset") is None


def test_what_waits_for_a_partner_who_is_to_move_here_is_shown_until_the_lane_is_given_away() -> None:
    worker = Worker.begin()
    for number in range(3):
        question = GetBalance(
            command_id=make_command_id(START_MS, bytes([number] * 10)), address="acme", currency="USD"
        )
        worker.write_command(question, number, placement_key="acme", generation=1)
    process = Process(worker)
    process.poll_until(lambda: gauge("parked_records") == 3, "they are shown")

    process.end()

    assert gauge("parked_records") is None


def test_a_lane_that_is_stopped_by_something_else_is_shown_as_stopped_by_that_alone() -> None:
    process = Process(with_a_gap_at(4))
    process.poll_until(lambda: gauge("stopped", code="LOG_GAP") == 1, "the lane stops")
    process.worker.database.tables.stops[0] = (StopCode.BUG, "by the next release")

    process.poll_until(lambda: gauge("stopped", code="BUG") == 1, "the lane stops otherwise")

    assert gauge("stopped", code="LOG_GAP") == 0
    process.end()


def test_an_idle_lane_is_shown_as_published_up_to_its_end() -> None:
    worker = Worker.begin()
    worker.write(count=8)
    process = Process(worker)

    process.poll_until(lambda: process.published == 8, "all is published")

    eventually(lambda: gauge("published_offset") == gauge("next_offset") == 8, "the gauges say so")
    process.end()


@pytest.mark.rule("L10")
def test_a_redelivery_of_the_routers_is_counted_and_leaves_nothing_else() -> None:
    worker = Worker.begin()
    for _ in range(3):  # the same ingress offset
        worker.write_command(
            GetBalance(command_id=make_command_id(START_MS, bytes(10)), address="a", currency="USD"), 0
        )
    silences = gauge("silences_total") or 0.0
    process = Process(worker)

    process.poll_until(lambda: process.published == 3, "all is published")

    process.end()
    assert gauge("silences_total") == silences + 2
    assert len([entry for entry in worker.broker.log("balance.results", 0).entries if entry.value]) == 1


class Leftover:
    """Something in a cycle, as a fault's traceback makes them."""

    def __init__(self) -> None:
        self.itself = self


class RevokingConsumer:
    """Takes the lane away with the first poll, and ends the process once what was left behind is gone."""

    def __init__(self, revoke: Callable[[], None], stopping: Event) -> None:
        self._revoke, self._stopping, self._ends_s = revoke, stopping, time.monotonic() + 10.0
        self.left: weakref.ref[Leftover] | None = None

    def poll(self, _max_records: int, _timeout_s: float) -> tuple[dict[int, list[Record]], dict[int, LaneStopped]]:
        if self.left is None:
            self.left = weakref.ref(Leftover())
            self._revoke()
        elif self.left() is None or time.monotonic() > self._ends_s:
            self._stopping.set()
        return {}, {}

    def pause(self, lane: int) -> None:
        raise AssertionError(lane)

    resume = pause

    def close(self) -> None:
        raise AssertionError


def test_what_a_revoked_lane_leaves_behind_is_freed_though_it_lies_in_cycles() -> None:
    config = ShardConfig(shard="s1", lanes=1, limits=LaneLimits(), topic_id=bytes(16))
    shard = ShardWorker(config, lambda _: cast("LaneParts", None), lambda: bytes(16))
    stopping = Event()
    consumer = RevokingConsumer(lambda: shard.revoked([0]), stopping)
    gc.disable()  # what Python does by itself may come hours later
    try:
        shard.run(consumer, stopping)
    finally:
        gc.enable()
    assert consumer.left is not None
    assert consumer.left() is None
