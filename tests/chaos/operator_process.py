"""Does long work of an operator, and kills itself after a part of it: ``fill``, ``rearchive``, ``replay``, ``results``.

From inside, since whoever watches it from outside may be late on a busy machine, and find it at its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from processors.ops import addresses
from processors.ops.assembly.filling import fill_archive
from processors.ops.assembly.proving import target_address
from processors.ops.assembly.rearchiving import rearchive
from processors.ops.assembly.replaying import replay_shard
from processors.ops.assembly.republishing import republish
from processors.recovery.replay import ReplayProgress
from processors.recovery.republish import ResultsBorder, ResultsStretch
from processors.settings import load_settings
from processors.streams.topics import TopicAdmin
from tests.chaos.lanes import SHARD
from tests.servers import Place
from tests.waiting import DEADLINE_S


def run_until_it_kills_itself(place: Place, *words: str) -> None:
    """Run one on a place; when this returns, the processes that it started for lanes have ended, too."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos.operator_process", *words],
        env={**os.environ, **place.environment},
        capture_output=True,  # until all that have these pipes are gone
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ran.returncode == -signal.SIGKILL, ran.stdout + ran.stderr


def _fill() -> None:
    """Archive some rows from MySQL, and cover none of them."""
    fill_archive(load_settings(), write=True, on_progress=lambda _shard, _rows: _die())


def _rearchive() -> None:
    """Bring back some rows that the archive lost, from the results topic."""
    everything = ResultsBorder(time_ms=0)
    rearchive(load_settings(), since=everything, until=None, partner=None, write=True, on_progress=lambda *_: _die())


def _replay(dsn: str, lane: str) -> None:
    """Decide a lane's first batch into another database; its process ends with the next that it would tell."""
    settings = load_settings()

    def told(at: ReplayProgress) -> None:
        if at.lane == int(lane):
            _die()

    replay_shard(settings, SHARD, target_address(settings, SHARD, dsn), on_progress=told)


def _results(topic: str) -> None:
    """Copy more results than there are, and not all."""
    settings = load_settings()
    topics = TopicAdmin(addresses.kafka_address(settings))
    had = {each: topics.end(topic, each) for each in range(settings.topics.results_partitions)}

    def told(stretch: ResultsStretch, offset: int) -> None:
        if offset <= had[stretch.partition]:  # these were there
            return
        while topics.end(topic, stretch.partition) == had[stretch.partition]:
            time.sleep(0.01)
        _die()

    everything = ResultsBorder(time_ms=0)
    republish(settings, topic, since=everything, until=None, partner=None, write=True, on_progress=told)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_WORKS: dict[str, Callable[..., None]] = {
    "fill": _fill,
    "rearchive": _rearchive,
    "replay": _replay,
    "results": _results,
}

if __name__ == "__main__":
    _WORKS[sys.argv[1]](*sys.argv[2:])
