"""The numbers that decide: they live in the log (SET_RULES), not in a file, so that a replay decides the same (I6)."""

from __future__ import annotations

from dataclasses import dataclass

AMOUNT_MINOR_MAX = 2**63 - 1
BALANCE_MINOR_MIN = -(2**63)
BALANCE_MINOR_MAX = 2**63 - 1
METADATA_BYTES_MAX = 4096
METADATA_DEPTH_MAX = 16
RULES_RELEASE = 1
"""The newest meaning of ``Rules`` that this code knows; a larger ``release`` in the log stops the lane (I6)."""
RESULT_VERSION = 1
"""The newest result schema that this code encodes with; a larger ``result_version`` in the log stops the lane (I6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One version of a shard's rules.

    Times are milliseconds. ``version`` counts from 1, up by one with each SET_RULES. ``window_floor_ms`` is the
    earliest id time that may count as within the window after the window was grown (I6): ``t0 - w1`` then, else 0.
    ``refund_floor_ms`` is the same for the refund period, and ``recall_floor_ms`` for the window longer in which open
    refunds may still end: what was given back of older originals may be forgotten (H3).
    """

    version: int
    release: int = RULES_RELEASE
    window_ms: int = 6 * 3_600_000
    skew_ms: int = 5 * 60_000
    future_limit_ms: int = 24 * 3_600_000
    refund_period_ms: int = 180 * 86_400_000
    longest_hold_ms: int = 30 * 86_400_000
    result_version: int = 1
    window_floor_ms: int = 0
    refund_floor_ms: int = 0
    recall_floor_ms: int = 0

    def window_start_ms(self, now_ms: int) -> int:
        """Return the earliest id time that is within the window at lane time ``now_ms`` (I3, I6)."""
        return max(now_ms - self.window_ms, self.window_floor_ms)

    def refund_start_ms(self, now_ms: int) -> int:
        """Return the earliest id time of an original that may be refunded at lane time ``now_ms`` (H3)."""
        return max(now_ms - self.refund_period_ms, self.refund_floor_ms)

    def recall_start_ms(self, now_ms: int) -> int:
        """Return the earliest id time of originals whose ``refunded`` row is kept: a window longer (H3)."""
        return max(now_ms - self.refund_period_ms - self.window_ms, self.recall_floor_ms)
