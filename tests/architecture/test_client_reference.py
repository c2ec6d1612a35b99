"""docs/client-reference.md and the code are equal: classes, fields, types, defaults, limits, calls and exceptions."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any, get_args

import pytest

from processors.client import AsyncClient, Client, ClientConfig
from processors.client.command_ids import CommandIds
from processors.ids import id_text
from processors.ledger import addresses
from processors.ledger.commands import AccountStatus, Direction, PartnersCommand, Policy
from processors.ledger.outcomes import Posting, RefusedBy
from processors.ledger.rules import AMOUNT_MINOR_MAX, METADATA_BYTES_MAX, METADATA_DEPTH_MAX, Rules
from processors.ledger.validity import EXPLANATION_CHARACTERS_MAX
from processors.streams.connection import KafkaAddress
from processors.wire.results import Result, ResultPointer
from tests.architecture.source_tree import ROOT

PAGE = (ROOT / "docs" / "client-reference.md").read_text(encoding="utf-8")
COMMANDS: tuple[type, ...] = get_args(PartnersCommand)
DEFAULTED = (Result, ClientConfig, KafkaAddress)
PLAIN = (Posting, ResultPointer, RefusedBy)
OPERATORS = {"send_control", "submit_control", "send_marker", "submit_marker"}


def table(first: str) -> list[list[str]]:
    """Return the rows of the page's table whose first column has this heading, cell by cell."""
    (rows,) = re.findall(rf"^\| {re.escape(first)} \|.*\n\| ---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in row.removeprefix("|").removesuffix("|").split("|")] for row in rows.splitlines()]


def what_of(field: str) -> str:
    """Return what the page says of a command's field."""
    (what,) = [row[2] for row in table("field of a command") if row[0] == f"`{field}`"]
    return what


def annotations_of(kind: type) -> dict[str, str]:
    """Return a dataclass's annotations as they are written; a compiled class has types in their place."""
    source = (ROOT / f"{kind.__module__.replace('.', '/')}.py").read_text(encoding="utf-8")
    (found,) = (
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    )
    return {
        ast.unparse(part.target): ast.unparse(part.annotation) for part in found.body if isinstance(part, ast.AnnAssign)
    }


def type_of(annotations: Iterable[object]) -> str:
    """Return a type as the page writes it, one that may be None with that at its end."""
    names = {name for annotation in annotations for name in str(annotation).split(" | ")}
    return ", ".join(sorted(names, key=lambda name: name == "None"))


def written(default: object) -> str:
    """Return a default as one writes it in Python."""
    return f"{type(default).__name__}.{default.name}" if isinstance(default, Enum) else repr(default)


def default_of(field: Field[Any]) -> str:
    return "" if field.default is MISSING else f"`{written(field.default)}`"


def signature(command: type) -> str:
    """Return how a command is made, as the page writes it."""
    parts = [
        field.name if field.default is MISSING else f"{field.name}={written(field.default)}"
        for field in fields(command)
    ]
    return f"`{command.__name__}({', '.join(parts)})`"


def test_every_command_of_a_partner_is_shown_with_its_fields_and_defaults() -> None:
    assert [row[0] for row in table("command, with its defaults")] == [signature(command) for command in COMMANDS]


def test_every_field_of_a_command_is_explained_with_its_type() -> None:
    types: dict[str, list[object]] = {}
    for field in (field for command in COMMANDS for field in fields(command)):
        types.setdefault(f"`{field.name}`", []).append(field.type)

    assert {row[0]: row[1] for row in table("field of a command")} == {
        name: type_of(found) for name, found in types.items()
    }


@pytest.mark.parametrize("kind", DEFAULTED)
def test_every_field_is_explained_with_its_type_and_default(kind: type) -> None:
    explained = [row[:3] for row in table(f"field of `{kind.__name__}`")]

    assert explained == [
        [f"`{field.name}`", type_of([annotations_of(kind)[field.name]]), default_of(field)] for field in fields(kind)
    ]


@pytest.mark.parametrize("kind", PLAIN)
def test_every_field_of_a_part_of_a_result_is_explained_with_its_type(kind: type) -> None:
    explained = [row[:2] for row in table(f"field of `{kind.__name__}`")]

    assert explained == [[f"`{field.name}`", type_of([annotations_of(kind)[field.name]])] for field in fields(kind)]


@pytest.mark.parametrize(
    ("field", "limits"),
    [
        ("amount_minor", [f"1 to {AMOUNT_MINOR_MAX} "]),
        ("overdraft_limit", [f"0 to {AMOUNT_MINOR_MAX}:"]),
        ("metadata", [f"{METADATA_BYTES_MAX} bytes", f"{METADATA_DEPTH_MAX} levels"]),
        ("explanation", [f"1 to {EXPLANATION_CHARACTERS_MAX} characters"]),
        ("expires_in_ms", [f", {Rules(version=1).longest_hold_ms} ("]),
        ("original_id", [f"at most {Rules(version=1).refund_period_ms // 86_400_000} days"]),
        (
            "address",
            [
                f"1 to {addresses.LEVELS_MAX} segments",
                f"1 to {addresses.SEGMENT_CHARACTERS_MAX} of",
                f"{addresses.ADDRESS_BYTES_MAX} characters",
            ],
        ),
        *(
            (name, [f"`{member}`" for member in kind])
            for name, kind in (("policy", Policy), ("status", AccountStatus), ("direction", Direction))
        ),
    ],
)
def test_a_field_is_explained_with_its_limits(field: str, limits: list[str]) -> None:
    assert [limit for limit in limits if limit not in what_of(field)] == []


def calls(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def parameters(call: Callable[..., object], left_out: set[str]) -> str:
    """Return a call's parameters as the page writes them."""
    found = list(inspect.signature(call).parameters.values())
    shown = [
        each.name if each.default is inspect.Parameter.empty else f"{each.name}={each.default!r}"
        for each in found
        if each.name not in {"self", *left_out}
    ]
    return ", ".join(shown)


def test_every_call_of_the_client_is_shown_with_its_arguments_and_defaults() -> None:
    methods = [f"`client.{name}({parameters(getattr(Client, name), set())})`" for name in calls(Client) - OPERATORS]

    made = f"`Client({parameters(Client, {'connections'})})`"  # its connections are for tests
    assert {row[0] for row in table("call")} == {made, *methods}


def test_the_calls_of_asyncio_and_of_operators_are_named() -> None:
    assert [name for name in calls(AsyncClient) | OPERATORS if name not in PAGE] == []


@pytest.mark.parametrize("call", [Client.__init__, Client.send])
def test_every_exception_that_a_call_raises_is_explained(call: Callable[..., object]) -> None:
    raised = re.findall(r"^ {4}(\w+): ", (inspect.getdoc(call) or "").partition("Raises:\n")[2], re.MULTILINE)

    assert raised
    assert {f"`{name}`" for name in raised} <= {row[0] for row in table("exception")}


def test_the_examples_of_the_page_answer_what_it_shows() -> None:
    shown = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(shown, {}, "page", None, None)

    assert doctest.DocTestRunner().run(examples, clear_globs=False).failed == 0
    names = examples.globs
    assert id_text(names["command_id"]) == names["text"], "as the command line writes it"
    assert len(CommandIds().next()) == len(names["command_id"])
