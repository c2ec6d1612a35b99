"""Why a record is no command: the causes that dead letters name."""

from __future__ import annotations

from enum import StrEnum

DETAIL_CHARACTERS_MAX = 512  # one line for people; what is wrong rarely takes 100


class Cause(StrEnum):
    """What is wrong with a record. Names are the contract, new ones may come."""

    EMPTY = "EMPTY"  # no payload
    TOO_LARGE = "TOO_LARGE"  # above 64 KiB (W4)
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"  # no marker, or a fingerprint that this release does not know
    MALFORMED = "MALFORMED"  # it cannot be decoded by its schema
    TRAILING_BYTES = "TRAILING_BYTES"  # bytes are left after the last field
    NOT_CANONICAL = "NOT_CANONICAL"  # encoding what was decoded gives other bytes
    BAD_KEY = "BAD_KEY"  # the key is no root (W3)
    WRONG_PARTITION = "WRONG_PARTITION"  # the key belongs to another partition or lane (W3)
    BAD_ROUTE = "BAD_ROUTE"  # balance-route twice, cut short, or of an unknown kind (W2)
    MISSING_ROUTE = "MISSING_ROUTE"  # a partner's command that did not come through the router (W1)
    UNEXPECTED_ROUTE = "UNEXPECTED_ROUTE"  # one of the service's own records that did (W1)
    BAD_SIGNATURE = "BAD_SIGNATURE"  # missing, twice, by an unknown key, or wrong (W1)
    UNEXPECTED_GENERATION = "UNEXPECTED_GENERATION"  # M1: impossible by proof


def bounded(detail: str) -> str:
    """Return a detail of at most DETAIL_CHARACTERS_MAX characters, printable, in UTF-8's reach."""
    text = detail[:DETAIL_CHARACTERS_MAX]
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
