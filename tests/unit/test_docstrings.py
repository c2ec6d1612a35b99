"""Examples in docstrings are run, in every module of the service and of its development tools."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import devtools
import processors

MODULES = [
    module.name
    for package in (processors, devtools)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if "__main__" not in module.name
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
