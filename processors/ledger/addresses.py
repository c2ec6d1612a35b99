"""Partner addresses: paths of at most eight segments, the first of which is the root (docs/design.md, Money)."""

from __future__ import annotations

import re
from functools import lru_cache

ADDRESS_BYTES_MAX = 255
LEVELS_MAX = 8
_SEGMENT = "[a-z0-9._-]{1,64}"
_ADDRESS = re.compile(rf"{_SEGMENT}(?::{_SEGMENT}){{0,{LEVELS_MAX - 1}}}", re.ASCII)
_ROOT = re.compile(_SEGMENT, re.ASCII)
# The addresses of one book (settings.worker.book_accounts_max) are what is worth remembering.
_CHAINS_MAX = 100_000


def chain(address: str) -> tuple[str, ...]:
    """Return every level of an address, root first, or an empty tuple where it is malformed.

    >>> chain("acme:vn:shop-17")
    ('acme', 'acme:vn', 'acme:vn:shop-17')
    >>> chain("acme::x")
    ()
    """
    # Not in the cached function: it would remember 64 KiB of each malformed address. Costs 40 ns a call.
    return _chain(address) if len(address) <= ADDRESS_BYTES_MAX else ()


@lru_cache(maxsize=_CHAINS_MAX)
def _chain(address: str) -> tuple[str, ...]:
    if not _ADDRESS.fullmatch(address):
        return ()
    segments = address.split(":")
    return tuple(":".join(segments[:level]) for level in range(1, len(segments) + 1))


def is_root(text: str) -> bool:
    """Say whether a text may be a root, and so a Kafka key."""
    return _ROOT.fullmatch(text) is not None


def level_of(address: str) -> int:
    """Return an address's depth; a root is 1.

    >>> level_of("acme:vn")
    2
    """
    return address.count(":") + 1


def at_levels(address: str, levels: int) -> tuple[str, ...]:
    """Return those levels of an address's chain that a bit mask names, root first (H1).

    >>> at_levels("acme:vn:shop-17", 0b101)
    ('acme', 'acme:vn:shop-17')
    """
    return tuple(prefix for index, prefix in enumerate(chain(address)) if levels >> index & 1)
