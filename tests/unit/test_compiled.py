"""Compiled modules run only where they are what the sources say, and nobody switched them off."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from processors import compiled
from processors.compiled import FOLDER_NAME, MODULES, STAMP_NAME, SWITCH, stamp_of
from processors.ops import compiling
from tests.architecture.source_tree import ROOT


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a copy of the package, with a folder of compiled modules in which none is."""
    copy = tmp_path / "processors"
    shutil.copytree(ROOT / "processors", copy, ignore=shutil.ignore_patterns(f"{FOLDER_NAME}*", "__pycache__"))
    (copy / FOLDER_NAME).mkdir()
    (copy / FOLDER_NAME / STAMP_NAME).write_text(stamp_of(copy), "utf-8")
    return copy


def told_by(package: Path, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", "from processors import compiled; print(compiled.told())"],
        cwd=package.parent,
        env={**os.environ, SWITCH: "1", "PYTHONPATH": str(package.parent), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()


def test_compiled_modules_run_while_their_sources_are_as_they_were(package: Path) -> None:
    assert told_by(package) == "compiled"


def test_an_edited_module_runs_as_plain_python_with_all_others(package: Path) -> None:
    edited = package / "ledger/postings.py"
    edited.write_text(edited.read_text("utf-8") + "\n", "utf-8")

    assert told_by(package).startswith("plain Python: the compiled modules are of another source")


def test_the_switch_leaves_compiled_modules_out(package: Path) -> None:
    assert told_by(package, **{SWITCH: "0"}) == "plain Python: BALANCE_COMPILED=0"


def test_where_nothing_is_compiled_plain_python_runs(package: Path) -> None:
    shutil.rmtree(package / FOLDER_NAME)

    assert told_by(package) == "plain Python: nothing is compiled: `python -m processors.ops.compiling`"


def test_what_is_said_to_be_compiled_is() -> None:
    if compiled.is_compiled():
        loaded = {name: sys.modules.get(f"processors.{name.replace('/', '.')}") for name in MODULES}
        plain = [
            name
            for name, module in loaded.items()
            if module is not None and not str(module.__file__).endswith(EXTENSION_SUFFIXES[0])
        ]
        assert plain == []


def test_what_cannot_be_compiled_is_told_and_leaves_plain_python(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "processors"
    for name in MODULES:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text("", "utf-8")
    (package / f"{MODULES[0]}.py").write_text("def broken(:\n", "utf-8")

    assert compiling.main(package) == 1

    told = capfd.readouterr().err.splitlines()
    assert f"{MODULES[0]}.py:1:" in told[1]
    assert told[-1] == "not compiled: plain Python runs, and decides the same"
    assert not (package / FOLDER_NAME).exists()


def test_what_is_compiled_is_not_compiled_again(package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert (compiling.main(package), capfd.readouterr().err) == (0, "")


def test_every_module_that_is_compiled_is_there() -> None:
    assert [name for name in MODULES if not (ROOT / f"processors/{name}.py").is_file()] == []
