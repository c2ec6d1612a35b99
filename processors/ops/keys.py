"""The file of signing keys (W1): made by ``balance init``, readable by its owner only, replaced whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from processors.faults import Misconfigured
from processors.wire.signature import KeyRing, add_key, dump_keyring, load_keyring, retire_key

_FIRST = "k1"
_SECRET_BYTES = 32  # as long as the HMAC's hash


def make_keys(file: Path) -> bool:
    """Make a keys file with one new key, unless there is one; say whether it was made.

    Raises:
        Misconfigured: It cannot be written.
    """
    if file.exists():
        return False
    _write(file, add_key(None, _FIRST, secrets.token_bytes(_SECRET_BYTES)))
    return True


def add_new_key(file: Path, key_id: str) -> KeyRing:
    """Add a key with a new secret; it verifies from now on, and signs once the one before is retired.

    Raises:
        Misconfigured: The id is taken or malformed, or the file is not as it must be.
    """
    return _changed(file, lambda ring: add_key(ring, key_id, secrets.token_bytes(_SECRET_BYTES)))


def retire_old_key(file: Path, key_id: str) -> KeyRing:
    """Let a key sign no more; it stays for verifying, since replays meet old records.

    Raises:
        Misconfigured: There is no such key, or no other to sign with, or the file is not as it must be.
    """
    return _changed(file, lambda ring: retire_key(ring, key_id))


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
