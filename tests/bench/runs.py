"""The runs: each measures some fields of what is printed, on a service of its own, which it removes again."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain

from processors.ledger.commands import Command
from processors.wire.results import decode_result
from tests.bench import baselines, load
from tests.bench.archive_disk import archive_bytes_per_command
from tests.bench.archive_runs import archived, wide_sink
from tests.bench.latency_runs import WARM_UP_S, default_installation, one_lane
from tests.bench.measure import CpuClock, cpu_s, with_sum
from tests.bench.move_runs import many_ids, pauses
from tests.bench.recovery_runs import recovery
from tests.bench.service import RESULTS_PARTITIONS, Service, server_pids, service
from tests.bench.shard_runs import placed_partners, router, shards_2, transfers, wallets
from tests.bench.sizes import DEADLINE_S, FULL, PARTNERS, Fields, Size, await_results, drain, per_s
from tests.servers import Servers

OTHERS_PER_S = 20_000
WARM_UP_COMMANDS = 100_000


def warm_up(servers: Servers, *, archive: bool) -> None:
    """Measure nothing: servers that were just started compile for their first minutes, at the cost of everybody's CPU.

    Args:
        servers: The brokers are warmed up, and MySQL.
        archive: Cassandra, too, which takes longer: the same results are archived, and then those of as many accounts.
    """
    with service(servers) as made:
        _drain(made, _payments(load.roots(PARTNERS, lane=0, lanes=1), WARM_UP_COMMANDS), {"worker": "shard"})
        if archive:
            made.start("sink")
            made.await_archived(made.journal_ends(), DEADLINE_S)
    if archive:
        wide_sink(servers, replace(FULL, backlog=WARM_UP_COMMANDS))


def hot_partner(servers: Servers, size: Size) -> Fields:
    """One partner, one lane; then its journal's rows as bare INSERTs, and its results through the sink alone."""
    with service(servers) as made:
        roots = load.roots(1, lane=0, lanes=1)
        rate, clock, count = _drain(made, _payments(roots, size.backlog), {"worker": "shard"})
        raw = baselines.raw_insert_rows_per_s(made.mysql, size.backlog // 2)
        made.start("sink")
        ends = made.journal_ends()
        first_s, first, last_s = made.await_archived(ends, DEADLINE_S)
        return {
            "hot_partner_commands_per_s": rate,
            "raw_insert_rows_per_s": raw,
            "sink_rows_per_s": per_s(sum(ends.values()) - first, last_s - first_s),
            "cpu_us_per_command": {"hot_partner": clock.us_per(count)},
        }


def hot_beside_idle(servers: Servers, size: Size) -> Fields:
    """One partner in one of four lanes, which one worker runs: the default installation. The other three are idle."""
    with service(servers, lanes=4) as made:
        payments = _payments(load.roots(1, lane=0, lanes=4), size.backlog)
        rate, clock, count = _drain(made, payments, {"worker": "shard"})
        return {
            "hot_beside_3_idle_lanes_commands_per_s": rate,
            "cpu_us_per_command": {"hot_beside_3_idle_lanes": clock.us_per(count)},
        }


def repetitions(servers: Servers, size: Size) -> Fields:
    """One partner's payments, and then the same payments again, each of which is answered again."""
    with service(servers) as made:
        payments = list(load.payments(load.roots(1, lane=0, lanes=1), size.backlog))
        backlog = _backlog(made)
        opened = chain(load.openings([payments[0].address]), payments)
        _, first_clock, first_count = _drain(made, opened, {"worker": "shard"}, backlog)
        rate, again_clock, again_count = _drain(made, iter(payments), {"worker": "shard"}, backlog)
        return {
            "repetitions_per_s": rate,
            "cpu_us_per_command": {
                "new, before repetitions": first_clock.us_per(first_count),
                "repetitions": again_clock.us_per(again_count),
            },
        }


def partners_1000(servers: Servers, size: Size) -> Fields:
    """A thousand partners, one lane; then the memory of a sink behind all of it, with batches as large as may be."""
    with service(servers) as made:
        roots = load.roots(PARTNERS, lane=0, lanes=1)
        rate, clock, count = _drain(made, _payments(roots, size.backlog), {"worker": "shard"})
        made.start("sink")
        made.await_archived(made.journal_ends(), DEADLINE_S)
        memory_mb = {f"after_{size.backlog}": made.memory_mb()["sink"]}
        return {
            "partners_1000_commands_per_s": rate,
            "cpu_us_per_command": {"partners_1000": clock.us_per(count)},
            "memory_mb": {"sink from a backlog": memory_mb},
        }


def lanes_2(servers: Servers, size: Size) -> Fields:
    """A thousand partners over two lanes, one worker each."""
    with service(servers, lanes=2) as made:
        roots = [root for lane in (0, 1) for root in load.roots(PARTNERS // 2, lane=lane, lanes=2)]
        mixed = [root for pair in zip(roots[: PARTNERS // 2], roots[PARTNERS // 2 :], strict=True) for root in pair]
        workers = {"worker 1": "shard", "worker 2": "shard-2"}
        return {"lanes_2_commands_per_s": _drain(made, _payments(mixed, size.backlog), workers)[0]}


def hierarchy_3(servers: Servers, size: Size) -> Fields:
    """A thousand payers, each three levels deep, all levels checked and taken."""
    with service(servers) as made:
        roots = load.roots(PARTNERS, lane=0, lanes=1)
        accounts = [address for root in roots for address in (root, f"{root}:vn", f"{root}:vn:shop")]
        payers = [f"{root}:vn:shop" for root in roots]
        rate, _, _ = _drain(made, _payments(payers, size.backlog, accounts), {"worker": "shard"})
        return {"hierarchy_3_commands_per_s": rate}


def whole_path(servers: Servers, size: Size) -> Fields:
    """Every process, from a backlog in ``balance.commands`` to the last row in Cassandra."""
    with service(servers) as made:
        roots = load.roots(PARTNERS, lane=0, lanes=1)
        ingress = load.Ingress(made.kafka, "balance.commands")
        results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
        count = ingress.write(chain(load.openings(roots), load.payments(roots, size.whole_path)))
        made.start("router", "shard", "expirer", "sink", "recaller", "remover")
        first = await_results(made, results, 1)
        clock = CpuClock(made.pids() | server_pids(made.settings))
        seen = first.count
        early: dict[str, int] = {}
        for look in (size.whole_path // 5, count):
            seen += await_results(made, results, look - seen).count
            early = early or made.memory_mb()
        results.close()
        _, _, last_s = made.await_archived(made.journal_ends(), DEADLINE_S)
        late, cpu = made.memory_mb(), with_sum(clock.us_per(count - first.count))
        made.stop()
        archive_bytes = archive_bytes_per_command(made, count)
        return {
            "archive_bytes_per_command": {f"{PARTNERS} partners, the whole path": archive_bytes},
            "whole_path_commands_per_s": per_s(count - first.count, last_s - first.last_s),
            "cpu_us_per_command": {"whole_path": cpu},
            "memory_mb": {
                name: {f"after_{size.whole_path // 5}": early[name], f"after_{size.whole_path}": late[name]}
                for name in late
            },
        }


def row_lock(servers: Servers, size: Size) -> Fields:
    """What one would write first."""
    with service(servers) as made:
        return {"row_lock_payments_per_s": baselines.row_lock_payments_per_s(made.mysql, size.row_lock_s)}


def client_beside_others(servers: Servers, size: Size) -> Fields:
    """A client that sends 100 commands a second beside 20,000 results a second of others: its CPU.

    Beside it a fetch's, and that of a program that sends and waits with the driver alone. "Beyond the fetch" is beyond
    one of others' results alone, at another time; ``client_beside_a_fetch`` is beyond one at the same time, which has
    the results of the client's commands to fetch, too.
    """
    with service(servers) as made:
        partners = load.roots(PARTNERS, lane=0, lanes=1)
        results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
        made.start("router", "shard")
        count = load.Ingress(made.kafka, "balance.commands").write(load.openings(partners))
        of_others: list[tuple[str, bytes]] = []
        stopping = threading.Event()
        keeping = threading.Thread(
            target=results.follow, args=(lambda result, *_: of_others.append(_other(result)), stopping)
        )
        keeping.start()
        deadline_s = time.monotonic() + DEADLINE_S
        while len(of_others) < count and time.monotonic() < deadline_s:
            made.check()
            time.sleep(0.1)
        stopping.set()
        keeping.join()
        results.close()
        others = load.Others(made.kafka, RESULTS_PARTITIONS, of_others)
        shares = partial(_shares_of_a_core, made, others, measured_s=size.latency_s)
        found = {mode: shares([mode], OTHERS_PER_S)[mode] for mode in ("fetch", "bare", "client")}
        found |= {"client_without_others": shares(["client"], 0)["client"]}
        found |= {f"{mode}_beyond_the_fetch": found[mode] - found["fetch"] for mode in ("bare", "client")}
        together = shares(["fetch", "client"], OTHERS_PER_S)  # the results of the client's commands are fetched by both
        found |= {"client_beside_a_fetch": together["client"] - together["fetch"]}
        return {"client_percent_of_a_core": {name: round(share, 1) for name, share in found.items()}}


def _keep_other(kept: list[tuple[str, bytes]], value: bytes, _stamped_ms: int, _seen_s: float) -> None:
    kept.append(_other(value))


def _other(value: bytes) -> tuple[str, bytes]:
    """Return a result under the root of another partner than it is about; nobody decodes it."""
    return f"other-{decode_result(value).root}", value


def _shares_of_a_core(
    made: Service, others: load.Others, modes: Sequence[str], rate: int, *, measured_s: int
) -> dict[str, float]:
    """Run programs for a while beside others' results, and return what each took, in percent of a core."""
    stopping = threading.Event()
    writing = threading.Thread(target=others.write, args=(rate, stopping))
    with ExitStack() as ending:
        programs = {mode: ending.enter_context(_program(made, mode)) for mode in modes}
        writing.start()
        time.sleep(WARM_UP_S)
        used_s = {mode: cpu_s(program.pid) for mode, program in programs.items()}
        began_s = time.monotonic()
        time.sleep(measured_s)
        took_s = time.monotonic() - began_s
        shares = {mode: (cpu_s(program.pid) - used_s[mode]) / took_s * 100 for mode, program in programs.items()}
        for mode, program in programs.items():
            _end(mode, program)
        stopping.set()
        writing.join()
    return shares


def _program(made: Service, mode: str) -> subprocess.Popen[bytes]:
    """Start a program; it has begun."""
    servers, prefix = made.kafka.bootstrap_servers, made.kafka.topic_prefix
    words = [sys.executable, "-m", "tests.bench.client_process", mode, servers, prefix]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def _end(mode: str, process: subprocess.Popen[bytes]) -> None:
    """Have a program end; each of its commands was answered."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    if mode != "fetch":
        sent, answered = map(int, process.stdout.readline().split())
        assert sent == answered, f"{answered} of {sent} were answered"


RUNS: dict[Callable[[Servers, Size], Fields], tuple[str, ...]] = {
    hot_partner: (
        "hot_partner_commands_per_s",
        "raw_insert_rows_per_s",
        "sink_rows_per_s",
        "cpu_us_per_command",
    ),
    hot_beside_idle: ("hot_beside_3_idle_lanes_commands_per_s", "cpu_us_per_command"),
    repetitions: ("repetitions_per_s", "cpu_us_per_command"),
    partners_1000: ("partners_1000_commands_per_s", "cpu_us_per_command", "memory_mb"),
    lanes_2: ("lanes_2_commands_per_s",),
    hierarchy_3: ("hierarchy_3_commands_per_s",),
    row_lock: ("row_lock_payments_per_s",),
    one_lane: ("latency_ms",),
    default_installation: ("installation_latency_ms", "latency_stages_ms", "installation_cpu_percent"),
    client_beside_others: ("client_percent_of_a_core",),
    router: ("router_commands_per_s", "cpu_us_per_command", "router_start_s", "memory_mb"),
    placed_partners: ("placed_commands_per_s", "cpu_us_per_command"),
    shards_2: ("shards_2_commands_per_s", "cpu_us_per_command"),
    transfers: ("transfer_per_s",),
    wallets: ("wallets_commands_per_s", "cpu_us_per_command", "memory_mb"),
    pauses: ("move_pause_ms", "beside_a_move_p99_ms"),
    many_ids: ("many_ids_longest_pause_ms", "ids_ahead_per_s"),
    wide_sink: ("sink_wide_rows_per_s", "cpu_us_per_command", "archive_bytes_per_command"),
    archived: ("disk_bytes_per_command", "archive_bytes_per_command", "proof_us_per_row", "archive_read_ms"),
    whole_path: ("whole_path_commands_per_s", "cpu_us_per_command", "memory_mb", "archive_bytes_per_command"),
    recovery: (
        "replay_commands_per_s",
        "live_commands_per_s",
        "snapshot_accounts_per_s",
        "snapshot_rows_per_s",
        "verify_rows_per_s",
        "remover_rows_per_s",
        "recovery_memory_mb",
    ),
}
"""Each run, and the fields it gives; two runs may each give a part of a field."""
OF_THE_ARCHIVE = {hot_partner, partners_1000, wide_sink, archived, whole_path, recovery}
"""The runs in which Cassandra takes part."""


def _drain(
    made: Service,
    commands: Iterator[Command],
    workers: dict[str, str],
    backlog: load.ShardBacklog | None = None,
) -> tuple[int, CpuClock, int]:
    """Write a backlog to the shard's topic, and have workers drain it, as ``drain``."""
    results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
    found = drain(made, results, (backlog or _backlog(made)).write(commands), workers)
    results.close()
    return found


def _backlog(made: Service) -> load.ShardBacklog:
    return load.ShardBacklog(made.kafka, made.shard_topic, made.settings.topics.lanes)


def _payments(payers: list[str], count: int, accounts: list[str] | None = None) -> Iterator[Command]:
    """Yield what opens the accounts, the payers' own unless others are named, then payments."""
    return chain(load.openings(accounts or payers), load.payments(payers, count))
