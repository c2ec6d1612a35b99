from __future__ import annotations

import ast
from pathlib import Path

import pytest

from devtools.mutate_ledger import LEDGER, ROOT, mutations_in

MODULE = Path("module.py")
MODULES = sorted((ROOT / LEDGER).glob("*.py"))


def mutated(text: str) -> list[str]:
    return [mutation.applied_to(text) for mutation in mutations_in(MODULE, text)]


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("a < b\n", ["a <= b\n", "a >= b\n"]),
        ("a >= b\n", ["a > b\n", "a < b\n"]),
        ("a == b\n", ["a != b\n"]),
        ("a - b\n", ["a + b\n"]),
        ("a += b\n", ["a -= b\n"]),
        ("a and b\n", ["a or b\n"]),
        ("b = not a\n", ["b =  a\n"]),
        ("a is not b\n", ["a is  b\n"]),
        ("a = True\n", ["a = False\n"]),
        ("a = 86_400\n", ["a = 86401\n", "a = 86399\n"]),
        ("é = (\n    1\n)\n", ["é = (\n    2\n)\n", "é = (\n    0\n)\n"]),
    ],
)
def test_one_token_is_changed_at_a_time(text: str, changed: list[str]) -> None:
    assert mutated(text) == changed


@pytest.mark.parametrize("text", ['"""a < b, and 1."""\n', "# 1 < 2\n", "def f(*, a: int) -> None: ...\n", "f(*a)\n"])
def test_what_decides_nothing_is_left_alone(text: str) -> None:
    assert mutated(text) == []


def test_a_decorator_is_left_alone() -> None:
    assert mutated("@dataclass(frozen=True)\nclass A:\n    b: int = 1\n") == [
        "@dataclass(frozen=True)\nclass A:\n    b: int = 2\n",
        "@dataclass(frozen=True)\nclass A:\n    b: int = 0\n",
    ]


def test_a_mutation_says_where_it_is() -> None:
    (mutation,) = mutations_in(MODULE, "a = 0\nb = a is not None\n")[2:]

    assert str(mutation) == "module.py:2: not -> (nothing)"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_mutation_of_the_ledger_is_python(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    for mutation in mutations_in(path, text):
        ast.parse(mutation.applied_to(text))
