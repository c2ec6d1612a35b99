"""Two builds side by side on the same servers: a commit in a worktree of its own, and this checkout.

What one run shows beside another depends more on the hour than on the code. So each of the bench's runs is measured
with both builds, one after the other, twice, the second time in the other order; and only ratios are told. A build is
measured by its own bench; of a run that a base does not know yet, by this checkout's, as far as the base can do it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from processors.compiled import is_compiled

ROOT = Path(__file__).parents[2]
RESULTS_FILE = "bench-results.json"
ROUNDS = 2
_UNKNOWN_FIELD = 2  # the exit status of a bench that has no such field
# What `python -m tests.bench` writes that is no figure.
_NO_FIGURES = {"measured_at", "cores", "quick", "load_average"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A figure of two builds: one value a round, the mean of here over that of the base, and the load of the machine.

    ``ratio`` is None where a build has no such figure, or where the base's is 0. ``load`` is the greatest load average
    of the rounds that measured it: runnable processes over a minute.
    """

    base: list[float]
    here: list[float]
    ratio: float | None
    load: float


def compare(base: str, runs: Sequence[str], *, quick: bool, say: Callable[[str], None]) -> dict[str, Comparison]:
    """Measure some runs with two builds in turn.

    Args:
        base: A commit, as git names it.
        runs: A field of each run that is to be measured (``tests.bench.runs.RUNS``); the base may lack some.
        quick: A quarter of the work.
        say: Told what is measured, before it is.

    Returns:
        By figure, "latency_ms 1000 p99" for one.

    Raises:
        subprocess.CalledProcessError: git knows no such commit, and said so.
        RuntimeError: A build cannot be measured; the text has the end of what it said.
    """
    measured: dict[str, list[Mapping[str, Any]]] = {"base": [], "here": []}
    with worktree(base) as folder:
        for field in runs:
            for turn in range(ROUNDS):
                for side, place in (("base", folder), ("here", ROOT))[:: 1 if turn % 2 == 0 else -1]:
                    say(f"{field}: {side}, {turn + 1} of {ROUNDS}")
                    measured[side].append(_measure(place, field, quick=quick, say=say))
    return comparisons(measured["base"], measured["here"])


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Have a commit in a folder of its own, with this checkout's servers."""
    with tempfile.TemporaryDirectory(prefix="balance-bench-") as parent:
        folder = Path(parent) / "base"
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            (folder / ".stack").symlink_to(ROOT / ".stack")
            _compile(folder)
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _compile(folder: Path) -> None:
    """Have the base's modules compiled, if this checkout's are; a base that knows nothing of it runs as it did."""
    if not is_compiled():
        return
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    for name in ("processors.ops.compiling", "devtools.compiling"):  # the second is an older base's
        if (folder / f"{name.replace('.', '/')}.py").is_file():
            subprocess.run([sys.executable, "-m", name], cwd=folder, env=environment, check=True)


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


def _measure(folder: Path, field: str, *, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Return what a build's own bench writes, or else this checkout's; nothing where neither can measure the field."""
    done = _run_bench(folder, folder, field, quick=quick)
    if done.returncode == _UNKNOWN_FIELD:
        with tempfile.TemporaryDirectory(prefix="balance-bench-") as parent:
            bench = Path(parent)
            (bench / "tests").mkdir()
            (bench / "tests" / "bench").symlink_to(ROOT / "tests" / "bench")
            done = _run_bench(folder, bench, field, quick=quick)
            if done.returncode:
                say(f"{field}: the base cannot do it: {done.stdout.strip().splitlines()[-1:]}")
                return {}
            return _written(bench)
    if done.returncode:
        raise RuntimeError(f"the bench of {folder} ended with {done.returncode}:\n{done.stdout[-4_000:]}")
    return _written(folder)


def _run_bench(folder: Path, bench: Path, field: str, *, quick: bool) -> subprocess.CompletedProcess[str]:
    """Have the bench in one folder measure the build in another; ``tests`` is found in both, and there first."""
    (bench / RESULTS_FILE).unlink(missing_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", "--only", field, *(["--quick"] if quick else [])],
        cwd=bench,
        # Before the checkout that is installed in this environment.
        env={**os.environ, "PYTHONPATH": f"{bench}{os.pathsep}{folder}", "BALANCE_ROOT": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    return found


def comparisons(base: Sequence[Mapping[str, Any]], here: Sequence[Mapping[str, Any]]) -> dict[str, Comparison]:
    """Put two builds' figures side by side; each list has what was measured, one after the other.

    >>> comparisons([{"a": {"p50": 4}}, {"a": {"p50": 6}}], [{"a": {"p50": 10}}])["a p50"].ratio
    2.0
    """
    of_base, of_here = _by_figure(base), _by_figure(here)
    loads: dict[str, float] = {}
    for found in (*base, *here):
        load = max(found.get("load_average", {}).values(), default=0.0)
        loads |= {figure: max(load, loads.get(figure, 0.0)) for figure in _by_figure([found])}
    return {
        figure: Comparison(
            base=of_base.get(figure, []),
            here=of_here.get(figure, []),
            ratio=_ratio(of_here.get(figure, []), of_base.get(figure, [])),
            load=loads[figure],
        )
        for figure in {**of_base, **of_here}
    }


def _ratio(above: list[float], below: list[float]) -> float | None:
    if not above or not below or not sum(below):
        return None
    return round(sum(above) / len(above) / (sum(below) / len(below)), 3)


def _by_figure(found: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    for each in found:
        for figure, value in flat({name: value for name, value in each.items() if name not in _NO_FIGURES}):
            if isinstance(value, int | float) and not isinstance(value, bool):
                figures.setdefault(figure, []).append(value)
    return figures


def flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return nested figures by the names on the way to them, "latency_ms 1000 p99" for one."""
    rows: list[tuple[str, Any]] = []
    for name, each in value.items():
        rows += flat(each, f"{before}{name} ") if isinstance(each, Mapping) else [(f"{before}{name}", each)]
    return rows


def load_of_fields(loads: Mapping[str, float], runs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return each field's load average: that of the run that gives it, or the least and the greatest of several.

    >>> load_of_fields({"hot": 2.5, "cold": 4.0}, {"hot": ["a", "cpu"], "cold": ["cpu"], "not run": ["b"]})
    {'a': '2.5', 'cpu': '2.5 to 4.0'}
    """
    found: dict[str, list[float]] = {}
    for run, fields in runs.items():
        for field in fields if run in loads else ():
            found.setdefault(field, []).append(loads[run])
    return {field: str(each[0]) if len(each) == 1 else f"{min(each)} to {max(each)}" for field, each in found.items()}


def write(found: Mapping[str, Comparison], file: Path) -> None:
    """Write comparisons as JSON: figure -> base, here, ratio, load."""
    file.write_text(json.dumps({name: asdict(each) for name, each in found.items()}, indent=2) + "\n", encoding="utf-8")
