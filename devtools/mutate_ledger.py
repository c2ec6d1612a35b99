"""Mutation testing of the ledger: changes one token at a time, and names the mutations that no test notices.

    python -m devtools.mutate_ledger --count 40

Each mutation is made in a copy of the checkout, where the ledger's own tests run (those that start no server: 5 s each
on an idle machine), and is taken back. It is a comparison turned or moved by one (``<`` to ``<=``), plus for minus,
``and`` for ``or``, a ``not`` left out, True for False, or a number one more or one less.

What survives is a sentence that no test says: write it, and see it fail with the mutation in place. Or it makes no
difference that a test could see, as the size of a cache. The seed is printed: the same one tries the same mutations.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
LEDGER = Path("processors/ledger")
TESTS = ("tests/unit/ledger", "tests/golden")
COUNT = 40  # four minutes on an idle machine
SEEDS = 2**32
# A mutation may make a loop endless. Tests that are ten times slower than without it will not end.
_SLOWER_MAX = 10
_COPIED = ("devtools", "processors", "tests", "docs", "schemas", "config", "pyproject.toml", "README.md")

_FAILED = re.compile(r"^(?:FAILED|ERROR) .*?([^/\n]+?)(?: - .*)?$", re.MULTILINE)

# What a token may become, each on its own.
_INSTEAD: dict[str, tuple[str, ...]] = {
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",),
    "+": ("-",), "-": ("+",), "+=": ("-=",), "-=": ("+=",), "and": ("or",), "or": ("and",), "not": ("",),
    "True": ("False",), "False": ("True",),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One token of a module and what stands there instead; ``start`` is its place in the text, in characters."""

    path: Path
    line: int
    start: int
    before: str
    after: str

    def applied_to(self, text: str) -> str:
        """Return the module's text with the mutation in it."""
        return text[: self.start] + self.after + text[self.start + len(self.before) :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before} -> {self.after or '(nothing)'}"


def mutations_in(path: Path, text: str) -> list[Mutation]:
    """Return every mutation that can be made in a module.

    Decorators are left alone: a frozen class that is not frozen decides the same.
    """
    starts = [0]
    for each in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(each))
    decorators = _lines_of_decorators(text)
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line, column = token.start
        for after in () if line in decorators else _instead_of(token):
            start = starts[line - 1] + column
            found.append(Mutation(path=path, line=line, start=start, before=token.string, after=after))
    return found


def _instead_of(token: tokenize.TokenInfo) -> tuple[str, ...]:
    if token.type == tokenize.NUMBER:
        number = ast.literal_eval(token.string)
        return (str(number + 1), str(number - 1))
    return _INSTEAD.get(token.string, ()) if token.type in (tokenize.OP, tokenize.NAME) else ()


def _lines_of_decorators(text: str) -> set[int]:
    decorated = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, decorated)
        for mark in node.decorator_list
        for line in range(mark.lineno, (mark.end_lineno or mark.lineno) + 1)
    }


class Copy:
    """A copy of the checkout, in which mutations are made; deleted at the end of the ``with``."""

    def __init__(self, tests: Sequence[str]) -> None:
        """Copy what tests read. ``tests`` are their paths from the checkout's folder."""
        self._tests = tests
        self._kept = tempfile.TemporaryDirectory(prefix="mutated-")
        self.root = Path(self._kept.name)
        for name in _COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, self.root / name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.cleanup()

    def texts(self) -> Iterator[tuple[Path, str]]:
        """Yield the path and the text of each of the ledger's modules."""
        for path in sorted((self.root / LEDGER).glob("*.py")):
            yield path.relative_to(self.root), path.read_text(encoding="utf-8")

    def noticed_by(self, mutation: Mutation, timeout_s: float) -> str:
        """Return the test that fails with a mutation in place; empty where none does."""
        module = self.root / mutation.path
        text = module.read_text(encoding="utf-8")
        module.write_text(mutation.applied_to(text), encoding="utf-8")
        # Python takes a file of the same second and size for the one that it compiled.
        shutil.rmtree(module.parent / "__pycache__", ignore_errors=True)
        try:
            return self.failing(timeout_s)
        finally:
            module.write_text(text, encoding="utf-8")

    def failing(self, timeout_s: float | None = None) -> str:
        """Return the first test that fails; empty where none does."""
        asked = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *self._tests]
        try:
            ended = subprocess.run(asked, cwd=self.root, capture_output=True, check=False, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return "the time, which ran out"
        named = _FAILED.search(ended.stdout)
        return "" if ended.returncode == 0 else named[1] if named else "Python, which does not load it"


def mutate(tests: Sequence[str], count: int, seed: int) -> list[Mutation]:
    """Try mutations, tell of each, and return those that survive.

    Raises:
        RuntimeError: A test fails without any mutation.
    """
    with Copy(tests) as copy:
        began_s = time.monotonic()
        if failing := copy.failing():
            raise RuntimeError(f"without any mutation there fails {failing}")
        timeout_s = _SLOWER_MAX * (time.monotonic() - began_s)
        known = [mutation for path, text in copy.texts() for mutation in mutations_in(path, text)]
        chosen = random.Random(seed).sample(known, min(count, len(known)))  # noqa: S311 - to be planted again
        survivors = []
        for number, mutation in enumerate(chosen, 1):
            test = copy.noticed_by(mutation, timeout_s)
            survivors += [] if test else [mutation]
            _say(f"{number:4} of {len(chosen)}  {mutation}  {'noticed by ' + test if test else 'SURVIVES'}")
        return survivors


def _say(line: str) -> None:
    sys.stdout.write(f"{line}{os.linesep}")
    sys.stdout.flush()


def main() -> int:
    """Run the command line; the exit status is 1 where a mutation survives."""
    parser = argparse.ArgumentParser(
        prog="python -m devtools.mutate_ledger",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=COUNT, help="how many mutations are tried (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="try the mutations of an earlier run (default: by chance)")
    parser.add_argument("tests", nargs="*", default=TESTS, help=f"what runs (default: {' '.join(TESTS)})")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(SEEDS) if given.seed is None else given.seed
    _say(f"seed {seed}")
    survivors = mutate(given.tests, given.count, seed)
    _say(f"{len(survivors)} of {given.count} survive" + "".join(f"{os.linesep}{mutation}" for mutation in survivors))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
