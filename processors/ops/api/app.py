"""The read API as an ASGI application: paths, who may ask, and how an answer is sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from processors.lookup.service import ServiceReader
from processors.metrics import API_QUESTIONS
from processors.ops.api import answering, openapi, overseeing
from processors.ops.api.answers import body_of, etag_of, with_typed_amounts
from processors.ops.api.asking import Question
from processors.ops.api.parts import ApiParts
from processors.ops.api.problems import (
    BROKEN,
    MEDIA_TYPE,
    NO_TOKEN,
    NOT_FOUND,
    READ_ONLY,
    TOO_MUCH,
    WRONG_HOST,
    ProblemError,
    problem_as_json,
)
from processors.ops.api.readers import faults_told
from processors.ops.api.sending import HEADERS, send
from processors.ops.api.standing import Observatory
from processors.ops.page.routes import page_routes
from processors.ops.statement_text import statement_as_csv
from processors.telemetry import get_logger

_JSON = "application/json"
_CSV = "text/csv; charset=utf-8"


Answer = Callable[[ServiceReader, Question], Any]
Oversight = Callable[[Observatory, Question], Any]

ANSWERS: dict[str, Answer] = {
    "/v1/accounts": answering.list_accounts,
    "/v1/accounts/{address}/{currency}": answering.get_account,
    "/v1/accounts/{address}/{currency}/statement": answering.get_statement,
    "/v1/transactions/{id}": answering.get_transaction,
    "/v1/lanes": overseeing.list_lanes,
    "/v1/shards": overseeing.list_shards,
    "/v1/rules": overseeing.list_rules,
}
OVERSIGHT: dict[str, Oversight] = {
    "/v1/archive": overseeing.show_archive,
    "/v1/moves": overseeing.list_moves,
    "/v1/findings": overseeing.list_findings,
    "/v1/dead-letters": overseeing.list_letters,
}
STATEMENT_CSV = "/v1/accounts/{address}/{currency}/statement.csv"
DESCRIPTION = "/openapi.json"


def make_app(parts: ApiParts) -> Starlette:
    """Return the application. It asks databases in threads, at most as many at once as there are readers."""
    routes = [_route(path, parts, partial(_read, parts, _json_of(answer))) for path, answer in ANSWERS.items()]
    routes.append(_route(STATEMENT_CSV, parts, partial(_read, parts, _statement_csv)))
    routes += [_route(path, parts, partial(_oversee, parts, answer)) for path, answer in OVERSIGHT.items()]
    routes += page_routes(parts)
    description = body_of(openapi.description())
    routes.append(Route(DESCRIPTION, lambda request: send(request, *description, _JSON), methods=["GET"]))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_OwnNames, names=parts.names)] if parts.names else [],
        exception_handlers={HTTPException: _unknown_path, Exception: _bug},
    )
    app.router.redirect_slashes = False  # a redirect names the host that the caller names, and has no headers of ours
    return app


class _OwnNames:
    """Answers only who asks by a name of ours.

    A page of another site may have a browser ask 127.0.0.1, by having its own name stand for that address (DNS
    rebinding); the browser then takes our answer for the page's own. It still sends the page's name as the host.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = _without_port(Headers(scope=scope).get("host", "")) if scope["type"] == "http" else ""
        app: ASGIApp = self._app
        if scope["type"] == "http" and name not in self._names:
            app = _refusal(ProblemError(WRONG_HOST, f"{name!r:.100} is not one of the names of this API"))
        await app(scope, receive, send)


def _without_port(host: str) -> str:
    """Return the name of a header ``Host``, in lower case.

    >>> _without_port("Localhost:18080"), _without_port("[::1]:18080")
    ('localhost', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".").lower()


Body = tuple[bytes, str, str]
"""What is sent: the bytes, their ETag, their kind."""
Made = Callable[[ServiceReader, Question], Body]


def _json_of(answer: Answer) -> Made:
    return lambda service, asked: (*body_of(with_typed_amounts(answer(service, asked))), _JSON)


def _read(parts: ApiParts, make: Made, asked: Question) -> Body:
    return parts.read(asked, lambda service: make(service, asked))


def _oversee(parts: ApiParts, answer: Oversight, asked: Question) -> Body:
    with faults_told():
        return *body_of(with_typed_amounts(answer(parts.observatory, asked))), _JSON


def _statement_csv(service: ServiceReader, asked: Question) -> Body:
    body = statement_as_csv(*answering.read_whole_statement(service, asked)).encode()
    return body, etag_of(body), _CSV


def _route(path: str, parts: ApiParts, answer_to: Callable[[Question], Body]) -> Route:
    def ask(request: Request) -> Body:
        caller = parts.tokens.caller_of(request.headers.get("authorization"))
        asked = Question(
            caller=caller, words=request.path_params, parameters=dict(request.query_params), limits=parts.limits
        )
        return _small_enough(answer_to(asked), parts.limits.bytes_max)

    async def answer(request: Request) -> Response:
        try:
            body, etag, kind = await run_in_threadpool(ask, request)
        except ProblemError as problem:
            API_QUESTIONS.labels(path=path, code=problem.kind.code).inc()
            return _refusal(problem)
        API_QUESTIONS.labels(path=path, code="OK").inc()
        return send(request, body, etag, kind)

    return Route(path, answer, methods=["GET"])


def _small_enough(made: Body, bytes_max: int) -> Body:
    if len(made[0]) > bytes_max:
        raise ProblemError(
            TOO_MUCH, f"the answer has {len(made[0])} bytes, {bytes_max} at most: ask with a smaller limit"
        )
    return made


def _refusal(problem: ProblemError) -> Response:
    headers = dict(HEADERS)
    if problem.kind is NO_TOKEN:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    body, _ = body_of(problem_as_json(problem.kind, problem.detail))
    return Response(body, status_code=problem.kind.status, media_type=MEDIA_TYPE, headers=headers)


async def _unknown_path(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        refusal = _refusal(ProblemError(READ_ONLY, f"{request.method:.20} is not GET"))
        refusal.headers["Allow"] = "GET, HEAD"  # RFC 9110: a 405 names what there is
        return refusal
    return _refusal(ProblemError(NOT_FOUND, "there is no such path"))


async def _bug(request: Request, error: Exception) -> Response:
    del request
    get_logger(__name__).error("question_broke", fault=type(error).__name__, exc_info=error)
    return _refusal(ProblemError(BROKEN, "a mistake in the API itself"))
