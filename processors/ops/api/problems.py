"""What an answer says that is none: RFC 9457, with a code for programs and a sentence of what to do."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from processors.faults import Fault, Misconfigured, Retryable, Unavailable

MEDIA_TYPE = "application/problem+json"
PAGE = "/problems"  # of the API itself: it is there wherever the answer comes from


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemKind:
    """A kind of problem: its status, its code, and what whoever meets it does next."""

    status: HTTPStatus
    code: str
    title: str
    next_step: str

    @property
    def link(self) -> str:
        """Return where it is explained."""
        return f"{PAGE}#{self.code.lower()}"


NO_TOKEN = ProblemKind(
    status=HTTPStatus.UNAUTHORIZED,
    code="NO_TOKEN",
    title="A token is needed",
    next_step="send the header 'Authorization: Bearer TOKEN' with a token that the operators gave you",
)
OUT_OF_SCOPE = ProblemKind(
    status=HTTPStatus.FORBIDDEN,
    code="OUT_OF_SCOPE",
    title="The token does not cover this",
    next_step="ask below the address that the token is for, or have the operators give you one with the scope",
)
NOT_FOUND = ProblemKind(
    status=HTTPStatus.NOT_FOUND,
    code="NOT_FOUND",
    title="There is no such thing",
    next_step="check the address, the currency or the id; /openapi.json has every path",
)
WRONG_QUESTION = ProblemKind(
    status=HTTPStatus.BAD_REQUEST,
    code="WRONG_QUESTION",
    title="The question cannot be read",
    next_step="correct what the detail names, and ask again",
)
TOO_MUCH = ProblemKind(
    status=HTTPStatus.UNPROCESSABLE_ENTITY,
    code="TOO_MUCH",
    title="The answer would be too large",
    next_step="ask for less at a time, as the detail says",
)
WRONG_HOST = ProblemKind(
    status=HTTPStatus.MISDIRECTED_REQUEST,
    code="WRONG_HOST",
    title="That is not our name",
    next_step="ask by the address that the API's log names, or have the operators add the name to api.names",
)
READ_ONLY = ProblemKind(
    status=HTTPStatus.METHOD_NOT_ALLOWED,
    code="READ_ONLY",
    title="Nothing is changed here",
    next_step="send commands to the topic balance.commands, or type them: `balance --help`",
)
NOT_YET = ProblemKind(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="NOT_YET",
    title="That position is not reached yet",
    next_step="ask again in a second, or without min_position for what there is",
)
MOVING = ProblemKind(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="MOVING",
    title="The partner is moving to another shard",
    next_step="ask again in a second; a move ends by itself",
)
SERVER_AWAY = ProblemKind(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="SERVER_AWAY",
    title="A server does not answer",
    next_step="ask again in some seconds; operators see which one with `balance status`",
)
BUSY = ProblemKind(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="BUSY",
    title="Too many questions at once",
    next_step="ask again in a second, and no more than a few at the same time",
)
BROKEN = ProblemKind(
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    code="BROKEN",
    title="The question cannot be answered",
    next_step="tell the operators: the log of the API says why",
)
ALL_KINDS = (
    NO_TOKEN, OUT_OF_SCOPE, NOT_FOUND, WRONG_QUESTION, TOO_MUCH, WRONG_HOST, READ_ONLY, NOT_YET, MOVING, SERVER_AWAY,
    BUSY, BROKEN,
)  # fmt: skip


class ProblemError(Exception):
    """A question that gets a problem for an answer; ``detail`` says which part of it, in a sentence."""

    def __init__(self, kind: ProblemKind, detail: str) -> None:
        """Say what and why."""
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


def problem_as_json(kind: ProblemKind, detail: str) -> dict[str, Any]:
    """Return the members of RFC 9457, and ``code`` and ``next_step`` of ours."""
    return {
        "type": kind.link,
        "title": kind.title,
        "status": int(kind.status),
        "detail": detail,
        "code": kind.code,
        "next_step": kind.next_step,
    }


def problem_of(fault: Fault) -> ProblemError:
    """Return what a fault of a store is to whoever asked; where servers are is not told."""
    if isinstance(fault, Unavailable):
        return ProblemError(SERVER_AWAY, "a database or the archive does not answer")
    if isinstance(fault, Misconfigured):
        return ProblemError(BROKEN, "the API is not set up as the service is")
    if isinstance(fault, Retryable):
        return ProblemError(MOVING, "no shard has these balances at the moment")
    return ProblemError(BROKEN, type(fault).__name__)
