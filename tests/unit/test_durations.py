from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.ops.durations import DurationError, parse_duration, parse_time, show_duration


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [("250ms", 250), ("90s", 90_000), ("15m", 900_000), ("6h", 21_600_000), (" 30 d ", 2_592_000_000)],
)
def test_a_span_of_time_is_a_number_with_a_unit(text: str, duration_ms: int) -> None:
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize("text", ["", "15", "m", "1.5h", "-1s", "1w"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(DurationError, match="write it like 90s"):
        parse_duration(text)


@given(st.integers(0, 10**11))
def test_what_is_shown_can_be_typed_again(duration_ms: int) -> None:
    assert parse_duration(show_duration(duration_ms)) == duration_ms


@pytest.mark.parametrize(
    "text", ["2023-11-14T22:13:20.123Z", "2023-11-14T23:13:20.123+01:00", "1700000000123", " 1700000000123 "]
)
def test_a_time_is_typed_with_its_offset_or_as_milliseconds(text: str) -> None:
    assert parse_time(text) == 1_700_000_000_123


@pytest.mark.parametrize("text", ["", "yesterday", "2023-11-14", "2023-11-14T22:13:20"])
def test_a_time_without_its_offset_is_refused(text: str) -> None:
    with pytest.raises(DurationError, match="is not a time"):
        parse_time(text)
