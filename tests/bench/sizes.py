"""How much the runs measure, and how they wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.bench import load
from tests.bench.measure import CpuClock
from tests.bench.service import Service, server_pids

PARTNERS = 1_000
DEADLINE_S = 1_200.0
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    backlog: int
    whole_path: int  # memory is looked at after a fifth of it, and at its end
    latency_s: int
    row_lock_s: float
    wallets: int
    moves: int
    ids: int  # of a partner who moves
    recovered: tuple[int, ...]  # commands after which recovery is measured


FULL = Size(
    backlog=200_000,
    whole_path=1_000_000,
    latency_s=20,
    row_lock_s=8.0,
    wallets=1_000_000,
    moves=20,
    ids=1_000_000,
    recovered=(200_000, 1_000_000),
)
QUICK = Size(
    backlog=50_000,
    whole_path=100_000,
    latency_s=5,
    row_lock_s=4.0,
    wallets=50_000,
    moves=6,
    ids=50_000,
    recovered=(50_000, 250_000),
)


def drain(
    made: Service,
    results: load.Results,
    count: int,
    workers: dict[str, str],
    *,
    look: Callable[[], None] = lambda: None,
) -> tuple[int, CpuClock, int]:
    """Start the workers of a backlog that is there, see the last result, and end them.

    Args:
        made: The service.
        results: Read from before the backlog.
        count: How many results are to come.
        workers: The processes' names by those under which they are measured.
        look: Called at the end, before they end.

    Returns:
        Results a second between the first and the last that was seen, what they cost, and how many they were.
    """
    made.start(*workers.values())
    first = await_results(made, results, 1)
    pids = {name: made.pids()[process] for name, process in workers.items()}
    clock = CpuClock(pids | server_pids(made.settings))
    rest = await_results(made, results, count - first.count)
    clock.stop()
    look()
    made.stop()
    return per_s(rest.count, rest.last_s - first.last_s), clock, rest.count


def await_results(made: Service, results: load.Results, count: int) -> load.Seen:
    """Wait for results; where none come the processes' ends say why."""
    try:
        return results.await_count(count, DEADLINE_S, made.check)
    except TimeoutError:
        made.check()
        raise


def per_s(count: int, seconds: float) -> int:
    """Return a rate."""
    return int(count / max(seconds, 1e-9))
