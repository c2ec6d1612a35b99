"""Proofs: the books of a shard, and that its topic alone gives the same shard again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from processors.ops import proving
from processors.ops.cli.terminal import JsonOption, notes, page, print_json, print_table, settings
from processors.ops.result_text import EXIT_REJECTED
from processors.recovery.replay import ReplayProgress
from processors.recovery.verify import Check

_PANEL = "Proving"
ShardOption = Annotated[str | None, typer.Option("--shard", help="Which shard.", show_default="home_shard")]
STEP_ROWS = 1_000  # how often the progress line moves


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("verify", rich_help_panel=_PANEL)(run_verify)
    group = typer.Typer(help="Decide a log again.", no_args_is_help=True)
    group.callback()(lambda: None)  # so that `shard` stays a word of its own
    group.command("shard")(replay_shard)
    app.add_typer(group, name="replay", rich_help_panel=_PANEL)


def run_verify(
    *,
    shard: ShardOption = None,
    results: Annotated[bool, typer.Option(help="Compare with the results topic, too.")] = True,
    archive: Annotated[bool, typer.Option(help="Compare with Cassandra, too.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Prove double entry, balances, holds and sequences, and that journal, results and archive agree.

    Reads as of one moment and changes nothing; exit status 1 where something is wrong.
    """
    chosen = settings()
    with Progress(
        TextColumn("{task.description}"), TextColumn("{task.completed} rows"), TimeElapsedColumn(), console=notes
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(what: str, rows: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None)
            if rows % STEP_ROWS == 0:
                bars.update(tasks[what], completed=rows)

        checks = proving.verify_shard(
            chosen,
            shard or chosen.home_shard,
            on_progress=on_progress,
            with_results=results,
            with_archive=archive,
        )
    if as_json:
        print_json({"clean": all(check.passed for check in checks), "checks": [asdict(check) for check in checks]})
    else:
        print_checks(checks)
    if not all(check.passed for check in checks):
        raise typer.Exit(EXIT_REJECTED)


def print_checks(checks: list[Check]) -> None:
    """Write what was proven, and what was found wrong."""
    rows = ((check.name, check.counted, "clean" if check.passed else f"{check.wrong} wrong") for check in checks)
    print_table("verify", ("what", "rows", "verdict"), rows, right=("rows",))
    for check in checks:
        for detail in check.details:
            page.print(f"{check.name}: {detail}", style="red", markup=False)


def replay_shard(
    shard: Annotated[str, typer.Argument(metavar="SHARD", help="Its id.", show_default=False)],
    *,
    into: Annotated[
        str,
        typer.Option(
            "--into", metavar="DSN", help="mysql://user:password@host:port/database, empty or an earlier try's."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Rebuild a shard from its topic into an empty database, publish nothing, and compare it with the live one.

    May be ended and run again with the same target: it goes on where it was. Exit status 1 where the two differ.
    """
    chosen = settings()
    target = proving.target_address(chosen, shard, into)
    with Progress(
        TextColumn("lane {task.fields[lane]}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
        console=notes,
    ) as bars:
        tasks: dict[int, TaskID] = {}

        def on_progress(at: ReplayProgress) -> None:
            if at.lane not in tasks:
                tasks[at.lane] = bars.add_task("", lane=at.lane, rate=0, total=at.target)
            bars.update(tasks[at.lane], completed=at.offset, total=at.target, rate=at.records_per_s)

        difference = proving.replay_shard(chosen, shard, target, on_progress=on_progress)
    if as_json:
        print_json({"equal": difference is None, "difference": None if difference is None else asdict(difference)})
    elif difference is None:
        page.print(f"{shard} was decided again from its topic, and is equal: every lane's digest and every account.")
    else:
        page.print(f"{difference.what} differs\n  live      {difference.live}\n  replayed  {difference.replayed}")
    if difference is not None:
        raise typer.Exit(EXIT_REJECTED)
