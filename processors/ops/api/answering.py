"""The API's questions, each a function of a reader and what was asked; what it returns becomes JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from processors.lookup.accounts import account_of, accounts_page
from processors.lookup.history import Transaction
from processors.lookup.service import ServiceReader
from processors.lookup.statements import ROWS_MAX, Part, Statement, statement_of
from processors.ops.api.answers import cursor_of
from processors.ops.api.asking import Position, Question
from processors.ops.api.problems import BROKEN, NOT_FOUND, TOO_MUCH, WRONG_QUESTION, ProblemError
from processors.ops.api.tokens import Caller, Scope
from processors.ops.result_text import account_as_json, open_row_as_json, result_as_json, show_id
from processors.ops.statement_text import StatementHead, statement_as_json, what_is_wrong
from processors.wire.results import Result


def list_accounts(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """List accounts in the order of their addresses."""
    found = accounts_page(
        service, asked.below, after=asked.after, rows_max=asked.accounts_max, count_max=asked.limits.count_max
    )
    return {
        "accounts": [account_as_json(account) for account in found.accounts],
        "count": found.there,
        "next_cursor": cursor_of(found.accounts[-1].address) if found.more else None,
    }


def get_account(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """Return one account as it is now: its balance, what is held, what is available."""
    address, currency = asked.address, asked.currency
    account = account_of(service, address, currency)
    if account is None:
        raise ProblemError(NOT_FOUND, f"{address} has no account in {currency}")
    return account_as_json(account)


def read_statement(service: ServiceReader, asked: Question) -> tuple[Statement, StatementHead]:
    """Return some of an account's changes of a period, with the balances before and after them.

    Raises:
        ProblemError: There is no such account, or a change is missing: half a statement is none.
    """
    return _read_part(service, asked.head, asked.part)


def _read_part(service: ServiceReader, head: StatementHead, part: Part) -> tuple[Statement, StatementHead]:
    found = statement_of(service, head.address, head.currency, period=head.period, part=part)
    if found is None:
        raise ProblemError(NOT_FOUND, f"{head.address} has no account in {head.currency}")
    if part.after > found.newest:  # else a change would seem to be missing
        raise ProblemError(WRONG_QUESTION, "cursor: the account has fewer changes; it is another account's, or made up")
    if wrong := what_is_wrong(found):
        raise ProblemError(BROKEN, wrong)
    return found, head


def read_whole_statement(service: ServiceReader, asked: Question) -> tuple[Statement, StatementHead]:
    """Return the same, all of it: for what has no place to say that it goes on.

    Raises:
        ProblemError: As ``read_statement``; or it has more changes than were asked for.
    """
    found, head = _read_part(service, asked.head, asked.whole_part)
    if found.next_after is not None or found.before:
        raise ProblemError(
            WRONG_QUESTION,
            f"the period has {found.count} changes, and a CSV has all of them or none, and {ROWS_MAX} at "
            "most: ask without a cursor and a limit, or for shorter periods",
        )
    return found, head


def get_statement(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """Return an account's statement of a period: opening balance, changes, closing balance."""
    return statement_told(*read_statement(service, asked))


def statement_told(found: Statement, head: StatementHead) -> dict[str, Any]:
    """Return a statement that was found as it is answered."""
    told = statement_as_json(found, head)
    after = told.pop("next_after")
    del told["missing"]
    return told | {"next_cursor": None if after is None else cursor_of(str(after))}


def has_reached(service: ServiceReader, position: Position | None) -> bool:
    """Say whether a record has been decided in what a shard's database, or the replica that is asked, has.

    Raises:
        ProblemError: There is no such shard or lane.
    """
    if position is None:
        return True
    if position.shard not in service.places.shards or position.lane >= service.row(position.shard).lanes:
        raise ProblemError(WRONG_QUESTION, f"min_position: there is no lane {position.lane} of {position.shard!r:.40}")
    found = service.shard(position.shard).lane_positions().get(position.lane)
    return found is not None and found.progress.at.next_offset > position.offset


def get_transaction(service: ServiceReader, asked: Question) -> dict[str, Any]:
    """Return every step of a transaction in the order in which they were decided, and what of it is open."""
    steps_max = asked.limits.steps_max
    found = seen_by(asked.caller, service.transaction(asked.id, steps_max=steps_max))
    if not (found.steps or found.open):
        raise ProblemError(NOT_FOUND, f"nobody knows {show_id(asked.id)}; a command just sent may not be decided yet")
    if not found.whole:
        raise ProblemError(
            TOO_MUCH,
            f"the transaction has more than {steps_max} steps; ask for the statement of its account, where each that "
            "changed something is, or for a single step by the id of its own command",
        )
    keys = {(step.root, step.command_id): step for step in found.steps}
    return {
        "transaction_id": show_id(asked.id),
        "steps": [result_as_json(step) for step in found.steps],
        "open": [open_row_as_json(root, row) for root, row in found.open],
        "refunded": [
            {
                "command_id": show_id(key[1]),
                "currency": keys[key].currency,
                "amount_minor": back.amount_minor,
                "refunded_minor": back.refunded_minor,
                "left_minor": back.amount_minor - back.refunded_minor,
            }
            for key, back in found.refunded.items()
            if key in keys
        ],
    }


def seen_by(caller: Caller, found: Transaction) -> Transaction:
    """Return what of a transaction a caller may see: steps at his addresses, and of their levels his own."""
    if caller.scope is not Scope.PARTNER:
        return found
    return Transaction(
        steps=[_covered(caller, step) for step in found.steps if caller.covers(step.address)],
        open=[(root, row) for root, row in found.open if caller.covers(row.address)],
        refunded=found.refunded,
        whole=found.whole,
    )


def _covered(caller: Caller, step: Result) -> Result:
    refused_by = step.refused_by
    if refused_by is not None and not caller.covers(refused_by.address):
        refused_by = None  # how much a level above has is not his to know
    postings = tuple(posting for posting in step.postings if caller.covers(posting.address))
    return replace(step, postings=postings, refused_by=refused_by)
