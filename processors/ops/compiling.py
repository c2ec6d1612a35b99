"""``python -m processors.ops.compiling`` makes machine code of the modules that decide (``processors.compiled``).

`bin/setup` has it done in a checkout, the Dockerfile in an image; where a wheel was installed an operator does. It
needs a C compiler, as mysqlclient does, and mypy, which brings mypyc (`requirements/compile.txt`). It takes a minute of
one core, and nothing where what is there was made from the same sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from processors.compiled import FOLDER_NAME, MODULES, STAMP_NAME, stamp_of

# -O2: -O3 takes a third longer and saves nothing that can be measured.
_BUILD = """
import sys
from mypyc.build import mypycify
from setuptools import setup

extensions = mypycify(["--ignore-missing-imports", *sys.argv[1:]], opt_level="2", debug_level="0")
setup(name="compiled", packages=[], ext_modules=extensions, script_args=["--quiet", "build_ext", "--inplace"])
"""
_BUILD_S_MAX = 1_200  # a minute of one core, on a busy machine many
_LINES_SHOWN_MAX = 20  # of what the compiler said


def _compile(package: Path) -> None:
    """Compile a package's modules into its folder.

    Raises:
        subprocess.CalledProcessError: There is no compiler, no mypyc, or a module that cannot be compiled.
        subprocess.TimeoutExpired: It took twenty minutes.
        OSError: The folder cannot be written.
    """
    folder, stamp = package / FOLDER_NAME, stamp_of(package)
    with tempfile.TemporaryDirectory(prefix="balance-compiling-") as work:
        source, made = Path(work) / "source", Path(work) / "made"
        shutil.copytree(package, source / package.name, ignore=shutil.ignore_patterns(f"{FOLDER_NAME}*", "__pycache__"))
        _build(source, [f"{package.name}/{name}.py" for name in MODULES])
        for file in source.rglob(f"*{EXTENSION_SUFFIXES[0]}"):
            if "build" not in file.relative_to(source).parts:
                place = made / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(made, folder)
        (folder / STAMP_NAME).write_text(stamp, "utf-8")  # last: what is half there is not used


def _is_made(package: Path) -> bool:
    stamp = package / FOLDER_NAME / STAMP_NAME
    return stamp.is_file() and stamp.read_text("utf-8") == stamp_of(package)


def _build(source: Path, files: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-c", _BUILD, *files],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source), "CFLAGS": "-g0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=_BUILD_S_MAX,
    )


def main(package: Path) -> int:
    """Have a package's modules compiled as its sources are; say on stderr what happens, and return 1 if it failed."""
    if _is_made(package):
        return 0
    _say("compiling what decides payments, which takes a minute")
    try:
        _compile(package)
    except subprocess.CalledProcessError as failure:
        _say(*str(failure.stdout).strip().splitlines()[-_LINES_SHOWN_MAX:])
    except (subprocess.TimeoutExpired, OSError) as failure:
        _say(str(failure))
    else:
        return 0
    _say("not compiled: plain Python runs, and decides the same")
    return 1


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1]))
