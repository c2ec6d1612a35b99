"""Moves money from account to account; between two partners it waits until the other one has it, or it is back."""

from __future__ import annotations

from typing import Annotated

import typer

from processors.ledger.commands import Command, Transfer
from processors.ops.cli.asking import ask
from processors.ops.cli.history import newest_of
from processors.ops.cli.terminal import (
    WITHIN_S,
    Address,
    AmountWords,
    IdOption,
    JsonOption,
    MetadataOption,
    WithinOption,
    amount_of,
    read_address,
)


def transfer(
    *,
    address: Address,
    to_address: Annotated[
        str,
        typer.Argument(
            parser=read_address,
            metavar="TO_ADDRESS",
            help="The account that gets it: the partner's own, or another's.",
            show_default=False,
        ),
    ],
    amount: AmountWords,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    wait_final: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until another partner has the money, or it is back.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Move money between two accounts, of one partner or of two."""
    money = amount_of(amount)

    def make(new_id: bytes) -> Command:
        return Transfer(
            command_id=new_id,
            address=address,
            currency=money.currency,
            to_address=to_address,
            amount_minor=money.amount_minor,
            metadata=metadata,
        )

    ask(make, command_id, within_s=within_s, as_json=as_json, end_of=newest_of if wait_final else None)
