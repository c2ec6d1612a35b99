"""The file of signing keys (W1): made by ``balance init``, readable by its owner only, replaced whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from processors.faults import Misconfigured
from processors.settings import Settings
from processors.wire.signature import KeyRing, add_key, dump_keyring, fingerprint, load_keyring, retire_key

_FIRST = "k1"
_FILES_MAX = 8  # of one process, which has one; tests have more
_SECRET_BYTES = 32  # as long as the HMAC's hash
_ID_DIGITS = 8  # of the fingerprint: two of a name are alike once in four thousand million, and then refused


def keyring(settings: Settings) -> KeyRing:
    """Return the signing keys (W1).

    Raises:
        Misconfigured: The file cannot be read, or is not as ``balance init`` makes it.
    """
    file: Path = settings.keys_file
    try:
        known = file.stat()
        return _loaded(file, known.st_ino, known.st_mtime_ns)
    except OSError as error:
        raise Misconfigured(
            f"keys_file {file} cannot be read ({error.strerror}): bring it from a machine that has it; of a new "
            "installation `balance init` makes it"
        ) from error


@lru_cache(maxsize=_FILES_MAX)
def _loaded(file: Path, _inode: int, _mtime_ns: int) -> KeyRing:
    """Read the file, once as it is: it is replaced whole, and lanes ask for it with each leg that they sign."""
    return load_keyring(file.read_text(encoding="utf-8"))


def make_keys(file: Path) -> bool:
    """Make a keys file with one new key, unless there is one; say whether it was made.

    The caller has asked whether this installation is a new one: a new secret is of no use to one that has others.

    Raises:
        Misconfigured: It cannot be written.
    """
    if file.exists():
        return False
    _write(file, _with_new_key(None, _FIRST))
    return True


def add_new_key(file: Path, name: str) -> KeyRing:
    """Add a key with a new secret; it signs once the log knows it and the one before is retired.

    Its id is the name and a part of the secret's fingerprint: drawn twice, on two machines, it is two ids.

    Raises:
        Misconfigured: The name is malformed, or the file is not as it must be.
    """
    return _changed(file, lambda ring: _with_new_key(ring, name))


def _with_new_key(ring: KeyRing | None, name: str) -> KeyRing:
    secret = secrets.token_bytes(_SECRET_BYTES)
    return add_key(ring, f"{name}-{fingerprint(secret)[:_ID_DIGITS]}", secret)


def retire_old_key(file: Path, key_id: str, counts: Callable[[str], bool]) -> KeyRing:
    """Let a key sign no more; it stays for verifying, since replays meet old records.

    ``counts`` says of a key whether the log takes its signatures.

    Raises:
        Misconfigured: There is no such key, or no other to sign with, or the file is not as it must be.
    """
    return _changed(file, lambda ring: retire_key(ring, key_id, counts))


def _changed(file: Path, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
    try:
        ring = load_keyring(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"keys_file {file} cannot be read ({error.strerror}): run `balance init`") from error
    ring = change(ring)
    _write(file, ring)
    return ring


def _write(file: Path, ring: KeyRing) -> None:
    """Write beside and rename, so that no reader ever meets half a file."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside.touch(mode=0o600)
        beside.write_text(dump_keyring(ring), encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise Misconfigured(f"keys_file {file} cannot be written: {error.strerror}") from error
