"""Who asks, and what he may see: tokens with scopes, of which only hashes are kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from processors.ops.api.problems import NO_TOKEN, OUT_OF_SCOPE, ProblemError

# 32 random bytes: nobody guesses one, so a plain hash keeps it as well as a slow one.
TOKEN_BYTES = 32
_BEARER = "bearer "
_BASIC = "basic "


class Scope(StrEnum):
    """What a token is for; each has what those before it have."""

    PARTNER = "partner"  # one address and what is below it
    READ = "read"  # everything that partners see, of all partners
    OPERATE = "operate"  # and what operators see


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. ``below`` is the address that a partner's token is for; empty for the other scopes."""

    name: str
    scope: Scope
    below: str = ""

    def covers(self, address: str) -> bool:
        """Say whether an address is one that the caller may see.

        >>> Caller(name="x", scope=Scope.PARTNER, below="acme").covers("acme:vn")
        True
        >>> Caller(name="x", scope=Scope.PARTNER, below="acme").covers("acme2")
        False
        """
        return self.scope is not Scope.PARTNER or address == self.below or address.startswith(f"{self.below}:")

    def must_cover(self, address: str) -> None:
        """Refuse another's address, whether there is such an account or not.

        Raises:
            ProblemError: It is not the caller's.
        """
        if not self.covers(address):
            raise ProblemError(OUT_OF_SCOPE, f"the token is for {self.below} and what is below it")

    def must_have(self, scope: Scope) -> None:
        """Refuse a caller whose scope is less.

        Raises:
            ProblemError: It is.
        """
        order = list(Scope)
        if order.index(self.scope) < order.index(scope):
            raise ProblemError(OUT_OF_SCOPE, f"the token has the scope {self.scope}; this needs {scope}")


# Who asks from this machine where no token is set: whoever may do that may read the settings, too.
LOCAL = Caller(name="local", scope=Scope.OPERATE)


class TokenRing:
    """The tokens that are known, by their hashes; none: whoever asks is ``LOCAL``."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        """Know some callers, by their token's SHA-256 in hexadecimal digits."""
        self._callers = dict(callers)

    def caller_of(self, authorization: str | None) -> Caller:
        """Return who sends a header ``Authorization``.

        Raises:
            ProblemError: None is sent and one is needed, or it is not known.
        """
        if not self._callers:
            return LOCAL
        caller = self._callers.get(hash_of(_token_of(authorization or "")))
        if caller is None:
            raise ProblemError(NO_TOKEN, "the token is not known")
        return caller


def _token_of(authorization: str) -> str:
    """Return the token of a header ``Authorization``: of ``Bearer``, or the password of ``Basic``, as browsers send it.

    >>> _token_of("Bearer abc"), _token_of("Basic b3BzOmFiYw==")
    ('abc', 'abc')
    """
    if authorization.lower().startswith(_BEARER):
        return authorization[len(_BEARER) :].strip()
    if authorization.lower().startswith(_BASIC):
        try:
            return base64.b64decode(authorization[len(_BASIC) :].strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            pass  # no password that is one is the same as none
    raise ProblemError(NO_TOKEN, "there is no token in the header Authorization, as Bearer or as the password of Basic")


def hash_of(token: str) -> str:
    """Return what is kept of a token: its SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def make_token() -> str:
    """Return a new token, 43 characters."""
    return secrets.token_urlsafe(TOKEN_BYTES)
