"""Commands of a checkout, typed where there is one and where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from devtools.stack import secured
from tests.architecture.source_tree import ROOT

FAULT = 3
TYPED = [("demo", "--seed", "1"), ("stack", "up"), ("stack", "status", "--json")]


def typed(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own that was started in a folder."""
    command = [sys.executable, "-m", "processors.ops.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and, beside it, somebody else's package ``devtools``, which prints when imported."""
    folder = tmp_path_factory.mktemp("site-packages")
    shutil.copytree(ROOT / "processors", folder / "processors", ignore=shutil.ignore_patterns("__pycache__"))
    foreign = folder / "devtools"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("print('a foreign package was imported')\n", encoding="utf-8")
    return folder


def test_a_checkouts_tools_are_found_from_any_folder(tmp_path: Path) -> None:
    ran = typed("stack", "logs", "--help", folder=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "Print the end of a server's log." in ran.stdout


@pytest.mark.parametrize("arguments", TYPED, ids=" ".join)
def test_an_installation_says_in_a_sentence_that_it_has_no_such_tool(
    installation: Path, arguments: tuple[str, ...]
) -> None:
    ran = typed(*arguments, folder=installation)

    assert ran.returncode == FAULT
    assert ran.stdout == ""
    assert ran.stderr == (
        "balance: this command is a development tool: it belongs to a checkout (its folder devtools/), and is not "
        f"installed in {installation}. Type it in a checkout; `balance up` runs the service on servers that you have\n"
    )


def test_an_installations_help_needs_no_tool(installation: Path) -> None:
    ran = typed("stack", "--help", folder=installation)

    assert ran.returncode == 0, ran.stderr
    assert "balance stack up" in ran.stdout


MAKE = ("make", "--no-print-directory")  # under `make test` it would name its folder


def make_down(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `make down` in a checkout whose set-up only says that it was called."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "bin").mkdir()
    (folder / "bin" / "setup").write_text("#!/bin/sh\necho set-up\n", encoding="utf-8")
    (folder / "bin" / "setup").chmod(0o755)
    return subprocess.run([*MAKE, "down"], cwd=folder, capture_output=True, text=True, check=True, timeout=60)


def test_make_down_sets_nothing_up_where_nothing_can_run(tmp_path: Path) -> None:
    said = make_down(tmp_path)

    assert said.stdout == "nothing of this checkout runs: it has neither .venv nor .stack\n"


def test_make_down_sets_up_what_it_needs_where_servers_may_run(tmp_path: Path) -> None:
    (tmp_path / ".stack").mkdir()

    assert "set-up" in make_down(tmp_path).stdout


def test_a_password_that_several_servers_share_is_drawn_once(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(secured.password(tmp_path / "secrets/mysql-password")))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 16
    assert len(set(found)) == 1
