"""How an answer goes out: its headers, and nothing at all where the caller has it already."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

# What is answered is one caller's, and of one moment; a browser must take it for nothing else than it says.
HEADERS = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}


def send(request: Request, body: bytes, etag: str, kind: str, headers: Mapping[str, str] = HEADERS) -> Response:
    """Return an answer, or 304 where ``If-None-Match`` names its ETag."""
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if etag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={**headers, "ETag": etag})
    return Response(body, media_type=kind, headers={**headers, "ETag": etag})
