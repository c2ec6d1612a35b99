"""Certificates of the secured stack: its own authority, and one for each server, made by openssl (PEM)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from processors.faults import Misconfigured
from processors.settings import LOOPBACK

AUTHORITY = "ca"
DAYS = 3_650  # as long as anybody keeps a stack's folder; removing the file makes a new one
_MADE_MS = 30_000  # openssl takes some 10 ms
# What each certificate says of itself. An authority signs; a server proves its address, also to other servers.
_EXTENSIONS = {
    AUTHORITY: "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n",
    "server": (
        "basicConstraints = critical, CA:FALSE\n"
        "keyUsage = critical, digitalSignature\n"
        "extendedKeyUsage = serverAuth, clientAuth\n"
        f"subjectAltName = IP:{LOOPBACK}\n"
        "authorityKeyIdentifier = keyid\n"
    ),
}
_REQUEST = """[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = {name}
[extensions]
subjectKeyIdentifier = hash
{extensions}"""


def authority(secrets: Path) -> Path:
    """Return the authority's certificate, which clients verify servers against; its key lies beside it."""
    with _alone(secrets):
        return _authority(secrets)


def server_certificate(secrets: Path, name: str) -> Path:
    """Return a server's certificate, its key in the same file, for the loopback address and no other name.

    Raises:
        Misconfigured: There is no openssl, or it failed.
    """
    file = secrets / f"{name}.pem"
    with _alone(secrets):
        if not file.exists():
            signed = ("-CA", str(_authority(secrets)), "-CAkey", str(secrets / f"{AUTHORITY}.key"))
            key, certificate = _make(secrets, name, _EXTENSIONS["server"], signed=signed)
            with key.open("a", encoding="utf-8") as both:  # readable by its owner only, as openssl made it
                both.write(certificate.read_text(encoding="utf-8"))
            certificate.unlink()
            key.rename(file)
    return file


@contextmanager
def _alone(secrets: Path) -> Iterator[None]:
    """Let the three servers, which start at once, be certified one after the other: by the same authority."""
    with (secrets / f".{AUTHORITY}.lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def _authority(secrets: Path) -> Path:
    file = secrets / f"{AUTHORITY}.pem"
    if not file.exists():
        key, certificate = _make(secrets, AUTHORITY, _EXTENSIONS[AUTHORITY], signed=())
        key.rename(secrets / f"{AUTHORITY}.key")
        certificate.rename(file)
    return file


def _make(secrets: Path, name: str, extensions: str, *, signed: tuple[str, ...]) -> tuple[Path, Path]:
    """Return new files with a key, readable by its owner only, and its certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise Misconfigured("the secured stack's certificates are made by openssl: install it, on Debian `openssl`")
    request, key, certificate = (secrets / f".{name}.{kind}" for kind in ("conf", "key", "pem"))
    request.write_text(_REQUEST.format(name=name, extensions=extensions), encoding="utf-8")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    files = ("-config", str(request), "-keyout", str(key), "-out", str(certificate))
    done = subprocess.run(
        [openssl, "req", "-x509", "-sha256", "-days", str(DAYS), *curve, *files, *signed],
        check=False,
        capture_output=True,
        text=True,
        timeout=_MADE_MS / 1000,
    )
    request.unlink()
    if done.returncode != 0:
        raise Misconfigured(f"openssl made no certificate for {name}: {done.stderr.strip()}")
    return key, certificate
