"""The words of a golden scenario's line: taken from the left, with amounts and times as people write them."""

from __future__ import annotations

import re

from processors.ledger.currencies import EXPONENTS

AMOUNT = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
NAME = re.compile(r"[A-Z]\d+", re.ASCII)
CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_SPAN = re.compile(r"(\d+)(ms|s|m|h|d)", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Words:
    """The words of a wish, taken from the left."""

    def __init__(self, text: str) -> None:
        text, _, self.metadata = text.partition(" metadata ")
        self._words = text.split()

    def next(self) -> str:
        assert self._words, "the line ends too early"
        return self._words.pop(0)

    def take(self, *words: str) -> str:
        """Take the next word if it is one of these, else nothing."""
        return self.next() if self._words and self._words[0] in words else ""

    def matching(self, pattern: re.Pattern[str]) -> str:
        """Take the next word if it looks like this, else nothing."""
        return self.next() if self._words and pattern.fullmatch(self._words[0]) else ""

    def rest(self) -> str:
        rest, self._words = " ".join(self._words), []
        return rest

    @property
    def left(self) -> bool:
        return bool(self._words)


def span_ms(text: str) -> int:
    match = _SPAN.fullmatch(text)
    assert match, f"{text!r} is no span of time: 60s, 7h"
    return int(match[1]) * _UNIT_MS[match[2]]


def minor(text: str, currency: str) -> int:
    """Read an amount as people write it, by its digits; a currency that is not known has two after the point."""
    places = EXPONENTS.get(currency, 2)
    whole, _, fraction = text.partition(".")
    assert len(fraction) <= places, f"{currency} has {places} digits after the point"
    return int(whole + fraction.ljust(places, "0"))


def shown(amount_minor: int, currency: str) -> str:
    places = EXPONENTS[currency]
    sign, digits = ("-" if amount_minor < 0 else ""), str(abs(amount_minor)).rjust(places + 1, "0")
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
