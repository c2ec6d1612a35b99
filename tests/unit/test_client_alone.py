"""A program that sends commands needs none of the packages of the extra ``service``."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from processors.ops.exits import EXIT_FAULT
from tests.architecture.source_tree import ROOT


def modules_of_the_extra() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {line.partition("=")[0].rstrip(">").lower() for line in project["optional-dependencies"]["service"]}
    found = {
        name for name, brought_by in packages_distributions().items() if wanted & {each.lower() for each in brought_by}
    }
    assert {"MySQLdb", "cassandra", "typer"} <= found
    return found


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in which the extra's packages cannot be imported."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({sorted(modules_of_the_extra())!r})); "
    return subprocess.run([sys.executable, "-c", hidden + program], capture_output=True, text=True, check=False)


def test_the_client_is_imported_without_what_only_the_service_needs() -> None:
    ran = python("from processors.client import Client; from processors.ledger.commands import Pay")

    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("program", ["", "main(['tx', 'get', '0198c0de-0000-7000-8000-000000000001'])"])
def test_the_command_line_without_it_says_what_to_install_and_exits_with_3_as_it_knows_nothing(program: str) -> None:
    ran = python(f"from processors.ops.cli import main; {program}")

    assert ran.returncode == EXIT_FAULT
    assert "CHECKOUT[service]" in ran.stderr
    assert "Traceback" not in ran.stderr
