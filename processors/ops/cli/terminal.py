"""What every command shares: settings, output for people or programs, and the options that many take."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from processors.client import Client, ClientConfig
from processors.ledger.addresses import well_formed
from processors.ledger.metadata import metadata_bytes
from processors.lookup.times import zone_of
from processors.ops import addresses, keys
from processors.ops.cli.profile import named_profile
from processors.ops.cli.wording import AMOUNT
from processors.ops.command_text import CommandTextError, parse_id
from processors.ops.durations import parse_border, parse_duration, parse_time
from processors.ops.money import Money, known_currency, parse_money
from processors.ops.result_text import with_amounts
from processors.settings import Settings, load_settings

_PIPE_COLUMNS = 240
OFFSETS_MAX = 1_000  # of one command: each is a record, and all of them are on their way at once


def plain_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return where people read. What is said is shown as it is: an address is no markup, no ``:word:`` a picture."""
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


# Wide where it goes to a file or a pipe, so that no line of a table is broken there.
page = plain_console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS)  # what was asked for
notes = plain_console(stderr=True)  # progress and faults, so that output can be piped
_SHOW_S = 0.1  # a count on the screen need not change more often
Value = TypeVar("Value")


def settings() -> Settings:
    """Read the settings of the chosen profile."""
    return load_settings(named_profile())


@contextmanager
def open_client(*, within_s: int) -> Iterator[Client]:
    """Give a client whose commands wait so long for their results; it signs what must be signed (W1)."""
    chosen = settings()
    ring = keys.keyring(chosen) if chosen.keys_file.exists() else None
    config = ClientConfig(kafka=addresses.kafka_address(chosen), keyring=ring, deadline_ms=within_s * 1_000)
    with Client(config) as client:
        yield client


def say(line: str) -> None:
    """Tell of progress on standard error."""
    notes.print(line, soft_wrap=True)


def print_json(value: Any) -> None:
    """Write one JSON value on one line, with minor amounts also as text and as people write them."""
    typer.echo(json.dumps(with_amounts(value), ensure_ascii=False))


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """Write a table; ``right`` names the columns of figures. A cell that is a ``Text`` keeps its colour."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    page.print(table)


# ------------------------------------------------------------------ arguments and options that many commands take


def amount_of(words: Sequence[str]) -> Money:
    """Read the words of an AMOUNT argument, quoted or not."""
    return _reads(parse_money)(" ".join(words))


def limit_of(text: str, currency: str) -> int:
    """Read a limit, with or without its currency, in minor units; zero is one."""
    money = _reads(lambda limit: parse_money(limit, zero=True))(text if text[-1:].isalpha() else f"{text} {currency}")
    if money.currency != currency:
        raise typer.BadParameter(f"the limit is in {money.currency}, the account in {currency}")
    return money.amount_minor


def read_currency(text: str) -> str:
    """Read a currency's code, in any case."""
    return _reads(known_currency)(text)


def _reads(read: Callable[[str], Value]) -> Callable[[Any], Value]:
    """Turn a reader's ValueError into wrong usage. A default is no text and passes as it is."""

    def parse(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        try:
            return read(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


def read_metadata(text: str) -> bytes:
    """Read metadata as an operator types it."""
    return _reads(_metadata)(text)


def _metadata(text: str) -> bytes:
    """Read a JSON object.

    >>> _metadata('{"order": 17}')
    b'{"order":17}'
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CommandTextError(
            f"{text!r:.60} is no JSON object: write pairs of a text and a value in braces, and quote them for the "
            'shell, such as --metadata \'{"order": "order-1"}\''
        )
    return metadata_bytes(value)


def _offsets(text: str) -> range:
    first, dash, last = text.partition("-")
    found = range(int(first), (int(last) if dash else int(first)) + 1)
    if not 0 < len(found) <= OFFSETS_MAX:
        raise ValueError(f"{text} is not an offset, or a first and a last of {OFFSETS_MAX} offsets at most")
    return found


Address = Annotated[
    str,
    typer.Argument(
        parser=_reads(well_formed),
        metavar="ADDRESS",
        help="A partner's path, such as acme:vn:shop-17.",
        show_default=False,
    ),
]
AmountWords = Annotated[list[str], typer.Argument(metavar=AMOUNT, help="Such as 12.50 USD.", show_default=False)]
Currency = Annotated[
    str,
    typer.Argument(
        parser=_reads(known_currency), metavar="CURRENCY", help="ISO 4217, such as USD.", show_default=False
    ),
]
IdArgument = Annotated[
    bytes,
    typer.Argument(
        parser=_reads(parse_id),
        metavar="ID",
        help="A payment's, hold's or transaction's id, as the command's answer named it.",
        show_default=False,
    ),
]
IdOption = Annotated[
    bytes | None,
    typer.Option(
        "--id",
        parser=_reads(parse_id),
        metavar="ID",
        help="The command's id; give the same one again to repeat a command safely.",
        show_default="a new UUIDv7",
    ),
]
MetadataOption = Annotated[
    bytes,
    typer.Option(
        "--metadata",
        parser=_reads(_metadata),
        metavar="JSON",
        help='A JSON object, up to 4 KiB, such as \'{"order": "order-1"}\'.',
        show_default="none",
    ),
]
read_address = _reads(well_formed)
read_border = _reads(parse_border)
read_duration = _reads(parse_duration)
read_offsets = _reads(_offsets)
read_time = _reads(parse_time)
read_zone = _reads(zone_of)
WithinOption = Annotated[
    int, typer.Option("--within", metavar="SECONDS", min=1, max=600, help="How long to wait for the result.")
]
ShardOption = Annotated[
    str | None, typer.Option("--shard", metavar="SHARD", help="Which shard.", show_default="home_shard")
]
ShardsOption = Annotated[
    str | None, typer.Option("--shard", metavar="SHARD", help="Only this shard.", show_default="every shard")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
WITHIN_S = 15
LaneArgument = Annotated[int, typer.Argument(metavar="LANE", min=0, help="A partition of the shard's topic.")]


def confirm(warning: str, question: str, *, otherwise: str) -> None:
    """Warn of what cannot be undone, and have the operator say that he means it; where nobody can be asked, refuse.

    Args:
        warning: What it means.
        question: Asked on a terminal.
        otherwise: What to type instead, where standard input is none.
    """
    notes.print(warning, soft_wrap=True)
    if not sys.stdin.isatty():
        raise typer.BadParameter(otherwise)
    typer.confirm(question, abort=True, err=True)


@contextmanager
def counting() -> Iterator[Callable[[str, int], None]]:
    """Show on standard error what is at how many rows, while the block runs."""
    with notes.status("") as shown:
        last_s = 0.0

        def count(what: str, rows: int) -> None:
            nonlocal last_s
            if time.monotonic() - last_s >= _SHOW_S:
                last_s = time.monotonic()
                shown.update(Text(f"{what}: {rows:,}"))

        yield count
