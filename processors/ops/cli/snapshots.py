"""Copies of a shard in a folder, from which it is rebuilt faster than from its topic's first record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from processors.faults import Fault
from processors.lookup.times import show_time
from processors.ops.assembly.snapshots import take_snapshot
from processors.ops.cli.terminal import JsonOption, ShardOption, counting, page, print_json, print_table, settings
from processors.ops.exits import EXIT_REJECTED
from processors.recovery.snapshot import Snapshot, prove, snapshots_in

FolderOption = Annotated[
    Path, typer.Option("--folder", metavar="DIR", help="Has a folder for each shard.", file_okay=False)
]


def create(
    *,
    folder: FolderOption,
    shard: ShardOption = None,
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, help="Remove older ones, so that so many stay; else none.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy every table that a decision reads, as of one moment, while the shard works."""
    chosen = settings()
    with counting() as count:
        taken, removed = take_snapshot(chosen, shard or chosen.home_shard, folder, keep=keep, on_progress=count)
    if as_json:
        print_json(as_told(taken) | {"removed": [str(each) for each in removed]})
        return
    _print([taken])
    for each in removed:
        page.print(f"removed {each}", markup=False, soft_wrap=True)


def list_snapshots(*, folder: FolderOption, shard: ShardOption = None, as_json: JsonOption = False) -> None:
    """List the snapshots of a shard, the newest first; exit status 1 if there is none that is whole."""
    chosen = settings()
    found = snapshots_in(folder, shard or chosen.home_shard)
    if as_json:
        print_json([as_told(each) for each in found])
    else:
        _print(found)
    if all(each.manifest is None for each in found):
        raise typer.Exit(EXIT_REJECTED)


def verify(*, folder: FolderOption, shard: ShardOption = None, as_json: JsonOption = False) -> None:
    """Prove that every snapshot of a shard has the bytes, checksums and rows that it had; exit status 1 if not."""
    chosen = settings()
    wrong: dict[str, str] = {}
    found = snapshots_in(folder, shard or chosen.home_shard)
    with counting() as count:
        for each in found:
            try:
                prove(each, on_progress=count)
            except Fault as fault:
                wrong[str(each.folder)] = str(fault)
    if as_json:
        print_json([as_told(each) | {"wrong": wrong.get(str(each.folder))} for each in found])
    else:
        _print([each for each in found if str(each.folder) not in wrong])
        for told in wrong.values():
            page.print(told, style="red", markup=False, soft_wrap=True)
    if wrong or not found:
        raise typer.Exit(EXIT_REJECTED)


def as_told(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot for programs; of one that was cut off only its folder."""
    manifest = snapshot.manifest
    if manifest is None:
        return {"folder": str(snapshot.folder), "whole": False} | ({"bad": snapshot.bad} if snapshot.bad else {})
    return {
        "folder": str(snapshot.folder),
        "whole": True,
        "taken_at": show_time(manifest.taken_at_ms),
        "schema": manifest.schema,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "offsets": {str(lane): at.next_offset for lane, at in manifest.lanes.items()},
    }


def _print(found: list[Snapshot]) -> None:
    rows = [
        (str(each.folder), "bad" if each.bad else "cut off, or being taken", "", "", "")
        if each.manifest is None
        else (
            str(each.folder),
            show_time(each.manifest.taken_at_ms),
            f"{each.manifest.rows:,}",
            f"{each.manifest.bytes:,}",
            str(each.manifest.schema),
        )
        for each in found
    ]
    print_table("", ("snapshot", "taken", "rows", "bytes", "schema"), rows, right=("rows", "bytes", "schema"))
    for each in found:
        if each.bad:
            page.print(each.bad, style="red", markup=False, soft_wrap=True)
