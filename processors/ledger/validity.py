"""What is wrong with a command, looked at alone: its key, its address and its fields, in the order of ``Reason``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from processors.ids import root_of
from processors.ledger.addresses import chain
from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Collect,
    Command,
    GetBalance,
    OpenAccount,
    Pay,
    PlaceHold,
    Refund,
    TopUp,
    Transfer,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.currencies import EXPONENTS_OF
from processors.ledger.metadata import canonical_metadata
from processors.ledger.outcomes import Reason
from processors.ledger.rules import AMOUNT_MINOR_MAX, Rules
from processors.ledger.transfers import BETWEEN_TREES_SINCE

__all__ = ["EXPLANATION_CHARACTERS_MAX", "canonical_metadata", "why_invalid"]

EXPLANATION_CHARACTERS_MAX = 256

_C = TypeVar("_C", bound=Command)
_Check = Callable[[Command, Rules], Reason | None]


def why_invalid(command: Command, root: str, rules: Rules) -> Reason | None:
    """Return the first thing that is wrong with a partner's command, or None.

    Args:
        command: Decoded; any values its fields' types allow.
        root: The record's key (F3).
        rules: Give the longest hold, and by their release the currencies that are known.

    Source: docs/design.md, Money; rules F3, L14.
    """
    address = command.address
    levels = chain(address)
    if not levels or levels[0] != root:
        return Reason.INVALID_ADDRESS if root_of(address) == root else Reason.KEY_IS_NOT_ROOT  # F3
    if isinstance(command, Transfer) and not chain(command.to_address):
        return Reason.INVALID_ADDRESS
    if command.currency not in EXPONENTS_OF[rules.release]:
        return Reason.UNKNOWN_CURRENCY
    for check in _CHECKS[type(command)]:
        reason = check(command, rules)
        if reason is not None:
            return reason
    return None


def _amount(command: TopUp | Collect | Adjust | Pay | PlaceHold | Refund | Transfer, _rules: Rules) -> Reason | None:
    return None if 1 <= command.amount_minor <= AMOUNT_MINOR_MAX else Reason.INVALID_AMOUNT


def _amount_or_all(command: CaptureHold, _rules: Rules) -> Reason | None:
    amount_minor = command.amount_minor
    return None if amount_minor is None or 1 <= amount_minor <= AMOUNT_MINOR_MAX else Reason.INVALID_AMOUNT


def _overdraft_limit(command: OpenAccount | UpdateAccount, _rules: Rules) -> Reason | None:
    limit = command.overdraft_limit
    return None if limit is None or 0 <= limit <= AMOUNT_MINOR_MAX else Reason.INVALID_OVERDRAFT_LIMIT


def _expiry(command: PlaceHold, rules: Rules) -> Reason | None:
    return None if 1 <= command.expires_in_ms <= rules.longest_hold_ms else Reason.INVALID_EXPIRY


def _explanation(command: Adjust, _rules: Rules) -> Reason | None:
    fits = 1 <= len(command.explanation) <= EXPLANATION_CHARACTERS_MAX
    return None if fits else Reason.INVALID_EXPLANATION


def _metadata(
    command: OpenAccount
    | UpdateAccount
    | TopUp
    | Collect
    | Adjust
    | Pay
    | PlaceHold
    | CaptureHold
    | VoidHold
    | Refund
    | Transfer,
    _rules: Rules,
) -> Reason | None:
    if not command.metadata or canonical_metadata(command.metadata) is not None:
        return None
    return Reason.INVALID_METADATA  # L14


def _two_accounts(command: Transfer, rules: Rules) -> Reason | None:
    if command.to_address == command.address:
        return Reason.SAME_ACCOUNT
    between_trees = root_of(command.to_address) != root_of(command.address)
    if between_trees and rules.release < BETWEEN_TREES_SINCE:
        return Reason.TRANSFER_BETWEEN_TREES
    return None


def _checks(kind: type[_C], *checks: Callable[[_C, Rules], Reason | None]) -> tuple[type[object], tuple[_Check, ...]]:
    """Pair a type with checks of just that type: the table is looked up by a command's own type."""
    return kind, tuple(cast("_Check", check) for check in checks)


_CHECKS: dict[type[object], tuple[_Check, ...]] = dict(
    (
        _checks(OpenAccount, _overdraft_limit, _metadata),
        _checks(UpdateAccount, _overdraft_limit, _metadata),
        _checks(TopUp, _amount, _metadata),
        _checks(Collect, _amount, _metadata),
        _checks(Adjust, _amount, _explanation, _metadata),
        _checks(Pay, _amount, _metadata),
        _checks(PlaceHold, _amount, _expiry, _metadata),
        _checks(CaptureHold, _amount_or_all, _metadata),
        _checks(VoidHold, _metadata),
        _checks(Refund, _amount, _metadata),
        _checks(Transfer, _amount, _metadata, _two_accounts),
        _checks(GetBalance),
    )
)
