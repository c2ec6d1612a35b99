"""Which modules may run as machine code, and whether they do: the same source, compiled by mypyc.

`bin/setup` puts them into ``processors/_compiled`` (``ops.compiling``). They are taken from there only while every one
of them is what its source says now: whoever edits one runs plain Python until they are compiled again.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

_COMPILE = "python -m processors.ops.compiling"
SWITCH = "BALANCE_COMPILED"
"""The environment's variable that is 0 where plain Python is to run although compiled modules are there."""
_PACKAGE = Path(__file__).parent
FOLDER_NAME = "_compiled"
STAMP_NAME = "made-from"
# What a payment passes in a lane. Not the commands: whoever sends one may give a field any value, and is told by the
# encoder what to write instead. Not what is there once a batch, nor whatever costs more time to compile than it saves.
MODULES = (
    "ids", "ledger/accounts", "ledger/addresses", "ledger/decide", "ledger/holds", "ledger/identity", "ledger/metadata",
    "ledger/movements", "ledger/needs", "ledger/outcomes", "ledger/postings", "ledger/refunds", "ledger/rejections",
    "ledger/rows", "ledger/transfers", "ledger/validity", "routing/buckets", "wire/admission",
    "wire/avro", "wire/commands", "wire/guard", "wire/packed_ids", "wire/packed_rows", "wire/result_format",
    "wire/result_skim", "wire/result_symbols", "wire/results", "wire/route", "wire/records",
    "lane/deciding", "lane/standing",
)  # fmt: skip


class _Compiled(MetaPathFinder):
    """Finds the modules that were compiled, before their sources are looked for."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        file = self._files.get(name)
        if file is None:
            return None
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, str(file)))


def stamp_of(package: Path) -> str:
    """Return what compiled modules must have been made from: this Python, and the sources as they are."""
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {' '.join(MODULES)}".encode())
    for name in MODULES:
        digest.update(hashlib.sha256((package / f"{name}.py").read_bytes()).digest())
    return digest.hexdigest()


def prefer() -> None:
    """Have the compiled modules imported, if all are there, made from the sources as they are, and not switched off."""
    folder = _PACKAGE / FOLDER_NAME
    stamp = folder / STAMP_NAME
    if os.environ.get(SWITCH) == "0" or not stamp.is_file() or stamp.read_text("utf-8") != stamp_of(_PACKAGE):
        return
    suffix = EXTENSION_SUFFIXES[0]
    files = {
        str(file.relative_to(folder)).removesuffix(suffix).replace("/", "."): file
        for file in folder.rglob(f"*{suffix}")
    }
    sys.meta_path.insert(0, _Compiled(files))


def is_compiled() -> bool:
    """Say whether the compiled modules run in this process."""
    return any(isinstance(finder, _Compiled) for finder in sys.meta_path)


def told() -> str:
    """Return in words for an operator whether compiled modules run, and why not."""
    if is_compiled():
        return "compiled"
    if os.environ.get(SWITCH) == "0":
        return f"plain Python: {SWITCH}=0"
    if (_PACKAGE / FOLDER_NAME).is_dir():
        return f"plain Python: the compiled modules are of another source: `{_COMPILE}`"
    return f"plain Python: nothing is compiled: `{_COMPILE}`"
