"""The project's Python files, parsed once and walked once, and what each imports.

A rule about modules is one test that lists every place: thousands of tests of one module each cost more than all rules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Module:
    """A Python file; ``name`` is dotted, as it is imported; ``nodes`` are all of ``tree``."""

    name: str
    path: Path
    text: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]

    @property
    def place(self) -> str:
        """Return the path from the project's folder, for failures."""
        return str(self.path.relative_to(ROOT))


@cache
def modules(folder: str) -> tuple[Module, ...]:
    """Return every module below a folder, sorted by path."""
    return tuple(parsed(path.read_text("utf-8"), path) for path in sorted((ROOT / folder).rglob("*.py")))


def service() -> tuple[Module, ...]:
    """Return what is installed."""
    return modules("processors")


def tools() -> tuple[Module, ...]:
    """Return the development tools of a checkout."""
    return modules("devtools")


def suite() -> tuple[Module, ...]:
    """Return every test, and what tests are made of."""
    return modules("tests")


def parsed(text: str, path: Path = ROOT / "example.py") -> Module:
    """Return a module of a text; its name is made from the path."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    tree = ast.parse(text, filename=str(path))
    return Module(name=name, path=path, text=text, tree=tree, nodes=tuple(ast.walk(tree)))


def imports(module: Module) -> Iterator[str]:
    """Yield the dotted name of everything a module imports, wherever in it the import stands."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.place}:{node.lineno}: imports are written in full"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method of a module."""
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
