"""The settings of the read API and its page: where they answer, and whom."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from processors.setting_types import Milliseconds, Section

_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


class TokenSettings(Section):
    """A token of the API; its name is the key under ``api.tokens``. The token itself is nowhere, only its hash."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scope: Literal["partner", "read", "operate"]
    below: str = ""  # of a partner's token: the address that it is for

    @model_validator(mode="after")
    def _is_for_an_address(self) -> Self:
        if (self.scope == "partner") != bool(self.below):
            raise ValueError("below names the address that a token of scope partner is for, and no other has one")
        return self


class ApiSettings(Section):
    """Where the read API answers."""

    enabled: bool = False  # `balance up` runs it, too
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0  # 0: a free one, which the log names
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tokens: dict[str, TokenSettings] = Field(default_factory=dict)
    # By which it may be asked, beside the names of loopback: of a proxy before it, say.
    names: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")], ...] = ()
    questions_max: Annotated[int, Field(ge=1, le=64)] = 4  # asked of databases at once, each over its own connections
    count_max: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000  # accounts: a hundredth of a second on each shard
    # Each may be in another chunk of the archive, of some 80 KB. MySQL is asked for 1,000 at most.
    steps_max: Annotated[int, Field(ge=1, lt=1_000)] = 500
    answer_bytes_max: Annotated[int, Field(ge=65_536, le=268_435_456)] = 16_777_216
    # A person's program sends a question at once; whoever keeps a connection open asks again within this, or connects.
    question_deadline_ms: Milliseconds = 10_000
    taking_deadline_ms: Milliseconds = 60_000  # 16 MiB over 2.5 Mbit/s
    stop_deadline_ms: Milliseconds = 10_000

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("tls_certificate_file and tls_key_file belong together: name both or none")
        if not _is_loopback(self.host) and not (self.tokens and self.tls_certificate_file):
            raise ValueError(
                f"host {self.host} can be reached from other machines: that needs a token (`balance api token`) and "
                "tls_certificate_file with tls_key_file; else leave host at 127.0.0.1"
            )
        return self

    @property
    def own_names(self) -> frozenset[str]:
        """Return by which names it may be asked; none: by any, which tokens and TLS guard."""
        return frozenset({*self.names, *_LOOPBACK_NAMES, self.host} if _is_loopback(self.host) else self.names)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
