"""The runs of latency: how long a payment waits for its answer, and where on its way."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from processors.ledger.commands import Command
from processors.streams.ends import TopicEnds
from processors.streams.reader import read_range
from processors.streams.topics import COMMANDS_TOPIC, RESULTS_TOPIC
from processors.wire.results import decode_result
from processors.wire.route import ROUTE_HEADER, decode_route
from tests.bench import load
from tests.bench.measure import CpuClock, quantile_ms
from tests.bench.service import RESULTS_PARTITIONS, Service, server_pids, service
from tests.bench.sizes import PARTNERS, Fields, Size, await_results
from tests.servers import Servers

ONE_LANE_RATES = (100, 1_000, 5_000)
RATES = (100, 1_000, 3_000, 5_000)
LANES = 4  # of the default installation
# Before each rate is measured: caches, connections and the group are as in any minute of a day.
WARM_UP_S = 3
_QUANTILES = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
_SAMPLE = re.compile(r'balance_lane_stage_seconds_(sum|count)\{.*stage="(\w+)".*\} (\S+)')


@dataclass(frozen=True, slots=True)
class Answered:
    """A command's way: seconds on the monotonic clock, and the broker's stamp of its result in ms since the epoch."""

    due_s: float
    seen_s: float
    lane: int
    lane_offset: int
    stamped_ms: int

    @property
    def took_s(self) -> float:
        """Return how long it waited for its answer."""
        return self.seen_s - self.due_s


def one_lane(servers: Servers, size: Size) -> Fields:
    """From produce to ``balance.commands`` to the result seen, at fixed rates whatever the service does (open loop)."""
    with service(servers) as made:
        roots = load.roots(PARTNERS, lane=0, lanes=1)
        ingress, results = _ends(made)
        made.start("router", "shard")
        await_results(made, results, ingress.write(load.openings(roots)))
        found = {}
        for rate in ONE_LANE_RATES:
            answered = _open_loop(ingress, results, load.payments(roots, rate * (WARM_UP_S + size.latency_s)), rate)
            made.check()
            found[str(rate)] = _quantiles(answered[rate * WARM_UP_S :])
        results.close()
        return {"latency_ms": found}


def default_installation(servers: Servers, size: Size) -> Fields:
    """The same with four lanes and every process running: how long, where on the way, and what the servers did for it.

    The stages of the way are medians, by the brokers' own stamps. Those within the lane are means, from the worker's
    metrics. The CPU is in percent of a core.
    """
    with service(servers, lanes=LANES) as made:
        of_lanes = [load.roots(PARTNERS // LANES, lane=lane, lanes=LANES) for lane in range(LANES)]
        roots = [root for of_each in zip(*of_lanes, strict=True) for root in of_each]
        ingress, results = _ends(made)
        made.start("router", "shard", "expirer", "sink", "recaller", "remover")
        await_results(made, results, ingress.write(load.openings(roots)))
        latency: Fields = {}
        stages: Fields = {}
        cpu: Fields = {}
        for rate in RATES:
            from_offsets = TopicEnds(made.kafka, made.shard_topic).now()
            before, clock = _lane_stages(made), CpuClock(made.pids() | server_pids(made.settings))
            answered = _open_loop(ingress, results, load.payments(roots, rate * (WARM_UP_S + size.latency_s)), rate)
            clock.stop()
            made.check()
            measured = answered[rate * WARM_UP_S :]
            latency[str(rate)] = _quantiles(measured)
            stages[str(rate)] = _way(made, measured, from_offsets) | _within_the_lane(before, _lane_stages(made))
            cpu[str(rate)] = {name: us // 10_000 for name, us in clock.us_per(WARM_UP_S + size.latency_s).items()}
        results.close()
        return {"installation_latency_ms": latency, "latency_stages_ms": stages, "installation_cpu_percent": cpu}


def _ends(made: Service) -> tuple[load.Ingress, load.Results]:
    ingress = load.Ingress(made.kafka, COMMANDS_TOPIC, linger_ms=0)  # as our own client's
    return ingress, load.Results(made.kafka, RESULTS_TOPIC, RESULTS_PARTITIONS)


def _quantiles(answered: list[Answered]) -> Fields:
    return {name: quantile_ms([each.took_s for each in answered], q) for name, q in _QUANTILES}


def _way(made: Service, answered: list[Answered], from_offsets: dict[int, int]) -> Fields:
    """Return the medians from stamp to stamp; all clocks are this machine's."""
    stamps: dict[tuple[int, int], tuple[int, int]] = {}
    for lane, end in TopicEnds(made.kafka, made.shard_topic).now().items():
        for records in read_range(made.kafka, made.shard_topic, lane, from_offsets[lane], end):
            for record in records:
                route = next((value for name, value in record.headers if name == ROUTE_HEADER), None)
                if route is not None:
                    stamps[lane, record.offset] = decode_route(route).broker_time_ms, record.timestamp_ms
    epoch_ms = (time.time() - time.monotonic()) * 1_000
    ways = []
    for each in answered:
        ingress_ms, lane_ms = stamps[each.lane, each.lane_offset]
        ways.append(
            (
                ingress_ms - each.due_s * 1_000 - epoch_ms,
                lane_ms - ingress_ms,
                each.stamped_ms - lane_ms,
                each.seen_s * 1_000 + epoch_ms - each.stamped_ms,
            )
        )
    names = ("to ingress", "to the lane's topic", "to results", "to the reader")
    return {name: round(median(way), 1) for name, way in zip(names, zip(*ways, strict=True), strict=True)}


def _lane_stages(made: Service) -> dict[str, tuple[float, float]]:
    """Return each stage's seconds and batches so far, over all lanes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{made.health_port('shard')}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    found: dict[str, tuple[float, float]] = {}
    for kind, stage, value in _SAMPLE.findall(page):
        seconds, batches = found.get(stage, (0.0, 0.0))
        found[stage] = (seconds + float(value), batches) if kind == "sum" else (seconds, batches + float(value))
    return found


def _within_the_lane(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> Fields:
    found: Fields = {}
    for stage, (seconds, batches) in after.items():
        seconds_before, batches_before = before[stage]
        count = max(1.0, batches - batches_before)
        found[f"lane {stage}"] = round((seconds - seconds_before) / count * 1_000, 1)
        found["batches"] = int(count)
    return found


def _open_loop(ingress: load.Ingress, results: load.Results, commands: Iterator[Command], rate: int) -> list[Answered]:
    """Send commands at a rate, and return what became of each, in their order.

    Counted from when it was due, so that a sender that is held up hides nothing.
    """
    prepared = list(commands)
    seen: list[tuple[bytes, int, float]] = []
    stopping = threading.Event()
    reader = threading.Thread(target=results.follow, args=(lambda *result: seen.append(result), stopping), daemon=True)
    reader.start()
    began_s = time.monotonic() + 0.1
    due_s = {}
    for number, command in enumerate(prepared):
        due_s[command.command_id] = began_s + number / rate
        time.sleep(max(0.0, due_s[command.command_id] - time.monotonic()))
        ingress.send(command)
    ingress.flush()
    deadline_s = time.monotonic() + 60
    while len(seen) < len(prepared) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    stopping.set()
    reader.join()
    if len(seen) < len(prepared):
        raise TimeoutError(f"{len(seen)} of {len(prepared)} results at {rate} commands a second")
    answered = {}
    for value, stamped_ms, now_s in seen:
        result = decode_result(value)
        answered[result.command_id] = Answered(
            due_s[result.command_id], now_s, result.lane, result.lane_offset, stamped_ms
        )
    return [answered[command.command_id] for command in prepared]
