"""Takes a snapshot, or loads the newest, and kills itself at a table: ``take|load TABLE FOLDER [DATABASE]``."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from processors.ops import addresses
from processors.ops.assembly.replaying import replay_shard
from processors.ops.assembly.snapshots import take_snapshot
from processors.settings import load_settings
from tests.chaos.lanes import SHARD


def main(what: str, table: str, folder: str, *database: str) -> None:
    """Do it; the process ends with SIGKILL."""
    settings = load_settings()

    def count(at: str, _rows: int) -> None:
        if at == table:
            os.kill(os.getpid(), signal.SIGKILL)

    if what == "take":
        take_snapshot(settings, SHARD, Path(folder), keep=1, on_progress=count)
    else:
        target = replace(addresses.mysql_address(settings, SHARD), database=database[0])
        replay_shard(settings, SHARD, target, on_progress=lambda _at: None, snapshots=Path(folder), on_loaded=count)


if __name__ == "__main__":
    main(*sys.argv[1:])
