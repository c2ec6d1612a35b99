"""Fetch the servers' programs once into the user's cache folder, whence every checkout takes them.

Kafka and Cassandra come as jars through Maven, MySQL as Debian packages that are unpacked, not installed. Each is made
in a folder of its own and then renamed into place, so that two checkouts may do it at once and a killed one leaves
nothing half done.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from devtools.prerequisites import find_maven
from processors.faults import Misconfigured, Unavailable

Progress = Callable[[str], None]

FETCH_MS = 600_000  # 60 MB each; minutes on a slow line
# By its whole name: by the short one, Maven does not say why it cannot fetch the plugin.
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
OUTPUT_LINES = 12  # of a failed tool's output, in the error
ARCHITECTURES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
DOCKER_INSTEAD = "use `docker compose up` instead"


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlProgram:
    """An unpacked MySQL: ``base`` holds its ``usr``; ``command`` starts mysqld with its own C library."""

    base: Path
    command: tuple[str, ...]


def cache_directory() -> Path:
    """Return the folder of downloads that all checkouts of this user share."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "balance"


def fetch_jars(profile: str, pom: Path, progress: Progress) -> Path:
    """Return the folder with a profile's jars, fetched by Maven if it is not in the cache.

    Args:
        profile: ``kafka`` or ``cassandra``, a profile of ``pom``.
        pom: Lists the jars; another list is another folder.
        progress: Told what is being done, if it takes long.

    Raises:
        Misconfigured: Maven is missing.
        Unavailable: Maven could not fetch them.
    """
    text = pom.read_text(encoding="utf-8")
    listed = text[text.index(f"<id>{profile}</id>") :].partition("</profile>")[0]
    version = re.findall(r"<version>(.+?)</version>", listed)[0]
    place = cache_directory() / f"{profile}-{version}-{hashlib.sha256(listed.encode()).hexdigest()[:12]}"

    def fill(folder: Path) -> None:
        progress(f"fetching {profile} {version} (60 MB)")
        maven = [str(find_maven()), "-B", "-q", "-f", str(pom), f"-P{profile}", COPY_JARS]
        with _locked(cache_directory() / ".maven.lock"):  # Maven 3 does not guard its own cache against a second Maven
            _run([*maven, f"-DoutputDirectory={folder}"], what=f"{profile} {version} could not be fetched by Maven")

    return fill_once(place, fill)


def fetch_mysql(progress: Progress) -> MysqlProgram:
    """Return MySQL, unpacked from Debian's packages if it is not in the cache.

    Raises:
        Misconfigured: This is not Debian on a processor that we know.
        Unavailable: apt could not fetch the packages.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES or shutil.which("apt-get") is None or not DEBIAN_KEYS.exists():
        raise Misconfigured(f"the native MySQL comes from Debian's packages, and this is not Debian; {DOCKER_INSTEAD}")
    present = sorted(cache_directory().glob(f"mysql-*-{machine}/usr/sbin/mysqld"))
    # Debian's newest has no number that we could ask for, so the first one fetched is kept.
    base = present[-1].parents[2] if present else _unpack_mysql(machine, progress)
    libraries = base / "usr/lib" / ARCHITECTURES[machine]
    loader = (str(libraries / LOADERS[machine]), "--library-path", str(libraries))
    return MysqlProgram(base=base, command=(*loader, str(base / "usr/sbin/mysqld")))


DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def _unpack_mysql(machine: str, progress: Progress) -> Path:
    cache_directory().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_directory(), prefix=".apt-") as work:
        progress("fetching MySQL (60 MB)")
        packages = _download_debian("mysql-server-core", Path(work))
        version = next(each.name.split("_")[1] for each in packages if each.name.startswith("mysql-server-core_"))

        def fill(folder: Path) -> None:
            progress(f"unpacking MySQL {version}")
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(lambda package: _unpack(package, folder), packages))

        return fill_once(cache_directory() / f"mysql-{version}-{machine}", fill)


def _download_debian(package: str, work: Path) -> list[Path]:
    """Fetch a package of Debian sid and all it depends on, by folders of our own: the system's apt stays as it is."""
    lists, archives, status = work / "lists", work / "cache/archives", work / "status"
    for each in (lists / "partial", archives / "partial"):
        each.mkdir(parents=True)
    status.touch()
    source = work / "sid.sources"
    source.write_text(
        f"Types: deb\nURIs: {_debian_mirror()}\nSuites: sid\nComponents: main\nSigned-By: {DEBIAN_KEYS}\n",
        encoding="utf-8",
    )
    options = {
        "Dir::Etc::sourcelist": source,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::Lists": lists,
        "Dir::Cache": work / "cache",
        "Dir::State::status": status,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "root",  # apt's own user cannot read a home folder
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",  # the folders are ours alone, and the system's lock is for root
    }
    apt = ["apt-get", "-q", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    _run([*apt, "update"], what="Debian's package lists could not be fetched")
    _run([*apt, "-y", "--download-only", "install", package], what=f"{package} could not be fetched from Debian sid")
    return sorted(archives.glob("*.deb"))


def _debian_mirror() -> str:
    """Return the address of the Debian mirror that this machine's apt uses for its own release."""
    lines = _run(["apt-get", "update", "--print-uris"], what="apt does not name its mirror").splitlines()
    for line in lines:
        found = re.match(r"'(.+?)/dists/(?!.*(?:security|updates|backports)).+/InRelease' ", line)
        if found:
            return found[1]
    raise Misconfigured(f"apt names no Debian mirror, so MySQL cannot be fetched; {DOCKER_INSTEAD}")


def _unpack(package: Path, folder: Path) -> None:
    _run(["dpkg", "-x", str(package), str(folder)], what=f"{package.name} could not be unpacked")


def fill_once(place: Path, fill: Callable[[Path], None]) -> Path:
    """Return a folder of the cache; if it is not there yet, let ``fill`` fill one beside it, and rename that.

    Whoever else asks for the same folder meanwhile, in this process or another, waits. When ``fill`` fails, nothing
    is left.
    """
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.with_name(f".{place.name}.lock")):
        if place.is_dir():  # another checkout was first
            return place
        folder = Path(tempfile.mkdtemp(dir=place.parent, prefix=".new-"))
        try:
            fill(folder)
            folder.chmod(0o755)
            folder.rename(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return place


class _locked:  # noqa: N801 - reads as a word of the with statement
    """Hold a lock file of the cache, against other processes and other threads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("w")
        flock(self._file, LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _run(command: Sequence[str], *, what: str) -> str:
    """Run a tool quietly and return its output; show its last lines if it fails."""
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=FETCH_MS / 1000, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what} within {FETCH_MS} ms") from None
    if done.returncode != 0:
        last = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-OUTPUT_LINES:])
        raise Unavailable(f"{what}:\n  {last}")
    return done.stdout
