"""What a question says: its path's words and its parameters, read and checked before anything is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from processors.ledger.addresses import well_formed
from processors.lookup.statements import ROWS_DEFAULT, ROWS_MAX, Part
from processors.lookup.times import zone_of
from processors.ops.api.answers import text_of_cursor
from processors.ops.api.problems import WRONG_QUESTION, ProblemError
from processors.ops.api.tokens import Caller
from processors.ops.command_text import parse_id
from processors.ops.durations import parse_border
from processors.ops.money import known_currency
from processors.ops.statement_text import StatementHead, period_of

T = TypeVar("T")

ACCOUNTS_DEFAULT = 100
ACCOUNTS_MAX = 1_000
ROWS_OF_LIST_DEFAULT = 100
ROWS_OF_LIST_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one question may cost.

    ``count_max`` accounts are counted on each shard; a transaction has ``steps_max`` steps at most, and an answer
    ``bytes_max`` bytes.
    """

    count_max: int
    steps_max: int
    bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A record of a lane, as a result names it: its ``shard``, ``lane`` and ``lane_offset``."""

    shard: str
    lane: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who asks what: the words of the path, and the parameters behind it."""

    caller: Caller
    words: Mapping[str, str]
    parameters: Mapping[str, str]
    limits: Limits

    @property
    def address(self) -> str:
        """Return the path's address, which is the caller's to see; raises ``ProblemError``."""
        address = _read("address", self.words["address"], well_formed)
        self.caller.must_cover(address)
        return address

    @property
    def currency(self) -> str:
        """Return the path's currency; raises ``ProblemError``."""
        return _read("currency", self.words["currency"], known_currency)

    @property
    def id(self) -> bytes:
        """Return the path's id, 16 bytes; raises ``ProblemError``."""
        return _read("id", self.words["id"], parse_id)

    @property
    def below(self) -> str | None:
        """Return below which address accounts are listed; None: everywhere; raises ``ProblemError``."""
        text = self.parameters.get("below") or self.caller.below
        if not text:
            return None
        address = _read("below", text, well_formed)
        self.caller.must_cover(address)
        return address

    @property
    def after(self) -> str:
        """Return after which address a list goes on; empty: from its beginning; raises ``ProblemError``."""
        cursor = self.parameters.get("cursor")
        return _read("cursor", text_of_cursor(cursor), well_formed) if cursor else ""

    @property
    def accounts_max(self) -> int:
        """Return how many accounts are wanted; raises ``ProblemError``."""
        return self._limit(ACCOUNTS_DEFAULT, ACCOUNTS_MAX)

    @property
    def head(self) -> StatementHead:
        """Return whose statement of which period is wanted; raises ``ProblemError``."""
        zone = _read("tz", self.parameters.get("tz", "UTC"), zone_of)
        borders = [
            _read(name, text, parse_border) if (text := self.parameters.get(name)) else None
            for name in ("from", "until")
        ]
        try:
            period = period_of(borders[0], borders[1], zone)
        except ValueError as error:
            raise ProblemError(WRONG_QUESTION, str(error)) from None
        return StatementHead(address=self.address, currency=self.currency, period=period, zone=zone)

    @property
    def part(self) -> Part:
        """Return which part of a statement is wanted; raises ``ProblemError``."""
        return self._part(ROWS_DEFAULT)

    @property
    def whole_part(self) -> Part:
        """Return the same where all of the period is wanted: as much as there may be; raises ``ProblemError``."""
        return self._part(ROWS_MAX)

    def _part(self, rows_default: int) -> Part:
        cursor = self.parameters.get("cursor")
        after = _read("cursor", text_of_cursor(cursor), _count) if cursor else 0
        return Part(after=after, rows_max=self._limit(rows_default, ROWS_MAX))

    @property
    def min_position(self) -> Position | None:
        """Return which record must have been decided in what is answered; None: none; raises ``ProblemError``."""
        text = self.parameters.get("min_position")
        return _read("min_position", text, _position) if text else None

    @property
    def row_after(self) -> str:
        """Return after which row a list of the service's own goes on; raises ``ProblemError``."""
        cursor = self.parameters.get("cursor")
        return text_of_cursor(cursor) if cursor else ""

    @property
    def letters_before(self) -> dict[int, int]:
        """Return before which offset of each partition a list of dead letters goes on; raises ``ProblemError``."""
        cursor = self.parameters.get("cursor")
        return _read("cursor", text_of_cursor(cursor), _places) if cursor else {}

    @property
    def rows_max(self) -> int:
        """Return how many rows of the service's own lists are wanted; raises ``ProblemError``."""
        return self._limit(ROWS_OF_LIST_DEFAULT, ROWS_OF_LIST_MAX)

    def _limit(self, default: int, most: int) -> int:
        limit = _read("limit", self.parameters.get("limit", str(default)), _count)
        if not 1 <= limit <= most:
            raise ProblemError(WRONG_QUESTION, f"limit is {limit}: it may be 1 to {most}")
        return limit


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):  # noqa: PLR2004 - of a BIGINT
        raise ValueError(f"{text!r:.40} is no number")
    return int(text)


def _position(text: str) -> Position:
    try:
        shard, lane, offset = text.split(":")
    except ValueError:
        raise ValueError(f"{text!r:.100} is no SHARD:LANE:OFFSET, such as s1:3:12345") from None
    return Position(shard=shard, lane=_count(lane), offset=_count(offset))


def _places(text: str) -> dict[int, int]:
    return {
        _count(partition): _count(offset) for partition, _, offset in (each.partition(":") for each in text.split(","))
    }


def _read(name: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise ProblemError(WRONG_QUESTION, f"{name}: {error}") from None
