"""Gives back a payment or a capture; one that has left MySQL is decided once the archive has told of it."""

from __future__ import annotations

from typing import Annotated

import typer

from processors.ledger.commands import Command, Refund
from processors.ops.cli.asking import ask
from processors.ops.cli.history import newest_of
from processors.ops.cli.terminal import (
    WITHIN_S,
    Address,
    AmountWords,
    IdArgument,
    IdOption,
    JsonOption,
    MetadataOption,
    WithinOption,
    amount_of,
)


def refund(
    *,
    address: Address,
    original_id: IdArgument,
    amount: AmountWords,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    wait_final: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until a refund of an archived payment is decided.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Give back part or all of a payment or a capture; ID is that command's."""
    money = amount_of(amount)

    def make(new_id: bytes) -> Command:
        return Refund(
            command_id=new_id,
            address=address,
            currency=money.currency,
            original_id=original_id,
            amount_minor=money.amount_minor,
            metadata=metadata,
        )

    ask(make, command_id, within_s=within_s, as_json=as_json, end_of=newest_of if wait_final else None)
