from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.ops.durations import DurationError, parse_duration, show_duration


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
