from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.ledger.addresses import ADDRESS_FORM, chain, is_root, refuse_malformed, well_formed
from processors.ledger.commands import PartnersCommand
from tests.unit.wire.build import example

MALFORMED = [
    ("", "it is empty"),
    ("acme/vn", "it has '/'"),
    ("ACME", "it has 'A', which is to be 'a'"),
    ("shop@x.com", "it has '@'"),
    ("acme vn", "it has ' '"),
    ("acme\n", r"it has '\n'"),
    ("đồng", "it has 'đ'"),
    ("acme\x00", r"it has '\x00'"),
    ("acme::vn", "one of its segments is empty"),
    (":acme", "one of its segments is empty"),
    ("acme:", "one of its segments is empty"),
    ("a" * 65, "a segment has 65 characters"),
    ("acme:" + "a" * 65, "a segment has 65 characters"),
    (":".join("abcdefghi"), "it has 9 segments"),
    (":".join(["a" * 60] * 5), "it has 304 characters"),
    (":".join(["a" * 64] * 4), "it has 259 characters"),
    (":".join(["a" * 63] * 3 + ["a" * 64]), "it has 256 characters"),
    (":".join("abcdefghijk"), "it has 11 segments"),
]


@pytest.mark.parametrize(("address", "why"), MALFORMED, ids=lambda value: value[:20])
def test_a_malformed_address_is_refused_with_the_reason_and_the_form(address: str, why: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is compared below
        well_formed(address)
    assert f"since {why}; {ADDRESS_FORM}" in str(refused.value)


def test_a_malformed_address_is_shown_up_to_eighty_characters() -> None:
    for length, shown in ((80, "A" * 80), (81, "A" * 80 + "...")):
        with pytest.raises(ValueError, match=f"^'{re.escape(shown)}' is no address"):
            well_formed("A" * length)


@given(st.text(max_size=70) | st.from_regex(r"[a-z0-9._:-]{0,300}", fullmatch=True))
def test_what_may_be_sent_is_what_the_ledger_takes(address: str) -> None:
    if chain(address):
        assert well_formed(address) == address
    else:
        with pytest.raises(ValueError, match="is no address, since"):
            well_formed(address)


@given(st.text(max_size=70) | st.from_regex(r"[a-z0-9._:-]{0,70}", fullmatch=True))
def test_a_root_is_an_address_of_one_level(text: str) -> None:
    assert is_root(text) is (chain(text) == (text,))


@pytest.mark.parametrize("text", ["a", "a" * 64, "0._-"])
def test_one_segment_of_1_to_64_characters_is_a_root(text: str) -> None:
    assert is_root(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "acme:vn", "acme\n", "Acme"])
def test_what_is_no_segment_is_no_root(text: str) -> None:
    assert not is_root(text)


SENT = get_args(PartnersCommand)


@pytest.mark.parametrize("kind", SENT, ids=lambda kind: kind.__name__)
def test_every_address_of_every_command_is_looked_at(kind: Any) -> None:
    refuse_malformed(example(kind))
    for name in [field.name for field in fields(kind) if field.name.endswith("address")]:
        with pytest.raises(ValueError, match=rf"{kind.__name__}.{name}: 'acme/vn' is no address"):
            refuse_malformed(example(kind, **{name: "acme/vn"}))
