"""What the native stack needs of the machine and cannot bring itself: Java 17 and Maven.

``bin/setup`` installs them before there is a virtual environment; here they are only found, or named.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from processors.faults import Misconfigured

JAVA_VERSION = 17  # Cassandra 5.0 runs on 11 and 17 only, Kafka 4 from 17 on
VIRTUAL_MACHINES = Path("/usr/lib/jvm")  # where Debian installs them


def find_java() -> Path:
    """Return the ``java`` of a Java 17: that of JAVA_HOME, of PATH, or any that Debian installed.

    Raises:
        Misconfigured: There is none; the text says what to type.
    """
    for program in _javas():
        if program.is_file() and _major_version(program) == JAVA_VERSION:
            return program
    raise Misconfigured(f"Java {JAVA_VERSION} is missing; on Debian type: apt-get install openjdk-17-jre-headless")


def find_maven() -> Path:
    """Return the ``mvn`` of PATH.

    Raises:
        Misconfigured: There is none; the text says what to type.
    """
    program = shutil.which("mvn")
    if program is None:
        raise Misconfigured("Maven is missing; on Debian type: apt-get install maven")
    return Path(program)


def _javas() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield Path(home, "bin/java")
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path).resolve()
    yield from sorted(VIRTUAL_MACHINES.glob("*/bin/java"))


def _major_version(program: Path) -> int | None:
    """Read the version from the file beside it; starting a virtual machine to ask would take 0.1 s each time."""
    try:
        text = (program.parents[1] / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    return int(found[1]) if found else None
