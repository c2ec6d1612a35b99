"""Snapshots of a shard on real servers: whole or refused, wherever the power went, and what is rebuilt from them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from processors.faults import Misconfigured
from processors.ledger.commands import Pay
from processors.ops import addresses
from processors.ops.assembly.replaying import ReplayReport, replay_shard
from processors.ops.assembly.snapshots import take_snapshot
from processors.recovery.snapshot import MANIFEST, Snapshot, prove, snapshots_in
from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.stores.snapshot_rows import COPIED, NOT_COPIED, sliced_tables
from processors.streams.topics import shard_topic
from tests.chaos.lanes import SHARD, Shard, new_id
from tests.end_to_end.conftest import balance
from tests.servers import Place

LANES = 2


@pytest.fixture(scope="module")
def shard(fresh_place: Callable[..., Place]) -> Shard:
    """A shard of two lanes with days on each, decided and published."""
    made = Shard(fresh_place(BALANCE_TOPICS__LANES=str(LANES), BALANCE_TOPICS__COMMANDS_PARTITIONS=str(LANES)))
    for root in ("acme", "bravo", "coral", "delta"):
        made.write_day(root, payments=300)
    with made.worker():
        made.await_decided()
    return made


@pytest.fixture
def target(shard: Shard, fresh_database: Callable[[], str]) -> MysqlAddress:
    return replace(addresses.mysql_address(shard.settings, SHARD), database=fresh_database())


def take(shard: Shard, folder: Path, keep: int | None = None) -> Snapshot:
    taken, _ = take_snapshot(shard.settings, SHARD, folder, keep=keep, on_progress=lambda _table, _rows: None)
    return taken


def rebuilt(shard: Shard, target: MysqlAddress, folder: Path | None) -> ReplayReport:
    return replay_shard(shard.settings, SHARD, target, on_progress=lambda _at: None, snapshots=folder)


def killed_at(shard: Shard, table: str, what: str, folder: Path, *database: str) -> None:
    """Take a snapshot, or load one, in a process that is killed there."""
    words = [sys.executable, "-m", "tests.chaos.snapshot_process", what, table, str(folder), *database]
    ended = subprocess.run(words, env={**os.environ, **shard.place.environment}, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


@pytest.mark.rule("V1")
def test_every_table_is_copied_or_is_named_as_none_that_decides(shard: Shard) -> None:
    session = Session(addresses.mysql_address(shard.settings, SHARD), lane=False)
    rows = session.query(
        "SELECT CAST(table_name AS BINARY) FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'",
        "listing tables",
    )
    sliced = sliced_tables(session)
    session.close()
    assert "journal" in sliced
    assert {name.decode() for (name,) in rows} <= {*COPIED, *NOT_COPIED, *sliced}


@pytest.mark.rule("V1")
def test_a_snapshot_taken_under_load_is_gone_on_from_though_the_topic_no_longer_reaches_back(
    fresh_place: Callable[..., Place], fresh_database: Callable[[], str], tmp_path: Path
) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES=str(LANES), BALANCE_TOPICS__COMMANDS_PARTITIONS=str(LANES)))
    for root in ("acme", "bravo", "coral", "delta"):
        shard.write_day(root, payments=600)
    with shard.worker():
        shard.await_decided()
        shard.write([Pay(command_id=new_id(), address="acme", currency="USD", amount_minor=3) for _ in range(4_000)])
        taken = take(shard, tmp_path)  # while these are decided
        shard.await_decided()
    assert taken.manifest is not None
    forget_before(shard, {lane: at.next_offset for lane, at in taken.manifest.lanes.items()})
    target = replace(addresses.mysql_address(shard.settings, SHARD), database=fresh_database())

    report = rebuilt(shard, target, tmp_path)

    assert (report.difference, report.not_compared) == (None, ())
    assert report.offsets == {lane: at.at.next_offset for lane, at in shard.positions().items()}
    again = rebuilt(shard, target, None)  # it goes on where it was, and needs the snapshot no more
    assert (again.difference, again.not_compared) == (None, ())


def forget_before(shard: Shard, offsets: dict[int, int]) -> None:
    """Have the topic's retention pass up to an offset of each lane."""
    topic = shard.address.topic_prefix + shard_topic(SHARD)
    admin = AdminClient(shard.address.options())  # kept: its futures end with it
    places = [TopicPartition(topic, lane, offset) for lane, offset in offsets.items()]
    for done in admin.delete_records(places).values():
        done.result(30)


@pytest.mark.rule("V1")
def test_a_snapshot_that_was_killed_at_any_table_is_never_taken_for_one(
    shard: Shard, target: MysqlAddress, tmp_path: Path
) -> None:
    for table in (*COPIED, "journal", MANIFEST):
        killed_at(shard, table, "take", tmp_path)

    found = snapshots_in(tmp_path, SHARD)
    assert [each.manifest for each in found] == [None] * (len(COPIED) + 2)
    with pytest.raises(Misconfigured, match="was cut off"):
        prove(found[0], on_progress=lambda _table, _rows: None)
    with pytest.raises(Misconfigured, match=r"has no snapshot of shard s1 to begin with: .* was cut off"):
        rebuilt(shard, target, tmp_path)
    listed = balance(shard.place, "snapshot", "list", "--folder", str(tmp_path))
    assert (listed.status, listed.out.count("cut off")) == (1, len(COPIED) + 2)

    whole = take(shard, tmp_path, keep=1)

    assert [each.folder for each in snapshots_in(tmp_path, SHARD)] == [whole.folder]  # what was cut off is gone, too
    assert balance(shard.place, "snapshot", "verify", "--folder", str(tmp_path)).status == 0


@pytest.mark.parametrize("manifest", ["", "{}", '{"format": 99}'])
def test_a_bad_manifest_is_shown_and_hides_no_other_snapshot(
    shard: Shard, target: MysqlAddress, tmp_path: Path, manifest: str
) -> None:
    bad = take(shard, tmp_path)
    (bad.folder / MANIFEST).write_text(manifest)
    good = take(shard, tmp_path, keep=1)

    listed = balance(shard.place, "snapshot", "list", "--folder", str(tmp_path))
    proven = balance(shard.place, "snapshot", "verify", "--folder", str(tmp_path))

    assert (listed.status, proven.status) == (0, 1)
    for said in (listed, proven):
        assert str(good.folder) in said.out
        assert str(bad.folder) in said.out
    assert [(each.folder, bool(each.bad)) for each in snapshots_in(tmp_path, SHARD)] == [
        (good.folder, False),
        (bad.folder, True),  # nothing removes it: perhaps only the manifest is damaged
    ]
    assert rebuilt(shard, target, tmp_path).difference is None


@pytest.mark.rule("V1")
@pytest.mark.parametrize("table", ["shard", "progress", "account", MANIFEST])
def test_a_load_that_was_killed_is_begun_anew(shard: Shard, target: MysqlAddress, tmp_path: Path, table: str) -> None:
    take(shard, tmp_path)
    killed_at(shard, table, "load", tmp_path, target.database)

    with pytest.raises(Misconfigured, match="was cut off: give the snapshots again"):
        rebuilt(shard, target, None)
    report = rebuilt(shard, target, tmp_path)
    assert (report.difference, report.not_compared) == (None, ())


@pytest.mark.rule("V1")
def test_a_snapshot_of_which_one_byte_was_changed_is_refused(
    shard: Shard, target: MysqlAddress, tmp_path: Path
) -> None:
    taken = take(shard, tmp_path)
    file = taken.folder / "account.avro"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    with pytest.raises(Misconfigured, match=r"account\.avro is not what was written"):
        rebuilt(shard, target, tmp_path)
    verified = balance(shard.place, "snapshot", "verify", "--folder", str(tmp_path))
    assert verified.status == 1
    assert "account.avro" in verified.out


@pytest.mark.rule("V1")
def test_the_newest_snapshot_that_is_not_too_late_is_begun_with(
    shard: Shard, target: MysqlAddress, tmp_path: Path
) -> None:
    first, second = take(shard, tmp_path), take(shard, tmp_path)
    (second.folder / MANIFEST).write_text((second.folder / MANIFEST).read_text().replace('"schema": ', '"schema": 9'))

    report = rebuilt(shard, target, tmp_path)

    assert (report.difference, report.not_compared) == (None, ())
    assert [each.folder for each in snapshots_in(tmp_path, SHARD)] == [second.folder, first.folder]
