"""Partner addresses: paths of at most eight segments, the first of which is the root (docs/design.md, Money)."""

from __future__ import annotations

import re
from functools import lru_cache

from processors.ledger.commands import Command, Transfer

ADDRESS_BYTES_MAX = 255
LEVELS_MAX = 8
SEGMENT_CHARACTERS_MAX = 64
_SEGMENT = f"[a-z0-9._-]{{1,{SEGMENT_CHARACTERS_MAX}}}"
_ADDRESS = re.compile(rf"{_SEGMENT}(?::{_SEGMENT}){{0,{LEVELS_MAX - 1}}}", re.ASCII)
_ROOT = re.compile(_SEGMENT, re.ASCII)
_CHARACTER = re.compile("[a-z0-9._:-]", re.ASCII)
ADDRESS_FORM = (
    f"an address is 1 to {LEVELS_MAX} segments with ':' between them, each of 1 to {SEGMENT_CHARACTERS_MAX} of the "
    f"characters a-z, 0-9, '.', '_' and '-', {ADDRESS_BYTES_MAX} characters together: acme:vn:shop-17"
)
_SHOWN_CHARACTERS_MAX = 80
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


def well_formed(address: str) -> str:
    """Return an address as it is, for whoever is about to send it: the client, the command line, a file of commands.

    A command with another one would be refused, or, where no root can be read from it, become a dead letter that
    nobody is told of.

    Raises:
        ValueError: It is malformed; the text says where, and what an address is.

    >>> well_formed("acme:vn")
    'acme:vn'
    >>> well_formed("acme/vn")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: 'acme/vn' is no address, since it has '/'; an address is 1 to 8 segments with ':' between them, ...
    """
    if chain(address):
        return address
    shown = address if len(address) <= _SHOWN_CHARACTERS_MAX else address[:_SHOWN_CHARACTERS_MAX] + "..."
    raise ValueError(f"{shown!r} is no address, since {_why_malformed(address)}; {ADDRESS_FORM}")


def refuse_malformed(command: Command) -> None:
    """Refuse a command with a malformed address before it is sent.

    Raises:
        ValueError: See ``well_formed``; the text names the field, too.
    """
    named = {"address": command.address}
    if isinstance(command, Transfer):
        named["to_address"] = command.to_address
    for name, address in named.items():
        try:
            well_formed(address)
        except ValueError as error:
            raise ValueError(f"{type(command).__name__}.{name}: {error}") from None


def _why_malformed(address: str) -> str:
    segments = address.split(":")
    strange = next((character for character in address if not _CHARACTER.fullmatch(character)), None)
    if not address:
        return "it is empty"
    if strange is not None:
        small = strange.lower()
        hint = f", which is to be {small!r}" if _CHARACTER.fullmatch(small) else ""
        return f"it has {strange!r}{hint}"
    if "" in segments:
        return "one of its segments is empty"
    if longest := max((segment for segment in segments if len(segment) > SEGMENT_CHARACTERS_MAX), default=""):
        return f"a segment has {len(longest)} characters"
    if len(segments) > LEVELS_MAX:
        return f"it has {len(segments)} segments"
    return f"it has {len(address)} characters"


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
