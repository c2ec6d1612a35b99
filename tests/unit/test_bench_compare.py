from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.compare import Comparison, comparisons, write


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


def test_only_numbers_are_figures() -> None:
    assert comparisons([measured(ok=True, name="x")], [measured(ok=True, name="x")]) == {}


def test_the_file_has_base_here_ratio_and_load(tmp_path: Path) -> None:
    write({"a": Comparison(base=[1.0], here=[2.0], ratio=2.0, load=0.5)}, tmp_path / "found.json")

    assert json.loads((tmp_path / "found.json").read_text()) == {
        "a": {"base": [1.0], "here": [2.0], "ratio": 2.0, "load": 0.5}
    }
