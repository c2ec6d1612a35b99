"""What the service defines is used by the service, and a tool by the tools: tests alone keep nothing alive."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache

from tests.architecture.source_tree import Module, service, tools

# Named by somebody outside, or called by what we derive from.
USED_FROM_OUTSIDE = {
    "AsyncClient": "for gateways written with asyncio",
    "decode_archived": "for programs that read balance.archived, which no process of ours does (decision 15)",
    "settings_customise_sources": "pydantic-settings' hook",
    "find_spec": "importlib's, of whoever finds modules",
    "do_GET": "http.server's",
    "log_message": "http.server's",
    "on_read_timeout": "the Cassandra driver's retry policy",
    "on_write_timeout": "the Cassandra driver's retry policy",
    "seekable": "fastavro asks it of a file",
    "on_unavailable": "the Cassandra driver's retry policy",
    "on_request_error": "the Cassandra driver's retry policy",
}
# Used by the development tools alone, and in the service since a layer of it is their only home.
USED_BY_A_TOOL = {
    "insist": "the sample day ends with the first process that is given up; only the supervisor knows",
    "render": "the progress bar's hook of rich",
    "SECURE_PROFILE": "the secured servers' profile of settings",
    "OWNER_RIGHTS": "roles of the secured Cassandra: only stores/ speaks CQL",
    "ROW_RIGHTS": "the same",
    "READ_RIGHTS": "the same",
    "Roles": "the same",
    "make_administrator": "the same",
    "forbid": "the same",
    "Administrator": "users and rights of the secured Kafka: only streams/ knows its client",
    "set_passwords": "the same",
    "grant": "the same",
}
# How the table of commands names the function of each: `module:function`.
_PLACE = re.compile(r"[a-z_.]+:[a-z_]+")
DECORATED_BY_HOOKS = ("field_validator", "model_validator", "app.callback")


@cache
def used_by(users: tuple[Module, ...]) -> frozenset[str]:
    names: set[str] = set()
    for module in users:
        for node in module.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _PLACE.fullmatch(node.value):
                names.add(node.value.partition(":")[2])
    return frozenset(names)


def defined(module: Module) -> Iterator[tuple[int, str]]:
    for node in module.nodes:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            hooks = [ast.unparse(mark) for mark in node.decorator_list]
            if not any(mark.startswith(DECORATED_BY_HOOKS) for mark in hooks):
                yield node.lineno, node.name
    for statement in module.tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        yield from ((statement.lineno, target.id) for target in targets if isinstance(target, ast.Name))


def idle(defining: Iterable[Module], used: frozenset[str]) -> list[str]:
    return [
        f"{module.place}:{line} {name}"
        for module in defining
        for line, name in defined(module)
        if name not in used and not name.startswith("__")
    ]


def test_whatever_is_defined_is_used() -> None:
    assert idle(service(), used_by(service()).union(USED_FROM_OUTSIDE, USED_BY_A_TOOL)) == []
    assert idle(tools(), used_by(service() + tools())) == []


def test_an_exception_is_needed() -> None:
    names = {name for module in service() for _, name in defined(module)}

    assert set(USED_FROM_OUTSIDE) <= names - used_by(service())
    assert set(USED_BY_A_TOOL) <= names & used_by(tools()) - used_by(service())
