"""Commands about money: each is sent, waited for and shown. Money in, money out, holds, refunds, transfers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Collect,
    Command,
    Direction,
    Pay,
    PlaceHold,
    TopUp,
    VoidHold,
)
from processors.ops.cli.asking import ask
from processors.ops.cli.terminal import (
    WITHIN_S,
    Address,
    AmountWords,
    Currency,
    IdArgument,
    IdOption,
    JsonOption,
    MetadataOption,
    WithinOption,
    amount_of,
    notes,
    read_currency,
    read_duration,
    settings,
)
from processors.ops.cli.wording import AMOUNT
from processors.ops.keys import keyring

# A basket is paid within a quarter of an hour or it is not.
_HOLD_MS = 15 * 60_000


def topup(
    *,
    address: Address,
    amount: AmountWords,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Put money into one account: a partner's deposit."""
    ask(_moved(TopUp, address, amount, metadata), command_id, within_s=within_s, as_json=as_json)


def collect(
    *,
    address: Address,
    amount: AmountWords,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Credit money that was collected for a partner."""
    ask(_moved(Collect, address, amount, metadata), command_id, within_s=within_s, as_json=as_json)


def pay(
    *,
    address: Address,
    amount: AmountWords,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Check and take a payment, on every level of the partner's path."""
    ask(_moved(Pay, address, amount, metadata), command_id, within_s=within_s, as_json=as_json)


def _moved(
    kind: type[TopUp | Collect | Pay], address: str, words: list[str], metadata: bytes
) -> Callable[[bytes], Command]:
    money = amount_of(words)
    return lambda command_id: kind(
        command_id=command_id,
        address=address,
        currency=money.currency,
        amount_minor=money.amount_minor,
        metadata=metadata,
    )


def adjust(
    *,
    address: Address,
    direction: Annotated[Direction, typer.Argument(metavar="DIRECTION", case_sensitive=False, help="CREDIT or DEBIT.")],
    amount: AmountWords,
    explanation: Annotated[str, typer.Option("--because", help="Why; up to 256 characters, kept for ever.")],
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Correct one account by hand; signed with the operators' key."""
    money = amount_of(amount)

    def make(new_id: bytes) -> Command:
        return Adjust(
            command_id=new_id,
            address=address,
            currency=money.currency,
            amount_minor=money.amount_minor,
            direction=direction,
            explanation=explanation,
            metadata=metadata,
        )

    notes.print(f"signed with {keyring(settings()).signing}")
    ask(make, command_id, within_s=within_s, as_json=as_json)


def hold(
    *,
    address: Address,
    amount: AmountWords,
    expires_in_ms: Annotated[
        int,
        typer.Option(
            "--expires-in", parser=read_duration, metavar="SPAN", help="Such as 90s, 15m, 2h.", show_default="15m"
        ),
    ] = _HOLD_MS,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Check and reserve an amount, to be captured, voided, or freed when it expires."""
    money = amount_of(amount)

    def make(new_id: bytes) -> Command:
        return PlaceHold(
            command_id=new_id,
            address=address,
            currency=money.currency,
            amount_minor=money.amount_minor,
            expires_in_ms=expires_in_ms,
            metadata=metadata,
        )

    ask(make, command_id, within_s=within_s, as_json=as_json)


def capture(
    *,
    address: Address,
    hold_id: IdArgument,
    amount: Annotated[
        list[str], typer.Argument(metavar=AMOUNT, help="Such as 12.50 USD; only USD takes all that is left.")
    ],
    keep_rest: Annotated[bool, typer.Option("--keep-rest", help="Keep what is left for another capture.")] = False,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Take all or part of a hold, and free the rest unless it is kept."""
    whole = len(amount) == 1 and amount[0].isalpha()
    money = None if whole else amount_of(amount)
    currency = read_currency(amount[0]) if money is None else money.currency

    def make(new_id: bytes) -> Command:
        return CaptureHold(
            command_id=new_id,
            address=address,
            currency=currency,
            hold_id=hold_id,
            amount_minor=None if money is None else money.amount_minor,
            final=not keep_rest,
            metadata=metadata,
        )

    ask(make, command_id, within_s=within_s, as_json=as_json)


def void(
    *,
    address: Address,
    hold_id: IdArgument,
    currency: Currency,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Free what a hold reserves."""

    def make(new_id: bytes) -> Command:
        return VoidHold(command_id=new_id, address=address, currency=currency, hold_id=hold_id, metadata=metadata)

    ask(make, command_id, within_s=within_s, as_json=as_json)
