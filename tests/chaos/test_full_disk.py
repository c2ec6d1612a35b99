"""A full disk under MySQL: payments wait, no lane is stopped, and it goes on by itself once there is room.

MySQL 9.7 either answers with error 1114 for as long as the disk is full, or ends itself: both were seen here. A server
that ended is started again once there is room, as its service manager would.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.lanes import Shard
from tests.integration.mysql_of_our_own import own_mysql
from tests.servers import Place

# A server without data has some 1.3 GB, of which its redo log is one; the rest is filled up and given back.
DISK_BYTES = 1536 * 1024 * 1024
FULL_S = 15.0


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of a fixed size in memory; it needs root, and is gone afterwards."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system of a fixed size can be had here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left, and return the file that has it."""
    ballast, left = folder / "ballast", os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize)
    return ballast


def visible(shard: Shard) -> int:
    """Count the results that consumers see, without asking MySQL."""
    return sum(map(len, shard.results().values()))


def test_a_full_disk_is_waited_out_and_every_command_is_answered_once(
    fresh_place: Callable[..., Place], tmp_path: Path
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder), own_mysql(folder) as mysql:
        address = mysql.address
        shard = Shard(
            fresh_place(
                BALANCE_SHARDS__S1__HOST=address.host,
                BALANCE_SHARDS__S1__PORT=str(address.port),
                BALANCE_SHARDS__S1__USER=address.user,
                BALANCE_SHARDS__S1__PASSWORD=address.read_password(),
                BALANCE_SHARDS__S1__DATABASE=address.database,
            )
        )
        with shard.worker() as worker:
            shard.write_day("acme", 50)
            shard.await_decided()
            ballast = fill(folder)
            for number in range(5):
                shard.write_day(f"acme-{number}", 400)
            time.sleep(FULL_S)  # not a wait for something to happen: the disk is full for so long
            answered = visible(shard)
            ballast.unlink()
            mysql.start()
            shard.await_decided()
            shard.assert_exactly_once()
            assert answered < visible(shard), "no command was held up: the disk was not full"
            assert shard.stop_codes() == {}
            assert "lane_bug" not in worker.log
