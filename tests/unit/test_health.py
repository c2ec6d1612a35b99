from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from processors.faults import Misconfigured, Refused, Unavailable
from processors.ops.health import SILENT_MAX_S, HealthServer
from processors.telemetry import Pulse
from processors.troubles import Troubles
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulse(clock: Clock) -> Pulse:
    return Pulse(clock)


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.fixture
def server(pulse: Pulse, troubles: Troubles) -> Iterator[HealthServer]:
    with HealthServer("127.0.0.1", 0, process="router", pulse=pulse, troubles=troubles) as server:
        yield server


def get(server: HealthServer, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://{server.host}:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_process_is_ready_from_its_first_beat_until_it_is_told_to_stop(server: HealthServer, pulse: Pulse) -> None:
    assert get(server, "/readyz")[0] == 503
    pulse.beat()
    assert get(server, "/readyz")[0] == 200
    pulse.stop()
    assert get(server, "/readyz")[0] == 503


def test_a_process_that_is_refused_is_not_ready_and_says_why(
    server: HealthServer, pulse: Pulse, troubles: Troubles
) -> None:
    pulse.beat()
    troubles.met("router", Unavailable("a broker is away"))
    assert get(server, "/readyz")[0] == 200
    troubles.met("router", Refused("GROUP_AUTHORIZATION_FAILED"), subject="group")

    status, body = get(server, "/readyz")

    assert status == 503
    assert [(each["subject"], each["detail"], each["loud"]) for each in json.loads(body)["troubles"]] == [
        ("", "a broker is away", False),
        ("group", "GROUP_AUTHORIZATION_FAILED", True),
    ]
    troubles.over("router", subject="group")
    assert get(server, "/readyz")[0] == 200


def test_a_loop_that_is_silent_for_too_long_is_not_healthy(server: HealthServer, pulse: Pulse, clock: Clock) -> None:
    pulse.beat()
    clock.now_s += SILENT_MAX_S
    assert get(server, "/healthz")[0] == 200
    clock.now_s += 1
    status, body = get(server, "/healthz")
    assert (status, json.loads(body)) == (503, {"process": "router", "alive": False, "silent_s": SILENT_MAX_S + 1})


def test_metrics_are_there_and_other_pages_are_not(server: HealthServer) -> None:
    status, body = get(server, "/metrics")
    assert status == 200
    assert b"# HELP balance_router_records_total" in body
    assert get(server, "/secrets")[0] == 404


def test_a_taken_port_is_named(server: HealthServer) -> None:
    with pytest.raises(Misconfigured, match=f"127.0.0.1:{server.port}: Address already in use; choose another"):
        HealthServer("127.0.0.1", server.port, process="sink")


def test_closing_waits_for_no_round_of_the_thread() -> None:
    took_s = []
    for _ in range(3):  # the fastest: one may be held up by the machine
        server = HealthServer("127.0.0.1", 0, process="router")
        begun_s = time.monotonic()
        server.close()
        took_s.append(time.monotonic() - begun_s)

    assert min(took_s) < 0.2
