"""Puts the read API together, and serves it."""

from __future__ import annotations

import socket
import threading

import uvicorn

from processors.faults import Misconfigured
from processors.ops.api.app import ApiParts, make_app
from processors.ops.api.readers import Readers
from processors.ops.api.tokens import Caller, Scope, TokenRing
from processors.ops.looking_up import read_service
from processors.settings import Settings
from processors.telemetry import PULSE, get_logger

_PULSE_S = 1.0
# A question's headers: tokens are short, and so is everything else that is read here.
_HEADER_BYTES_MAX = 16 * 1024
# Connections that wait to be taken; a few for each thread.
_BACKLOG = 64
_CONNECTIONS_MAX = 256  # one is some 50 KB
_KEEP_ALIVE_S = 30


def run(settings: Settings, stopping: threading.Event) -> int:
    """Serve the read API until ``stopping``, and return 0.

    Raises:
        Misconfigured: Its port is taken, or a certificate cannot be read.
    """
    readers = Readers(lambda: read_service(settings, of_replicas=True), settings.api.questions_max)
    try:
        app = make_app(ApiParts(readers=readers, tokens=token_ring(settings)))
        listening = _listen(settings.api.host, settings.api.port)
        server = uvicorn.Server(_config(settings, app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="api", daemon=True)
        thread.start()
        where = "https" if settings.api.tls_certificate_file else "http"
        host, port = listening.getsockname()[:2]
        get_logger(__name__).info("api_serves", url=f"{where}://{host}:{port}")
        while not stopping.wait(_PULSE_S):
            assert thread.is_alive(), "the server ended by itself"
            PULSE.beat()
        server.should_exit = True
        thread.join()
    finally:
        readers.close()
    return 0


def token_ring(settings: Settings) -> TokenRing:
    """Return the tokens of the settings."""
    return TokenRing(
        {
            token.sha256: Caller(name=name, scope=Scope(token.scope), below=token.below)
            for name, token in settings.api.tokens.items()
        }
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        raise Misconfigured(
            f"the API cannot answer on {host}:{port}: {error.strerror}; choose another api.port"
        ) from error


def _config(settings: Settings, app: object) -> uvicorn.Config:
    certificate, key = settings.api.tls_certificate_file, settings.api.tls_key_file
    return uvicorn.Config(
        app,  # type: ignore[arg-type] # an ASGI application, of another package's type
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        limit_concurrency=_CONNECTIONS_MAX,
        h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
        timeout_graceful_shutdown=settings.api.stop_deadline_ms // 1_000,
        ssl_certfile=str(certificate) if certificate else None,
        ssl_keyfile=str(key) if key else None,
    )
