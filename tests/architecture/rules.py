"""Which tests keep which rule of docs/protocol.md: ``python -m tests.architecture.rules`` writes tests/rules.md.

Read from the source (``@pytest.mark.rule("L3")``), not from a run, so that no server is needed. A mark may stand on a
test, on one of its parameters, on a class, or in ``pytestmark`` for a whole file.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.architecture.source_tree import ROOT, Module, suite

PROTOCOL = ROOT / "docs/protocol.md"
LIST = ROOT / "tests/rules.md"
LATER = "## Rules of later releases"

_NUMBER = re.compile(r"(?<![\w.:-])([AFHILMPRTVW])([1-9][0-9]?)(?![\w:-]|\.[0-9])")
_RANGE = re.compile(r"\*\*([A-Z])(\d+)\*\* to \*\*[A-Z](\d+)\*\*")
_PARAGRAPH = re.compile(r"^\*\*([A-Z])(\d+)\.(?: ([^*]+?)\.?)?\*\*", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Kept:
    """One test that is marked with a rule."""

    rule: str
    file: str
    test: str


def due() -> dict[str, str]:
    """Return the rules that this release keeps, in the order of the page, with their titles (empty for some)."""
    text, _, _ = PROTOCOL.read_text(encoding="utf-8").partition(LATER)
    return _titles(text)


def _titles(text: str) -> dict[str, str]:
    return {letter + number: " ".join(title.split()) for letter, number, title in _PARAGRAPH.findall(text)}


def later() -> set[str]:
    """Return the numbers that are kept free for later releases."""
    _, found, text = PROTOCOL.read_text(encoding="utf-8").partition(LATER)
    assert found, f"{PROTOCOL} has no section {LATER}"
    ranges = {f"{letter}{number}" for letter, a, b in _RANGE.findall(text) for number in range(int(a), int(b) + 1)}
    return ranges | {letter + number for letter, number in re.findall(r"\*\*([A-Z])(\d+)\*\*", text)}


@cache
def kept() -> tuple[Kept, ...]:
    """Return every pair of rule and test, sorted, each once."""
    found = {
        Kept(rule=rule, file=module.path.relative_to(ROOT / "tests").as_posix(), test=test)
        for module in suite()
        for test, rule in _marked(module)
    }
    return tuple(sorted(found))


def _marked(module: Module) -> Iterator[tuple[str, str]]:
    everywhere = [rule for node in module.tree.body if _is_pytestmark(node) for rule in _rules_in(node)]
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef):
            of_class = [rule for mark in node.decorator_list for rule in _rules_in(mark)]
            yield from _of_tests(node.body, everywhere + of_class)
    yield from _of_tests(module.tree.body, everywhere)


def _of_tests(body: list[ast.stmt], inherited: list[str]) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = [rule for mark in node.decorator_list for rule in _rules_in(mark)]
            assert not own or node.name.startswith("test"), f"{node.name} is marked with {own} and is no test"
            if node.name.startswith("test"):
                yield from ((node.name, rule) for rule in inherited + own)


def _is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
    )


def _rules_in(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.rule":
            assert not call.keywords, ast.unparse(call)
            assert len(call.args) == 1, ast.unparse(call)
            yield ast.literal_eval(call.args[0])


def named(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and number of each rule that a comment or a docstring of a module names."""
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], letter + number) for letter, number in _NUMBER.findall(token.string))
    for node in module.nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            line = getattr(node, "lineno", 1)
            yield from ((line, letter + number) for letter, number in _NUMBER.findall(ast.get_docstring(node) or ""))


def page() -> str:
    """Return what tests/rules.md must hold."""
    tests = kept()
    lines = [
        "# Which tests keep which rule",
        "",
        "Made from the tests' marks by `python -m tests.architecture.rules`;",
        "the rules are in [docs/protocol.md](../docs/protocol.md).",
    ]
    for rule, title in due().items():
        lines += ["", f"## {rule}{': ' if title else ''}{title}", *_listed(rule, tests)]
    lines += ["", "# Rules of later releases, which have a model"]
    titles = _titles(PROTOCOL.read_text(encoding="utf-8").partition(LATER)[2])
    for rule in sorted(later() & {each.rule for each in tests}, key=lambda rule: (rule[0], int(rule[1:]))):
        lines += ["", f"## {rule}: {titles[rule]}", *_listed(rule, tests)]
    return "\n".join(lines) + "\n"


def _listed(rule: str, tests: tuple[Kept, ...]) -> list[str]:
    return ["", *(f"- {each.file}: {_sentence(each.test)}" for each in tests if each.rule == rule)]


def _sentence(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


if __name__ == "__main__":
    LIST.write_text(page(), encoding="utf-8")
