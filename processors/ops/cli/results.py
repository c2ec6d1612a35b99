"""What the topics say: results as they come, and dead letters."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import typer

from processors.client import Deduplication
from processors.ledger.outcomes import Status
from processors.ops import assembly, counts
from processors.ops.cli.terminal import Commands, JsonOption, add_group, page, print_json, print_table, settings
from processors.ops.result_text import dead_letter_as_json, headline, result_as_json, show_time
from processors.settings import Settings
from processors.streams.reader import read_range
from processors.streams.tail import TopicTail
from processors.streams.topics import DEAD_LETTERS_TOPIC, RESULTS_TOPIC, Topics
from processors.wire.dead_letters import DeadLetter, decode_dead_letter
from processors.wire.records import Record
from processors.wire.results import Result, decode_result

_PANEL = "Looking"
_WAIT_S = 0.5
_OFFSETS_A_RECORD = 3  # one ends each transaction, and now and then one is aborted
LastOption = Annotated[int, typer.Option("--last", "-n", min=0, max=100_000, help="How many of the latest.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(rich_help_panel=_PANEL)(results)
    letters: Commands = {"list": list_dead_letters, "show": show_dead_letter}
    add_group(app, "dead-letters", "Records that were no commands.", letters, panel=_PANEL)


def results(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    last: LastOption = 10,
    root: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    status: Annotated[Status | None, typer.Option(case_sensitive=False, help="Only such.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the latest results of each results partition, each once; with --follow what comes, too."""
    chosen = _counted()
    tail = TopicTail(assembly.kafka_address(chosen), RESULTS_TOPIC) if follow else None
    once = Deduplication()
    for record in _latest(chosen, RESULTS_TOPIC, chosen.topics.results_partitions, last):
        _show(record, once, root, status, as_json=as_json)
    while tail is not None:  # until Ctrl-C, which ends the process and its connections
        for record in tail.read(_WAIT_S):
            _show(record, once, root, status, as_json=as_json)


def _show(record: Record, once: Deduplication, root: str | None, status: Status | None, *, as_json: bool) -> None:
    result = decode_result(record.value or b"")
    if (
        not once.is_new(record.partition, result)
        or root not in {None, result.root}
        or status not in {None, result.status}
    ):
        return
    if as_json:
        print_json(result_as_json(result))
    else:
        page.print(_line(result), soft_wrap=True)


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
    name: Annotated[str, typer.Argument(help="As `dead-letters list` names it: PARTITION/OFFSET.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole: why, where it came from, how its payload began."""
    partition, _, offset = name.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"{name!r} is no PARTITION/OFFSET, such as 0/17")
    address = assembly.kafka_address(settings())
    place = int(offset)
    for records in read_range(address, DEAD_LETTERS_TOPIC, int(partition), place, place + 1):
        values = dead_letter_as_json(decode_dead_letter(records[0].value or b""), name)
        if as_json:
            print_json(values)
        else:
            print_table("", ("", ""), values.items())
        return
    raise typer.BadParameter(f"there is no dead letter {name}")


def _dead_letters(last: int) -> Iterator[Record]:
    chosen = _counted()
    return _latest(chosen, DEAD_LETTERS_TOPIC, chosen.topics.dead_letters_partitions, last)


def _counted() -> Settings:
    """Return the settings with the counts that the directory names: the topics may have more partitions."""
    chosen = settings()
    return counts.of_directory(chosen, assembly.kafka_address(chosen))


def _latest(chosen: Settings, topic: str, partitions: int, last: int) -> Iterator[Record]:
    """Yield the last records of each partition, fewer where transactions' ends take most of the offsets."""
    address = assembly.kafka_address(chosen)
    topics = Topics(address)
    for partition in range(partitions):
        first, end = topics.bounds(topic, partition)
        start = max(first, end - last * _OFFSETS_A_RECORD)
        found = chain.from_iterable(read_range(address, topic, partition, start, end))
        yield from deque(found, maxlen=last)


def _name(record: Record) -> str:
    return f"{record.partition}/{record.offset}"


def _source(letter: DeadLetter) -> str:
    return f"{letter.topic} {letter.partition}/{letter.offset}"
