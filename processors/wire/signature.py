"""The header ``signature``: what only operators and the service itself may send (W1)."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from processors.faults import Misconfigured
from processors.ledger.trust import KEYS_MAX, TrustedKey, read_keys, write_keys

SIGNATURE_HEADER = "signature"
SECRET_BYTES_MIN = 32  # as long as the HMAC's hash (RFC 2104 section 3)
_MAC_BYTES = 32
_KEY_ID_BYTES_MAX = 32
_FINGERPRINT_LABEL = b"balance signing key"
_FINGERPRINT_BYTES = 16  # nobody finds another secret with the same 128 bits
_KEY_ID = re.compile(r"[a-z0-9._-]{1,32}", re.ASCII)
SIGNATURE_BYTES_MAX = 1 + _KEY_ID_BYTES_MAX + _MAC_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """Secrets by key id. ``signing`` names the one that signs; all of them verify, since a replay meets old records."""

    signing: str
    keys: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"KeyRing(signing={self.signing!r}, keys={sorted(self.keys)})"  # never a secret in a log


def load_keyring(text: str) -> KeyRing:
    """Read a keys file: ``{"signing": "k2", "keys": {"k1": "<hex>", "k2": "<hex>"}}``.

    Raises:
        Misconfigured: It is not that; the text of the fault holds no secret.
    """
    try:
        values = json.loads(text)
        signing = str(values["signing"])
        keys = {name: bytes.fromhex(secret) for name, secret in values["keys"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Misconfigured(
            'the keys file is not {"signing": ID, "keys": {ID: HEX, ...}}: `balance init` makes one'
        ) from None
    for name, secret in keys.items():
        _refuse(name, secret)
    if signing not in keys:
        raise Misconfigured(f"the keys file signs with {signing!r}, which is not among its keys {sorted(keys)}")
    return KeyRing(signing=signing, keys=MappingProxyType(keys))


def dump_keyring(keyring: KeyRing) -> str:
    """Return the keys file's text, secrets and all."""
    keys = {name: secret.hex() for name, secret in keyring.keys.items()}
    return json.dumps({"signing": keyring.signing, "keys": keys}, indent=2) + "\n"


def add_key(keyring: KeyRing | None, key_id: str, secret: bytes) -> KeyRing:
    """Return a ring that has one key more, last. It only verifies until the key that signs is retired.

    So the file can reach every process before the first record is signed with it. The first key of a ring signs.

    Raises:
        Misconfigured: The id is taken or malformed, or the secret is shorter than SECRET_BYTES_MIN.
    """
    _refuse(key_id, secret)
    if keyring is None:
        return KeyRing(signing=key_id, keys=MappingProxyType({key_id: secret}))
    if key_id in keyring.keys:
        raise Misconfigured(f"key {key_id} is there already; keys are never replaced, old records need them")
    return KeyRing(signing=keyring.signing, keys=MappingProxyType({**keyring.keys, key_id: secret}))


def retire_key(keyring: KeyRing, key_id: str, counts: Callable[[str], bool] = lambda _name: True) -> KeyRing:
    """Return a ring in which a key no longer signs, but the newest other one; it still verifies, for replays.

    Args:
        keyring: As it is.
        key_id: The one that signs.
        counts: Says of a key whether the log takes its signatures.

    Raises:
        Misconfigured: The key does not sign, there is no other, or none that counts.
    """
    if key_id != keyring.signing:
        raise Misconfigured(f"{key_id} does not sign; {keyring.signing} does")
    others = [name for name in keyring.keys if name != key_id]
    if not others:
        raise Misconfigured(
            f"{key_id} is the only key: `balance key add` another first, and bring the file to every process"
        )
    known = [name for name in others if counts(name)]
    if not known:
        raise Misconfigured(f"of {', '.join(others)} no signature counts in every lane: `balance key announce` first")
    return KeyRing(signing=known[-1], keys=keyring.keys)


def sign(keyring: KeyRing, key: bytes | None, payload: bytes) -> bytes:
    """Return the header's value for a record.

    Returns:
        Key id (one byte of length, then the id), then 32 bytes of HMAC-SHA-256 over record key and payload, each
        after its length in four bytes, big endian. No key counts as an empty one.
    """
    name = keyring.signing.encode()
    return bytes([len(name)]) + name + _mac(keyring.keys[keyring.signing], key, payload)


def verify(keyring: KeyRing, key: bytes | None, payload: bytes, signature: bytes) -> bool:
    """Say whether a signature was made for this record with a key of the ring; any bytes may be asked about."""
    size = signature[0] if signature else 0
    mac = signature[1 + size :]
    secret = keyring.keys.get(key_id_of(signature))
    return secret is not None and len(mac) == _MAC_BYTES and hmac.compare_digest(mac, _mac(secret, key, payload))


def key_id_of(signature: bytes) -> str:
    """Return the id of the key that a signature says it was made with; any bytes may be asked about."""
    size = signature[0] if signature else 0
    return signature[1 : 1 + size].decode("ascii", "replace")


@lru_cache(maxsize=KEYS_MAX)
def fingerprint(secret: bytes) -> str:
    """Return what the log says of a secret: 32 hexadecimal digits of SHA-256 over a fixed label and the secret."""
    return hashlib.sha256(_FINGERPRINT_LABEL + secret).digest()[:_FINGERPRINT_BYTES].hex()


def trusted_keys(keyring: KeyRing) -> str:
    """Return a ring's keys as the rules name them (I6): all of them count."""
    return write_keys({name: TrustedKey(fingerprint(secret)) for name, secret in keyring.keys.items()})


def why_lacking(keyring: KeyRing, keys: str | None) -> str | None:
    """Return which key that counts by the rules a ring does not have, in words for an operator; None where it has all.

    Args:
        keyring: Of a keys file.
        keys: Those of the rules, a text of ``ledger.trust``; None: the rules name none.
    """
    for name, key in (read_keys(keys) or {}).items() if keys is not None else ():
        secret = keyring.keys.get(name)
        if key.ended or (secret is not None and fingerprint(secret) == key.fingerprint):
            continue
        found = "has no such key" if secret is None else f"has another secret there, {fingerprint(secret)}"
        return f"the log has key {name} with fingerprint {key.fingerprint}; the keys file {found}"
    return None


def _mac(secret: bytes, key: bytes | None, payload: bytes) -> bytes:
    key = key or b""
    return hmac.digest(secret, struct.pack(">I", len(key)) + key + struct.pack(">I", len(payload)) + payload, "sha256")


def _refuse(key_id: str, secret: bytes) -> None:
    if not _KEY_ID.fullmatch(key_id):
        raise Misconfigured(f"{key_id!r} is no key id: 1 to 32 of a-z, 0-9, '.', '_' and '-'")
    if len(secret) < SECRET_BYTES_MIN:
        raise Misconfigured(f"the secret of key {key_id} has {len(secret)} bytes, it needs {SECRET_BYTES_MIN}")
