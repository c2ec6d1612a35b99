"""The archive compared with the results topic, and what it lost brought back."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated

import typer

from processors.ops.assembly.rearchiving import rearchive
from processors.ops.assembly.republishing import gap_text
from processors.ops.cli.proving import summary_of
from processors.ops.cli.republishing import PartnerOption, ToOption, border_of, refuse_no_root, show_stretch
from processors.ops.cli.sending import progress_bar
from processors.ops.cli.terminal import JsonOption, notes, page, print_json, settings
from processors.ops.exits import EXIT_REJECTED
from processors.recovery.archive_replay import ReplayedArchive
from processors.recovery.republish import ResultsBorder

EVERYTHING = ResultsBorder(time_ms=0)


def archive(
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME|PARTITION=OFFSET,...",
            help="Published from then on, such as 2026-11-23T00:10:00Z; or of these partitions, from these offsets on; "
            "else all that the topic has.",
        ),
    ] = None,
    until: ToOption = None,
    partner: PartnerOption = None,
    write: Annotated[bool, typer.Option("--write", help="Bring back what is missing; else only name it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the results topic with the archive, as far as the sink is; bring back what is lost; exit 1 if not all.

    Of every shard, and of rows that have left MySQL, too. Nothing is written without --write. It may run beside
    everything else; if it is killed, run it again. What differs is named, never overwritten.
    """
    refuse_no_root(partner)
    begins = EVERYTHING if since is None else border_of(since)
    ends = None if until is None else border_of(until)
    with progress_bar() as bar:
        done = rearchive(
            settings(), since=begins, until=ends, partner=partner, write=write, on_progress=partial(show_stretch, bar)
        )
    if as_json:
        print_json(asdict(done) | {"compared": done.compared, "found": done.found, "left": done.left})
    else:
        _print(done, write=write)
    if done.left:
        raise typer.Exit(EXIT_REJECTED)


def _print(done: ReplayedArchive, *, write: bool) -> None:
    for gap in done.asked.gaps:
        notes.print(f"not compared, since it has left the topic: {gap_text(gap)}", markup=False, soft_wrap=True)
    for shard, repair in sorted(done.shards.items()):
        for each in repair.told:
            page.print(f"{each.kind} {shard} {each.subject}: {each.detail}", style="red", markup=False, soft_wrap=True)
    if done.compared:
        page.print(summary_of(done, write=write), markup=False, soft_wrap=True)
    else:
        notes.print("nothing was compared: there is no such result, or the sink has not come there, and archives it")
