from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.bench.compare import Comparison, comparisons, load_of_fields, write
from tests.bench.measure import CpuClock, cpu_s, quantile_ms, with_sum


def measured(load: float = 1.0, **figures: Any) -> dict[str, Any]:
    return {"measured_at": "now", "cores": 2, "quick": True, "load_average": {"a_run": load}, **figures}


def test_a_figure_is_the_mean_of_here_over_that_of_the_base_and_keeps_each_round() -> None:
    base = [measured(latency_ms={"1000": {"p50": 40.0}}), measured(latency_ms={"1000": {"p50": 60.0}}, load=3.5)]
    here = [measured(latency_ms={"1000": {"p50": 10.0}}), measured(latency_ms={"1000": {"p50": 20.0}})]

    assert comparisons(base, here) == {
        "latency_ms 1000 p50": Comparison(base=[40.0, 60.0], here=[10.0, 20.0], ratio=0.3, load=3.5)
    }


@pytest.mark.parametrize(("base", "here"), [({}, {"new": 4}), ({"old": 4}, {}), ({"none": 0}, {"none": 4})])
def test_what_a_build_does_not_have_has_no_ratio(base: dict[str, int], here: dict[str, int]) -> None:
    (found,) = comparisons([measured(**base)], [measured(**here)]).values()

    assert found.ratio is None


def test_each_figure_has_the_greatest_load_of_the_rounds_that_measured_it_and_no_others() -> None:
    base = [measured(a=1, load=2.0), measured(b=1, load=7.0)]
    here = [measured(a=1, load=3.0), measured(b=1, load=1.0)]

    assert {figure: each.load for figure, each in comparisons(base, here).items()} == {"a": 3.0, "b": 7.0}


def test_of_some_processes_each_ones_share_is_kept_and_their_sum_is_told() -> None:
    assert with_sum({"router": 4.1, "worker": 26.04}) == {"router": 4.1, "worker": 26.04, "all": 30.1}
    assert with_sum({}) == {"all": 0}


def test_a_clock_tells_what_a_process_used_for_each_of_some_commands() -> None:
    clock = CpuClock({"this": os.getpid()})
    used_s = -cpu_s(os.getpid())
    while used_s + cpu_s(os.getpid()) < 0.2:
        sum(range(10_000))
    clock.stop()
    used_s += cpu_s(os.getpid())

    assert clock.us_per(1_000)["this"] == pytest.approx(used_s * 1_000, abs=20)  # two ticks of the kernel's clock


@pytest.mark.parametrize(("q", "found"), [(0.5, 3_000.0), (0.99, 5_000.0), (0.0, 1_000.0), (1.0, 5_000.0)])
def test_a_quantile_is_one_of_the_durations(q: float, found: float) -> None:
    assert quantile_ms([5.0, 1.0, 4.0, 2.0, 3.0], q) == found


def test_a_field_that_several_runs_give_parts_of_has_the_least_and_the_greatest_load() -> None:
    runs = {"one": ["a", "cpu"], "two": ["cpu"], "not run": ["b"]}

    assert load_of_fields({"one": 4.0, "two": 2.5}, runs) == {"a": "4.0", "cpu": "2.5 to 4.0"}


def test_only_numbers_are_figures() -> None:
    assert comparisons([measured(ok=True, name="x")], [measured(ok=True, name="x")]) == {}


def test_the_file_has_base_here_ratio_and_load(tmp_path: Path) -> None:
    write({"a": Comparison(base=[1.0], here=[2.0], ratio=2.0, load=0.5)}, tmp_path / "found.json")

    assert json.loads((tmp_path / "found.json").read_text()) == {
        "a": {"base": [1.0], "here": [2.0], "ratio": 2.0, "load": 0.5}
    }
