"""Results once more, for a consumer who lost what he made of them."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer
from rich.progress import Progress

from processors.ids import root_of
from processors.ledger.addresses import is_root
from processors.ops.assembly.republishing import Republished, republish
from processors.ops.cli.sending import progress_bar
from processors.ops.cli.terminal import JsonOption, notes, page, print_json, print_table, settings
from processors.ops.durations import DurationError, parse_offsets, parse_time
from processors.ops.exits import EXIT_REJECTED
from processors.recovery.republish import ResultsBorder, ResultsStretch

FromOption = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="TIME|PARTITION=OFFSET,...",
        help="Published from then on, such as 2026-11-23T00:10:00Z; or of these partitions, from these offsets on.",
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME|PARTITION=OFFSET,...", help="Published before; else up to now."),
]
PartnerOption = Annotated[
    str | None,
    typer.Option("--partner", metavar="ROOT", help="Only of this one and all below it: an address's first segment."),
]
TopicOption = Annotated[
    str, typer.Option("--to-topic", metavar="NAME", help="A topic of the consumer's own, made before.")
]


def results(
    *,
    since: FromOption,
    to_topic: TopicOption,
    until: ToOption = None,
    partner: PartnerOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write them; else only count them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy results to a topic of a consumer who lost his state; exit status 1 if there is none.

    Each goes once to the partition of the same number, in order, with the same key, value and headers. If it is killed,
    or run again later, the same command compares what the topic has and writes the rest; of two at once each would
    write it. The service's own topics and positions are not touched.
    """
    refuse_no_root(partner)
    begins, ends = border_of(since), None if until is None else border_of(until)
    with progress_bar() as bar:
        found = republish(
            settings(),
            to_topic,
            since=begins,
            until=ends,
            partner=partner,
            write=yes,
            on_progress=partial(show_stretch, bar),
        )
    if as_json:
        print_json(_as_json(found, to_topic))
    else:
        _print(found, to_topic)
    if not found.sent and not found.there:
        raise typer.Exit(EXIT_REJECTED)


def _as_json(found: Republished, topic: str) -> dict[str, Any]:
    partitions = [asdict(stretch) | asdict(copied) for stretch, copied in found.results.items()]
    counted = {"there": found.there, "sent": found.sent}
    return {"topic": topic, "written": found.written, **counted, "partitions": partitions}


def border_of(text: str) -> ResultsBorder:
    """Read a time, or offsets of partitions.

    Raises:
        typer.BadParameter: It is neither.
    """
    try:
        return ResultsBorder(offsets=parse_offsets(text)) if "=" in text else ResultsBorder(time_ms=parse_time(text))
    except DurationError as fault:
        raise typer.BadParameter(str(fault)) from None


def refuse_no_root(partner: str | None) -> None:
    """Refuse what is typed for ``--partner`` and is no partner's root.

    Raises:
        typer.BadParameter: It is none; the text says what one is.
    """
    if partner is not None and not is_root(partner):
        raise typer.BadParameter(
            f"--partner is an address's first segment, such as {root_of(partner).lower() or 'acme'}"
        )


def show_stretch(bar: Progress, stretch: ResultsStretch, offset: int) -> None:
    """Show up to which offset of a partition's stretch something has come."""
    name = f"partition {stretch.partition}"
    task = next((each.id for each in bar.tasks if each.description == name), None)
    shown = bar.add_task(name) if task is None else task
    bar.update(shown, completed=offset - stretch.first, total=stretch.end - stretch.first)


def _print(found: Republished, topic: str) -> None:
    rows = [(each.partition, each.first, each.end, copied.there, copied.sent) for each, copied in found.results.items()]
    sent = "written" if found.written else "to write"
    heads = ("partition", "from offset", "before", "there already", sent)
    print_table("", heads, rows, right=heads)
    if not found.sent and not found.there:
        notes.print("there are no such results: see --from, --to and --partner")
    elif not found.sent:
        page.print(f"{topic} has all {found.there:,} results already", markup=False, soft_wrap=True)
    elif found.written:
        page.print(f"{found.sent:,} results were written to {topic}", markup=False, soft_wrap=True)
    else:
        page.print(f"{found.sent:,} results would be written to {topic}: --yes does it", markup=False, soft_wrap=True)
