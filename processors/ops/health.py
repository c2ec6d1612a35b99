"""``/healthz``, ``/readyz`` and ``/metrics`` of a process, answered by a thread beside its work."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from processors import metrics, telemetry
from processors.faults import Misconfigured
from processors.telemetry import Pulse
from processors.troubles import TROUBLES, Troubles

# A loop that is silent for longer hangs: the longest thing one waits for is a MySQL lock (5 s, L7), the Kafka
# transaction and the archive's request (10 s each), and each may be tried again once.
SILENT_MAX_S = 60.0
# A probe that does not send its request is dropped, so that probes cannot pile up.
_REQUEST_TIMEOUT_S = 5.0
_JSON = "application/json"


class HealthServer:
    """Answers for one process until it is closed. Port 0 takes a free one; ``port`` tells which."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        process: str,
        silent_max_s: float = SILENT_MAX_S,
        pulse: Pulse = telemetry.PULSE,
        troubles: Troubles = TROUBLES,
    ) -> None:
        """Begin to answer.

        Args:
            host: Address of this machine to answer on.
            port: 0 takes a free one.
            process: Named in the answers.
            silent_max_s: A loop that is silent for longer is said to hang.
            pulse: The process's.
            troubles: The process's; a loud one makes it not ready.

        Raises:
            Misconfigured: The port is taken, or the host is not one of this machine's.
        """
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(process, pulse, silent_max_s, troubles))
        except OSError as error:
            raise Misconfigured(
                f"{process} cannot answer health probes on {host}:{port}: {error.strerror}; choose another health.port"
            ) from error
        self._server.daemon_threads = True
        self.host = host
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        # The thread looks every half second whether it shall end; a socket that is shut down wakes it at once.
        self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


HttpAnswer = tuple[HTTPStatus, str, bytes]


def _handler(process: str, pulse: Pulse, silent_max_s: float, troubles: Troubles) -> type[BaseHTTPRequestHandler]:
    pages: dict[str, Callable[[], HttpAnswer]] = {
        "/healthz": lambda: _healthz(process, pulse, silent_max_s),
        "/readyz": lambda: _readyz(process, pulse, troubles),
        "/metrics": lambda: (HTTPStatus.OK, metrics.METRICS_CONTENT_TYPE, metrics.metrics_page(process)),
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0], _unknown)
            status, kind, body = page()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own name
            """Keep probes out of the log: there is one every few seconds."""

    return Handler


def _healthz(process: str, pulse: Pulse, silent_max_s: float) -> HttpAnswer:
    alive = pulse.silent_s <= silent_max_s
    return _said(alive, process=process, alive=alive, silent_s=round(pulse.silent_s, 1))


def _readyz(process: str, pulse: Pulse, troubles: Troubles) -> HttpAnswer:
    found = troubles.now()
    ready = pulse.ready and not any(each.loud for each in found)
    return _said(ready, process=process, ready=ready, troubles=[asdict(each) for each in found])


def _said(good: bool, **fields: object) -> HttpAnswer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, _JSON, json.dumps(fields).encode() + b"\n"


def _unknown() -> HttpAnswer:
    return HTTPStatus.NOT_FOUND, _JSON, b'{"pages": ["/healthz", "/readyz", "/metrics"]}\n'
