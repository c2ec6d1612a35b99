"""Runs seeds of the simulation from the command line: one with its trace, or as many as there is time for."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.environment import Environment
from tests.simulation.seeds import quiet, replay_command, violation_of


def main() -> int:
    """Run what was asked for; 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many from there on")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    options = parser.parse_args()
    began_s = time.monotonic()
    failed = 0
    with quiet():
        for seed in range(options.seed, options.seed + options.seeds):
            if options.trace:
                _print(f"seed {seed}: {Environment(seed).options}")
            violation = violation_of(seed, trace=_print if options.trace else None)
            if violation is not None:
                failed += 1
                _print(f"seed {seed}: {violation}\n  {replay_command(seed)}")
    _print(f"{options.seeds} runs, {failed} failed, {time.monotonic() - began_s:.1f} s")
    return 1 if failed else 0


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    sys.exit(main())
