"""Amounts as people type and read them: ``12.50 USD``, to and from minor units, by digits and never by a float."""

from __future__ import annotations

import re
from dataclasses import dataclass

from processors.ledger.currencies import EXPONENTS
from processors.ledger.rules import AMOUNT_MINOR_MAX

_NUMBER_FIRST = re.compile(r"(?P<whole>\d+)(?:\.(?P<fraction>\d+))?\s*(?P<currency>[A-Za-z]{3})", re.ASCII)
_CURRENCY_FIRST = re.compile(r"(?P<currency>[A-Za-z]{3})\s*(?P<whole>\d+)(?:\.(?P<fraction>\d+))?", re.ASCII)


class AmountError(ValueError):
    """A text that names no amount; the message says what is wrong with it and how to write it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount in the currency's minor unit, 0 to 2**63 - 1."""

    amount_minor: int
    currency: str


def parse_money(text: str, *, zero: bool = False) -> Money:
    """Read an amount as a person writes it.

    Args:
        text: ``12.50 USD`` or ``USD 12.50``; a point before the minor unit's digits, no thousands separators, no sign.
        zero: Whether nothing at all is an amount here (a limit may be zero, a payment may not).

    Raises:
        AmountError: It cannot be read, has more digits than the currency's minor unit, or is out of range.

    >>> parse_money("12.5 USD")
    Money(amount_minor=1250, currency='USD')
    >>> parse_money("1200 JPY").amount_minor
    1200
    """
    found = _NUMBER_FIRST.fullmatch(text.strip()) or _CURRENCY_FIRST.fullmatch(text.strip())
    if found is None:
        raise AmountError(f"{text!r} {_why_unread(text.strip())}")
    currency = known_currency(found["currency"])
    digits, places = found["fraction"] or "", EXPONENTS[currency]
    if len(digits) > places:
        raise AmountError(f"{text!r}: {currency} has {places or 'no'} digits after the point, not {len(digits)}")
    amount_minor = int(found["whole"] + digits.ljust(places, "0"))
    if amount_minor == 0 and not zero:
        raise AmountError(f"{text!r} is nothing: an amount is at least {show_money(1, currency)}")
    if amount_minor > AMOUNT_MINOR_MAX:
        raise AmountError(f"{text!r} is too much: the most is {show_money(AMOUNT_MINOR_MAX, currency)}")
    return Money(amount_minor=amount_minor, currency=currency)


def _why_unread(text: str) -> str:
    """Say what keeps a text from being an amount, and what to write: the first thing that is wrong with it.

    >>> _why_unread("12,50 USD")
    'has a comma after 12: write a point there, write it like 12.50 USD'
    """
    if text[:1] in ("-", "+") or re.fullmatch(r"[A-Za-z]{3}\s*[-+].*", text):
        sign = "+" if "+" in text else "-"
        kept = re.sub(r"\s+", " ", text.replace(sign, "", 1))
        return f"has the sign {sign}: an amount has none, the command says which way; write it like {_like(kept)}"
    whole, comma, rest = text.partition(",")
    if comma and "," not in rest and "." not in text and re.match(r"\d{1,2}(?!\d)", rest):
        return f"has a comma after {whole}: write a point there, write it like {_like(f'{whole}.{rest}')}"
    if comma:
        kept = text.replace(",", "")
        return f"has separators between thousands: write it like {_like(kept)}, without separators"
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return f"names no currency: write it like {text} USD"
    if re.fullmatch(r"[A-Za-z]{3}", text):
        return f"has no figure: write it like 12.50 {text.upper()}"
    return "is not an amount: write it like 12.50 USD, without separators between thousands"


def _like(text: str) -> str:
    """Return a text where it is an amount, one with a currency where it lacks that alone, else an example."""
    for each in (text, f"{text} USD"):
        if _NUMBER_FIRST.fullmatch(each) or _CURRENCY_FIRST.fullmatch(each):
            return each
    return "12.50 USD"


def known_currency(text: str) -> str:
    """Return a currency's code in capitals.

    Raises:
        AmountError: ISO 4217 has no such currency.
    """
    currency = text.upper()
    if currency not in EXPONENTS:
        raise AmountError(f"{text!r} is not a currency of ISO 4217, such as USD, JPY or KWD")
    return currency


def show_amount(amount_minor: int, currency: str) -> str:
    """Write minor units as people read them; what it writes can be typed again.

    Args:
        amount_minor: Any integer, negative ones too.
        currency: One that is not in ISO 4217 is shown in minor units, whole.

    >>> show_amount(-5, "USD"), show_amount(1200, "JPY"), show_amount(1, "KWD")
    ('-0.05', '1200', '0.001')
    """
    places = EXPONENTS.get(currency, 0)
    sign, digits = ("-" if amount_minor < 0 else ""), str(abs(amount_minor)).rjust(places + 1, "0")
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def show_money(amount_minor: int, currency: str) -> str:
    """Write an amount with its currency.

    >>> show_money(1250, "USD")
    '12.50 USD'
    """
    return f"{show_amount(amount_minor, currency)} {currency}"
