"""What commands say to people and programs: results, dead letters, accounts and what is open, as JSON objects."""

from __future__ import annotations

import json
from typing import Any

from processors.faults import Undecodable
from processors.ids import id_text
from processors.ledger.command_types import SLICED_BY_LANE_TIME
from processors.ledger.commands import Command, CommandType, Control
from processors.ledger.outcomes import Posting, Reason, RefusedBy
from processors.ledger.rows import Account, Hold, OpenRow, OpenTransfer
from processors.ledger.rules import Rules
from processors.lookup.times import show_time
from processors.ops.command_text import command_as_json
from processors.ops.durations import show_duration
from processors.ops.money import show_amount, show_money
from processors.wire.commands import decode_command
from processors.wire.dead_letters import DeadLetter
from processors.wire.results import Result


def show_id(identifier: bytes) -> str:
    """Write an id with hyphens; nothing for no id."""
    return id_text(identifier) if identifier else ""


def headline(result: Result) -> str:
    """Say in one line how a command ended: last its id, of a step of the service's own the transaction's."""
    words = [result.status if result.reason is Reason.NONE else f"{result.status} {result.reason}"]
    other = "from" if result.type is CommandType.TRANSFER_CREDIT else "to"
    where = f"{result.address} {other} {result.to_address}" if result.to_address else result.address
    words += [f"{result.type} {result.direction}" if result.direction else result.type, where]
    if result.amount_minor:
        words.append(show_money(result.amount_minor, result.currency))
    if result.remaining_minor:
        words.append(f"(left: {show_money(result.remaining_minor, result.currency)})")
    if result.expires_at_ms:
        words.append(f"until {show_time(result.expires_at_ms)}")
    if result.refused_by is not None:
        words.append(f"({_cause(result.refused_by, result)})")
    if result.explanation:
        words.append(f"because: {result.explanation}")
    if result.duplicate_of is not None:
        words.append("(already answered before, nothing changed)")
    words.append(show_id(result.transaction_id if result.type in SLICED_BY_LANE_TIME else result.command_id))
    return "  ".join(words)


def _cause(cause: RefusedBy, result: Result) -> str:
    available = show_money(cause.available_minor, result.currency)
    match result.reason:
        case Reason.UNKNOWN_ACCOUNT:
            return f"{cause.address} has no account in {result.currency}"
        case Reason.INSUFFICIENT_FUNDS:
            return f"{cause.address} has {available}, {show_money(cause.missing_minor, result.currency)} missing"
        case _:
            return f"{cause.address} says no, with {available} available"


def explanation(result: Result) -> str:
    """Return a line that says where a refusal is explained; nothing for what was not refused.

    Of an expiry it names the limit, too, as a new shard has it: which rules the lane had is not in the result.
    """
    if result.reason is Reason.NONE:
        return ""
    see = f"what it means, and what to do next: {result.reason.paragraph}"
    if result.reason is not Reason.INVALID_EXPIRY:
        return see
    longest = show_duration(Rules(version=1).longest_hold_ms)
    return f"a hold lasts 1ms to {longest}, unless the rules say otherwise (`balance rules show`); {see}"


def with_amounts(value: Any, currency: str = "") -> Any:
    """Return what ``--json`` prints of a value: beside each number of minor units its digits, and as people write it.

    JavaScript and others read a number as a double, which rounds what is above 2**53; and what a minor unit is differs
    from currency to currency.

    Args:
        value: Objects, lists, and what is in them; an amount's name ends in ``_minor``.
        currency: Of the amounts, unless an object around them names one itself.

    >>> with_amounts([{"currency": "USD", "held_minor": 5}])
    [{'currency': 'USD', 'held_minor': 5, 'held_minor_text': '5', 'held': '0.05'}]
    """
    if isinstance(value, list | tuple):
        return [with_amounts(each, currency) for each in value]
    if not isinstance(value, dict):
        return value
    currency = value.get("currency") or currency
    told: dict[str, Any] = {}
    for name, each in value.items():
        told[name] = each if name == "metadata" else with_amounts(each, currency)  # a partner's own is shown as it is
        if isinstance(each, int) and isinstance(name, str) and name.endswith("_minor"):
            told[f"{name}_text"] = str(each)
            if currency:
                told[name.removesuffix("_minor")] = show_amount(each, currency)
    return told


def result_as_json(result: Result) -> dict[str, Any]:
    """Return all that a result says to a partner or an operator.

    Amounts are minor units in ``*_minor``; ids are text, times ISO 8601, metadata an object. What is empty is left out.
    """
    values: dict[str, Any] = {
        "type": result.type,
        "status": result.status,
        "reason": "" if result.reason is Reason.NONE else result.reason,
        "see": "" if result.reason is Reason.NONE else result.reason.paragraph,
        "refused_by": None if result.refused_by is None else _cause_as_json(result.refused_by),
        "address": result.address,
        "currency": result.currency,
        "amount_minor": result.amount_minor,
        "command_id": show_id(result.command_id),
        "transaction_id": show_id(result.transaction_id),
        "related_id": show_id(result.related_id),
        "to_address": result.to_address,
        "remaining_minor": result.remaining_minor,
        "expires_at": show_time(result.expires_at_ms),
        "direction": str(result.direction or ""),
        "explanation": result.explanation,
        "policy": str(result.policy or ""),
        "account_status": str(result.account_status or ""),
        "postings": [_posting_as_json(posting) for posting in result.postings],
        "metadata": json.loads(result.metadata) if result.metadata else None,
        "time": show_time(result.lane_time_ms),
        "shard": result.shard,
    }
    kept = {name: value for name, value in values.items() if value not in ("", None, [], 0)}
    duplicate = {} if result.duplicate_of is None else {"duplicate": True}
    return {**kept, **duplicate, "lane": result.lane, "offset": result.lane_offset, "index": result.lane_index}


def _cause_as_json(cause: RefusedBy) -> dict[str, Any]:
    return {
        "address": cause.address,
        "available_minor": cause.available_minor,
        "missing_minor": cause.missing_minor,
    }


def _posting_as_json(posting: Posting) -> dict[str, Any]:
    return {
        "address": posting.address,
        "contra": posting.contra,
        "balance_change_minor": posting.balance_change,
        "held_change_minor": posting.held_change,
        "balance_minor": posting.balance,
        "held_minor": posting.held,
        "available_minor": posting.balance - posting.held + posting.overdraft_limit,
        "overdraft_limit_minor": posting.overdraft_limit,
        "sequence": posting.sequence,
    }


def dead_letter_as_json(letter: DeadLetter, name: str) -> dict[str, Any]:
    """Return all that a dead letter says; bytes are shown as text where they are, else as hexadecimal digits."""
    return {
        "name": name,
        "cause": letter.cause,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": show_time(letter.timestamp_ms),
        "ingress_epoch": letter.ingress_epoch,
        "ingress_partition": letter.ingress_partition,
        "ingress_offset": letter.ingress_offset,
        "key": _readable(letter.key),
        "key_bytes": letter.key_size,
        "payload": _readable(letter.payload),
        "command": None if (command := _command_of(letter)) is None else command_as_json(command),
        "payload_bytes": letter.payload_size,
        "payload_sha256": letter.payload_sha256.hex(),
    }


def _command_of(letter: DeadLetter) -> Command | None:
    """Return the partner's command that a letter's payload is; None where it is none, or was cut."""
    if letter.payload_size != len(letter.payload):
        return None
    try:
        command = decode_command(letter.payload)
    except Undecodable:
        return None
    return None if isinstance(command, Control) else command


def _readable(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    return text if text.isprintable() and "\ufffd" not in text else content.hex()


def account_as_json(account: Account) -> dict[str, Any]:
    """Return an account as it is; amounts in minor units."""
    return {
        "address": account.address,
        "currency": account.currency,
        "balance_minor": account.balance,
        "held_minor": account.held,
        "available_minor": account.available,
        "overdraft_limit_minor": account.overdraft_limit,
        "policy": account.policy,
        "status": account.status,
        "sequence": account.sequence,
        "open_count": account.open_count,
        "metadata": json.loads(account.metadata) if account.metadata else None,
    }


def open_row_as_json(root: str, row: OpenRow) -> dict[str, Any]:
    """Return what is open of a transaction; amounts in minor units."""
    values = {"root": root, "address": row.address, "currency": row.currency, "amount_minor": row.amount_minor}
    if isinstance(row, Hold):
        rest = {"remaining_minor": row.remaining_minor, "expires_at": show_time(row.expires_at_ms)}
        return {"what": "hold", **values, **rest}
    if isinstance(row, OpenTransfer):
        return {"what": "transfer", **values, "to_address": row.to_address}
    return {"what": "refund", **values, "original_id": show_id(row.original_id)}
