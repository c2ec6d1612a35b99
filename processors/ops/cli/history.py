"""What happened: a transaction by its id, and an account's statement."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, NoReturn

import typer

from processors.ledger.outcomes import Status
from processors.ledger.rows import Hold, OpenRow, OpenTransfer, TransactionKey
from processors.lookup.history import DAY_MS, Statement, Transaction
from processors.lookup.statements import statement_of
from processors.lookup.times import show_time
from processors.lookup.undecided import LaneAhead, lanes_ahead, told_of
from processors.ops import addresses, assembly
from processors.ops.cli.asking import print_postings
from processors.ops.cli.looking import refuse_no_account
from processors.ops.cli.terminal import (
    Address,
    Currency,
    IdArgument,
    JsonOption,
    notes,
    page,
    print_json,
    print_table,
    read_day,
    settings,
)
from processors.ops.exits import EXIT_FAULT, EXIT_REJECTED
from processors.ops.looking_up import read_service
from processors.ops.money import show_amount, show_money
from processors.ops.result_text import (
    explanation,
    headline,
    open_row_as_json,
    result_as_json,
    show_id,
    statement_row_as_json,
)
from processors.stores.shard_reader import open_reader
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.results import Result
from processors.wire.statement_chunk import StatementRow

_STATEMENT_COLUMNS = 128  # of the widest usual row: an id, a time, and amounts of ten digits
_FIGURES = ("balance", "held", "available", "limit", "change", "held change")


def get_transaction(*, transaction_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show every step of a transaction, from the store that has it by its age.

    Exit status 1 only where it is proven that it never was decided and never will be; 3 where it may still be.
    """
    ahead: list[LaneAhead] = []
    found = look_up(transaction_id)
    if not _is_known(found):
        ahead = _lanes_ahead(transaction_id)
        found = look_up(transaction_id)  # once more, after the lanes: what they decided meanwhile is there now
    if as_json:
        print_json(
            {
                "steps": [result_as_json(step) for step in found.steps],
                "open": [open_row_as_json(root, row) for root, row in found.open],
                "refunded": [_refunded_as_json(step, found) for step in found.steps if _key_of(step) in found.refunded],
                "may_be_decided_by": [] if _is_known(found) else [asdict(each) for each in ahead],
            }
        )
    else:
        for step in found.steps:
            page.print(f"{show_time(step.lane_time_ms)}  {headline(step)}", soft_wrap=True)
            if explained := explanation(step):
                page.print(explained, soft_wrap=True)
            _print_details(step, found)
        for root, row in found.open:
            page.print(open_line(root, row), soft_wrap=True)
    if not _is_known(found):
        _tell_unknown(transaction_id, ahead)


def _print_details(step: Result, found: Transaction) -> None:
    """Write what a step left on each level, what belongs to it, and what was given back of it since."""
    if step.metadata:
        page.print(f"metadata: {step.metadata.decode()}", soft_wrap=True)
    print_postings(step)
    if back := found.refunded.get(_key_of(step)):
        given = show_money(back.refunded_minor, step.currency)
        left = show_money(back.amount_minor - back.refunded_minor, step.currency)
        page.print(f"refunded: {given} of {show_money(back.amount_minor, step.currency)}, {left} left", soft_wrap=True)


def _key_of(step: Result) -> TransactionKey:
    return step.root, step.command_id


def _refunded_as_json(step: Result, found: Transaction) -> dict[str, object]:
    back = found.refunded[_key_of(step)]
    return {
        "command_id": show_id(step.command_id),
        "currency": step.currency,
        "amount_minor": back.amount_minor,
        "refunded_minor": back.refunded_minor,
        "left_minor": back.amount_minor - back.refunded_minor,
    }


def _print_narrow(title: str, rows: list[StatementRow], currency: str) -> None:
    page.print(title, soft_wrap=True)
    for row in rows:
        change, balance = show_amount(row.balance_change, currency), show_amount(row.balance, currency)
        page.print(f"{row.sequence:>8}  {show_time(row.lane_time_ms)}  {row.type}  {change}  balance {balance}")
        held, changed = show_amount(row.held, currency), show_amount(row.held_change, currency)
        page.print(f"{'':8}  {show_id(row.transaction_id)}  held {held} ({changed})", soft_wrap=True)


def _is_known(found: Transaction) -> bool:
    return bool(found.steps or found.open)


def _tell_unknown(transaction_id: bytes, ahead: list[LaneAhead]) -> NoReturn:
    if not ahead:
        notes.print(
            f"nobody knows {show_id(transaction_id)}: it was never decided, and never will be, since no lane decides "
            "an id that is older than its window, or no UUIDv7",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_REJECTED)
    for line in told_of(transaction_id, ahead):
        notes.print(line, style="red", soft_wrap=True)
    raise typer.Exit(EXIT_FAULT)


def _lanes_ahead(command_id: bytes) -> list[LaneAhead]:
    """Return every shard's lanes that could still decide an id."""
    chosen = settings()
    topics = TopicAdmin(addresses.kafka_address(chosen))
    found: list[LaneAhead] = []
    for shard in chosen.shards:
        now_ms = assembly.clock_ms()
        lanes = range(assembly.founded_settings(chosen, shard).lanes_of(shard))
        ends = {lane: topics.end(shard_topic(shard), lane) for lane in lanes}
        reader = open_reader(addresses.mysql_address(chosen, shard))
        try:
            found += lanes_ahead(
                command_id, shard, ends=ends, positions=reader.lane_positions(), rules=reader.rules(), now_ms=now_ms
            )
        finally:
            reader.close()
    return found


def look_up(transaction_id: bytes) -> Transaction:
    """Return what all shards and the archive know of an id."""
    with read_service(settings()) as service:
        return service.transaction(transaction_id)


def newest_of(result: Result) -> Result:
    """Return the end of a transaction whose OPEN answer was repeated, from the stores; the answer if it is open still.

    Its end may have been published before anybody listened, so it cannot be waited for.
    """
    if result.status is not Status.OPEN or result.duplicate_of is None:
        return result
    steps = look_up(result.transaction_id).steps
    ends = [step for step in steps if step.root == result.root and step.status is not Status.OPEN]
    return ends[-1] if ends else result


def open_line(root: str, row: OpenRow) -> str:
    """Say in one line what is still open of a transaction."""
    if isinstance(row, Hold):
        left = show_money(row.remaining_minor, row.currency)
        return f"open hold of {root} at {row.address}: {left} left, until {show_time(row.expires_at_ms)}"
    if isinstance(row, OpenTransfer):
        amount = show_money(row.amount_minor, row.currency)
        return f"open transfer of {root} from {row.address} to {row.to_address}: {amount} on its way"
    return (
        f"open refund of {root} at {row.address}: {show_money(row.amount_minor, row.currency)}, waits for the archive"
    )


def statement(
    *,
    address: Address,
    currency: Currency,
    from_day: Annotated[
        int | None,
        typer.Option("--since", parser=read_day, metavar="DAY", help="From this day on, UTC, such as 2026-11-23."),
    ] = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="Only so many, the newest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print an account's changes, archived ones from Cassandra and the newest from MySQL; exit 1 if there is none."""
    with read_service(settings()) as service:
        found = statement_of(service, address, currency, from_day=from_day, last=last)
    if not found.rows and found.complete:
        _refuse_no_change(address, currency, from_day)
    if as_json:
        for row in found.rows:
            print_json(statement_row_as_json(row, currency))
    else:
        print_statement(f"{address} {currency}", found.rows, currency)
    if not found.complete:
        notes.print(what_is_missing(found), style="red", soft_wrap=True)
        raise typer.Exit(EXIT_FAULT)


def _refuse_no_change(address: str, currency: str, from_day: int | None) -> NoReturn:
    refuse_no_account(address, currency)
    if from_day is None:
        notes.print(f"nothing has changed {address} in {currency} yet", soft_wrap=True)
    else:
        day = show_time(from_day * DAY_MS).partition("T")[0]
        notes.print(f"nothing has changed {address} in {currency} since {day}: leave --since out", soft_wrap=True)
    raise typer.Exit(EXIT_REJECTED)


def what_is_missing(found: Statement) -> str:
    """Say how many of a statement's changes are missing, why, and what brings them back."""
    count, first = len(found.missing), found.missing[0]
    told = f"1 change is missing, {first}: " if count == 1 else f"{count} changes are missing, the first is {first}: "
    if found.sink_behind:
        return told + "the sink is behind, by more than is looked through here; see `balance status`"
    return told + "it is not in the archive any more; `balance archive repair` brings back what MySQL has"


def print_statement(title: str, rows: list[StatementRow], currency: str) -> None:
    """Write an account's changes as a table; on a terminal that has no room for it in two lines each."""
    if page.width < _STATEMENT_COLUMNS:
        _print_narrow(title, rows, currency)
        return
    columns = ("sequence", "time", "type", "change", "held change", "balance", "held", "available", "transaction")
    cells = (
        (
            row.sequence,
            show_time(row.lane_time_ms),
            row.type,
            show_amount(row.balance_change, currency),
            show_amount(row.held_change, currency),
            show_amount(row.balance, currency),
            show_amount(row.held, currency),
            show_amount(row.balance - row.held + row.overdraft_limit, currency),
            show_id(row.transaction_id),
        )
        for row in rows
    )
    print_table(title, columns, cells, right=(*_FIGURES, "sequence"))
