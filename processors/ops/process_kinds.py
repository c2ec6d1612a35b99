"""Which kinds of processes the service consists of, and how one of each is run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from processors.ops.assembly import auditor, expirer, recaller, remover, router, shard, sink
from processors.ops.running import run_process
from processors.settings import Settings

Work = Callable[[Settings, str, threading.Event], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of process.

    ``work`` takes the settings, a shard (empty where it serves all), and the stop event; ``rests_ms`` is how long its
    loop rests on purpose between two looks.
    """

    work: Work
    per_shard: bool
    stop_deadline_ms: Callable[[Settings], int]
    rests_ms: Callable[[Settings], int] = lambda _settings: 0


KINDS: dict[str, Kind] = {
    "router": Kind(
        work=router.run,
        per_shard=False,
        stop_deadline_ms=lambda settings: settings.router.stop_deadline_ms,
    ),
    "shard": Kind(
        work=shard.run,
        per_shard=True,
        stop_deadline_ms=lambda settings: settings.worker.stop_deadline_ms,
    ),
    "expirer": Kind(
        work=expirer.run,
        per_shard=True,
        stop_deadline_ms=lambda settings: settings.worker.stop_deadline_ms,
        rests_ms=lambda settings: settings.expirer.tick_ms,
    ),
    "sink": Kind(
        work=sink.run,
        per_shard=False,
        stop_deadline_ms=lambda settings: settings.sink.stop_deadline_ms,
        rests_ms=lambda settings: settings.sink.batch_wait_ms,
    ),
    "recaller": Kind(
        work=recaller.run,
        per_shard=False,
        stop_deadline_ms=lambda settings: settings.recaller.stop_deadline_ms,
    ),
    "remover": Kind(
        work=remover.run,
        per_shard=True,
        stop_deadline_ms=lambda settings: settings.remover.stop_deadline_ms,
    ),
    "auditor": Kind(
        work=auditor.run,
        per_shard=True,
        stop_deadline_ms=lambda settings: settings.auditor.stop_deadline_ms,
    ),
}


def run(kind: str, settings: Settings, shard: str, *, supervised: Path | None = None) -> int:
    """Run one process until it ends or is told to stop, and return its exit status.

    ``supervised`` is the file in which a supervisor looks for the health port.
    """
    chosen, name = KINDS[kind], name_of(kind, shard)
    settings = settings.changed(process=name)
    return run_process(
        name,
        settings,
        lambda stopping: chosen.work(settings, shard, stopping),
        stop_deadline_ms=chosen.stop_deadline_ms(settings),
        rests_ms=chosen.rests_ms(settings),
        supervised=supervised,
    )


def name_of(kind: str, shard: str) -> str:
    """Return a process's name: ``router``, ``shard-s1``."""
    return f"{kind}-{shard}" if shard else kind
