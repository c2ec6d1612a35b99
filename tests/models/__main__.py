"""Checks a model from the command line: every scenario, or what goes wrong without a rule."""

from __future__ import annotations

import argparse
import sys
import time

from tests.models.answering.cases import ANSWERING
from tests.models.buckets.cases import BUCKETS
from tests.models.catalogue import Catalogue
from tests.models.moves.cases import MOVES
from tests.models.transfers.cases import TRANSFERS

MODELS = {"moves": MOVES, "answering": ANSWERING, "buckets": BUCKETS, "transfers": TRANSFERS}


def main() -> int:
    """Check what was asked for; 1 where a scenario has a violation, or a mutation has none that should have."""
    parser = argparse.ArgumentParser(prog="python -m tests.models", description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--without", metavar="RULE", help="a rule (M4), or a part of one (M4 once), to take out")
    options = parser.parse_args()
    catalogue = MODELS[options.model]
    return _mutated(catalogue, options.without) if options.without else _whole(catalogue)


def _whole(catalogue: Catalogue) -> int:
    failed = 0
    for name, check in catalogue.scenarios.items():
        began_s = time.monotonic()
        report = check()
        failed += bool(report.violation)
        _print(f"{name}: {report} ({time.monotonic() - began_s:.1f} s)")
    return 1 if failed else 0


def _mutated(catalogue: Catalogue, rule: str) -> int:
    mutations = catalogue.mutations_of(rule)
    if not mutations:
        _print(f"no mutation of {rule}; there are: {', '.join([*catalogue.mutations, *catalogue.redundant])}")
        return 2
    missed = 0
    for name, mutation in mutations.items():
        report = mutation.check()
        missed += bool(report.violation) != (name in catalogue.mutations)
        _print(f"without {name}: {mutation.says}\n{report}\n")
    return 1 if missed else 0


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    sys.exit(main())
