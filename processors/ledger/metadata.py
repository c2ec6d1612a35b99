"""Metadata: a small JSON object that partners attach, kept in one canonical form of bytes (L14)."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from processors.ledger.rules import METADATA_BYTES_MAX, METADATA_DEPTH_MAX

# CPython reads an integer of this many digits under every setting of its own limit (sys.int_info), so that no
# environment variable changes what is decided.
INTEGER_DIGITS_MAX = 640
# A command's metadata is asked for when it is decided and again when it is stored, a few commands apart at most.
_REMEMBERED_MAX = 256
# A string, closed or not, or a bracket. Possessive, and a string that is not closed runs to the end: one pass,
# whatever the bytes are.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[\[{\]}]', re.DOTALL)


@lru_cache(maxsize=_REMEMBERED_MAX)
def canonical_metadata(metadata: bytes) -> bytes | None:
    """Return metadata as it is stored: keys sorted by code point, no spaces, UTF-8 unescaped.

    Args:
        metadata: Any bytes. Empty means none, and stays empty.

    Returns:
        The canonical bytes, never longer than what came in; or None where it is not a JSON object of at most
        METADATA_BYTES_MAX bytes and METADATA_DEPTH_MAX levels (the object itself is the first) in UTF-8, or where it
        has a duplicate key, a number that is no integer (of INTEGER_DIGITS_MAX digits at most), NaN, or a lone
        surrogate. The time it takes is bounded by the size.

    Source: rule L14; RFC 8259; sorted and unescaped as in RFC 8785, but for the order of keys beyond the basic plane.

    >>> canonical_metadata(b'{"b": [1, "x"], "a": null}')
    b'{"a":null,"b":[1,"x"]}'
    >>> canonical_metadata(b'{"a": 1.5}') is None
    True
    """
    if not metadata:
        return b""
    if len(metadata) > METADATA_BYTES_MAX or _depth(metadata) > METADATA_DEPTH_MAX:
        return None
    try:
        value = _DECODER.decode(metadata.decode())
        if not isinstance(value, dict):
            return None
        return _ENCODER.encode(value).encode()
    except ValueError:  # JSON, UTF-8, a lone surrogate, and what the hooks refuse: all are ValueErrors
        return None


def metadata_bytes(value: dict[str, Any]) -> bytes:
    """Write an object as the canonical JSON that the service keeps; an empty one is no metadata.

    Args:
        value: Keys are texts; values texts, ints, True, False, None, lists or dicts of such, METADATA_DEPTH_MAX deep.

    Raises:
        ValueError: It holds something else (a float would come back as another number), or is too long.

    Source: rule L14.

    >>> metadata_bytes({"order": 17, "by": "shop"})
    b'{"by":"shop","order":17}'
    """
    if not value:
        return b""
    _refuse_inexact("metadata", value, METADATA_DEPTH_MAX)
    written = _ENCODER.encode(value).encode("utf-8", "surrogatepass")
    if len(written) > METADATA_BYTES_MAX:
        raise ValueError(f"metadata has {len(written)} bytes as JSON: {METADATA_BYTES_MAX} at most")
    if canonical_metadata(written) is None:
        raise ValueError("metadata holds half of a surrogate pair, or an integer too long: write it as whole text")
    return written


def _refuse_inexact(name: str, value: Any, levels: int) -> None:
    """Refuse what JSON would write as something else: floats, keys that are no texts, types of other libraries."""
    if type(value) in (str, int, bool, type(None)):
        return
    if type(value) not in (dict, list):
        raise ValueError(
            f"{name} is {value!r:.60}, a {type(value).__name__}: write a text, an int, True, False, None, a list or a "
            "dict, and a number with a point as text"
        )
    if levels == 0:
        raise ValueError(f"{name} lies deeper than {METADATA_DEPTH_MAX} levels")
    parts = value.items() if type(value) is dict else enumerate(value)
    for key, part in parts:
        if type(value) is dict and type(key) is not str:
            raise ValueError(f"{name} has the key {key!r:.60}, a {type(key).__name__}: write a text")
        _refuse_inexact(f"{name}[{key!r:.60}]", part, levels - 1)


def _depth(metadata: bytes) -> int:
    """Return how deep brackets nest, strings left out: counted before the decoder, which recurses."""
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(metadata):
        mark = match[0]
        if mark in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in b"]}":
            depth -= 1
    return deepest


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > INTEGER_DIGITS_MAX:
        raise ValueError("an integer too long")
    return int(digits)


def _no_number(text: str) -> int:
    raise ValueError(f"{text[:20]} is not an integer")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_no_number, parse_constant=_no_number
)
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
