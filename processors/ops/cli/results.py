"""What the topics say: results as they come, and dead letters."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Annotated, NoReturn

import typer

from processors.client import Deduplication
from processors.ids import root_of
from processors.ledger.addresses import is_root
from processors.ledger.outcomes import Status
from processors.lookup.times import show_time
from processors.ops import addresses, counts
from processors.ops.cli.terminal import (
    JsonOption,
    notes,
    page,
    print_json,
    print_table,
    settings,
)
from processors.ops.exits import EXIT_REJECTED
from processors.ops.result_text import dead_letter_as_json, headline, result_as_json
from processors.routing.buckets import partition_of
from processors.settings import Settings
from processors.streams.reader import read_range
from processors.streams.tail import TopicTail
from processors.streams.topics import DEAD_LETTERS_TOPIC, RESULTS_TOPIC, TopicAdmin
from processors.wire.dead_letters import DeadLetter, decode_dead_letter
from processors.wire.records import Record
from processors.wire.results import ROOT_HEADER, STATUS_HEADER, Result, decode_result

_WAIT_S = 0.5
# Looked through for one partner's results, or for those of a status: a few seconds, by their headers alone.
LOOKED_BACK = 100_000
_OFFSETS_A_RECORD = 3  # one ends each transaction, and now and then one is aborted
LastOption = Annotated[int, typer.Option("--last", "-n", min=0, max=100_000, help="How many of the latest.")]


def results(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    last: LastOption = 10,
    root: Annotated[
        str | None, typer.Option("--root", metavar="ROOT", help="Only this partner's: an address's first segment.")
    ] = None,
    status: Annotated[
        Status | None,
        typer.Option("--status", metavar="STATUS", case_sensitive=False, help=f"Only such: {', '.join(Status)}."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the latest results of each results partition, each once; with --follow what comes, too.

    With --root or --status the latest that are such. Exit status 1 if there is none.
    """
    if root is not None and not is_root(root):
        raise typer.BadParameter(f"--root is an address's first segment, such as {root_of(root).lower() or 'acme'}")
    chosen = _counted()
    tail = TopicTail(addresses.kafka_address(chosen), RESULTS_TOPIC) if follow else None
    once = Deduplication()
    partitions = chosen.topics.results_partitions
    wanted = _wanted(root, status)
    shown = 0
    for record in _latest(
        chosen,
        RESULTS_TOPIC,
        range(partitions) if root is None else [partition_of(root, partitions)],
        last,
        wanted=wanted,
        offsets=LOOKED_BACK if root or status else 0,
    ):
        shown += _show(record, once, as_json=as_json)
    while tail is not None:  # until Ctrl-C, which ends the process and its connections
        for record in filter(wanted, tail.read(_WAIT_S)):
            _show(record, once, as_json=as_json)
    if not shown and last:
        notes.print(_none_found(root, status), soft_wrap=True)
        raise typer.Exit(EXIT_REJECTED)


def _none_found(root: str | None, status: Status | None) -> str:
    if root is None and status is None:
        return "there is no result yet: `balance send FILE` or `balance pay` sends commands"
    such = " ".join(each for each in (status, "" if root is None else f"of {root}") if each)
    return (
        f"there is no result {such} among the latest {LOOKED_BACK:,} offsets of a partition: `balance statement` has "
        "an account's changes, `balance tx get ID` a transaction, however old"
    )


def _wanted(root: str | None, status: Status | None) -> Callable[[Record], bool]:
    """Return what says by its headers alone whether a result is asked for."""
    asked = {
        name: value.encode() for name, value in ((ROOT_HEADER, root), (STATUS_HEADER, status)) if value is not None
    }

    def is_wanted(record: Record) -> bool:
        return asked.items() <= dict(record.headers).items()

    return is_wanted


def _show(record: Record, once: Deduplication, *, as_json: bool) -> bool:
    """Print a result that is not printed yet, and say whether it was."""
    result = decode_result(record.value or b"")
    if not once.is_new(record.partition, result):
        return False
    if as_json:
        print_json(result_as_json(result))
    else:
        page.print(_line(result), soft_wrap=True)
    return True


def _line(result: Result) -> str:
    return f"{show_time(result.lane_time_ms)}  {headline(result)}"


def list_dead_letters(*, last: LastOption = 20, as_json: JsonOption = False) -> None:
    """List the latest dead letters."""
    found = [(record, decode_dead_letter(record.value or b"")) for record in _dead_letters(last)]
    if as_json:
        for record, letter in found:
            print_json(dead_letter_as_json(letter, _name(record)))
        return
    rows = [
        (_name(record), show_time(letter.timestamp_ms), letter.cause, _source(letter), letter.payload_size)
        for record, letter in found
    ]
    print_table("", ("name", "time", "cause", "record", "bytes"), rows, right=("bytes",))


def show_dead_letter(
    *,
    name: Annotated[
        str,
        typer.Argument(metavar="PARTITION/OFFSET", help="As `dead-letters list` names it.", show_default=False),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole: why, where it came from, how its payload began."""
    partition, _, offset = name.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"{name!r} is no PARTITION/OFFSET, such as 0/17")
    chosen, place = _counted(), int(offset)
    if not _is_there(chosen, int(partition), place):
        _refuse_no_letter(name)
    for records in read_range(addresses.kafka_address(chosen), DEAD_LETTERS_TOPIC, int(partition), place, place + 1):
        values = dead_letter_as_json(decode_dead_letter(records[0].value or b""), name)
        if as_json:
            print_json(values)
        else:
            texts = ((name, json.dumps(value) if isinstance(value, dict) else value) for name, value in values.items())
            print_table("", ("", ""), ((name, value) for name, value in texts if value is not None))
        return
    _refuse_no_letter(name)


def _is_there(chosen: Settings, partition: int, offset: int) -> bool:
    """Say whether the topic reaches to an offset; it may still hold the end of a transaction."""
    if partition >= chosen.topics.dead_letters_partitions:
        return False
    first, end = TopicAdmin(addresses.kafka_address(chosen)).bounds(DEAD_LETTERS_TOPIC, partition)
    return first <= offset < end


def _refuse_no_letter(name: str) -> NoReturn:
    notes.print(f"there is no dead letter {name}: `balance dead-letters list` names those that there are")
    raise typer.Exit(EXIT_REJECTED)


def _dead_letters(last: int) -> Iterator[Record]:
    chosen = _counted()
    return _latest(chosen, DEAD_LETTERS_TOPIC, range(chosen.topics.dead_letters_partitions), last)


def _counted() -> Settings:
    """Return the settings with the counts that the directory names: the topics may have more partitions."""
    chosen = settings()
    return counts.of_directory(chosen, addresses.kafka_address(chosen))


def _latest(
    chosen: Settings,
    topic: str,
    partitions: Iterable[int],
    last: int,
    *,
    wanted: Callable[[Record], bool] | None = None,
    offsets: int = 0,
) -> Iterator[Record]:
    """Yield the last records of each partition, fewer where transactions' ends take most of the offsets.

    Args:
        chosen: The settings.
        topic: Its name.
        partitions: Which.
        last: How many of each.
        wanted: Count only these.
        offsets: Look through at least so many.
    """
    address = addresses.kafka_address(chosen)
    topics = TopicAdmin(address)
    for partition in partitions:
        first, end = topics.bounds(topic, partition)
        start = max(first, end - max(offsets, last * _OFFSETS_A_RECORD))
        found = chain.from_iterable(read_range(address, topic, partition, start, end))
        yield from deque(filter(wanted, found), maxlen=last)


def _name(record: Record) -> str:
    return f"{record.partition}/{record.offset}"


def _source(letter: DeadLetter) -> str:
    return f"{letter.topic} {letter.partition}/{letter.offset}"
