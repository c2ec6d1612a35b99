"""The numbers that decide: they live in the log (SET_RULES), not in a file, so that a replay decides the same (I6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from processors.ids import SLICE_MS, SLICES_MAX
from processors.ledger.trust import KEYS_MAX, REGISTRY_IDS_MAX, read_keys, read_registry_ids

AMOUNT_MINOR_MAX = 2**63 - 1
BALANCE_MINOR_MIN = -(2**63)
BALANCE_MINOR_MAX = 2**63 - 1
METADATA_BYTES_MAX = 4096
METADATA_DEPTH_MAX = 16
RULES_RELEASE = 4
"""The newest meaning of ``Rules`` that this code knows; a larger ``release`` in the log stops the lane (I6)."""
RESULT_VERSION = 3
"""The newest result schema that this code encodes with; a larger ``result_version`` in the log stops the lane (I6)."""
# By release: the first result version that has a symbol for all that its lanes decide.
_RESULT_VERSION_OF = {1: 1, 2: 1, 3: 3, 4: 3}
# The journal keeps a partition for each slice from the window behind to twice the future limit ahead (A7); a tenth of
# what it may have is left for slices that wait for the archive.
_SLICES_OF_IDS_MAX = SLICES_MAX * 9 // 10
# Periods are added to lane time, and the sums are ids' times of 48 bits and columns: a century leaves room for both.
_PERIOD_MS_MAX = 100 * 365 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One version of a shard's rules.

    Times are milliseconds. ``version`` counts from 1, up by one with each SET_RULES. ``window_floor_ms`` is the
    earliest id time that may count as within the window after the window was grown (I6): ``t0 - w1`` then, else 0.
    ``refund_floor_ms`` is the same for the refund period, and ``recall_floor_ms`` for the window longer in which open
    refunds may still end: what was given back of older originals may be forgotten (H3).

    ``keys`` and ``registry_ids`` are texts of ``ledger.trust``: whose signatures count, and what a schema registry's
    ids stand for. Both are None, or neither: while the log does not say, as in a shard of release 1, the keys file and
    the settings of each process decide.
    """

    version: int
    release: int = RULES_RELEASE
    window_ms: int = 6 * 3_600_000
    skew_ms: int = 5 * 60_000
    future_limit_ms: int = 24 * 3_600_000
    refund_period_ms: int = 180 * 86_400_000
    longest_hold_ms: int = 30 * 86_400_000
    result_version: int = RESULT_VERSION
    window_floor_ms: int = 0
    refund_floor_ms: int = 0
    recall_floor_ms: int = 0
    keys: str | None = None
    registry_ids: str | None = None

    def window_start_ms(self, now_ms: int) -> int:
        """Return the earliest id time that is within the window at lane time ``now_ms`` (I3, I6)."""
        return max(now_ms - self.window_ms, self.window_floor_ms)

    def refund_start_ms(self, now_ms: int) -> int:
        """Return the earliest id time of an original that may be refunded at lane time ``now_ms`` (H3)."""
        return max(now_ms - self.refund_period_ms, self.refund_floor_ms)

    def recall_start_ms(self, now_ms: int) -> int:
        """Return the earliest id time of originals whose ``refunded`` row is kept: a window longer (H3)."""
        return max(now_ms - self.refund_period_ms - self.window_ms, self.recall_floor_ms)


def newest_of(versions: Iterable[Rules]) -> Rules:
    """Return the newest of some versions of a lane's rules, at least one."""
    return max(versions, key=lambda rules: rules.version)


def why_unfit(rules: Rules) -> str | None:
    """Return why no shard may have such rules, in words for an operator; None where it may.

    Settings ask it for a new shard's rules, and every lane for those of a SET_RULES record.

    Source: rules I5, I6, H3, A7.
    """
    faults = {
        "window_ms is below 1": rules.window_ms < 1,
        "skew_ms is below 0": rules.skew_ms < 0,
        "skew_ms is above future_limit_ms (I5)": rules.skew_ms > rules.future_limit_ms,
        f"window_ms and twice future_limit_ms need more than {_SLICES_OF_IDS_MAX} slices (A7)": (
            rules.window_ms + 2 * rules.future_limit_ms > _SLICES_OF_IDS_MAX * SLICE_MS
        ),
        "refund_period_ms is below window_ms (H4)": rules.refund_period_ms < rules.window_ms,
        "refund_period_ms is above a century": rules.refund_period_ms > _PERIOD_MS_MAX,
        "longest_hold_ms is below 1, or above a century": not 1 <= rules.longest_hold_ms <= _PERIOD_MS_MAX,
        f"the keys are no list of 1 to {KEYS_MAX} keys, or all of them have ended": not _has_living_key(rules.keys),
        f"the registry ids are no list of at most {REGISTRY_IDS_MAX}": (
            rules.registry_ids is not None and read_registry_ids(rules.registry_ids) is None
        ),
        "keys and registry ids come together": (rules.keys is None) != (rules.registry_ids is None),
        f"release {rules.release} needs at least version {_result_version_of(rules.release)} of the result": (
            rules.result_version < _result_version_of(rules.release)
        ),
    }
    return next((told for told, applies in faults.items() if applies), None)


def _result_version_of(release: int) -> int:
    """Return the first result version for lanes of a release; 1 for a release that this code does not know."""
    return _RESULT_VERSION_OF.get(release, 1)


def _has_living_key(text: str | None) -> bool:
    """Say whether somebody can still sign a change of the rules."""
    keys = {} if text is None else read_keys(text)
    return text is None or (keys is not None and not all(key.ended for key in keys.values()))
