"""Limits of size, and words, of the house style."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from processors.streams.topics import service_topics
from tests.architecture.source_tree import Module, functions, imports, service, suite, tools

FUNCTION_LINES_MAX = 50
NESTING_MAX = 3
MODULE_LINES_MAX = 500
EVERY_TOPIC = service_topics(
    commands=1, results=1, lanes={}, dead_letters=1, archived=1, min_insync_replicas=1,
    days=dict.fromkeys(("commands", "shard", "results", "dead_letters", "archived"), 1),
)  # fmt: skip

NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
# Left column: what the words table of the house style says instead.
WORDS_NOT_OURS = {
    "tenant": "partner", "merchant": "partner", "wallet": "partner or account", "authorize": "hold",
    "archiver": "sink", "cleaner": "remover", "sweeper": "expirer", "watchdog": "supervisor",
    "msg": "record", "txn": "transaction", "amt": "amount", "acct": "account", "cfg": "settings", "mgr": "a noun",
    "cmd": "command", "req": "command", "resp": "result", "cnt": "count", "idx": "index", "tmp": "what it is",
}  # fmt: skip
# What the simulation had its own words for: right is what the field says (Jepsen, mutation testing).
SIMULATION_WORDS_NOT_OURS = {
    "world": "environment", "weather": "run options", "fate": "nemesis", "mishap": "disruption",
    "disaster": "log damage", "customer": "workload", "power": "crash points",
    "teeth": "mutations", "flaw": "mutation", "straight": "model",
}  # fmt: skip


def named_things(module: Module) -> set[str]:
    """Return every name that a module gives: to functions, classes, arguments and variables."""
    names = {node.name for node in module.nodes if isinstance(node, ast.ClassDef)}
    names |= {function.name for function in functions(module)}
    names |= {node.arg for node in module.nodes if isinstance(node, ast.arg)}
    names |= {node.id for node in module.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names


def words_of(name: str) -> set[str]:
    """Split ``snake_case`` and ``CamelCase`` into lower-case words."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def test_a_function_stops_at_fifty_lines() -> None:
    long = [
        f"{module.place}:{each.lineno} {each.name}: {each.end_lineno - each.lineno + 1} lines"
        for module in service() + tools()
        for each in functions(module)
        if each.end_lineno is not None and each.end_lineno - each.lineno + 1 > FUNCTION_LINES_MAX
    ]

    assert not long


def test_a_module_stops_at_five_hundred_lines() -> None:
    lines = {module.place: len(module.text.splitlines()) for module in service() + tools() + suite()}

    assert {place: count for place, count in lines.items() if count > MODULE_LINES_MAX} == {}


def test_a_module_begins_with_a_sentence_that_says_what_it_is() -> None:
    firsts = {
        module.place: (ast.get_docstring(module.tree) or "").partition("\n\n")[0].rstrip()
        for module in service() + tools()
        if module.text.strip()
    }

    assert [place for place, first in firsts.items() if not first.endswith((".", "?", ":"))] == []


def test_a_module_is_named_for_what_it_holds() -> None:
    names = [module.name for module in service() + tools()]

    assert [name for name in names if NAMES_THAT_SAY_NOTHING & set(name.split("."))] == []


def test_names_use_the_words_of_the_field() -> None:
    strange = {
        f"{module.place} {name}: say {WORDS_NOT_OURS[word]}"
        for module in service() + tools()
        for name in named_things(module)
        for word in words_of(name) & set(WORDS_NOT_OURS)
    }

    assert not strange


def test_the_simulation_uses_the_words_of_its_field() -> None:
    strange = {
        f"{module.place} {name}: say {SIMULATION_WORDS_NOT_OURS[word]}"
        for module in suite()
        if module.name.startswith("tests.simulation")
        for name in named_things(module)
        for word in {each.removesuffix("s") for each in words_of(name)} & set(SIMULATION_WORDS_NOT_OURS)
    }

    assert not strange


def test_nothing_is_left_for_later() -> None:
    left = [
        f"{module.place}:{number}"
        for module in service() + tools() + suite()
        for number, line in enumerate(module.text.splitlines(), 1)
        if re.search(r"#.*\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", line)
    ]

    assert not left


def test_our_own_code_is_never_replaced_in_a_test() -> None:
    mocking = [module.place for module in suite() if any(name.startswith("unittest.mock") for name in imports(module))]
    patching = [
        f"{module.place}:{each.lineno} {each.name}"
        for module in suite()
        for each in functions(module)
        if {argument.arg for argument in each.args.args} & {"monkeypatch", "mocker"}
    ]

    assert mocking == patching == []


def test_money_meets_no_float() -> None:
    strange = [
        f"{module.place}:{node.lineno}"
        for module in service() + tools()
        for node in module.nodes
        if isinstance(node, ast.expr | ast.stmt) and makes_a_float(node, module.name.startswith("processors.ledger"))
    ]

    assert not strange


def makes_a_float(node: ast.AST, in_ledger: bool) -> bool:
    """Say whether a float of money is made here: in the ledger any float, elsewhere a division of minor units."""
    return is_divided(node, "" if in_ledger else "minor") or (in_ledger and is_float(node))


def is_divided(node: ast.AST, of: str) -> bool:
    """Say whether ``/`` stands here, which makes a float of two integers, with some text in either side."""
    return isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div) and of in ast.unparse(node)


def is_float(node: ast.AST) -> bool:
    named = isinstance(node, ast.Name) and node.id in {"float", "round"}
    return named or (isinstance(node, ast.Constant) and isinstance(node.value, float))


@pytest.mark.parametrize("text", ["a / b", "a /= b", "float(a)", "a * 0.5", "x: float = 1", "1e3"])
def test_a_float_in_the_ledger_is_found(text: str) -> None:
    assert any(makes_a_float(node, in_ledger=True) for node in ast.walk(ast.parse(text)))


def test_a_topics_name_is_written_once() -> None:
    names = {spec.name for spec in EVERY_TOPIC}
    written = [
        (module.name, node.value)
        for module in service() + tools()
        for node in module.nodes
        if isinstance(node, ast.Constant) and node.value in names
    ]

    assert sorted(written) == [("processors.streams.topics", name) for name in sorted(names)]


BLOCKS = ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match | ast.AsyncFor | ast.AsyncWith


def nesting(node: ast.AST) -> int:
    """Return how many blocks lie in one another below a node; ``elif`` is no deeper than its ``if``."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def test_blocks_are_nested_three_deep_at_most() -> None:
    deep = [
        f"{module.place}:{each.lineno} {each.name}"
        for module in service() + tools()
        for each in functions(module)
        if nesting(each) > NESTING_MAX
    ]

    assert not deep


def test_a_class_name_means_one_thing() -> None:
    found = Counter(
        node.name for module in service() + tools() for node in module.nodes if isinstance(node, ast.ClassDef)
    )

    assert not {name for name, count in found.items() if count > 1}
