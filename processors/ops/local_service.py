"""Every process of the service on this machine, under one supervisor: started, found again, asked how it does."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from processors.faults import Misconfigured, Unavailable
from processors.metrics import LANE_STAGE_SECONDS_NAME, means_of
from processors.ops.pid_files import find, note
from processors.ops.process_kinds import KINDS, name_of
from processors.ops.supervisor import ChildState, Condition, Program, Supervisor, read_states
from processors.settings import LOOPBACK, Settings
from processors.troubles import Trouble

PROBE_TIMEOUT_S = 2.0


def programs(settings: Settings, *, workers: int = 1) -> list[Program]:
    """Return every process of the service as a program for the supervisor.

    Args:
        settings: Each process reads the same profile; its health port follows ``health.port`` unless that is 0.
        workers: Shard workers of each shard; they share its lanes.
    """
    wanted: list[tuple[str, str, str]] = []  # kind, shard, what tells workers of one shard apart
    for kind, chosen in KINDS.items():
        for shard in settings.shards if chosen.per_shard else ("",):
            wanted += [(kind, shard, f"-{n}" if n else "") for n in range(workers if kind == "shard" else 1)]
    if settings.api.enabled:
        wanted.append(("api", "", ""))
    return [
        _program(settings, kind, shard, suffix, settings.health.port + n if settings.health.port else 0)
        for n, (kind, shard, suffix) in enumerate(wanted)
    ]


def command_line(settings: Settings) -> list[str]:
    """Return how this command line is started again, with the same profile."""
    return [sys.executable, "-m", "processors.ops.cli", "--profile", settings.profile]


def _program(settings: Settings, kind: str, shard: str, suffix: str, health_port: int) -> Program:
    name = name_of(kind, shard) + suffix
    command = [*command_line(settings), kind, "run", "--supervised", str(port_file(settings, name))]
    return Program(
        name=name,
        command=[*command, "--shard", shard] if shard else command,
        environment={
            "BALANCE_ROOT": str(settings.root),
            "BALANCE_INSTANCE": settings.instance + suffix,
            "BALANCE_HEALTH__PORT": str(health_port),
            "BALANCE_LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        },
    )


@contextmanager
def supervised(settings: Settings, *, workers: int = 1) -> Iterator[Supervisor]:
    """Have every process run while the block does; the caller's loop looks at them (``look`` or ``watch``).

    Raises:
        Misconfigured: They run already, from this checkout and under this instance's name.
        Unavailable: At the end: some did not stop in time and were killed; the text names them.
    """
    with _alone(settings):
        supervisor = Supervisor(
            programs(settings, workers=workers), log_folder(settings), state_file=_file(settings, "states")
        )
        try:
            supervisor.start()
            yield supervisor
        finally:
            killed = supervisor.close()
        if killed:
            raise Unavailable(f"killed, since they did not stop in time: {', '.join(killed)}")


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Let one supervisor of an instance run at a time, and have others find it."""
    log_folder(settings).mkdir(parents=True, exist_ok=True)
    with _file(settings, "lock").open("w", encoding="utf-8") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise Misconfigured(
                f"instance {settings.instance} of the service runs already (its logs are in {log_folder(settings)}): "
                "stop it with `balance down`, or set BALANCE_INSTANCE"
            ) from None
        forget_last(settings)
        note(os.getpid(), pid_file(settings))
        try:
            yield
        finally:
            forget_last(settings)


def forget_last(settings: Settings) -> None:
    """Remove what an ended supervisor, which may have been killed, left to be read."""
    left = [pid_file(settings), _file(settings, "states"), *log_folder(settings).glob(f"{settings.instance}.*.port")]
    for file in left:
        file.unlink(missing_ok=True)


def states(settings: Settings) -> list[ChildState]:
    """Return how the processes are that run under a supervisor here; none where there is none."""
    return read_states(_file(settings, "states")) if find(pid_file(settings)) else []


def ports(settings: Settings) -> dict[str, int]:
    """Return at which port each process that runs under a supervisor here answers, by name, once it has noted it."""
    running = [state.name for state in states(settings) if state.condition is Condition.RUNNING]
    found = {name: _noted_port(settings, name) for name in running}
    return {name: port for name, port in found.items() if port is not None}


def _noted_port(settings: Settings, name: str) -> int | None:
    try:
        return int(port_file(settings, name).read_text(encoding="utf-8"))
    except (ValueError, OSError):  # not noted yet
        return None


def troubles(settings: Settings) -> dict[str, list[Trouble]]:
    """Return what goes wrong now in the processes that run under a supervisor here, by their names.

    Asked of each process, since a database or a broker that is away knows nothing of it. One that does not answer has
    none: whether it runs is in ``states``.
    """
    return {state.name: _troubles_of(settings, state.name) for state in states(settings)}


def _troubles_of(settings: Settings, name: str) -> list[Trouble]:
    return [Trouble(**each) for each in ask(settings, name, "readyz").get("troubles", [])]


def stages_ms(settings: Settings) -> dict[str, dict[str, float]]:
    """Return how long each stage of a batch takes in the workers that run under a supervisor here, by their names.

    Means in ms since the worker began, over its lanes; a worker that does not answer, or had no batch yet, has none.
    """
    found = {}
    for name, port in ports(settings).items():
        means = means_of(_page(settings, port, "metrics"), LANE_STAGE_SECONDS_NAME, "stage")
        if means:
            found[name] = {stage: round(seconds * 1_000, 1) for stage, seconds in means.items()}
    return found


def _page(settings: Settings, port: int, page: str) -> str:
    """Return a page of a process that runs here; nothing if it is silent."""
    try:
        with urllib.request.urlopen(f"http://{_host(settings)}:{port}/{page}", timeout=PROBE_TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def _host(settings: Settings) -> str:
    return LOOPBACK if settings.health.host == "0.0.0.0" else settings.health.host  # noqa: S104 - asked, not bound


def ask(settings: Settings, name: str, page: str) -> dict[str, Any]:
    """Return what a process that runs here says on one of its pages, whatever the status; nothing if it is silent."""
    port = _noted_port(settings, name)
    if port is None:
        return {}
    try:
        with urllib.request.urlopen(f"http://{_host(settings)}:{port}/{page}", timeout=PROBE_TIMEOUT_S) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))
    except (ValueError, OSError):  # no answer that is one; not listening
        return {}


def pid_file(settings: Settings) -> Path:
    """Return the file that tells which process the supervisor is."""
    return _file(settings, "pid")


def port_file(settings: Settings, name: str) -> Path:
    """Return the file in which a supervised process notes its health port."""
    return _file(settings, f"{name}.port")


def _file(settings: Settings, what: str) -> Path:
    return log_folder(settings) / f"{settings.instance}.{what}"


def log_folder(settings: Settings) -> Path:
    """Return where the processes' logs are."""
    return settings.stack.directory / "log" / f"{settings.kafka.topic_prefix}processes"
