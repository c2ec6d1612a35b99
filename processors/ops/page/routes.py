"""The page's paths: who may ask, what is read, and how a problem looks to people.

Who asks says so by HTTP Basic, with a token as password: the browser keeps it, so there is no session to make, sign,
expire or steal here, and no form that another site could send in somebody's name. Nothing that is asked changes
anything, and no other site can read an answer. Without tokens in the settings nobody is asked, as in the API.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from processors.lookup.service import ServiceReader
from processors.metrics import API_QUESTIONS
from processors.ops.api.answers import etag_of
from processors.ops.api.asking import Question
from processors.ops.api.parts import ApiParts
from processors.ops.api.problems import (
    ALL_KINDS,
    NO_TOKEN,
    PAGE,
    WRONG_QUESTION,
    ProblemError,
    problem_as_json,
)
from processors.ops.api.readers import faults_told
from processors.ops.api.sending import send
from processors.ops.api.standing import Observatory
from processors.ops.api.tokens import Caller, Scope
from processors.ops.command_text import parse_id
from processors.ops.page import views
from processors.ops.page.rendering import CSS, HTML, PAGE_HEADERS, rendered, style

OfMoney = Callable[[ServiceReader, Question], dict[str, Any]]
OfService = Callable[[Observatory, Question], dict[str, Any]]

OF_MONEY: dict[str, tuple[str, OfMoney]] = {
    "/partners": ("partners.html", views.partners),
    "/partners/{address}/{currency}": ("statement.html", views.statement),
    "/transactions/{id}": ("transaction.html", views.transaction),
}
OF_SERVICE: dict[str, tuple[str, OfService]] = {
    "/": ("overview.html", views.overview),
    "/dead-letters": ("dead_letters.html", views.dead_letters),
    "/moves": ("moves.html", views.moves),
}
FIND = "/find"
STYLE = "/page.css"
_FOUND_CHARACTERS_MAX = 200


def page_routes(parts: ApiParts) -> list[Route]:
    """Return the page's paths."""

    def of_money(of: OfMoney) -> Callable[[Question], dict[str, Any]]:
        return lambda asked: parts.read(asked, lambda service: of(service, asked))

    def of_service(of: OfService) -> Callable[[Question], dict[str, Any]]:
        return lambda asked: of(parts.observatory, asked)

    routes = [_route(path, parts, template, of_money(of)) for path, (template, of) in OF_MONEY.items()]
    routes += [_route(path, parts, template, of_service(of)) for path, (template, of) in OF_SERVICE.items()]
    problems = rendered("problems.html", PAGE, None, {"kinds": ALL_KINDS})
    return [
        *routes,
        Route(FIND, lambda request: _find(parts, request), methods=["GET"]),
        Route(STYLE, _fixed(style(), CSS), methods=["GET"]),
        Route(PAGE, _fixed(problems, HTML), methods=["GET"]),
    ]


def _fixed(body: bytes, kind: str) -> Callable[[Request], Response]:
    return lambda request: send(request, body, etag_of(body), kind, PAGE_HEADERS)


def _route(path: str, parts: ApiParts, template: str, view: Callable[[Question], dict[str, Any]]) -> Route:
    def make(request: Request, caller: Caller) -> bytes:
        words, parameters = request.path_params, dict(request.query_params)
        asked = Question(caller=caller, words=words, parameters=parameters, limits=parts.limits)
        with faults_told():
            return rendered(template, request.scope["path"], caller, view(asked))

    async def answer(request: Request) -> Response:
        caller = None
        try:
            caller = parts.tokens.caller_of(request.headers.get("authorization"))
            if path == "/" and caller.scope is Scope.PARTNER:
                return _go_to(f"/partners?below={quote(caller.below)}")
            body = await run_in_threadpool(make, request, caller)
        except ProblemError as problem:
            API_QUESTIONS.labels(path=path, code=problem.kind.code).inc()
            return _problem(request, caller, problem)
        API_QUESTIONS.labels(path=path, code="OK").inc()
        return send(request, body, etag_of(body), HTML, PAGE_HEADERS)

    return Route(path, answer, methods=["GET"])


def _find(parts: ApiParts, request: Request) -> Response:
    """Go to the transaction of an id, else to the partner of an address: a path alone, so to this host."""
    try:
        caller = parts.tokens.caller_of(request.headers.get("authorization"))
    except ProblemError as problem:
        return _problem(request, None, problem)
    text = request.query_params.get("text", "").strip()
    if not text or len(text) > _FOUND_CHARACTERS_MAX:
        return _problem(request, caller, ProblemError(WRONG_QUESTION, "text is neither an address nor an id"))
    try:
        parse_id(text)
    except ValueError:
        return _go_to(f"/partners?below={quote(text, safe='')}")
    return _go_to(f"/transactions/{quote(text, safe='')}")


def _go_to(path: str) -> Response:
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={**PAGE_HEADERS, "Location": path})


def _problem(request: Request, caller: Caller | None, problem: ProblemError) -> Response:
    told = problem_as_json(problem.kind, problem.detail)
    headers = dict(PAGE_HEADERS)
    if problem.kind is NO_TOKEN:
        headers["WWW-Authenticate"] = 'Basic realm="Balance", charset="UTF-8"'
    body = rendered("problem.html", request.scope["path"], caller, {"problem": told})
    return Response(body, status_code=problem.kind.status, media_type=HTML, headers=headers)
