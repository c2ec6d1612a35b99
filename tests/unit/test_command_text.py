from __future__ import annotations

from typing import Any

import pytest

from processors.ids import id_text, make_command_id
from processors.ledger.commands import (
    AccountStatus,
    Adjust,
    CaptureHold,
    Command,
    Direction,
    OpenAccount,
    Pay,
    PlaceHold,
    Policy,
    UpdateAccount,
)
from processors.ops.command_text import CommandTextError, command_from_json, parse_id

NEW = make_command_id(1_700_000_000_000, b"\x01" * 10)
GIVEN = make_command_id(1_700_000_000_000, b"\x02" * 10)


def read(**values: Any) -> Command:
    return command_from_json(values, lambda: NEW)


def test_an_amount_as_people_write_it_is_minor_units_and_a_currency() -> None:
    assert read(type="PAY", address="acme", amount="12.50 USD") == Pay(
        command_id=NEW, address="acme", currency="USD", amount_minor=1250
    )


def test_an_amount_may_be_minor_units_too() -> None:
    assert read(type="PAY", address="acme", amount_minor=1250, currency="usd", command_id=id_text(GIVEN)) == Pay(
        command_id=GIVEN, address="acme", currency="USD", amount_minor=1250
    )


def test_metadata_is_an_object_and_becomes_canonical_json() -> None:
    command = read(type="PAY", address="acme", amount="1 USD", metadata={"order": 17, "by": "é"})
    assert isinstance(command, Pay)
    assert command.metadata == '{"by":"é","order":17}'.encode()


def test_each_field_has_its_own_form() -> None:
    assert read(
        type="OPEN_ACCOUNT", address="acme", currency="USD", overdraft_limit="5.00 USD", policy="UNCHECKED"
    ) == (OpenAccount(command_id=NEW, address="acme", currency="USD", overdraft_limit=500, policy=Policy.UNCHECKED))
    assert read(type="UPDATE_ACCOUNT", address="acme", currency="USD", status="FROZEN") == (
        UpdateAccount(command_id=NEW, address="acme", currency="USD", status=AccountStatus.FROZEN)
    )
    assert read(type="ADJUST", address="acme", amount="1 USD", direction="DEBIT", explanation="why") == Adjust(
        command_id=NEW, address="acme", currency="USD", amount_minor=100, direction=Direction.DEBIT, explanation="why"
    )
    assert read(type="PLACE_HOLD", address="acme", amount="1 USD", expires_in_ms=1000) == PlaceHold(
        command_id=NEW, address="acme", currency="USD", amount_minor=100, expires_in_ms=1000
    )
    assert read(type="CAPTURE_HOLD", address="acme", currency="USD", hold_id=id_text(GIVEN), final=False) == (
        CaptureHold(command_id=NEW, address="acme", currency="USD", hold_id=GIVEN, final=False)
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "type must be one of OPEN_ACCOUNT"),
        ({"type": "EXPIRE_HOLD"}, "type must be one of"),
        ({"type": "PAY", "address": "acme"}, "PAY needs currency, amount_minor"),
        ({"type": "PAY", "address": "acme", "amount": "1 USD", "colour": 1}, "PAY has no field colour; it has"),
        ({"type": "PAY", "address": "acme", "amount": 12.5}, 'write "amount": "12.50 USD"; or "amount_minor": 1250'),
        ({"type": "PAY", "address": "acme", "amount": 12, "currency": "USD"}, 'write "amount": "12.50 USD"'),
        ({"type": "OPEN_ACCOUNT", "address": "acme", "currency": "USD", "amount": 1}, "has no field amount"),
        ({"type": "PAY", "address": "acme", "amount": "1.234 USD"}, "amount: '1.234 USD': USD has 2 digits"),
        (
            {"type": "PAY", "address": "acme", "amount": "1 USD", "currency": "JPY"},
            "amount is in USD, but currency is JPY",
        ),
        (
            {"type": "PAY", "address": "acme", "currency": "USD", "amount_minor": 12.5},
            "must be a whole number, not 12.5",
        ),
        (
            {"type": "PAY", "address": "acme", "currency": "USD", "amount_minor": True},
            "must be a whole number, not true",
        ),
        ({"type": "PAY", "address": 7, "amount": "1 USD"}, "address must be a text, not 7"),
        ({"type": "PAY", "address": "acme", "amount": "1 USD", "metadata": "x"}, "metadata must be an object"),
        ({"type": "PAY", "address": "acme", "amount": "1 USD", "command_id": "x"}, "'x' is not an id"),
        ({"type": "OPEN_ACCOUNT", "address": "acme", "currency": "USD", "policy": "FREE"}, "policy must be CHECKED/"),
        ({"type": "OPEN_ACCOUNT", "address": "acme", "currency": "XYZ"}, "currency: 'XYZ' is not a currency"),
    ],
)
def test_what_is_no_command_is_refused_by_field(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandTextError) as refused:
        read(**values)
    assert sentence in str(refused.value)


def test_an_id_is_read_with_hyphens_or_without() -> None:
    assert parse_id(id_text(GIVEN)) == parse_id(GIVEN.hex()) == GIVEN
