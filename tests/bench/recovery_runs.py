"""The run of recovery: what brings a shard back and what proves it, as an operator types it, and in how much memory."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any

from processors.ledger.commands import Command, OpenAccount
from tests.bench import load
from tests.bench.baselines import connect
from tests.bench.measure import peak_memory_mb
from tests.bench.service import RESULTS_PARTITIONS, SHARD, Service, service
from tests.bench.sizes import DEADLINE_S, PARTNERS, Fields, Size, drain, per_s
from tests.servers import Servers

LANES = 2
RESTING = 10  # one of so many commands opens an account that nobody uses: a snapshot has it nevertheless
LATER_MS = 86_400_000  # beyond the window
_LOOK_S = 0.05


def recovery(servers: Servers, size: Size) -> Fields:
    """Decide so many commands, and five times as many: snapshot, replay, proof and removal of each, peak memory beside.

    Two lanes with a worker each, a thousand partners, one account in ten commands that rests. Each rate is of a whole
    command, its start included; the replay's has the comparison with the live database in it, too.
    """
    rates: dict[str, dict[str, int]] = defaultdict(dict)
    memory_mb: dict[str, dict[str, int]] = defaultdict(dict)
    for count in size.recovered:
        with service(servers, lanes=LANES) as made:
            found, peaks_mb = _of_one_size(made, count)
        for field, rate in found.items():
            rates[field][f"after_{count}"] = rate
        for command, peak_mb in peaks_mb.items():
            memory_mb[command][f"after_{count}"] = peak_mb
    return {**rates, "recovery_memory_mb": dict(memory_mb)}


def _of_one_size(made: Service, count: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return rates by field, and peak memory in MB by command."""
    results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
    decided = load.ShardBacklog(made.kafka, made.shard_topic, LANES).write(_commands(count))
    live, _, _ = drain(made, results, decided, {"worker 1": "shard", "worker 2": "shard-2"})
    results.close()
    made.start("sink")
    made.await_archived(made.journal_ends(), DEADLINE_S)
    made.stop()
    snapshot, took_s, snapshot_mb = _asked(made, "snapshot", "create", "--shard", SHARD, "--folder", str(made.folder))
    assert snapshot["whole"], snapshot
    target = f"mysql://{made.mysql.host}:{made.mysql.port}/{made.empty_database()}"
    report, replay_s, replay_mb = _asked(made, "replay", "shard", SHARD, "--into", target)
    assert report["equal"], report
    checks, verify_s, verify_mb = _asked(made, "verify", "--shard", SHARD, "--all")
    assert all(check["passed"] for check in checks), checks
    removed_s, remover_mb = _removed(made)
    rates = {
        "live_commands_per_s": live,
        "snapshot_accounts_per_s": per_s(PARTNERS + count // RESTING, took_s),
        "snapshot_rows_per_s": per_s(snapshot["rows"], took_s),
        "replay_commands_per_s": per_s(decided, replay_s),
        "verify_rows_per_s": per_s(decided, verify_s),
        "remover_rows_per_s": per_s(decided, removed_s),
    }
    return rates, {"snapshot": snapshot_mb, "replay": replay_mb, "verify": verify_mb, "remover": remover_mb}


def _commands(count: int) -> Iterator[Command]:
    partners = [root for lane in range(LANES) for root in load.roots(PARTNERS // LANES, lane=lane, lanes=LANES)]
    resting = (
        OpenAccount(command_id=load.new_id(), address=f"resting{number}", currency="USD")
        for number in range(count // RESTING)
    )
    paid = count - count // RESTING - 2 * PARTNERS
    return chain(load.openings(partners), resting, load.payments(partners, paid))


def _asked(made: Service, *words: str) -> tuple[Any, float, int]:
    """Run a command; return what it says in JSON, what it took, and the peak memory of its largest process."""
    done = made.run(*words, "--json")
    return json.loads(done.stdout), done.took_s, done.peak_mb


def _removed(made: Service) -> tuple[float, int]:
    """Have the remover prove and drop every slice; return what that took, its start included, and its peak memory.

    What it waits for otherwise, that each lane publishes after the window, is written by hand.
    """
    connection = connect(made.mysql)
    later_ms = time.time_ns() // 1_000_000 + LATER_MS
    connection.query(f"UPDATE progress SET published_time_ms = {later_ms}, last_time_ms = {later_ms}")
    connection.query("COMMIT")
    began_s = time.monotonic()
    made.start("remover")
    while _has_rows(connection):
        made.check()
        if time.monotonic() - began_s > DEADLINE_S:
            raise TimeoutError(f"the journal has rows after {DEADLINE_S} s")
        time.sleep(_LOOK_S)
    took_s, peak_mb = time.monotonic() - began_s, peak_memory_mb(made.pids()["remover"])
    connection.close()
    made.stop()
    return took_s, peak_mb


def _has_rows(connection: Any) -> bool:
    connection.query("SELECT 1 FROM journal LIMIT 1")
    found = connection.store_result().fetch_row(maxrows=0)
    connection.query("COMMIT")
    return bool(found)
