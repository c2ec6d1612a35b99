"""Examples in docstrings are run, in every module of the service."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import processors

MODULES = [
    module.name for module in pkgutil.walk_packages(processors.__path__, "processors.") if "__main__" not in module.name
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
