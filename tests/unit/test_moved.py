"""``@moved`` comes to zero over all shards, unless something is on its way (M2, M4)."""

from __future__ import annotations

import pytest

from processors.recovery.moved import money_moved


@pytest.mark.rule("M2")
def test_what_left_one_shard_and_came_to_another_is_proven() -> None:
    check = money_moved({"s1": {"USD": 700, "EUR": -5}, "s2": {"USD": -700, "EUR": 5}, "s3": {}}, [])

    assert (check.counted, check.passed) == (2, True)


@pytest.mark.rule("M2")
@pytest.mark.rule("M4")
def test_what_left_and_came_nowhere_is_told_unless_it_is_on_its_way() -> None:
    moved = {"s1": {"USD": 700}, "s2": {"USD": -600}}

    lost, on_its_way = money_moved(moved, []), money_moved(moved, ["acme"])

    assert lost.details == ("USD: 100, of which s1 has 700, s2 has -600",)
    assert (lost.passed, on_its_way.passed) == (False, True)
