"""Kafka, MySQL and Cassandra of one checkout, native, below ``.stack``: start them, ask them, stop them.

A second MySQL server runs where a shard of the settings lives on it. The servers outlive the command that starts them.
Everything they write is below the settings' ``stack.directory``.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from devtools.stack.packages import Progress
from devtools.stack.probes import LOOPBACK, is_port_free
from devtools.stack.servers import Layout, Plan, Server, layout, needed, plan
from processors.faults import Fault, Misconfigured, Unavailable
from processors.ops import pid_files
from processors.ops.pid_files import Process
from processors.settings import Settings

READY_POLL_MS = 100
LOG_TAIL_LINES = 8  # of a server that did not start, in the error

__all__ = [
    "Addresses",
    "Server",
    "ServerState",
    "addresses",
    "borrowed",
    "down",
    "kill",
    "logs",
    "needed",
    "pid",
    "start",
    "status",
    "stop",
    "up",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the servers are. ``mysql_socket`` lets root in without a password; for tests that change the server."""

    kafka: str
    mysql_host: str
    mysql_port: int
    mysql_socket: Path
    cassandra_host: str
    cassandra_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """One server: ``pid`` is None where it does not run; ``ready`` whether it answers on ``address``."""

    server: Server
    pid: int | None
    ready: bool
    address: str
    log: Path


def silent(line: str) -> None:
    """Tell nobody."""
    del line


def up(settings: Settings, progress: Progress = silent) -> Addresses:
    """Start what is needed and does not run yet, all at once, and wait until each answers.

    Raises:
        Misconfigured: A port is taken by another program, a prerequisite is missing, or a server runs with other
            settings than these.
        Unavailable: A server did not answer in time, or ended; the text has its last log lines.
    """
    _together(lambda server: start(settings, server, progress), needed(settings))
    return addresses(settings)


def down(settings: Settings, progress: Progress = silent) -> None:
    """Stop all of them. Their data stays."""
    _together(lambda server: stop(settings, server, progress), list(Server))


@contextmanager
def borrowed(settings: Settings, progress: Progress = silent, *, keep: bool = False) -> Iterator[Addresses]:
    """Have all that is needed for a while: start what does not run and, unless ``keep``, stop at the end what was."""
    ours = [server for server in needed(settings) if pid(settings, server) is None]
    try:
        yield up(settings, progress)
    finally:
        if not keep:
            _together(lambda server: stop(settings, server, progress), ours)


def status(settings: Settings) -> list[ServerState]:
    """Return the state of each server that is needed or runs, asked now."""
    used = needed(settings)
    return [_status(settings, server) for server in Server if server in used or pid(settings, server) is not None]


def logs(settings: Settings, server: Server, lines: int = 50) -> list[str]:
    """Return the last ``lines`` lines of a server's log, none if it never ran."""
    file = layout(settings, server).log
    if not file.exists():
        return []
    with file.open(encoding="utf-8", errors="replace") as text:
        return [line.rstrip("\n") for line in deque(text, maxlen=lines)]


def start(settings: Settings, server: Server, progress: Progress = silent) -> None:
    """Start one server, unless it runs, and wait until it answers. Raises as ``up``."""
    place, how = layout(settings, server), plan(settings, server)
    _make_folders(place)
    with _alone(place):
        launch = how.prepare(settings, place, progress)
        made_from = hashlib.sha256("\n".join((*launch.command, launch.configuration)).encode()).hexdigest()
        running = pid_files.find(place.pid_file)
        if running is None:
            _refuse_busy_ports(server, how)
            for name in how.leftovers:
                (place.data / name).unlink(missing_ok=True)
            progress(f"starting {server}")
            began = time.monotonic()
            variables = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TMPDIR": str(place.temporary)}
            pid_files.spawn(
                launch.command, log=place.log, environment=variables, pid_file=place.pid_file, made_from=made_from
            )
            _wait_until_ready(settings, server, how, place)
            progress(f"{server} is ready after {time.monotonic() - began:.1f} s")
        elif running.made_from != made_from:
            raise Misconfigured(f"{server} runs with other settings than now; type: balance stack down")
        else:
            _wait_until_ready(settings, server, how, place)
        if how.settle is not None:
            how.settle()


def stop(settings: Settings, server: Server, progress: Progress = silent) -> None:
    """Stop one server as an operator would: asked, given time, then forced. Does nothing if it does not run."""
    place, how = layout(settings, server), plan(settings, server)
    if not place.pid_file.exists():
        return
    with _alone(place):
        running = _running(place)
        if running is not None:
            progress(f"stopping {server}")
            if not pid_files.end(running, deadline_ms=how.stop_ms):
                progress(f"{server} did not stop within {how.stop_ms} ms and was killed")
        place.pid_file.unlink(missing_ok=True)


def kill(settings: Settings, server: Server) -> None:
    """Kill one server as a power cut would (SIGKILL), and wait until it is gone."""
    place = layout(settings, server)
    running = _running(place)
    if running is not None:
        pid_files.end_now(running)
        place.pid_file.unlink(missing_ok=True)


def pid(settings: Settings, server: Server) -> int | None:
    """Return the process id of a server that we started and that still runs, else None."""
    running = _running(layout(settings, server))
    return None if running is None else running.pid


def addresses(settings: Settings) -> Addresses:
    """Return where the servers are, whether they run or not."""
    stack = settings.stack
    return Addresses(
        kafka=f"{LOOPBACK}:{stack.kafka_port}",
        mysql_host=LOOPBACK,
        mysql_port=stack.mysql_port,
        mysql_socket=layout(settings, Server.MYSQL).data / "mysql.sock",
        cassandra_host=LOOPBACK,
        cassandra_port=stack.cassandra_port,
    )


def _status(settings: Settings, server: Server) -> ServerState:
    place, how = layout(settings, server), plan(settings, server)
    running = _running(place)
    port = next(iter(how.ports.values()))
    return ServerState(
        server=server,
        pid=None if running is None else running.pid,
        ready=running is not None and how.answers(),
        address=f"{LOOPBACK}:{port}",
        log=place.log,
    )


def _running(place: Layout) -> Process | None:
    return pid_files.find(place.pid_file)


def _refuse_busy_ports(server: Server, how: Plan) -> None:
    for setting, port in how.ports.items():
        if not is_port_free(port):
            raise Misconfigured(
                f"{server} cannot start: port {port} of {LOOPBACK} is taken by another program; "
                f"set another one with BALANCE_STACK__{setting.upper()} or stack.{setting} in config/"
            )


def _wait_until_ready(settings: Settings, server: Server, how: Plan, place: Layout) -> None:
    deadline = time.monotonic() + how.ready_ms / 1000
    while not how.answers():
        if _running(place) is None:
            raise Unavailable(f"{server} ended while starting; {_last_words(settings, server)}")
        if time.monotonic() >= deadline:
            raise Unavailable(f"{server} did not answer within {how.ready_ms} ms; {_last_words(settings, server)}")
        time.sleep(READY_POLL_MS / 1000)


def _last_words(settings: Settings, server: Server) -> str:
    return f"the end of {layout(settings, server).log}:\n  " + "\n  ".join(logs(settings, server, LOG_TAIL_LINES))


def _make_folders(place: Layout) -> None:
    for folder in (place.configuration, place.data, place.temporary, place.log.parent, place.pid_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    place.directory.chmod(0o700)  # passwords, and a socket that lets root in


@contextmanager
def _alone(place: Layout) -> Iterator[None]:
    """Let one command at a time start or stop a server of this checkout."""
    with place.pid_file.with_suffix(".lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def _together(act: Callable[[Server], None], servers: Sequence[Server]) -> None:
    """Act on several servers at once; when some fail, all are waited for and every fault is told."""
    with ThreadPoolExecutor(len(Server)) as pool:
        faults = [future.exception() for future in [pool.submit(act, server) for server in servers]]
    found = [fault for fault in faults if fault is not None]
    for bug in (each for each in found if not isinstance(each, Fault)):
        raise bug
    if len(found) == 1:
        raise found[0]
    if found:
        raise Misconfigured("\n".join(str(fault) for fault in found)) from found[0]
