"""How the API writes what was found: amounts as text, never as a number that a program may round."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from processors.ops.api.problems import WRONG_QUESTION, ProblemError
from processors.ops.money import show_money

_MINOR = "_minor"


def with_typed_amounts(value: Any, currency: str = "") -> Any:
    """Return a value as the API writes it: minor units as a text of digits, and beside it as people write it.

    Args:
        value: Objects, lists, and what is in them; an amount's name ends in ``_minor``.
        currency: Of the amounts, unless an object around them names one itself.

    >>> with_typed_amounts([{"currency": "USD", "held_minor": 1250}])
    [{'currency': 'USD', 'held_minor': '1250', 'held': '12.50 USD'}]
    """
    if isinstance(value, list | tuple):
        return [with_typed_amounts(each, currency) for each in value]
    if not isinstance(value, dict):
        return value
    currency = value.get("currency") or currency
    told: dict[str, Any] = {}
    for name, each in value.items():
        if isinstance(each, int) and name.endswith(_MINOR):
            told[name] = str(each)
            if currency:
                told[name.removesuffix(_MINOR)] = show_money(each, currency)
        else:
            told[name] = each if name == "metadata" else with_typed_amounts(each, currency)
    return told


def body_of(value: Any) -> tuple[bytes, str]:
    """Return a value's JSON and its ETag."""
    body = json.dumps(value, ensure_ascii=False).encode() + b"\n"
    return body, etag_of(body)


def etag_of(body: bytes) -> str:
    """Return what tells one answer from another: a strong ETag (RFC 9110)."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def cursor_of(text: str) -> str:
    """Return where a list goes on, as callers send it back; what is in it is not for them.

    >>> text_of_cursor(cursor_of("acme:vn"))
    'acme:vn'
    """
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def text_of_cursor(cursor: str) -> str:
    """Return what a cursor stands for.

    Raises:
        ProblemError: It is none of ours.
    """
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise ProblemError(WRONG_QUESTION, "cursor is none that an answer has had as its next_cursor") from None
