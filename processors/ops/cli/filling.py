"""The archive filled from MySQL, where results have left their topic before the sink had them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from processors.ops.assembly.filling import fill_archive
from processors.ops.cli.terminal import JsonOption, counting, page, print_json, settings
from processors.ops.exits import EXIT_REJECTED
from processors.recovery.archive_fill import Filled


def fill(
    *,
    write: Annotated[bool, typer.Option("--write", help="Archive it; else only say what the archive lacks.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Archive from MySQL what has left the results topic before the sink had it; exit 1 if not all.

    Of every shard. Then the sink goes on behind the gap. Nothing is written without --write. It may run beside
    everything else; if it is killed, run it again: it goes on with what the archive lacks still.
    """
    with counting() as count:
        done = fill_archive(settings(), write=write, on_progress=count)
    if as_json:
        print_json(asdict(done) | {"stays": sorted(done.stays)})
    else:
        for each in done.told if write else ():
            page.print(f"{each.kind} {each.subject}: {each.detail}", style="red", markup=False, soft_wrap=True)
        page.print(summary_of(done, write=write), markup=False, soft_wrap=True)
    if done.left or done.stays:
        raise typer.Exit(EXIT_REJECTED)


def summary_of(done: Filled, *, write: bool) -> str:
    """Say in a line what the sink will not read, what the archive lacked of it, and where the sink goes on."""
    told = f"{done.compared:,} rows are in MySQL alone, or were filled before: "
    if not write:
        lacks = f"the archive lacks {done.found:,} things of them" if done.found else "the archive has them all"
        stands = f"; the sink stands before a gap in partitions {_listed(done.stays)}" if done.stays else ""
        return f"{told}{lacks}{stands}" + ("; nothing was written: --write does it" if done.compared or stands else "")
    filled = f"{done.found:,} things were lacking, {done.left:,} are left"
    goes = f"; the sink goes on behind the gap in partitions {_listed(done.passed)}" if done.passed else ""
    stays = f"; it stays before the gap in partitions {_listed(done.stays)}" if done.stays else ""
    return told + filled + goes + stays


def _listed(partitions: dict[int, int] | set[int]) -> str:
    return ", ".join(map(str, sorted(partitions)))
