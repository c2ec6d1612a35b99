from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.ledger.currencies import EXPONENTS
from processors.ops.money import AmountError, Money, known_currency, parse_money, show_amount, show_money

AMOUNT_MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "amount_minor", "currency"),
    [
        ("12.50 USD", 1250, "USD"),
        ("12.5 USD", 1250, "USD"),
        ("12 USD", 1200, "USD"),
        ("USD 12.50", 1250, "USD"),
        ("12.50usd", 1250, "USD"),
        ("  0.01 USD ", 1, "USD"),
        ("1200 JPY", 1200, "JPY"),
        ("1.234 KWD", 1234, "KWD"),
        ("1.2345 CLF", 12345, "CLF"),
        ("0.29 USD", 29, "USD"),  # 0.29 * 100 is 28.999999999999996 in floats
        ("92233720368547758.07 USD", AMOUNT_MAX, "USD"),
    ],
)
@pytest.mark.rule("F2")
def test_an_amount_is_typed_as_people_write_it(text: str, amount_minor: int, currency: str) -> None:
    assert parse_money(text) == Money(amount_minor=amount_minor, currency=currency)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("12.505 USD", "USD has 2 digits after the point, not 3"),
        ("12.0 JPY", "JPY has no digits after the point, not 1"),
        ("12,50 USD", "a comma after 12: write a point there, write it like 12.50 USD"),
        ("USD 12,5", "write it like USD 12.5"),
        ("12,50", "write it like 12.50 USD"),
        ("1,000.00 USD", "without separators"),
        ("1,000 USD", "separators between thousands: write it like 1000 USD"),
        ("1,000,000", "write it like 1000000 USD"),
        ("-5 USD", "the sign -: an amount has none, the command says which way"),
        ("USD -5", "write it like USD 5"),
        ("+ 5.25 USD", "the sign +"),
        ("-,", "write it like 12.50 USD"),
        ("1e3 USD", "write it like"),
        (".50 USD", "write it like"),
        ("١٢ USD", "write it like"),
        ("12.50", "names no currency: write it like 12.50 USD"),
        ("USD", "has no figure: write it like 12.50 USD"),
        ("", "write it like"),
        ("12.50 XYZ", "not a currency"),
        ("0 USD", "at least 0.01 USD"),
        ("92233720368547758.08 USD", "the most is 92233720368547758.07 USD"),
    ],
)
def test_what_is_no_amount_is_refused_with_what_to_write(text: str, sentence: str) -> None:
    with pytest.raises(AmountError) as refused:
        parse_money(text)
    assert sentence in str(refused.value)


def test_a_limit_may_be_nothing_where_a_payment_may_not() -> None:
    assert parse_money("0 USD", zero=True) == Money(amount_minor=0, currency="USD")


@given(amount_minor=st.integers(1, AMOUNT_MAX), currency=st.sampled_from(sorted(EXPONENTS)))
@pytest.mark.rule("F2")
def test_what_is_shown_can_be_typed_again(amount_minor: int, currency: str) -> None:
    assert parse_money(show_money(amount_minor, currency)) == Money(amount_minor=amount_minor, currency=currency)


def test_negative_and_small_amounts_are_shown_with_all_their_digits() -> None:
    assert show_amount(-1, "USD") == "-0.01"
    assert show_amount(-123456, "KWD") == "-123.456"
    assert show_amount(0, "JPY") == "0"


def test_a_currency_is_known_in_any_case() -> None:
    assert known_currency("jpy") == "JPY"
