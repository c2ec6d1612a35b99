"""Whoever connects to the read API and does not get on is not waited for; real sockets, no database."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from devtools.stack.certificates import server_certificate
from processors.faults import Misconfigured
from processors.ops.assembly.api import serving
from processors.settings import Settings, load_settings

DEADLINE_S = 1.0
# What is looked at twice a second, on a busy machine.
LATEST_S = DEADLINE_S + 5.0
LARGE_BYTES = 32 * 1024 * 1024  # above what sockets buffer
CROWD = 300  # more than there are places
ASK = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


def of_a_second(**api: object) -> Settings:
    deadlines = {"question_deadline_ms": 1_000, "taking_deadline_ms": 1_000}
    return load_settings(environment={}).changed(api={**deadlines, **api})


def small(request: Request) -> Response:
    del request
    return Response(b"here")


def large(request: Request) -> Response:
    del request
    return Response(bytes(LARGE_BYTES))


def slow(request: Request) -> Response:
    del request
    time.sleep(2 * DEADLINE_S)
    return Response(b"late")


@pytest.fixture
def port() -> Iterator[int]:
    app = Starlette(routes=[Route("/small", small), Route("/large", large), Route("/slow", slow)])
    with serving(of_a_second(), app) as served:
        yield urlsplit(served.url).port or 0


def connect(port: int, *sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=LATEST_S)
    for part in sent:
        connection.sendall(part)
    return connection


def trickle(connection: socket.socket, content: bytes) -> None:
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def answer(connection: socket.socket, ends: bytes) -> bytes:
    said = b""
    while not said.endswith(ends) and (part := connection.recv(1_000)):
        said += part
    return said


def is_closed_in_time(connection: socket.socket) -> bool:
    """Read to the end; a connection that stays open raises TimeoutError."""
    began_s = time.monotonic()
    try:
        while connection.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began_s < LATEST_S


@pytest.mark.parametrize("sent", [b"", b"GET /sm", b"GET /small HTTP/1.1\r\nHost: x\r\nX-Long:"], ids=len)
def test_a_connection_that_asks_nothing_is_closed(port: int, sent: bytes) -> None:
    with connect(port, sent) as connection:
        assert is_closed_in_time(connection)


def test_a_question_that_comes_a_byte_at_a_time_is_not_waited_for(port: int) -> None:
    with connect(port) as connection, pytest.raises(ConnectionError):
        trickle(connection, ASK[:-2] % b"small" + b"X: " + b"y" * 1_000)


def test_a_body_that_nobody_asked_for_is_not_waited_for(port: int) -> None:
    head = b"GET /small HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    with connect(port, head) as connection, pytest.raises(ConnectionError):
        trickle(connection, b"y" * 200)


def test_a_connection_may_ask_again_and_then_is_closed(port: int) -> None:
    with connect(port, ASK % b"small") as connection:
        assert answer(connection, b"here").endswith(b"here")
        time.sleep(DEADLINE_S / 2)
        connection.sendall(ASK % b"small")
        assert answer(connection, b"here").endswith(b"here")
        assert is_closed_in_time(connection)


def test_an_answer_that_is_not_taken_is_thrown_away(port: int) -> None:
    with connect(port, ASK % b"large") as connection:
        time.sleep(LATEST_S)
        taken = 0
        while part := connection.recv(65_536):
            taken += len(part)
    assert taken < LARGE_BYTES


def test_an_answer_that_takes_long_to_find_is_waited_for(port: int) -> None:
    with connect(port, ASK % b"slow") as connection:
        assert answer(connection, b"late").endswith(b"late")


def test_who_is_connected_and_asks_nothing_keeps_nobody_out(port: int) -> None:
    asking = connect(port, ASK % b"slow")
    idle = [connect(port) for _ in range(CROWD)]
    try:
        with connect(port, ASK % b"small") as connection:
            assert answer(connection, b"here").startswith(b"HTTP/1.1 200 OK")
        assert answer(asking, b"late").endswith(b"late")  # it was there first, and was asking
    finally:
        for each in (asking, *idle):
            each.close()


def test_a_tls_handshake_is_waited_for_no_longer_than_a_question(tmp_path: Path) -> None:
    certificate = server_certificate(tmp_path, "api")
    settings = of_a_second(tls_certificate_file=certificate, tls_key_file=certificate)
    with serving(settings, Starlette()) as served:
        for begun in (b"", b"\x16\x03\x01"):  # nothing, and what a handshake begins with
            with connect(urlsplit(served.url).port or 0, begun) as connection:
                assert is_closed_in_time(connection)


def test_a_caller_cannot_fill_the_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    for sent in (b"nonsense\r\n\r\n", ASK[:-2] % b"small" + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"):
        with connect(port, sent) as connection:
            assert connection.recv(1_000)

    assert caplog.records == []


def test_a_certificate_that_cannot_be_read_ends_the_start() -> None:
    settings = of_a_second(tls_certificate_file="/nowhere/c.pem", tls_key_file="/nowhere/k.pem")

    with pytest.raises(Misconfigured, match="certificate"), serving(settings, Starlette()):
        pass
