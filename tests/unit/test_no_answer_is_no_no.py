"""Exit status 1 is a command's own "no": upon it a script pays under a new id. Whatever else goes wrong is 3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from processors.ops.exits import EXIT_FAULT
from tests.architecture.source_tree import ROOT

PAYMENT = "0198c0de-0000-7000-8000-000000000001"
WRONG_USAGE = 2
TOO_LONG_S = 60


def balance(*words: str, first: Path | None = None, output: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own; ``first`` holds packages that stand before the installed ones."""
    path = os.pathsep.join(str(folder) for folder in (first, ROOT) if folder is not None)
    return subprocess.run(
        [sys.executable, "-m", "processors.ops.cli", *words],
        env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output,
        stderr=subprocess.PIPE, text=True, check=False, timeout=TOO_LONG_S,
    )  # fmt: skip


@pytest.mark.parametrize("package", ["typer", "MySQLdb"])  # needed at the start, and once it is typed
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("raise ImportError('libmysqlclient.so.24: cannot open shared object file')", "libmysqlclient.so.24"),
        ("raise ModuleNotFoundError(\"No module named 'six'\", name='six')", "the command line needs six"),
        ("import processors.of_a_later_release", "processors.of_a_later_release"),
        ("1 +", "invalid syntax"),
        ("raise RuntimeError('out of the ordinary')", "out of the ordinary"),
        ("class Panic(BaseException): pass\nraise Panic('of native code')", "of native code"),
        ("raise SystemExit(1)", ""),
    ],
)
def test_a_package_that_cannot_be_imported_is_no_answer(package: str, content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text(content, encoding="utf-8")

    ran = balance("tx", "get", PAYMENT, first=tmp_path)

    assert ran.returncode == EXIT_FAULT
    assert told in ran.stderr


def test_a_reader_of_the_output_who_went_away_is_no_answer() -> None:
    theirs, ours = os.pipe()
    os.close(theirs)
    try:
        assert balance("--version", output=ours).returncode == EXIT_FAULT
        assert balance("tx", "--help", output=ours).returncode == EXIT_FAULT
    finally:
        os.close(ours)


def test_output_that_cannot_be_written_is_no_answer() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ran = balance("--version", output=full.fileno())

    assert ran.returncode == EXIT_FAULT
    assert "No space left" in ran.stderr


def test_a_question_answered_with_no_is_no_answer_of_the_service() -> None:
    """The command was not carried out; what its payment became is not said by that."""
    asked = "import typer; from processors.ops.cli import main; from processors.ops.cli.main import app\n"
    asked += "app.command('ask')(lambda: typer.confirm('sure?', abort=True)); main(['ask'])"
    ran = subprocess.run([sys.executable, "-c", asked], input="n\n", capture_output=True, text=True, check=False)

    assert "sure?" in ran.stdout
    assert ran.returncode == EXIT_FAULT


def test_wrong_usage_stays_wrong_usage() -> None:
    assert balance("tx", "get", "no-id").returncode == WRONG_USAGE
    assert balance("tx", "get").returncode == WRONG_USAGE
    assert balance().returncode == WRONG_USAGE
    assert balance("--version").returncode == 0
