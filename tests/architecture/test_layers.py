"""Who may import whom: the table of the house style, checked against the source."""

from __future__ import annotations

import re
import sys
import tomllib

from setuptools import find_packages

from processors.ops.process_kinds import KINDS
from tests.architecture.source_tree import ROOT, Module, imports, service, tools

FLOOR = {"ids", "faults"}
PURE = FLOOR | {"ledger", "routing", "wire"}

# Arrows point down only. `settings` is read in ops and passed down; what rules are possible it asks the ledger.
MAY_IMPORT: dict[str, set[str]] = {
    "ids": set(),
    "version": set(),
    "compiled": set(),
    "shipped": set(),
    "faults": set(),
    "telemetry": FLOOR,
    "metrics": FLOOR,
    "troubles": FLOOR | {"metrics", "telemetry"},
    "setting_types": FLOOR | {"ledger"},
    "stack_settings": {"setting_types"},
    "api_settings": {"setting_types"},
    "settings": FLOOR | {"compiled", "shipped", "ledger", "setting_types", "stack_settings", "api_settings"},
    "ledger": FLOOR,
    "routing": FLOOR,
    "wire": FLOOR | {"shipped", "ledger", "routing"},
    "stores": FLOOR | {"shipped", "metrics", "telemetry", "troubles", "ledger", "routing", "wire"},
    "streams": FLOOR | {"metrics", "telemetry", "troubles", "ledger", "routing", "wire"},
    "client": FLOOR | {"metrics", "telemetry", "troubles", "ledger", "routing", "wire", "stores", "streams"},
    "lane": FLOOR | {"metrics", "telemetry", "troubles", "ledger", "routing", "wire", "stores", "streams"},
    "archive": FLOOR | {"metrics", "telemetry", "troubles", "ledger", "routing", "wire", "stores", "streams"},
    "workers": FLOOR
    | {"metrics", "telemetry", "troubles", "ledger", "routing", "wire", "stores", "streams", "lane", "archive"},
    "recovery": FLOOR
    | {"metrics", "telemetry", "troubles", "ledger", "routing", "wire", "stores", "streams", "lane", "archive"}
    | {"client"},
    "lookup": FLOOR | {"metrics", "telemetry", "troubles", "ledger", "routing", "wire", "stores", "streams", "lane"},
    "ops": FLOOR
    | {
        "version",
        "compiled",
        "metrics",
        "telemetry",
        "troubles",
        "settings",
        "ledger",
        "routing",
        "wire",
        "stores",
        "streams",
        "lane",
        "archive",
        "workers",
        "client",
        "recovery",
        "lookup",
    },
}

# A driver's type or exception never leaves the layer that knows the driver.
HOME_OF_PACKAGE: dict[str, set[str]] = {
    "fastavro": {"wire"},
    "MySQLdb": {"stores"},
    "backports": {"stores"},  # of zstd, which Python has from 3.14 on as the next one
    "compression": {"stores"},
    "cassandra": {"stores"},
    "confluent_kafka": {"streams"},
    "structlog": {"telemetry"},
    "prometheus_client": {"metrics"},
    "pydantic": {"settings", "setting_types", "stack_settings", "api_settings"},
    "pydantic_settings": {"settings"},
    "typer": {"ops"},
    "rich": {"ops"},
    "starlette": {"ops"},
    "jinja2": {"ops"},
    "uvicorn": {"ops"},
}

# What would make a decision depend on something that is not in the log.
IMPURE = {
    "asyncio", "concurrent", "datetime", "http", "logging", "multiprocessing", "os", "random", "secrets", "select",
    "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "zoneinfo",
}  # fmt: skip


def layer_of(name: str) -> str:
    """Return the layer of a dotted name below ``processors``; the package itself is its own reading guide."""
    return name.split(".")[1] if "." in name else "processors"


def outside_packages(module: Module) -> set[str]:
    return {name.split(".")[0] for name in imports(module)} - set(sys.stdlib_module_names) - {"processors"}


def reaches_up_or_sideways(module: Module) -> set[str]:
    layer = layer_of(module.name)
    ours = {layer_of(name) for name in imports(module) if name.startswith("processors.")}
    return ours - {layer} - (MAY_IMPORT[layer] if layer != "processors" else {"compiled"})


def test_a_layer_imports_only_the_layers_below_it() -> None:
    found = {module.place: reaches_up_or_sideways(module) for module in service()}

    assert {place: layers for place, layers in found.items() if layers} == {}


def test_a_package_from_outside_is_known_to_one_layer() -> None:
    strange = [
        f"{module.place} imports {package}, whose layer is {HOME_OF_PACKAGE.get(package)}"
        for module in service()
        for package in outside_packages(module)
        if layer_of(module.name) not in HOME_OF_PACKAGE.get(package, set())
    ]

    assert not strange


def test_a_pure_layer_imports_no_clock_no_chance_no_environment_and_no_socket() -> None:
    reached = {
        module.place: {name.split(".")[0] for name in imports(module)} & IMPURE
        for module in service()
        if layer_of(module.name) in PURE
    }

    assert {place: names for place, names in reached.items() if names} == {}


def test_one_file_of_workers_is_one_process() -> None:
    files = {module.name.rpartition(".")[2] for module in service() if module.name.startswith("processors.workers.")}

    assert files == set(KINDS)


# Development tools stand above the service, which reaches them from one place, once one of their commands is typed.
WAY_TO_THE_TOOLS = {"processors.ops.cli.checkout", "processors.ops.cli.commands", "processors.ops.crashes"}


def test_the_service_names_the_development_tools_in_one_place_and_imports_them_nowhere() -> None:
    importing = [each.place for each in service() if "devtools" in {name.split(".")[0] for name in imports(each)}]
    naming = {each.name for each in service() if re.search(r"\bdevtools\b", each.text)}

    assert importing == []
    assert naming == WAY_TO_THE_TOOLS


def test_a_development_tool_stands_on_the_service_and_on_no_driver_and_no_test() -> None:
    reached = {module.place: outside_packages(module) - {"devtools", "typer", "rich"} for module in tools()}

    assert {place: packages for place, packages in reached.items() if packages} == {}


def test_development_tools_are_neither_installed_nor_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()

    setuptools = project["tool"]["setuptools"]
    ours = find_packages(str(ROOT), include=["processors", "processors.*"])
    assert sorted(setuptools["packages"]) == sorted([*ours, *setuptools["package-dir"]])
    assert not [folder for folder in setuptools["package-dir"].values() if not folder.startswith(("schemas", "config"))]
    assert allowed[0] == "*"
    assert not [line for line in allowed if "devtools" in line or line == "!**"]


def test_every_layer_of_the_table_exists_and_every_folder_is_in_it() -> None:
    found = {layer_of(module.name) for module in service()} - {"processors"}

    assert found <= set(MAY_IMPORT)
