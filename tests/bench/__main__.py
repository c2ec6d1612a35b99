"""``make bench``: measures everything in one run, prints a table, writes ``bench-results.json``. Asserts nothing."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from processors.ids import id_text
from processors.ops import assembly
from processors.stores.archive_reader import ArchiveReader
from processors.stores.cassandra import CassandraSession
from processors.streams.topics import shard_topic
from processors.wire.results import decode_result
from tests.bench import load
from tests.bench.baselines import raw_insert_rows_per_s, row_lock_payments_per_s
from tests.bench.measure import CpuClock, memory_mb, quantile_ms
from tests.bench.places import SHARD, Bench, folder, server_pids

RATES = (100, 1_000, 5_000)
LATENCY_S = 20
Figures = dict[str, Any]
console = Console()


def backlog(bench: Bench, addresses: list[str], count: int, *, partners: list[str]) -> tuple[int, Figures]:
    """Have one worker decide a backlog; return results a second, and what that cost."""
    lanes = bench.settings.topics.lanes
    results = load.Results(bench.kafka, assembly.RESULTS_TOPIC, bench.settings.topics.results_partitions)
    writer = load.ShardBacklog(bench.kafka, shard_topic(SHARD), lanes)
    total = writer.write(load.openings(addresses)) + writer.write(load.payments(partners, count))
    with bench.running("shard") as pids:
        clock = CpuClock({"python": pids["shard"], **server_pids(bench.settings)})
        seen = results.await_count(total)
        cost = {"cpu_us_per_command": clock.us_per(total), "memory_mb": memory_mb(pids["shard"])}
    results.close()
    return seen.per_s, cost


def one_lane(place: Path, count: int, figures: Figures) -> None:
    """Hot partner, 1,000 partners, three levels; and the two limits, on the same tables in the same minute."""
    bench = Bench(place, lanes=1)
    hot = load.roots(1, lane=0, lanes=1)
    per_s, cost = backlog(bench, hot, count, partners=hot)
    figures["hot_partner_commands_per_s"] = per_s
    figures.update(cost)
    figures["raw_insert_rows_per_s"] = raw_insert_rows_per_s(bench.mysql)
    figures["row_lock_payments_per_s"] = row_lock_payments_per_s(bench.mysql)
    many = load.roots(1_000, lane=0, lanes=1)
    bench = Bench(place, lanes=1)
    figures["partners_1000_commands_per_s"], _ = backlog(bench, many, count, partners=many)
    deep = [address for root in load.roots(100, lane=0, lanes=1) for address in (root, f"{root}:vn", f"{root}:vn:1")]
    bench = Bench(place, lanes=1)
    figures["hierarchy_3_commands_per_s"], _ = backlog(bench, deep, count, partners=deep[2::3])


def two_lanes(place: Path, count: int, figures: Figures) -> None:
    """1,000 partners over two lanes of one process."""
    bench = Bench(place, lanes=2)
    partners = load.roots(500, lane=0, lanes=2) + load.roots(500, lane=1, lanes=2)
    figures["lanes_2_commands_per_s"], _ = backlog(bench, partners, count, partners=partners)


def whole_path(place: Path, count: int, figures: Figures) -> None:
    """From the ingress to the last row in Cassandra, every process running."""
    bench = Bench(place, lanes=4)
    partners = load.roots(1_000, lane=0, lanes=1)
    ingress = load.Ingress(bench.kafka, assembly.COMMANDS_TOPIC)
    total = ingress.write(load.openings(partners)) + ingress.write(load.payments(partners, count))
    session = CassandraSession(assembly.cassandra_address(bench.settings), keyspace=bench.settings.cassandra.keyspace)
    reader = ArchiveReader(session)
    with bench.running("router", "shard", "sink", "remover") as pids:
        began_s = time.monotonic()
        while _archived(bench, reader) < total and time.monotonic() - began_s < 600:
            time.sleep(0.2)
        elapsed_s = time.monotonic() - began_s
        figures["memory_mb_whole_path"] = {kind: memory_mb(pid) for kind, pid in pids.items()}
    figures["whole_path_commands_per_s"] = int(total / elapsed_s)
    session.close()


def _archived(bench: Bench, reader: ArchiveReader) -> int:
    """Return how many records are covered: each of the backlog's is journalled, and each lane's offsets begin at 0."""
    topic_id = assembly.check_topics(bench.settings).topic_id(shard_topic(SHARD))
    lanes: dict[int, int] = {}
    for (lane, _partition), covered in reader.coverage(topic_id).items():
        lanes[lane] = max(lanes.get(lane, 0), covered.lane_offset + 1)
    return sum(lanes.values())


def sink_alone(place: Path, count: int, figures: Figures) -> None:
    """A backlog of results, and nothing but the sink."""
    bench = Bench(place, lanes=1)
    partners = load.roots(1_000, lane=0, lanes=1)
    backlog(bench, partners, count, partners=partners)
    session = CassandraSession(assembly.cassandra_address(bench.settings), keyspace=bench.settings.cassandra.keyspace)
    reader = ArchiveReader(session)
    with bench.running("sink"):
        while not _archived(bench, reader):
            time.sleep(0.05)
        first, began_s = _archived(bench, reader), time.monotonic()
        while _archived(bench, reader) < count and time.monotonic() - began_s < 600:
            time.sleep(0.1)
        figures["sink_rows_per_s"] = int((_archived(bench, reader) - first) / max(time.monotonic() - began_s, 0.001))
    session.close()


def latency(place: Path, figures: Figures) -> None:
    """From produce to result, through router and worker, at fixed rates."""
    bench = Bench(place, lanes=4)
    partners = load.roots(1_000, lane=0, lanes=1)
    ingress = load.Ingress(bench.kafka, assembly.COMMANDS_TOPIC)
    results = load.Results(bench.kafka, assembly.RESULTS_TOPIC, bench.settings.topics.results_partitions)
    figures["latency_ms"] = {}
    with bench.running("router", "shard"):
        opened = ingress.write(load.openings(partners))
        results.await_count(opened)
        for rate in RATES:
            figures["latency_ms"][str(rate)] = _at_rate(ingress, results, partners, rate)
    results.close()


def _at_rate(ingress: load.Ingress, results: load.Results, partners: list[str], rate: int) -> Figures:
    sent: dict[str, float] = {}
    took: list[float] = []
    stopping = threading.Event()

    def seen(payload: bytes, now_s: float) -> None:
        began_s = sent.pop(id_text(decode_result(payload).command_id), None)
        if began_s is not None:
            took.append(now_s - began_s)

    reader = threading.Thread(target=results.follow, args=(seen, stopping))
    reader.start()
    began_s = time.monotonic()
    for number, command in enumerate(load.payments(partners, rate * LATENCY_S)):
        due_s = began_s + number / rate  # open loop: what waits to be sent counts as waiting
        if (ahead_s := due_s - time.monotonic()) > 0:
            time.sleep(ahead_s)
        sent[id_text(command.command_id)] = due_s
        ingress.send(command)
    ingress.flush()
    ends_s = time.monotonic() + 30
    while sent and time.monotonic() < ends_s:
        time.sleep(0.1)
    stopping.set()
    reader.join()
    return {"p50": quantile_ms(took, 0.5), "p99": quantile_ms(took, 0.99), "p99.9": quantile_ms(took, 0.999)}


def memory(place: Path, figures: Figures) -> None:
    """The worker's memory after 200,000 commands and after a million, of one process."""
    bench = Bench(place, lanes=1)
    partners = load.roots(1_000, lane=0, lanes=1)
    results = load.Results(bench.kafka, assembly.RESULTS_TOPIC, bench.settings.topics.results_partitions)
    writer = load.ShardBacklog(bench.kafka, shard_topic(SHARD), 1)
    figures["memory_mb_by_commands"] = {}
    with bench.running("shard") as pids:
        results.await_count(writer.write(load.openings(partners)))
        for upto in (200_000, 400_000, 600_000, 800_000, 1_000_000):
            results.await_count(writer.write(load.payments(partners, 200_000)))
            figures["memory_mb_by_commands"][str(upto)] = memory_mb(pids["shard"])
    results.close()


def show(figures: Figures) -> None:
    """Print the table, with the goals beside what they are about."""
    table = Table("figure", "value", "goal", title="figures of one run; compare only within it")
    hot, raw = figures.get("hot_partner_commands_per_s"), figures.get("raw_insert_rows_per_s")
    for name, value in figures.items():
        table.add_row(name, json.dumps(value), "")
    if hot and raw:
        many, lock = figures["partners_1000_commands_per_s"], figures["row_lock_payments_per_s"]
        table.add_row("hot partner / raw insert", f"{hot / raw:.2f}", ">= 0.5")
        table.add_row("hot partner / row lock", f"{hot / lock:.1f}", ">= 15")
        table.add_row("1,000 partners / raw insert", f"{many / raw:.2f}", ">= 0.45")
    if "latency_ms" in figures:
        table.add_row("p99 at 1,000 a second", str(figures["latency_ms"]["1000"]["p99"]), "<= 150 ms")
    console.print(table)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the commands, and no million")
    parser.add_argument("--only", help="one part: one_lane, two_lanes, whole_path, sink_alone, latency, memory")
    chosen = parser.parse_args()
    count = 50_000 if chosen.quick else 200_000
    figures: Figures = {}
    parts: dict[str, Callable[[Path], None]] = {
        "one_lane": lambda place: one_lane(place, count, figures),
        "two_lanes": lambda place: two_lanes(place, count, figures),
        "latency": lambda place: latency(place, figures),
        "whole_path": lambda place: whole_path(place, count, figures),
        "sink_alone": lambda place: sink_alone(place, count, figures),
        "memory": lambda place: memory(place, figures),
    }
    if chosen.quick:
        del parts["memory"]
    with folder() as place:
        for name, part in parts.items():
            if chosen.only in (None, name):
                console.print(f"measuring {name}", style="dim")
                part(place)
    show(figures)
    Path("bench-results.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
