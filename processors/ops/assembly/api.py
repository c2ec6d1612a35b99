"""Puts the read API together, and serves it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import uvicorn
from starlette.applications import Starlette

from processors.faults import Fault, Misconfigured
from processors.lookup.archived import LaneArchived, lanes_archived
from processors.lookup.service import ServiceReader
from processors.ops import assembly
from processors.ops.api.app import make_app
from processors.ops.api.asking import Limits
from processors.ops.api.connections import PromptLoop, watched
from processors.ops.api.parts import ApiParts
from processors.ops.api.readers import Readers
from processors.ops.api.standing import Observed, ServiceSeen
from processors.ops.api.tokens import Caller, Scope, TokenRing
from processors.ops.dead_letters import letters_page
from processors.ops.looking_up import read_service
from processors.ops.status import read_status
from processors.settings import Settings
from processors.telemetry import PULSE, get_logger

_PULSE_S = 1.0
# A question's headers: tokens are short, and so is everything else that is read here.
_HEADER_BYTES_MAX = 16 * 1024
# Connections that wait to be taken; a few for each thread.
_BACKLOG = 64
_CONNECTIONS_MAX = 256  # one is some 50 KB


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that runs in a thread of its own: where it answers."""

    url: str
    thread: threading.Thread


def run(settings: Settings, stopping: threading.Event) -> int:
    """Serve the read API until ``stopping``, and return 0.

    Raises:
        Misconfigured: Its port is taken, or a certificate cannot be read.
    """
    with opened(settings) as parts, serving(settings, make_app(parts)) as served:
        get_logger(__name__).info("api_serves", url=served.url)
        while not stopping.wait(_PULSE_S):
            assert served.thread.is_alive(), "the server ended by itself"
            PULSE.beat()
    return 0


@contextmanager
def opened(settings: Settings) -> Iterator[ApiParts]:
    """Give what the application is made of, and close it afterwards. Nothing is connected before somebody asks."""
    api = settings.api
    readers = Readers(lambda: read_service(settings, of_replicas=True), api.questions_max)
    looker = read_service(settings, of_replicas=True)
    try:
        yield ApiParts(
            readers=readers,
            observatory=Observed(partial(_look_around, settings, looker), partial(letters_page, settings)),
            tokens=token_ring(settings),
            limits=Limits(count_max=api.count_max, steps_max=api.steps_max, bytes_max=api.answer_bytes_max),
            names=api.own_names,
        )
    finally:
        readers.close()
        looker.close()


def _look_around(settings: Settings, service: ServiceReader) -> ServiceSeen:
    """Return how the service stands now, as far as servers answer."""
    status = read_status(settings)
    waiting = {each.partition: each.waiting for each in status.sink if each.waiting is not None}
    archived: list[LaneArchived] | None = None
    if len(waiting) == len(status.sink):
        try:
            archived = lanes_archived(service, waiting)
        except Fault as fault:
            get_logger(__name__).warning("archive_unknown", fault=type(fault).__name__, detail=str(fault))
    return ServiceSeen(status=status, archived=archived, seen_ms=assembly.clock_ms())


@contextmanager
def serving(settings: Settings, app: Starlette) -> Iterator[Served]:
    """Serve an application while the block runs.

    Raises:
        Misconfigured: Its port is taken, or a certificate cannot be read.
    """
    server = uvicorn.Server(_loaded(_config(settings, app)))
    listening = _listen(settings.api.host, settings.api.port)
    handshake_s = settings.api.question_deadline_ms / 1_000

    def serve() -> None:
        with asyncio.Runner(loop_factory=partial(PromptLoop, handshake_s)) as runner:
            runner.run(server.serve(sockets=[listening]))

    thread = threading.Thread(target=serve, name="api", daemon=True)
    thread.start()
    scheme = "https" if settings.api.tls_certificate_file else "http"
    host, port = listening.getsockname()[:2]
    try:
        yield Served(url=f"{scheme}://{host}:{port}", thread=thread)
    finally:
        server.should_exit = True
        thread.join()


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


def _loaded(config: uvicorn.Config) -> uvicorn.Config:
    try:
        config.load()
    except OSError as error:  # of ssl, too
        raise Misconfigured(f"the API's certificate or key cannot be read: {error}; see api.tls_*") from error
    return config


def _config(settings: Settings, app: object) -> uvicorn.Config:
    certificate, key = settings.api.tls_certificate_file, settings.api.tls_key_file
    return uvicorn.Config(
        app,  # type: ignore[arg-type] # an ASGI application, of another package's type
        # A class is expected; what is called for each connection is enough.
        http=watched(  # type: ignore[arg-type]
            question_s=settings.api.question_deadline_ms / 1_000,
            taking_s=settings.api.taking_deadline_ms / 1_000,
            places=_CONNECTIONS_MAX - 1,  # at so many the server begins to refuse
        ),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # what callers get wrong is theirs to read, and would let them fill the log
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=-(-settings.api.question_deadline_ms // 1_000),
        limit_concurrency=_CONNECTIONS_MAX,
        h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
        timeout_graceful_shutdown=settings.api.stop_deadline_ms // 1_000,
        ssl_certfile=str(certificate) if certificate else None,
        ssl_keyfile=str(key) if key else None,
    )
