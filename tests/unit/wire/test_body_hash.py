from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any

import pytest

from processors.ledger.command_types import TYPE_OF
from processors.ledger.commands import CaptureHold, Collect, OpenAccount, TopUp, UpdateAccount
from processors.wire.commands import body_hash
from tests.unit.wire.build import COMMAND_ID, OTHER_ID, example, pay

pytestmark = pytest.mark.rule("I3")


def changed(value: Any) -> Any:
    """Return another value of the same type."""
    match value:
        case StrEnum():
            return next(member for member in type(value) if member is not value)
        case bool():
            return not value
        case int():
            return value + 1
        case bytes():
            return b'{"order":"B-2"}' if value.startswith(b"{") else bytes(reversed(value))
        case _:
            return value + "x"


def test_the_hash_is_over_type_and_fields_as_netstrings() -> None:
    text = b'PAY address 4:acme currency 3:USD amount_minor 2:10 metadata 7:{"a":1}'

    assert body_hash(pay(metadata=b'{"a":1}')) == hashlib.sha256(text).digest()[:16]


@pytest.mark.parametrize("kind", TYPE_OF, ids=lambda kind: kind.__name__)
def test_every_field_but_the_id_changes_the_hash(kind: Any) -> None:
    command = example(kind)
    hashes = {body_hash(command)}
    names = [field.name for field in fields(kind) if field.name != "command_id"]
    hashes |= {body_hash(replace(command, **{name: changed(getattr(command, name))})) for name in names}

    assert len(hashes) == len(names) + 1
    assert body_hash(replace(command, command_id=OTHER_ID)) == body_hash(command)


def test_the_type_changes_the_hash() -> None:
    top_up = example(TopUp)
    collect = Collect(**{field.name: getattr(top_up, field.name) for field in fields(Collect)})

    assert body_hash(top_up) != body_hash(collect)


def test_a_default_is_left_out_so_that_a_later_field_changes_no_hash() -> None:
    capture = CaptureHold(command_id=COMMAND_ID, address="acme", currency="USD", hold_id=b"h" * 16)
    text = b"CAPTURE_HOLD address 4:acme currency 3:USD hold_id 16:" + b"h" * 16

    assert body_hash(capture) == hashlib.sha256(text).digest()[:16]


def test_nothing_said_is_not_the_same_as_something_empty() -> None:
    silent = UpdateAccount(command_id=COMMAND_ID, address="acme", currency="USD")

    assert (
        len({body_hash(each) for each in (silent, replace(silent, metadata=b""), replace(silent, overdraft_limit=0))})
        == 3
    )


def test_metadata_counts_by_what_it_says_not_by_how_it_is_written() -> None:
    plain = pay(metadata=b'{"a":1,"b":"\xc3\xa9"}')

    assert body_hash(pay(metadata=b'{ "b" : "\\u00e9", "a" : 1 }')) == body_hash(plain)
    assert body_hash(pay(metadata=b'{"a":2,"b":"\xc3\xa9"}')) != body_hash(plain)


def test_metadata_that_is_not_valid_counts_by_its_bytes() -> None:
    assert body_hash(pay(metadata=b"{a}")) != body_hash(pay(metadata=b"{ a}"))
    assert body_hash(pay(metadata=b"{a}")) != body_hash(pay())


def test_no_two_ways_of_cutting_the_same_text_collide() -> None:
    one = OpenAccount(command_id=COMMAND_ID, address="a currency 3:USD", currency="")
    other = OpenAccount(command_id=COMMAND_ID, address="a", currency="USD")

    assert body_hash(one) != body_hash(other)
