from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from processors.ledger.metadata import INTEGER_DIGITS_MAX, canonical_metadata, metadata_bytes
from processors.ledger.validity import canonical_metadata as judged_metadata
from tests.unit.ledger.build import lane_with, open_account, update_account

pytestmark = pytest.mark.rule("L14")


@pytest.mark.parametrize(
    ("metadata", "canonical"),
    [
        (b"", b""),
        (b"{}", b"{}"),
        (b' { "b" : 1 , "a" : [ ] } \n', b'{"a":[],"b":1}'),
        (b'{"a":true,"b":false,"c":null}', b'{"a":true,"b":false,"c":null}'),
        (rb'{"\u0061":"\u00e9\/\u000a"}', '{"a":"é/\\n"}'.encode()),
        (rb'{"a":"\ud83d\ude00"}', '{"a":"😀"}'.encode()),
        (b'{"a":-0}', b'{"a":0}'),
        (b'{"a":123456789012345678901234567890}', b'{"a":123456789012345678901234567890}'),
        ('{"é":1,"z":2}'.encode(), '{"z":2,"é":1}'.encode()),
        (b'{"a":{"z":{"b":1,"a":2}}}', b'{"a":{"z":{"a":2,"b":1}}}'),
        (b'{"a":"[[[[[[[[[[[[[[[[[[[[[["}', b'{"a":"[[[[[[[[[[[[[[[[[[[[[["}'),
        (rb'{"a":"\"[[[[[[[[[[[[[[[[[[[["}', rb'{"a":"\"[[[[[[[[[[[[[[[[[[[["}'),
    ],
)
def test_metadata_has_one_form(metadata: bytes, canonical: bytes) -> None:
    assert canonical_metadata(metadata) == canonical
    assert canonical_metadata(canonical) == canonical


@pytest.mark.parametrize(
    "metadata",
    [
        b" ",
        b"null",
        b"1",
        b'"text"',
        b"[]",
        b"{",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0.0}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":1}',
        rb'{"a":1,"\u0061":2}',
        b'{"x":{"a":1,"a":2}}',
        rb'{"a":"\ud800"}',
        rb'{"\udfff":1}',
        rb'{"a":"\ude00\ud83d"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\n"}',
        b'{"a":"\x00"}',
        b'{"a":"',
        b'{"a":"\\',
        b"\x00",
        b'{"a":' + b"9" * (INTEGER_DIGITS_MAX + 1) + b"}",
    ],
)
def test_what_is_not_such_an_object_is_refused(metadata: bytes) -> None:
    assert canonical_metadata(metadata) is None


def nested(depth: int, bracket: bytes = b"[") -> bytes:
    """Return an object ``depth`` levels deep, itself the first."""
    close = {b"[": b"]", b'{"a":': b"}"}[bracket]
    inner = bracket * (depth - 1) + (b"1" if bracket != b"[" else b"") + close * (depth - 1)
    return b'{"a":' + inner + b"}" if depth > 1 else b"{}"


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_it_is_at_most_sixteen_levels_deep(bracket: bytes) -> None:
    assert canonical_metadata(nested(16, bracket)) == nested(16, bracket)
    assert canonical_metadata(nested(17, bracket)) is None


def test_siblings_are_no_depth() -> None:
    metadata = b'{"a":[' + b",".join([b"[]"] * 100) + b"]}"

    assert canonical_metadata(metadata) == metadata


def test_what_is_closed_before_makes_nothing_less_deep() -> None:
    deepest = b'{"a":[],"b":{},"c":' + b"[" * 15 + b"]" * 15 + b"}"

    assert canonical_metadata(deepest) == deepest
    assert canonical_metadata(b'{"a":[],"b":{},"c":' + b"[" * 16 + b"]" * 16 + b"}") is None


def test_it_is_at_most_four_kibibytes_as_it_came() -> None:
    longest = b'{"a":"' + b"x" * (4096 - 8) + b'"}'

    assert len(longest) == 4096
    assert canonical_metadata(longest) == longest
    assert canonical_metadata(longest.replace(b":", b": ")) is None


def test_an_integer_is_as_long_as_every_python_reads() -> None:
    longest = b'{"a":-' + b"9" * INTEGER_DIGITS_MAX + b"}"

    assert canonical_metadata(longest) == longest
    assert sys.int_info.str_digits_check_threshold == INTEGER_DIGITS_MAX  # below it no setting of Python's counts


@pytest.mark.parametrize(
    "metadata",
    [
        b"[" * 4096,
        b'{"a":' * 819,
        b'"' * 4096,
        b'"\\' * 2048,
        b"\\" * 4096,
        b'{"' + b"\\" * 4093,
        b'{"a":' + b"9" * 4090 + b"}",
        b"{" + b",".join(b'"%d":0' % number for number in range(500)) + b"}",
    ],
)
def test_its_time_is_bounded_whatever_the_bytes(metadata: bytes) -> None:
    canonical_metadata.cache_clear()
    began_s = time.process_time()
    canonical_metadata(metadata)

    assert (
        time.process_time() - began_s < 0.05
    )  # 1 ms here; backtracking or recursion would take seconds or the process


def test_accounts_keep_the_canonical_form() -> None:
    lane = lane_with("beta")
    lane.send(open_account(metadata=b'{"b": 1, "a": 2}'))
    assert lane.rows.accounts["acme", "USD"].metadata == b'{"a":2,"b":1}'

    lane.send(update_account(metadata=None))
    assert lane.rows.accounts["acme", "USD"].metadata == b'{"a":2,"b":1}'

    lane.send(update_account(metadata=b""))
    assert lane.rows.accounts["acme", "USD"].metadata == b""


def test_the_canonical_form_says_the_same() -> None:
    metadata = b'{"order": {"lines": [1, "two", null, true]}, "by": "caf\xc3\xa9"}'
    canonical = judged_metadata(metadata)

    assert canonical is not None
    assert json.loads(canonical) == json.loads(metadata)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({}, b""),
        ({"b": [1, "x"], "a": None}, b'{"a":null,"b":[1,"x"]}'),
        ({"a": {"c": True, "b": False}}, b'{"a":{"b":false,"c":true}}'),
        ({"é": -(10**30)}, '{"é":-1000000000000000000000000000000}'.encode()),
        ({"": []}, b'{"":[]}'),
    ],
)
def test_an_object_is_written_in_the_canonical_form(value: dict[str, Any], written: bytes) -> None:
    assert metadata_bytes(value) == written
    assert canonical_metadata(written) == written


class Text(str):
    """A text of another library."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": 1.5}, r"metadata\['a'\] is 1.5, a float: write a text, an int, True"),
        ({"a": (1,)}, r"metadata\['a'\] is \(1,\), a tuple"),
        ({"a": [1, {"b": b"x"}]}, r"metadata\['a'\]\[1\]\['b'\] is b'x', a bytes"),
        ({"a": Text("x")}, r"metadata\['a'\] is 'x', a Text"),
        ({1: "a"}, "metadata has the key 1, a int: write a text"),
        ({"a": {None: 1}}, r"metadata\['a'\] has the key None, a NoneType"),
        ({"a": "\ud800"}, "half of a surrogate pair"),
        ({"a": 10**INTEGER_DIGITS_MAX}, "an integer too long"),
    ],
)
def test_what_json_would_write_as_something_else_is_refused(value: dict[Any, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        metadata_bytes(value)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "objects"])
def test_an_object_is_at_most_sixteen_levels_deep(wrap: Any) -> None:
    deepest: Any = 1
    for _ in range(15):
        deepest = wrap(deepest)

    assert canonical_metadata(metadata_bytes({"a": deepest})) is not None
    with pytest.raises(ValueError, match="lies deeper than 16 levels"):
        metadata_bytes({"a": wrap(deepest)})


def test_an_object_is_at_most_four_kibibytes_as_json() -> None:
    longest = {"a": "x" * (4096 - 8)}

    assert len(metadata_bytes(longest)) == 4096
    with pytest.raises(ValueError, match="metadata has 4097 bytes as JSON: 4096 at most"):
        metadata_bytes({"a": longest["a"] + "x"})


def test_an_integer_of_an_object_is_as_long_as_every_python_reads() -> None:
    longest = {"a": -(10**INTEGER_DIGITS_MAX - 1)}

    assert canonical_metadata(metadata_bytes(longest)) is not None
