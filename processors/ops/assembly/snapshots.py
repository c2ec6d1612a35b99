"""Snapshots of a shard, put together from the settings."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from processors.ops import addresses, assembly
from processors.recovery.snapshot import Counting, Snapshot, remove_older, take
from processors.settings import Settings
from processors.stores.snapshot_rows import SnapshotSource


def take_snapshot(
    settings: Settings, shard: str, folder: Path, *, keep: int | None, on_progress: Counting
) -> tuple[Snapshot, list[Path]]:
    """Take a snapshot of a shard while it works; see ``recovery.snapshot``.

    Args:
        settings: Of the whole service.
        shard: Its id.
        folder: Has a folder for each shard.
        keep: How many snapshots of it stay; None: all.
        on_progress: Told which table is at how many rows.

    Returns:
        The snapshot, and the folders of older ones that were removed.

    Raises:
        Fault: Of the database, or of the folder; nothing counts of what was copied, and nothing was removed.
    """
    with closing(SnapshotSource(addresses.mysql_address(settings, shard), shard)) as source:
        taken = take(source, folder, now_ms=assembly.clock_ms(), on_progress=on_progress)
    return taken, [] if keep is None else remove_older(folder, shard, keep=keep)
