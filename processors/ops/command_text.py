"""Commands and results as JSON, for people and for `balance send`: ids with hyphens, amounts as they are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any
from uuid import UUID

from processors.ledger.addresses import well_formed
from processors.ledger.command_types import OF_THE_SERVICE, TYPE_OF
from processors.ledger.commands import AccountStatus, Command, Direction, Policy
from processors.ledger.metadata import metadata_bytes
from processors.ops.money import AmountError, known_currency, parse_money

# What the service sends itself is not for people: it acts on open rows only (I7).
_CLASS_OF: dict[str, type[Command]] = {name: kind for kind, name in TYPE_OF.items() if kind not in OF_THE_SERVICE}
_ID_BYTES = 16
# A number has no currency, and 12.50 of JSON is a double.
_AMOUNT_IS_A_TEXT = (
    'amount must be a text with its currency: write "amount": "12.50 USD"; or "amount_minor": 1250, "currency": "USD"'
)
_ENUMS: dict[str, type[Policy | AccountStatus | Direction]] = {
    "policy": Policy,
    "status": AccountStatus,
    "direction": Direction,
}


class CommandTextError(ValueError):
    """A JSON object that is no command; the message names the field and what belongs there."""


def parse_id(text: str) -> bytes:
    """Read an id in its usual form, hyphens or not.

    Raises:
        CommandTextError: It is not 32 hexadecimal digits.
    """
    try:
        return UUID(text).bytes
    except ValueError:
        raise CommandTextError(f"{text!r} is not an id: 32 hexadecimal digits, as results show them") from None


def command_from_json(values: Mapping[str, Any], make_id: Callable[[], bytes]) -> Command:
    """Build a command from a JSON object.

    Args:
        values: ``type`` (``PAY``, ...), ``address``, and the command's own fields by name; ``amount`` as people write
            it (``"12.50 USD"``) stands for ``amount_minor`` and ``currency``; ``metadata`` is an object.
        make_id: Makes the id where ``command_id`` is missing.

    Raises:
        CommandTextError: A field is missing, unknown, or not what belongs there.
    """
    rest = dict(values)
    kind = _CLASS_OF.get(str(rest.pop("type", "")))
    if kind is None:
        raise CommandTextError(f"type must be one of {', '.join(_CLASS_OF)}")
    _split_amount(rest)
    known = {field.name: field for field in fields(kind)}
    if "amount" in rest and "amount_minor" in known:
        raise CommandTextError(_AMOUNT_IS_A_TEXT)
    if unknown := sorted(set(rest) - set(known)):
        raise CommandTextError(f"{TYPE_OF[kind]} has no field {', '.join(unknown)}; it has {', '.join(known)}")
    given = {name: _value(name, value) for name, value in rest.items()}
    given.setdefault("command_id", None)
    given["command_id"] = given["command_id"] or make_id()
    missing = [name for name, field in known.items() if name not in given and field.default is MISSING]
    if missing:
        raise CommandTextError(f"{TYPE_OF[kind]} needs {', '.join(missing)}")
    return kind(**given)


def command_as_json(command: Command) -> dict[str, Any]:
    """Return a command as ``command_from_json`` takes it, whatever is in it: it may never have been judged."""
    values: dict[str, Any] = {"type": TYPE_OF[type(command)]}
    for field in fields(command):
        value = getattr(command, field.name)
        if field.name.endswith("_id") and isinstance(value, bytes):
            values[field.name] = str(UUID(bytes=value)) if len(value) == _ID_BYTES else value.hex()
        elif isinstance(value, bytes):
            values[field.name] = _metadata_of(value)
        elif value not in (None, ""):
            values[field.name] = value
    return {name: value for name, value in values.items() if value != {}}


def _metadata_of(content: bytes) -> Any:
    try:
        return json.loads(content or b"{}")
    except ValueError:
        return content.hex()


def _split_amount(values: dict[str, Any]) -> None:
    """Replace ``amount`` (and a limit written as an amount) by minor units and currency."""
    for written, minor in (("amount", "amount_minor"), ("overdraft_limit", "overdraft_limit")):
        if isinstance(values.get(written), str):
            try:
                money = parse_money(values.pop(written), zero=written == "overdraft_limit")
            except AmountError as error:
                raise CommandTextError(f"{written}: {error}") from None
            if values.get("currency", money.currency) != money.currency:
                raise CommandTextError(f"{written} is in {money.currency}, but currency is {values['currency']}")
            values[minor], values["currency"] = money.amount_minor, money.currency


def _value(name: str, value: Any) -> Any:
    if name.endswith("_id"):
        return parse_id(value) if isinstance(value, str) else _wrong(name, value, "an id")
    if name == "metadata":
        return metadata_bytes(value) if isinstance(value, dict) else _wrong(name, value, "an object")
    if name in _ENUMS:
        return _ENUMS[name](value) if value in list(_ENUMS[name]) else _wrong(name, value, "/".join(_ENUMS[name]))
    if name in {"amount_minor", "overdraft_limit", "expires_in_ms"}:
        return value if type(value) is int else _wrong(name, value, "a whole number")
    if name == "final":
        return value if isinstance(value, bool) else _wrong(name, value, "true or false")
    if name == "currency":
        return _currency(value) if isinstance(value, str) else _wrong(name, value, "a currency")
    if name.endswith("address"):
        return _address(name, value) if isinstance(value, str) else _wrong(name, value, "a text")
    return value if isinstance(value, str) else _wrong(name, value, "a text")


def _address(name: str, text: str) -> str:
    try:
        return well_formed(text)
    except ValueError as error:
        raise CommandTextError(f"{name}: {error}") from None


def _currency(text: str) -> str:
    try:
        return known_currency(text)
    except AmountError as error:
        raise CommandTextError(f"currency: {error}") from None


def _wrong(name: str, value: Any, wanted: str) -> Any:
    raise CommandTextError(f"{name} must be {wanted}, not {json.dumps(value)[:60]}")
