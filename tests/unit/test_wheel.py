"""What a wheel brings to a machine that has no checkout: all that a client or a process reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from processors.settings import load_settings
from processors.stores.migrations import read_migrations
from processors.wire import schemas
from tests.architecture.source_tree import ROOT

FOLDERS = ("processors", "schemas", "config")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
SITE = '[shards.eu]\nhost = "db1"\ndatabase = "balance_eu"\n'

PAYS = """
from processors.client import Client
from processors.ledger.commands import Pay
from processors.wire.commands import decode_command, encode_command

command_id = bytes.fromhex("01a227205239724f85552ca20e5a399a")
command = Pay(command_id=command_id, address="acme:vn", currency="USD", amount_minor=1250)
assert decode_command(encode_command(command)) == command
"""

LOOKS = """
import json, processors
from processors.settings import load_settings
from processors.stores import archive_schema
from processors.stores.migrations import read_migrations
from processors.wire import schemas

settings = load_settings()
print(json.dumps({
    "place": processors.__file__,
    "root": str(settings.root),
    "shards": list(settings.shards),
    "worker": settings.worker.model_dump(),
    "schemas": len(schemas.ALL),
    "migrations": [each.digest.hex() for each in read_migrations()],
    "archive": [path.name for path in sorted(archive_schema.FOLDER.iterdir())],
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since what a build leaves in its folder goes into the next wheel."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copy(ROOT / "pyproject.toml", source)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", made, source], check=True)
    (file,) = made.iterdir()
    return file


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site-packages")
    subprocess.run([*PIP, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


def python(*arguments: str, installation: Path, folder: Path, **variables: str) -> str:
    """Run Python with the installation and the packages from outside; without ``site``, which knows the checkout.

    Returns:
        What it printed.
    """
    path = os.pathsep.join((str(installation), sysconfig.get_path("purelib")))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **variables}
    command = [sys.executable, "-S", *arguments]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def site(folder: Path) -> Path:
    """Write a site's configuration: one profile, and no defaults."""
    (folder / "config").mkdir()
    (folder / "config" / "site.toml").write_text(SITE, encoding="utf-8")
    return folder


def test_a_wheel_holds_every_module_and_every_schema_and_no_tool(wheel: Path) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "processors").rglob("*.py")}
    schema_files = {f"processors/{path.relative_to(ROOT)}" for path in (ROOT / "schemas").glob("*/*")}

    with ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}

    page = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "processors/ops/page").rglob("*.*")
        if path.suffix in {".html", ".css"}
    }

    assert held == modules | schema_files | page | {"processors/config/default.toml"}


def test_an_installed_client_writes_and_reads_a_payment(installation: Path, tmp_path: Path) -> None:
    python("-c", PAYS, installation=installation, folder=tmp_path)


def test_an_installed_service_has_its_defaults_and_its_schemas(installation: Path, tmp_path: Path) -> None:
    site(tmp_path)
    found: dict[str, Any] = json.loads(
        python("-c", LOOKS, installation=installation, folder=tmp_path, BALANCE_PROFILE="site")
    )

    assert found == {
        "place": str(installation / "processors" / "__init__.py"),
        "root": str(tmp_path),
        "shards": ["eu"],
        "worker": load_settings("default", environment={}).worker.model_dump(),
        "schemas": len(schemas.ALL),
        "migrations": [each.digest.hex() for each in read_migrations()],
        "archive": sorted(path.name for path in (ROOT / "schemas" / "cassandra").iterdir()),
    }


def test_an_installed_command_line_starts(installation: Path, tmp_path: Path) -> None:
    arguments = ("-m", "processors.ops.cli", "shard", "run", "--help")

    assert "--shard" in python(*arguments, installation=installation, folder=tmp_path)
