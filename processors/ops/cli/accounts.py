"""Accounts: opened, changed and closed through the log; looked at in MySQL, or in order with the writes."""

from __future__ import annotations

from typing import Annotated

import typer

from processors.ledger.commands import AccountStatus, Command, GetBalance, OpenAccount, Policy, UpdateAccount
from processors.ops.cli.asking import ask
from processors.ops.cli.looking import accounts_below
from processors.ops.cli.terminal import (
    WITHIN_S,
    Address,
    Currency,
    IdOption,
    JsonOption,
    MetadataOption,
    WithinOption,
    confirm,
    limit_of,
    read_metadata,
)

LimitOption = Annotated[str, typer.Option("--limit", metavar="AMOUNT", help="Overdraft limit, such as 100.00.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Close it although accounts below it are open.")]
PolicyOption = Annotated[Policy, typer.Option(case_sensitive=False, help="CHECKED: available must cover a payment.")]


def open_account(
    *,
    address: Address,
    currency: Currency,
    limit: LimitOption = "0",
    policy: PolicyOption = Policy.CHECKED,
    command_id: IdOption = None,
    metadata: MetadataOption = b"",
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Open an account."""
    overdraft_limit = limit_of(limit, currency)

    def make(new_id: bytes) -> Command:
        return OpenAccount(
            command_id=new_id,
            address=address,
            currency=currency,
            overdraft_limit=overdraft_limit,
            policy=policy,
            metadata=metadata,
        )

    ask(make, command_id, within_s=within_s, as_json=as_json)


def update(
    *,
    address: Address,
    currency: Currency,
    limit: Annotated[
        str | None, typer.Option("--limit", metavar="AMOUNT", help="New overdraft limit, such as 100.00.")
    ] = None,
    policy: Annotated[Policy | None, typer.Option(case_sensitive=False)] = None,
    status: Annotated[AccountStatus | None, typer.Option(case_sensitive=False)] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", metavar="JSON", help="Replaces what is there.")] = None,
    yes: YesOption = False,
    command_id: IdOption = None,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Change an account's limit, policy, status or metadata; what is not named stays."""
    if limit is None and policy is None and status is None and metadata is None:
        raise typer.BadParameter("name what to change: --limit, --policy, --status or --metadata")
    if status is AccountStatus.CLOSED and not yes:
        _warn_of_open_children(address, currency)
    overdraft_limit = None if limit is None else limit_of(limit, currency)
    new_metadata = None if metadata is None else read_metadata(metadata)

    def make(new_id: bytes) -> Command:
        return UpdateAccount(
            command_id=new_id,
            address=address,
            currency=currency,
            overdraft_limit=overdraft_limit,
            policy=policy,
            status=status,
            metadata=new_metadata,
        )

    ask(make, command_id, within_s=within_s, as_json=as_json)


def freeze(
    *,
    address: Address,
    currency: Currency,
    command_id: IdOption = None,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Refuse new debits and holds; `account update --status ACTIVE` undoes it."""
    _set_status(address, currency, AccountStatus.FROZEN, command_id, within_s=within_s, as_json=as_json)


def close(
    *,
    address: Address,
    currency: Currency,
    yes: YesOption = False,
    command_id: IdOption = None,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Close an account that holds nothing, for ever; nothing below it can pay any more."""
    if not yes:
        _warn_of_open_children(address, currency)
    _set_status(address, currency, AccountStatus.CLOSED, command_id, within_s=within_s, as_json=as_json)


def _warn_of_open_children(address: str, currency: str) -> None:
    """Have the operator say that he means it: each payment below a closed account is refused for ever (H5)."""
    open_children = [
        account.address
        for account in accounts_below(address)
        if account.address != address and account.currency == currency and account.status is not AccountStatus.CLOSED
    ]
    if not open_children:
        return
    confirm(
        f"{address} has {len(open_children)} open accounts below it in {currency}, such as {open_children[0]}: "
        "once it is closed, none of them can ever pay or place a hold",
        "Close it nevertheless?",
        otherwise="close those first, or give --yes",
    )


def _set_status(
    address: str, currency: str, status: AccountStatus, command_id: bytes | None, *, within_s: int, as_json: bool
) -> None:
    def make(new_id: bytes) -> Command:
        return UpdateAccount(command_id=new_id, address=address, currency=currency, status=status)

    ask(make, command_id, within_s=within_s, as_json=as_json)


def balance(
    *,
    address: Address,
    currency: Currency,
    within_s: WithinOption = WITHIN_S,
    as_json: JsonOption = False,
) -> None:
    """Read balances in order with the writes: after everything that was sent before."""

    def make(new_id: bytes) -> Command:
        return GetBalance(command_id=new_id, address=address, currency=currency)

    ask(make, None, within_s=within_s, as_json=as_json)
