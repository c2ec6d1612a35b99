"""Metadata keeps its meaning, and bytes of any kind are judged without a fault."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.ledger.metadata import canonical_metadata
from processors.ledger.rules import METADATA_BYTES_MAX

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(_TEXT, _VALUES, max_size=4)

pytestmark = pytest.mark.rule("L14")


@given(value=_OBJECTS, indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans())
@settings(max_examples=100)
def test_every_spelling_of_an_object_has_one_canonical_form(
    value: object, indent: int | None, ascii_only: bool
) -> None:
    metadata = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    if len(metadata) > METADATA_BYTES_MAX:
        return

    canonical = canonical_metadata(metadata)

    assert canonical is not None
    assert json.loads(canonical) == value
    assert canonical == canonical_metadata(json.dumps(value).encode())
    assert canonical == canonical_metadata(canonical)
    assert len(canonical) <= len(metadata)


@given(metadata=st.binary(max_size=64) | st.text(alphabet='{}[]":,\\u0d8e1. ', max_size=64).map(str.encode))
@settings(max_examples=200)
def test_bytes_of_any_kind_are_refused_or_are_json(metadata: bytes) -> None:
    canonical = canonical_metadata(metadata)

    if canonical:
        assert json.loads(canonical) == json.loads(metadata)
        assert canonical_metadata(canonical) == canonical
