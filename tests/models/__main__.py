"""Checks a model from the command line: every scenario, or what goes wrong without a rule."""

from __future__ import annotations

import argparse
import sys
import time

from tests.models.answering.cases import ANSWERING
from tests.models.catalogue import Catalogue
from tests.models.moves.cases import MOVES
from tests.models.transfers.cases import TRANSFERS

MODELS = {"moves": MOVES, "answering": ANSWERING, "transfers": TRANSFERS}


def main() -> int:
    """Check what was asked for; 1 where a scenario has trouble, or a flaw has none that should have."""
    parser = argparse.ArgumentParser(prog="python -m tests.models", description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--without", metavar="RULE", help="a rule (M4), or a part of one (M4 once), to take out")
    options = parser.parse_args()
    catalogue = MODELS[options.model]
    return _flawed(catalogue, options.without) if options.without else _sound(catalogue)


def _sound(catalogue: Catalogue) -> int:
    failed = 0
    for name, check in catalogue.sound.items():
        began_s = time.monotonic()
        report = check()
        failed += bool(report.trouble)
        _print(f"{name}: {report} ({time.monotonic() - began_s:.1f} s)")
    return 1 if failed else 0


def _flawed(catalogue: Catalogue, rule: str) -> int:
    flaws = catalogue.flaws_of(rule)
    if not flaws:
        _print(f"no flaw of {rule}; there are: {', '.join([*catalogue.flaws, *catalogue.spare])}")
        return 2
    missed = 0
    for name, flaw in flaws.items():
        report = flaw.check()
        missed += bool(report.trouble) != (name in catalogue.flaws)
        _print(f"without {name}: {flaw.says}\n{report}\n")
    return 1 if missed else 0


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    sys.exit(main())
