"""Whose signatures count, and what a schema registry's ids stand for: rules too, as texts (I6, W1).

Command schemas have no arrays (F1), so each list is one text of the rules. It has one spelling: entries rise, one
space lies between them, nothing is there twice. So two lanes that have the same list have the same text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

# Secrets are kept for ever, since replays meet old records: a rotation a month for five years.
KEYS_MAX = 64
# Each command's schema, by as many languages and registries as anybody has.
REGISTRY_IDS_MAX = 256
REGISTRY_ID_MAX = 2**31 - 1
_KEY = re.compile(r"([a-z0-9._-]{1,32})=([0-9a-f]{32})(:ended)?", re.ASCII)
_REGISTRY_ID = re.compile(r"(0|[1-9][0-9]{0,9})=([0-9a-f]{16})", re.ASCII)
_TEXTS_MAX = 64  # remembered: a lane has a few versions of its rules at a time


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A signing key as the log knows it: never the secret.

    ``fingerprint`` is 32 hexadecimal digits of a hash of the secret (``wire.signature``): a file that holds another
    secret under the same id is noticed. From the record on that ends a key its signatures count no more, for good.
    """

    fingerprint: str
    ended: bool = False


@lru_cache(maxsize=_TEXTS_MAX)
def read_keys(text: str) -> Mapping[str, TrustedKey] | None:
    """Return the keys of a text by id, None where it is no such text.

    >>> read_keys("k1=00112233445566778899aabbccddeeff:ended")["k1"].ended
    True
    """
    found: dict[str, TrustedKey] = {}
    for entry in text.split(" "):
        met = _KEY.fullmatch(entry)
        if met is None:
            return None
        found[met[1]] = TrustedKey(met[2], met[3] is not None)
    fits = len(found) <= KEYS_MAX and write_keys(found) == text
    return MappingProxyType(found) if fits else None


def write_keys(keys: Mapping[str, TrustedKey]) -> str:
    """Return the text of keys by id."""
    return " ".join(f"{name}={key.fingerprint}{':ended' if key.ended else ''}" for name, key in sorted(keys.items()))


@lru_cache(maxsize=_TEXTS_MAX)
def read_registry_ids(text: str) -> Mapping[int, str] | None:
    """Return the schemas' fingerprints by registry id, None where it is no such text; the empty text has no ids.

    A fingerprint is 16 hexadecimal digits: those that follow the marker in single-object encoding.
    """
    found: dict[int, str] = {}
    for entry in text.split(" ") if text else []:
        met = _REGISTRY_ID.fullmatch(entry)
        if met is None or int(met[1]) > REGISTRY_ID_MAX:
            return None
        found[int(met[1])] = met[2]
    fits = len(found) <= REGISTRY_IDS_MAX and write_registry_ids(found) == text
    return MappingProxyType(found) if fits else None


def write_registry_ids(ids: Mapping[int, str]) -> str:
    """Return the text of the schemas' fingerprints by registry id."""
    return " ".join(f"{number}={fingerprint}" for number, fingerprint in sorted(ids.items()))


def keys_follow(before: str | None, after: str | None) -> bool:
    """Say whether keys may come after others: none is gone, none has another secret, none that ended lives again."""
    if before is None:
        return True
    old, new = read_keys(before), None if after is None else read_keys(after)
    if old is None or new is None:
        return False
    return all(name in new and new[name] in (key, TrustedKey(key.fingerprint, ended=True)) for name, key in old.items())
