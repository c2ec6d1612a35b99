from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from processors.faults import LaneStopped, StopCode
from processors.ids import SLICE_MS, SLICES_MAX
from processors.ledger.commands import SetRules
from processors.ledger.control import next_rules, set_rules_of
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules, newest_of, why_unfit
from tests.unit.ledger.lane import DAY_MS, HOUR_MS, START_MS

pytestmark = pytest.mark.rule("I6")

NOW = Rules(version=3, release=1, result_version=1)
WISH = SetRules(
    command_id=bytes(16),
    version=4,
    release=1,
    window_ms=12 * HOUR_MS,
    skew_ms=60_000,
    future_limit_ms=2 * DAY_MS,
    refund_period_ms=365 * DAY_MS,
    longest_hold_ms=7 * DAY_MS,
    result_version=1,
)


def test_a_new_shard_begins_with_the_newest_meaning_and_six_hours_of_window() -> None:
    assert Rules(version=1) == Rules(
        version=1,
        release=4,
        window_ms=6 * HOUR_MS,
        skew_ms=5 * 60_000,
        future_limit_ms=DAY_MS,
        refund_period_ms=180 * DAY_MS,
        longest_hold_ms=30 * DAY_MS,
        result_version=3,
        window_floor_ms=0,
        refund_floor_ms=0,
        recall_floor_ms=0,
        keys=None,
        registry_ids=None,
    )


def test_rules_change_to_the_next_version_and_do_not_reach_back() -> None:
    assert next_rules(NOW, WISH, now_ms=START_MS) == Rules(
        version=4,
        release=1,
        window_ms=12 * HOUR_MS,
        skew_ms=60_000,
        future_limit_ms=2 * DAY_MS,
        refund_period_ms=365 * DAY_MS,
        longest_hold_ms=7 * DAY_MS,
        result_version=1,
        window_floor_ms=START_MS - 6 * HOUR_MS,
        refund_floor_ms=START_MS - 180 * DAY_MS,
        recall_floor_ms=START_MS - 180 * DAY_MS - 6 * HOUR_MS,
    )


def test_the_record_that_brings_rules_carries_each_of_their_values() -> None:
    named = replace(WISH, command_id=bytes([7]) * 16)
    wanted = next_rules(NOW, WISH, now_ms=START_MS)
    assert wanted is not None

    assert set_rules_of(wanted, bytes([7]) * 16) == named
    assert set_rules_of(replace(wanted, keys="keys", registry_ids="ids"), named.command_id) == replace(
        named, keys="keys", registry_ids="ids"
    )


def test_a_grown_window_reaches_back_further_as_time_passes_and_no_faster() -> None:
    grown = next_rules(NOW, WISH, now_ms=START_MS)
    assert grown is not None

    assert grown.window_start_ms(START_MS) == START_MS - 6 * HOUR_MS
    assert grown.window_start_ms(START_MS + HOUR_MS) == START_MS - 6 * HOUR_MS
    assert grown.window_start_ms(START_MS + 6 * HOUR_MS) == START_MS - 6 * HOUR_MS
    assert grown.window_start_ms(START_MS + 7 * HOUR_MS) == START_MS - 5 * HOUR_MS


def test_the_floor_of_a_window_that_grew_twice_is_the_first_ones() -> None:
    once = next_rules(NOW, WISH, now_ms=START_MS)
    assert once is not None
    twice = next_rules(once, replace(WISH, version=5, window_ms=24 * HOUR_MS), now_ms=START_MS + HOUR_MS)
    assert twice is not None

    assert twice.window_start_ms(START_MS + HOUR_MS) == START_MS - 6 * HOUR_MS


@pytest.mark.rule("H3")
def test_a_grown_refund_period_does_not_reach_back() -> None:
    grown = next_rules(NOW, WISH, now_ms=START_MS)
    assert grown is not None

    assert grown.refund_start_ms(START_MS + DAY_MS) == START_MS - 180 * DAY_MS
    assert grown.recall_start_ms(START_MS + DAY_MS) == START_MS - 180 * DAY_MS - 6 * HOUR_MS


@pytest.mark.rule("H3")
def test_a_change_of_another_rule_leaves_open_refunds_their_time() -> None:
    same: Any = {name: getattr(NOW, name) for name in ("window_ms", "future_limit_ms", "refund_period_ms")}
    changed = next_rules(NOW, replace(WISH, skew_ms=1, **same), now_ms=START_MS)
    assert changed is not None

    for later_ms in (START_MS, START_MS + HOUR_MS, START_MS + DAY_MS):
        assert changed.recall_start_ms(later_ms) == NOW.recall_start_ms(later_ms)


@pytest.mark.rule("H3")
@pytest.mark.parametrize("window_ms", [HOUR_MS, 6 * HOUR_MS, 48 * HOUR_MS])
@pytest.mark.parametrize("refund_period_ms", [30 * DAY_MS, 180 * DAY_MS, 365 * DAY_MS])
def test_a_recall_never_reaches_back_to_what_may_be_forgotten(window_ms: int, refund_period_ms: int) -> None:
    wish = replace(WISH, window_ms=window_ms, refund_period_ms=refund_period_ms)
    changed = next_rules(NOW, wish, now_ms=START_MS)
    assert changed is not None
    again = next_rules(changed, replace(WISH, version=5), now_ms=START_MS + HOUR_MS)
    assert again is not None

    assert changed.recall_start_ms(START_MS) >= NOW.recall_start_ms(START_MS)
    assert again.recall_start_ms(START_MS + HOUR_MS) >= changed.recall_start_ms(START_MS + HOUR_MS)
    assert changed.recall_start_ms(START_MS) <= changed.refund_start_ms(START_MS)


def test_a_release_is_raised_by_the_log_and_never_lowered_again() -> None:
    raised = next_rules(NOW, replace(WISH, release=RULES_RELEASE, result_version=RESULT_VERSION), now_ms=START_MS)
    assert raised is not None

    assert raised.release == RULES_RELEASE
    lower = replace(WISH, version=5, release=RULES_RELEASE - 1, result_version=RESULT_VERSION)
    assert next_rules(raised, lower, now_ms=START_MS) is None


@pytest.mark.parametrize(("release", "result_version"), [(1, 1), (2, 1), (3, 3)])
def test_a_release_needs_the_result_version_that_has_its_symbols(release: int, result_version: int) -> None:
    fit = Rules(version=1, release=release, result_version=result_version)

    assert why_unfit(fit) is None
    assert all(
        why_unfit(replace(fit, result_version=later)) is None for later in range(result_version, RESULT_VERSION + 1)
    )
    for earlier in range(1, result_version):
        told = f"release {release} needs at least version {result_version} of the result"
        assert why_unfit(replace(fit, result_version=earlier)) == told
        wish = replace(WISH, release=release, result_version=earlier)
        assert next_rules(NOW, wish, now_ms=START_MS) is None


def test_the_newest_format_of_results_that_this_release_knows_is_brought_by_the_log() -> None:
    raised = next_rules(NOW, replace(WISH, result_version=RESULT_VERSION), now_ms=START_MS)
    assert raised is not None

    assert raised.result_version == RESULT_VERSION
    assert next_rules(raised, replace(WISH, version=5, result_version=RESULT_VERSION - 1), now_ms=START_MS) is None


@pytest.mark.parametrize("version", [2, 3, 5, 0, -1])
def test_a_version_that_is_not_the_next_has_no_effect(version: int) -> None:
    assert next_rules(NOW, replace(WISH, version=version), now_ms=START_MS) is None


@pytest.mark.parametrize(
    "change",
    [
        {"window_ms": 0},
        {"window_ms": 366 * DAY_MS},
        {"future_limit_ms": 20 * DAY_MS},  # twice that, and the window, are more slices than a table has room for
        {"refund_period_ms": 2**62},
        {"longest_hold_ms": 2**62},
        {"release": 0},
        {"result_version": 0},
    ],
)
def test_values_out_of_range_have_no_effect(change: dict[str, int]) -> None:
    assert next_rules(NOW, replace(WISH, **change), now_ms=START_MS) is None  # type: ignore[arg-type]


CENTURY_MS = 100 * 365 * DAY_MS
KEYS = {"keys": "a=" + "0" * 32, "registry_ids": ""}


@pytest.mark.parametrize(
    "change",
    [
        {"window_ms": 1},
        {"skew_ms": 0},
        {"skew_ms": 2 * DAY_MS},
        {"skew_ms": 0, "future_limit_ms": 0},
        {"refund_period_ms": 12 * HOUR_MS},
        {"refund_period_ms": CENTURY_MS},
        {"longest_hold_ms": 1},
        {"longest_hold_ms": CENTURY_MS},
        KEYS,
        {**KEYS, "registry_ids": "7=0123456789abcdef"},
        {**KEYS, "keys": f"a={'0' * 32}:ended b={'0' * 32}"},
    ],
)
def test_values_at_the_edge_of_their_range_take_effect(change: dict[str, Any]) -> None:
    wish = replace(WISH, **change)
    rules = next_rules(NOW, wish, now_ms=START_MS)

    assert rules is not None
    assert set_rules_of(rules, WISH.command_id) == wish


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"window_ms": 0}, "window_ms is below 1"),
        ({"skew_ms": -1}, "skew_ms is below 0"),
        ({"skew_ms": 2 * DAY_MS + 1}, "skew_ms is above future_limit_ms (I5)"),
        ({"refund_period_ms": 12 * HOUR_MS - 1}, "refund_period_ms is below window_ms (H4)"),
        ({"refund_period_ms": CENTURY_MS + 1}, "refund_period_ms is above a century"),
        ({"longest_hold_ms": 0}, "longest_hold_ms is below 1, or above a century"),
        ({"longest_hold_ms": CENTURY_MS + 1}, "longest_hold_ms is below 1, or above a century"),
        ({"keys": KEYS["keys"]}, "keys and registry ids come together"),
        ({"registry_ids": ""}, "keys and registry ids come together"),
        ({**KEYS, "keys": ""}, "the keys are no list of 1 to 64 keys, or all of them have ended"),
        ({**KEYS, "keys": f"a={'0' * 32}:ended"}, "the keys are no list of 1 to 64 keys, or all of them have ended"),
        ({**KEYS, "registry_ids": "7"}, "the registry ids are no list of at most 256"),
    ],
)
def test_what_is_wrong_with_rules_is_said_to_an_operator_and_has_no_effect(change: dict[str, Any], told: str) -> None:
    asked = replace(NOW, window_ms=WISH.window_ms, future_limit_ms=WISH.future_limit_ms)

    assert why_unfit(replace(asked, **change)) == told
    assert next_rules(NOW, replace(WISH, **change), now_ms=START_MS) is None


def test_keys_that_the_log_has_stay_where_a_record_does_not_say() -> None:
    known = replace(NOW, **KEYS)  # type: ignore[arg-type]
    rules = next_rules(known, WISH, now_ms=START_MS)

    assert rules is not None
    assert (rules.keys, rules.registry_ids) == (known.keys, known.registry_ids)


def test_a_key_is_not_taken_back() -> None:
    known = replace(NOW, **KEYS)  # type: ignore[arg-type]

    assert next_rules(known, replace(WISH, keys="b=" + "0" * 32), now_ms=START_MS) is None


def test_the_newest_of_some_rules_is_that_of_the_highest_version() -> None:
    assert newest_of([replace(NOW, version=version) for version in (2, 10, 9)]).version == 10


def test_the_slices_that_rules_may_need_leave_room_for_those_that_wait() -> None:
    most = replace(NOW, window_ms=SLICES_MAX * 9 // 10 * SLICE_MS - 2 * NOW.future_limit_ms)

    assert why_unfit(most) is None
    assert why_unfit(replace(most, window_ms=most.window_ms + 1)) is not None


@pytest.mark.parametrize("change", [{"release": RULES_RELEASE + 1}, {"result_version": RESULT_VERSION + 1}])
@pytest.mark.parametrize("version", [4, 9])
def test_a_later_release_in_the_log_stops_the_lane(change: dict[str, int], version: int) -> None:
    with pytest.raises(LaneStopped) as stopped:
        next_rules(NOW, replace(WISH, version=version, **change), now_ms=START_MS)  # type: ignore[arg-type]

    assert stopped.value.code is StopCode.UNKNOWN_VERSION
