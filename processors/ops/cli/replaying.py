"""A shard decided again from its topic into another database, and what that came to."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from processors.faults import Misconfigured
from processors.ops.assembly.proving import target_address
from processors.ops.assembly.replaying import TO_THE_END, ReplayReport, Until, replay_shard
from processors.ops.cli.sending import progress_bar
from processors.ops.cli.terminal import JsonOption, page, print_json, settings
from processors.ops.durations import DurationError, parse_offsets, parse_time
from processors.ops.exits import EXIT_REJECTED
from processors.recovery.replay import ReplayProgress


def replay(
    *,
    shard: Annotated[str, typer.Argument(metavar="SHARD", help="Such as s1.")],
    into: Annotated[
        str, typer.Option("--into", metavar="DSN", help="mysql://user:password@host:port/database, empty.")
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME|LANE=OFFSET,...", help="Stop before; else where the live lanes stand."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, max=256, help="Lanes side by side; else one a core.")
    ] = None,
    snapshots: Annotated[
        Path | None,
        typer.Option("--snapshots", metavar="DIR", help="Begin with the newest one there that fits.", file_okay=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Decide a shard's topic again into an empty database, publish nothing, and compare; exit status 1 if they differ.

    Nothing is read from the shard's own database but to compare: it may be lost. It may be killed, and goes on where it
    was. User and password of the DSN default to the shard's own.
    """
    chosen = settings()
    try:
        target = target_address(chosen, shard, into)
        until = until_of(to)
    except (Misconfigured, DurationError) as fault:
        raise typer.BadParameter(str(fault)) from None
    with progress_bar() as bar:
        report = replay_shard(
            chosen,
            shard,
            target,
            on_progress=partial(_show, bar),
            until=until,
            processes_max=processes,
            snapshots=snapshots,
            on_loaded=partial(_show_loaded, bar),
        )
    if as_json:
        print_json({"equal": report.difference is None, **asdict(report)})
    else:
        print_report(report, f"{target}", shard)
    if report.difference is not None:
        raise typer.Exit(EXIT_REJECTED)


def _show(bar: Progress, progress: ReplayProgress) -> None:
    name = f"lane {progress.lane}"
    task = next((each.id for each in bar.tasks if each.description == name), None)
    bar.update(bar.add_task(name) if task is None else task, completed=progress.offset, total=progress.target)


def _show_loaded(bar: Progress, table: str, rows: int) -> None:
    if rows:
        bar.console.print(f"{table}: {rows:,} rows of the snapshot")


def until_of(text: str | None) -> Until:
    """Read up to where a replay goes: a time, or offsets of lanes, such as ``0=1200,3=77``.

    Raises:
        DurationError: It is neither.
    """
    if text is None:
        return TO_THE_END
    if "=" not in text:
        return Until(offsets={}, time_ms=parse_time(text))
    return Until(offsets=parse_offsets(text))


def print_report(report: ReplayReport, target: str, shard: str) -> None:
    """Write what was compared, what could not be, and the verdict last."""
    for told in report.compared:
        page.print(f"equal: {told}", markup=False, soft_wrap=True)
    for told in report.not_compared:
        page.print(f"not compared: {told}", style="yellow", markup=False, soft_wrap=True)
    if report.difference is not None:
        page.print(f"{report.difference.what} differs", style="red", markup=False, soft_wrap=True)
        page.print(f"live:     {report.difference.live}", markup=False, soft_wrap=True)
        page.print(f"replayed: {report.difference.replayed}", markup=False, soft_wrap=True)
    elif report.not_compared:
        page.print(f"{target} equals {shard} in all that could be compared", soft_wrap=True)
    else:
        page.print(f"{target} equals {shard}: every lane's digest and every balance", soft_wrap=True)
