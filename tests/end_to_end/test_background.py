"""The service in the background: `balance up --detach`, and `balance down`."""

from __future__ import annotations

import os
import re
import signal
import socket
import urllib.request
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from pathlib import Path

from devtools.stack.probes import is_port_free
from processors.ops.local_service import log_folder, states
from processors.ops.process_kinds import KINDS
from tests.end_to_end.conftest import STOP_DEADLINE_S, balance, start
from tests.servers import Place
from tests.waiting import eventually

NAMES = {"router", "shard-s1", "expirer-s1", "sink", "recaller", "remover-s1", "auditor-s1"}


def supervisor_of(place: Place) -> list[int]:
    """Return the supervisor of a place, if it runs, found by its children's port files on their command lines."""
    folder = str(log_folder(place.settings)).encode()
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if folder in (stat.parent / "cmdline").read_bytes():
                found.add(int(stat.read_text().rpartition(")")[2].split()[1]))
        except OSError:  # ended meanwhile
            continue
    return sorted(found)


def test_the_service_runs_on_in_the_background_until_it_is_told_to_stop(fresh_place: Callable[..., Place]) -> None:
    place = fresh_place()
    said = balance(place, "up", "--detach")
    try:
        assert said.status == 0, said.err
        assert f"every process is ready; logs are in {log_folder(place.settings)}" in said.err
        assert "`balance down` stops them" in said.err

        assert balance(place, "account", "open", "acme", "USD").status == 0
        shown = balance(place, "status", "--json").json["processes"]
        assert {(each["name"], each["condition"]) for each in shown} == {(name, "running") for name in NAMES}
        status = balance(place, "status")
        assert "remover-s1" in status.out
        idle = {"waiting": 0, "members": 1, "fault": ""}  # once the router has committed, which it does now and then
        eventually(lambda: balance(place, "status", "--json").json["router"] == idle, "nothing waits for the router")
        found = balance(place, "status", "--json").json
        assert found["ports"].keys() == NAMES
        with urllib.request.urlopen(f"http://127.0.0.1:{found['ports']['router']}/metrics", timeout=60) as page:
            assert b"balance_router_records_total" in page.read()
        assert str(found["ports"]["sink"]) in status.out

        again = balance(place, "up", "--detach")
        assert (again.status, "the processes run already" in again.err) == (0, True)
        in_front = balance(place, "up")
        assert (in_front.status, "runs already" in in_front.err) == (3, True)
    finally:
        stopped = balance(place, "down")
    assert (stopped.status, stopped.err.strip()) == (0, "stopping the processes")
    assert supervisor_of(place) == []
    assert balance(place, "status", "--json").json["processes"] == []
    assert "no process of the service runs here" in balance(place, "down").err
    assert "none was started on this machine by `balance up`" in balance(place, "status").out
    eventually(lambda: waits_after_a_command(place), "it waits", instead=lambda: balance(place, "status").out)


def waits_after_a_command(place: Place) -> bool:
    """Send a command that no router forwards: a busy machine may need all of its second to connect, and writes none."""
    assert balance(place, "topup", "acme", "1.00", "USD", "--within", "1").status == 3
    said = balance(place, "status")
    assert said.status == 0  # a backlog alone is no fault
    return bool(re.search(r"[1-9]\d* records? of balance\.commands waits?, and no router is there", said.out))


def test_nothing_is_left_running_when_the_supervisor_in_the_background_is_killed(
    fresh_place: Callable[..., Place],
) -> None:
    place = fresh_place()
    assert balance(place, "up", "--detach").status == 0
    (supervisor,) = supervisor_of(place)
    os.kill(supervisor, signal.SIGKILL)

    eventually(lambda: supervisor_of(place) == [], "the supervisor has ended")
    assert balance(place, "status", "--json").json["processes"] == []


def test_a_supervisor_that_ends_at_once_is_told_with_its_last_words(fresh_place: Callable[..., Place]) -> None:
    place = fresh_place()
    folder = log_folder(place.settings)
    folder.mkdir(parents=True)
    with (folder / "local.lock").open("w") as lock:  # as one that has not told its name yet
        flock(lock, LOCK_EX)
        said = balance(place, "up", "--detach")

    assert said.status == 3
    assert "ended" in said.err
    assert "runs already" in said.err


def free_ports(count: int) -> int:
    """Return the first of some ports in a row that are free, below those that the kernel gives to connections."""
    return next(first for first in range(22_000, 31_000, 10) if all(is_port_free(first + n) for n in range(count)))


def test_one_process_that_keeps_failing_is_shown_and_the_others_work(fresh_place: Callable[..., Place]) -> None:
    first = free_ports(len(NAMES))
    place = fresh_place(BALANCE_HEALTH__PORT=str(first))
    with socket.create_server(("127.0.0.1", first + list(KINDS).index("sink"))):
        process = start(place, "up")
        try:
            # It is started some times, with a pause between, before it is said to fail: a busy machine starts slowly.
            eventually(lambda: failing(place) == ["sink"], "the sink fails", 300, instead=lambda: str(failing(place)))
            assert balance(place, "account", "open", "acme", "USD").status == 0
            said = balance(place, "status")
            assert said.status == 3
            assert "sink ended" in said.out
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=STOP_DEADLINE_S)
    assert process.returncode == 3, err
    assert "sink waiting (failing: " in err


def failing(place: Place) -> list[str]:
    return [each.name for each in states(place.settings) if each.failing]
