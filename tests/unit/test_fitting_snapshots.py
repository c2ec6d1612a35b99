"""Which snapshot a replay begins with, and what is said where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processors.faults import Misconfigured
from processors.ops.assembly.replaying import fitting_snapshot
from processors.recovery.snapshot import MANIFEST
from processors.stores.migrations import ShardRow, read_migrations

ROW = ShardRow(shard="s1", lanes=1, results_partitions=4, home=True)
TOPIC_ID = bytes(range(16))
SCHEMA = read_migrations()[-1].number


def leave_snapshot(folder: Path, name: str, *, schema: int) -> Path:
    """Leave a snapshot of an empty shard, as of a release."""
    place = folder / ROW.shard / name
    place.mkdir(parents=True)
    lane = {"next_offset": 5, "published_offset": 5, "digest": "00" * 32}
    manifest = {
        "format": 1,
        "shard": {"shard": "s1", "lanes": 1, "results_partitions": 4, "home": True},
        "schema": schema,
        "topic_id": TOPIC_ID.hex(),
        "taken_at_ms": 0,
        "lanes": {"0": lane},
        "files": [],
    }
    (place / MANIFEST).write_text(json.dumps(manifest))
    return place


@pytest.mark.rule("V1")
def test_a_snapshot_of_the_release_before_is_refused_with_what_to_do(tmp_path: Path) -> None:
    leave_snapshot(tmp_path, "20261101", schema=SCHEMA - 1)

    with pytest.raises(Misconfigured) as refused:
        fitting_snapshot(tmp_path, ROW, TOPIC_ID, {0: 9})

    assert f"20261101 has schema {SCHEMA - 1}, this release has {SCHEMA}" in str(refused.value)
    assert "load it with the release that took it, then run `balance migrate`" in str(refused.value)


@pytest.mark.rule("V1")
def test_the_newest_snapshot_of_this_schema_is_taken_whatever_is_newer(tmp_path: Path) -> None:
    leave_snapshot(tmp_path, "20261101", schema=SCHEMA)
    wanted = leave_snapshot(tmp_path, "20261102", schema=SCHEMA)
    leave_snapshot(tmp_path, "20261103", schema=SCHEMA - 1)
    leave_snapshot(tmp_path, "20261104", schema=SCHEMA + 1)

    assert fitting_snapshot(tmp_path, ROW, TOPIC_ID, {0: 9}).folder == wanted
