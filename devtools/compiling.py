"""``python -m devtools.compiling``: makes machine code of the modules that decide payments (``processors.compiled``).

It needs a C compiler, as mysqlclient does, and mypy, which brings mypyc (`requirements/dev.txt`). A minute; nothing
where what is there was made from the same sources.
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
_BUILD_S_MAX = 1_200  # thirty seconds on a quiet machine


def compile_into(package: Path) -> bool:
    """Compile a package's modules into its folder; return False where that was done already.

    Raises:
        subprocess.CalledProcessError: There is no compiler, no mypyc, or a module that cannot be compiled.
        subprocess.TimeoutExpired: It took twenty minutes.
    """
    folder = package / FOLDER_NAME
    stamp = stamp_of(package)
    if (folder / STAMP_NAME).is_file() and (folder / STAMP_NAME).read_text("utf-8") == stamp:
        return False
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
    return True


def _build(source: Path, files: list[str]) -> None:
    subprocess.run(
        [sys.executable, "-c", _BUILD, *files],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source), "CFLAGS": "-g0"},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=_BUILD_S_MAX,
    )


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "processors")
