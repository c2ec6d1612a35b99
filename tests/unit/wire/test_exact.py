from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any, get_args, get_type_hints

import pytest

from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import (
    Collect,
    Command,
    Control,
    OpenAccount,
    Pay,
    PlaceHold,
    Policy,
    Refund,
    TopUp,
    Transfer,
    UpdateAccount,
)
from processors.wire.commands import decode_command, encode_command
from processors.wire.coverage import Coverage, encode_archived
from processors.wire.directory import DirectoryHead, encode_directory
from processors.wire.exact import writer_of
from processors.wire.journal_chunk import encode_chunk
from processors.wire.schemas import encode, schema_of
from tests.unit.wire.build import KINDS, example, pay


class Word(StrEnum):
    ACME = "acme"
    CHECKED = "CHECKED"


class Number(int):
    """An int of another library."""


class Raw(bytes):
    """Bytes of another library."""


# For each type that a field may have: what is none of it, however like it looks.
STRANGERS: dict[type, tuple[Any, ...]] = {
    int: (12.5, 12.0, 19.99 * 100, 0.99, Decimal("12.50"), Fraction(25, 2), True, False, Number(12), "12", b"12"),
    bytes: ("acme", bytearray(b"acme"), memoryview(b"acme"), Raw(b"x" * 16), 12, 12.5, [1]),
    str: (b"acme", Word.ACME, 12, 12.5, True, ["acme"]),
    bool: (1, 0, 1.0, "True", b"\x01"),
    StrEnum: ("CHECKED", Word.CHECKED, 0, b"CHECKED"),
}


def types_of(hint: Any) -> list[Any]:
    """Return the types that a field's annotation names."""
    return list(get_args(hint)) or [hint]


def strangers_of(hint: Any) -> list[Any]:
    """Return values that a field with this annotation must refuse; None too, unless it may be left out."""
    types = types_of(hint)
    (kind,) = (each for each in types if each is not type(None))
    found: list[Any] = list(STRANGERS[StrEnum if issubclass(kind, StrEnum) else kind])
    return found if type(None) in types else [*found, None]


def every_field() -> list[tuple[type[Command | Control], str, Any]]:
    return [
        (kind, name, hint) for kind in KINDS for name, hint in get_type_hints(kind).items()
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "hint"), every_field(), ids=lambda value: getattr(value, "__name__", value))
def test_a_field_takes_its_exact_type_and_nothing_else(kind: type[Command | Control], name: str, hint: Any) -> None:
    for stranger in strangers_of(hint):
        with pytest.raises(ValueError, match=f"{kind.__name__}.{name} is .*{type(stranger).__name__}: write") as no:
            encode_command(example(kind, **{name: stranger}))
        assert repr(stranger)[:60] in str(no.value)


def test_no_field_of_any_command_is_left_out() -> None:
    tried = {(kind, name) for kind, name, _ in every_field()}

    assert {kind for kind, _ in tried} >= {*TYPE_OF} - {kind for kind in KINDS if not fields(kind)}
    assert tried == {(kind, field.name) for kind in KINDS for field in fields(kind)}


@pytest.mark.parametrize("amount", [12.5, Decimal("12.5"), 19.99 * 100, 0.99, True])
@pytest.mark.parametrize("kind", [Pay, TopUp, Collect, PlaceHold, Refund, Transfer], ids=lambda kind: kind.__name__)
def test_an_amount_is_never_cut(kind: Any, amount: Any) -> None:
    with pytest.raises(ValueError, match=r"amount_minor is .*: write an int, in minor units of the currency"):
        encode_command(example(kind, amount_minor=amount))


@pytest.mark.parametrize("span", [900.5, Decimal(900_000), True])
def test_a_holds_time_is_never_cut(span: Any) -> None:
    with pytest.raises(ValueError, match=r"PlaceHold.expires_in_ms is .*: write an int, in milliseconds"):
        encode_command(example(PlaceHold, expires_in_ms=span))


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"amount_minor": 12.5}, "Pay.amount_minor is 12.5, a float: write an int, in minor units of the currency"),
        ({"amount_minor": 2**63}, "Pay.amount_minor is 9223372036854775808, an int: more than 64 bits"),
        ({"amount_minor": 10**9_999}, "an int: more than 64 bits"),
        ({"command_id": b"short"}, "Pay.command_id is b'short', a bytes: write 16 bytes"),
        ({"address": "acme\ud800"}, "Pay.address is 'acme\\ud800', a str: UTF-8 cannot write half of a surrogate"),
        ({"metadata": '{"a":1}'}, "a str: write the bytes of a JSON object, or a dict"),
    ],
)
def test_a_refusal_says_what_to_write(wishes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is compared below
        encode_command(pay(**wishes))
    assert sentence in str(refused.value)


def test_an_enum_is_refused_as_text_with_its_members_named() -> None:
    with pytest.raises(ValueError, match=r"OpenAccount.policy is 'CHECKED', a str: write Policy.CHECKED or Policy.UN"):
        encode_command(example(OpenAccount, policy="CHECKED"))
    assert decode_command(encode_command(example(UpdateAccount, policy=Policy.CHECKED))).policy is Policy.CHECKED  # type: ignore[union-attr]


# ------------------------------------------------------------------ metadata as a dict


def test_metadata_may_be_a_dict() -> None:
    given: dict[str, Any] = {"order": 17, "by": "é", "lines": [1, None, True, {"x": "12.50"}]}
    read = decode_command(encode_command(pay(metadata=given)))

    assert isinstance(read, Pay)
    assert read.metadata == '{"by":"é","lines":[1,null,true,{"x":"12.50"}],"order":17}'.encode()
    assert encode_command(pay(metadata={})) == encode_command(pay())


@pytest.mark.rule("L14")
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"price": 12.5}, r"metadata\['price'\] is 12.5, a float: write .* a number with a point as text"),
        ({"a": [Decimal(1)]}, r"metadata\['a'\]\[0\] is Decimal\('1'\), a Decimal"),
        ({1: "x"}, "metadata has the key 1, a int: write a text"),
        ({"a": b"x"}, "a bytes"),
        ({"a": "x" * 5_000}, "5008 bytes as JSON: 4096 at most"),
        ({"a": "\ud800"}, "half of a surrogate pair"),
        ({"a": 10**999}, "an integer too long"),
    ],
    ids=str,
)
def test_metadata_that_would_come_back_as_something_else_is_refused(given: dict[Any, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        encode_command(pay(metadata=given))


@pytest.mark.rule("L14")
def test_metadata_that_is_too_deep_or_contains_itself_is_refused() -> None:
    itself: dict[str, Any] = {}
    itself["me"] = itself

    with pytest.raises(ValueError, match="deeper than 16 levels"):
        encode_command(pay(metadata=itself))


# ------------------------------------------------------------------ what else is written by its schema

COVERAGE = Coverage(
    incarnation=bytes(16), shard="s1", lane=0, results_partition=0, lane_offset=1, lane_index=0, time_ms=1
)


def test_whatever_else_is_written_by_its_schema_is_exact_too() -> None:
    with pytest.raises(ValueError, match=r"Coverage.lane_offset is 1.5, a float"):
        encode_archived(replace(COVERAGE, lane_offset=1.5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"DirectoryHead.ingress_epoch is True, a bool"):
        encode_directory(DirectoryHead(directory_id=bytes(16), ingress_topic_id=bytes(16), ingress_epoch=True))
    with pytest.raises(ValueError, match=r"JournalChunk.lane_indexes is 0.0, a float"):
        encode_chunk([(1, 0, b"x"), (2, 0.0, b"y")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"JournalChunk.lane_offsets is .*, an int: more than 64 bits"):
        encode_chunk([(1, 0, b"x"), (2**63, 0, b"y")])


def test_a_record_with_a_field_too_few_or_too_many_is_refused() -> None:
    schema = schema_of("directory_head")
    with pytest.raises(ValueError, match="write a dict of directory_id, ingress_topic_id, ingress_epoch"):
        encode(schema, {"directory_id": bytes(16)})


def test_a_member_that_a_schema_of_an_earlier_release_does_not_have_is_refused() -> None:
    earlier = {"type": "enum", "name": "balance.Word", "symbols": ["acme"]}
    write = writer_of(earlier, {"balance.Word": {"acme": Word.ACME, "CHECKED": Word.CHECKED}}, "Pay.word")

    assert write(Word.ACME) == b"\x00"
    with pytest.raises(ValueError, match=r"Pay\.word"):
        write(Word.CHECKED)
