"""The operators' command for a transfer between partners of which a leg was lost on its way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import typer

from processors.lane.sending import record_of
from processors.ledger.outcomes import Status
from processors.ledger.rows import OpenTransfer
from processors.ops import addresses, counts
from processors.ops.cli.history import look_up, open_line
from processors.ops.cli.terminal import (
    WITHIN_S,
    IdArgument,
    JsonOption,
    WithinOption,
    notes,
    page,
    print_json,
    settings,
)
from processors.ops.exits import EXIT_FAULT, EXIT_REJECTED
from processors.ops.keys import keyring
from processors.ops.result_text import headline, show_id
from processors.ops.shards import refuse_lacking_shards
from processors.settings import Settings
from processors.streams.directory import read_directory
from processors.streams.producer import IdempotentProducer
from processors.streams.topics import COMMANDS_TOPIC
from processors.wire.commands import type_of_payload
from processors.wire.legs import Leg, leg_again
from processors.wire.records import OutRecord
from processors.wire.results import Result
from processors.wire.signature import sign

LOOK_S = 0.2
_WRITE_S = 10.0
_ENDS = (Status.COMPLETED, Status.RETURNED)


def send_again(*, transfer_id: IdArgument, within_s: WithinOption = WITHIN_S, as_json: JsonOption = False) -> None:
    """Send the leg again that an open transfer waits for, after it became a dead letter. Safe to run again.

    A leg may come as often as it likes: the receiver knows what he was credited, and what the sender has open ends
    once.
    """
    chosen = settings()
    contents = read_directory(addresses.kafka_address(chosen))
    refuse_lacking_shards(chosen, contents)  # a credit that is not seen counts as never decided
    chosen = counts.of_contents(chosen, contents)
    found = look_up(transfer_id)
    senders = [root for root, row in found.open if isinstance(row, OpenTransfer)]
    legs = [leg for root in senders if (leg := leg_again(root, transfer_id, found.steps)) is not None]
    if not legs:
        notes.print(
            f"{show_id(transfer_id)} is no open transfer: there is nothing to send again (`balance tx get "
            f"{show_id(transfer_id)}`)",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_REJECTED)
    records = [_record_of(chosen, leg) for leg in legs]
    _write(chosen, records)
    sent = [type_of_payload(record.value) or "" for record in records]
    if not as_json:
        page.print(f"sent again: {', '.join(sent)}, signed with {keyring(chosen).signing}")
    ends = _await_ends(transfer_id, senders, within_s)
    if as_json:
        print_json({"transfer_id": show_id(transfer_id), "sent": sent, "ends": [end.status for end in ends]})
    else:
        for end in ends:
            page.print(headline(end), soft_wrap=True)
    if len(ends) < len(senders):
        _tell_open(transfer_id, within_s)


def _record_of(chosen: Settings, leg: Leg) -> OutRecord:
    topic = chosen.kafka.topic_prefix + COMMANDS_TOPIC
    return record_of(leg, topic, chosen.topics.commands_partitions, partial(sign, keyring(chosen)))


def _write(chosen: Settings, records: Sequence[OutRecord]) -> None:
    producer = IdempotentProducer(addresses.kafka_address(chosen))
    try:
        for record in records:
            producer.write(record, _WRITE_S)
    finally:
        producer.close()


def _await_ends(transfer_id: bytes, senders: Sequence[str], within_s: int) -> list[Result]:
    """Look until the transfer has ended for its senders; two may have used one id (I1)."""
    ends_s = time.monotonic() + within_s
    while True:
        steps = look_up(transfer_id).steps
        ends = [step for step in steps if step.status in _ENDS and step.root in senders and step.duplicate_of is None]
        if len(ends) >= len(senders) or time.monotonic() > ends_s:
            return ends
        time.sleep(LOOK_S)


def _tell_open(transfer_id: bytes, within_s: int) -> None:
    for root, row in look_up(transfer_id).open:
        page.print(open_line(root, row), soft_wrap=True)
    notes.print(
        f"not at its end within {within_s} s: see whether the leg became a dead letter again (`balance dead-letters "
        "list`), and whether both partners' lanes run (`balance status`); then run this again",
        style="red",
        soft_wrap=True,
    )
    raise typer.Exit(EXIT_FAULT)
