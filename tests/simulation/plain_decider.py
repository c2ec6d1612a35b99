"""The decider as plain Python, also where it runs compiled: a compiled class has no subclasses but compiled ones."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import TYPE_CHECKING

from tests.architecture.source_tree import ROOT

if TYPE_CHECKING:
    from processors.lane.deciding import Decider
else:
    _NAME = "processors.lane.deciding"
    _LOADER = SourceFileLoader(_NAME, str(ROOT / "processors/lane/deciding.py"))
    _MODULE = module_from_spec(spec_from_loader(_NAME, _LOADER))
    _LOADER.exec_module(_MODULE)
    Decider = _MODULE.Decider

__all__ = ["Decider"]
