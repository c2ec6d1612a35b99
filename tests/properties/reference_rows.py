"""What the reference ledger remembers: every change, and what is open."""

from __future__ import annotations

from dataclasses import dataclass

from processors.ledger.commands import Command
from processors.ledger.outcomes import Contra, Outcome, Reason

Key = tuple[str, str]  # address, currency
RootId = tuple[str, bytes]
Objection = tuple[Reason, Key | None]  # why not, and the account that is the cause


@dataclass(frozen=True)
class Again:
    """The answer to a duplicate: the first one's."""

    first: Outcome


class StoppedError(Exception):
    """The lane must stop here (H3)."""


@dataclass
class Change:
    """What was ever done to an account."""

    key: Key
    contra: Contra
    balance: int
    held: int


@dataclass
class OpenHold:
    key: Key
    addresses: list[str]
    remaining: int  # 0: it was released at its expiry, and is only known to have been
    expires_at_ms: int


@dataclass
class Waiting:
    """An open refund."""

    key: Key
    original_id: bytes
    amount: int
    addresses: list[str]


@dataclass
class Known:
    """A command that was decided, for ever: the archive too."""

    command: Command
    outcome: Outcome
    addresses: list[str]


@dataclass
class SentTransfer:
    """A transfer to another tree that has not ended."""

    key: Key
    to_address: str
    amount: int
    addresses: list[str]


def known_amount(known: Known | None) -> int | None:
    return None if known is None else known.outcome.amount_minor
