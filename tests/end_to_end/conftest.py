"""A whole service under its supervisor, on names of its own, and the command line as an operator types it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from processors.faults import Misconfigured
from processors.ops import addresses, counts
from processors.ops.cli import main
from processors.ops.probing import refuse_unready_lanes
from processors.settings import load_settings
from tests.servers import Place
from tests.waiting import eventually

STOP_DEADLINE_S = 60.0
NUMBERS = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the one JSON value that was printed."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """Return the JSON values that were printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A service that runs under ``balance up``."""

    place: Place
    process: subprocess.Popen[str]

    def balance(self, *arguments: str) -> Said:
        """Run a command line in this process, with the place's settings."""
        return balance(self.place, *arguments)


def balance(place: Place, *arguments: str) -> Said:
    """Run a command line in this process, with a place's settings."""
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    os.environ.update(place.environment)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            main(arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
    code = end.value.code
    return Said(status=code if isinstance(code, int) else 0, out=out.getvalue(), err=err.getvalue())


def start(place: Place, *arguments: str) -> subprocess.Popen[str]:
    """Start a command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "processors.ops.cli", *arguments],
        env={**os.environ, **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def take_ticks(place: Place, *shards: str) -> bool:
    """Say whether every lane of some shards takes a TICK: a worker that was started needs a while until then."""
    settings = load_settings(environment=place.environment)
    settings = counts.of_directory(settings, addresses.kafka_address(settings))
    try:
        refuse_unready_lanes(settings, {shard: range(settings.lanes_of(shard)) for shard in shards})
    except Misconfigured:
        return False
    return True


def started(place: Place) -> Iterator[Running]:
    """Run a service on a place, from its first answer on; for fixtures."""
    process = start(place, "up")
    service = Running(place=place, process=process)
    try:
        eventually(lambda: service.balance("balance", "nobody", "USD").status == 1, "it answers")
        yield service
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=STOP_DEADLINE_S)


@pytest.fixture(scope="session")
def running(lasting_place: Callable[..., Place]) -> Iterator[Running]:
    """Return the service that most tests of a session share."""
    yield from started(lasting_place(BALANCE_EXPIRER__TICK_MS="1000", BALANCE_REMOVER__INTERVAL_MS="2000"))


@pytest.fixture
def partner(running: Running) -> str:
    """Return a new partner with 100.00 USD at his root and 40.00 below it."""
    root = f"acme-{next(NUMBERS)}"
    for address, amount in ((root, "100.00"), (f"{root}:vn", "40.00")):
        assert running.balance("account", "open", address, "USD").status == 0
        assert running.balance("topup", address, amount, "USD").status == 0
    return root
