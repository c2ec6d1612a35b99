"""A script of the bench run in turn on a commit and on this checkout, and the ratios of what it measures.

The commit is measured by the script as it is here, so that it need not have it. So such a script imports this module
only where it compares.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.bench.compare import ROOT, worktree

TURNS = 3
Figures = dict[str, float]


def print_ratios(script: Path, base: str, kinds: list[str]) -> None:
    """Measure a commit and this checkout in turn, and print each figure's medians and their ratio.

    Args:
        script: Takes ``--only KIND --as-json`` and prints by kind the figures that it found.
        base: A commit, as git names it.
        kinds: What is measured.
    """
    with worktree(base) as folder:
        for kind in kinds:
            sides: dict[str, list[Figures]] = {"base": [], "here": []}
            for turn in range(TURNS):
                for side, place in (("base", folder), ("here", ROOT))[:: 1 if turn % 2 == 0 else -1]:
                    sides[side].append(_measured_in(place, script, kind))
            load = f"load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}"
            print(f"{kind:20} {base[:8]:>9} {'here':>9} {'ratio':>6}   {load}")  # noqa: T201
            for name in sides["base"][0]:
                before, here = (median(each[name] for each in sides[side]) for side in ("base", "here"))
                print(f"{name:20} {before:9.2f} {here:9.2f} {here / before if before else 0:6.2f}")  # noqa: T201


def _measured_in(folder: Path, script: Path, kind: str) -> Figures:
    done = subprocess.run(
        [sys.executable, str(script), "--only", kind, "--as-json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "BALANCE_ROOT": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Figures = json.loads(done.stdout)[kind]
    return found
