"""What a change of the rules means for what was decided already."""

from __future__ import annotations

import pytest

from processors.ledger.rules import Rules
from processors.ops.ruling import lost_by_shortening

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
LANES = (Rules(version=1), Rules(version=2, window_ms=HOUR_MS, refund_period_ms=90 * DAY_MS))


@pytest.mark.rule("I4")
@pytest.mark.rule("I6")
def test_a_shorter_window_is_told_with_what_nobody_is_answered_any_more() -> None:
    (told,) = lost_by_shortening(LANES, window_ms=2 * HOUR_MS)

    assert told.startswith("a window of 2h, not 6h: ")
    assert "UNKNOWN (COMMAND_TOO_OLD)" in told
    assert told.endswith("Making it longer again brings nothing back that has left it")


@pytest.mark.rule("H3")
def test_a_shorter_refund_period_is_told_with_what_is_not_refunded_any_more() -> None:
    (told,) = lost_by_shortening(LANES, refund_period_ms=179 * DAY_MS)

    assert told.startswith(
        "a refund period of 179d, not 180d: no payment older than that is refunded any more (ORIGINAL_TOO_OLD)"
    )


def test_what_stays_or_grows_in_every_lane_is_not_warned_of() -> None:
    assert lost_by_shortening(LANES) == []
    assert lost_by_shortening(LANES, window_ms=6 * HOUR_MS, refund_period_ms=181 * DAY_MS) == []
