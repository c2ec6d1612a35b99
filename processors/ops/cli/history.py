"""What happened: a transaction by its id, and an account's statement."""

from __future__ import annotations

from dataclasses import asdict
from typing import NoReturn

import typer

from processors.ledger.outcomes import Status
from processors.ledger.rows import Hold, OpenRow, OpenTransfer, TransactionKey
from processors.lookup.history import Transaction
from processors.lookup.times import show_time
from processors.lookup.undecided import LaneAhead, lanes_ahead, told_of
from processors.ops import addresses, assembly
from processors.ops.cli.asking import print_postings
from processors.ops.cli.terminal import (
    IdArgument,
    JsonOption,
    notes,
    page,
    print_json,
    settings,
)
from processors.ops.exits import EXIT_FAULT, EXIT_REJECTED
from processors.ops.looking_up import read_service
from processors.ops.money import show_money
from processors.ops.result_text import (
    explanation,
    headline,
    open_row_as_json,
    result_as_json,
    show_id,
)
from processors.ops.shards import refuse_lacking_shards
from processors.stores.shard_reader import open_reader
from processors.streams.directory import read_directory
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.results import Result


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
    """Return every shard's lanes that could still decide an id; a shard that is not in the settings is refused."""
    chosen = settings()
    address = addresses.kafka_address(chosen)
    refuse_lacking_shards(chosen, read_directory(address))
    topics = TopicAdmin(address)
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
