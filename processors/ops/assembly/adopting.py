"""Puts a rebuilt database in the place of a shard's own, once it is proven to be what was published (V2, L4)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from processors.faults import Misconfigured
from processors.ops import addresses, assembly, counts
from processors.ops.assembly.replaying import published_positions, row_of_directory
from processors.recovery.comparing import ComparedBooks, Comparison, compare_published
from processors.settings import Settings
from processors.stores.addresses import MysqlAddress
from processors.stores.databases import is_target, make_live
from processors.stores.migrations import ShardRow
from processors.stores.partitions import TARGET_SLICES_MAX
from processors.stores.rows import Progress
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.stores.snapshot_rows import Loaded, SnapshotTarget
from processors.stores.whole_shard import whole_reader
from processors.streams.directory import read_directory
from processors.streams.group_look import look_at_group
from processors.streams.topics import TopicAdmin, shard_group, shard_topic
from processors.wire.positions import GroupPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptionPlan:
    """What a shard would be put live with: where each lane stands, what is published, and the proof of it."""

    decided: dict[int, int]
    published: dict[int, int]
    ends: dict[int, int]
    proof: Comparison


def plan_adoption(settings: Settings, shard: str, target: MysqlAddress) -> AdoptionPlan:
    """Prove that a rebuilt database may take the place of a shard's own; nothing is changed.

    Args:
        settings: Of the whole service; the shard's own database is not asked, it may be lost.
        shard: Its id.
        target: What a replay of the shard wrote.

    Raises:
        Misconfigured: A worker of the shard still runs, or the database is none that a replay wrote, or it is another
            shard's, or lanes of it are of another topic or missing.
        Fault: A server does not answer.
    """
    contents = read_directory(addresses.kafka_address(settings))
    row = row_of_directory(settings, shard, contents)
    _refuse_unfinished(target)
    _refuse_workers(counts.of_contents(settings, contents), shard)
    topics = TopicAdmin(addresses.kafka_address(settings))
    topic_id, ends = topics.topic_id(shard_topic(shard)), _ends(topics, row)
    positions = _fit_positions(target, row, topic_id, ends)
    published = published_positions(settings, shard, range(row.lanes), topic_id)
    with closing(SnapshotTarget(target)) as loaded, closing(whole_reader(target)) as books:
        _refuse_forgotten(topics, row, _first_needed(books, positions, published))
        from_start = loaded.state() is not Loaded.LOADED
        proof = compare_published(books, published, from_start=from_start)
    return AdoptionPlan(
        decided={lane: progress.at.next_offset for lane, progress in positions.items()},
        published={lane: position.at.next_offset for lane, position in published.items()},
        ends=ends,
        proof=proof,
    )


def adopt(target: MysqlAddress, plan: AdoptionPlan, *, unproven: bool = False) -> None:
    """Make a rebuilt database a live one: from here on no replay writes to it. Safe to run again.

    Its lanes begin at the last batch border up to what is published, answer in silence up to there, compare the digest,
    and publish what is missing (L4). If the power goes before the mark is gone, it is a replay's target still.

    Args:
        target: The database.
        plan: What was planned for it.
        unproven: Whether lanes may go on of which nothing says what was published.

    Raises:
        Misconfigured: What was published is not what it has, or nothing says that it is.
        Fault: The server does not answer; do it again.
    """
    if plan.proof.difference is not None:
        told = plan.proof.difference
        raise Misconfigured(f"{target} is not what was published: {told.what}: {told.live}; here {told.replayed}")
    if plan.proof.unproven and not unproven:
        raise Misconfigured(
            f"nothing says of lanes {list(plan.proof.unproven)} that {target} has what was published: their group has "
            "no offset, or an older one than the snapshot. Replay with an older snapshot, or from the topic's "
            "beginning; or --unproven, if the snapshot is known to be of this shard"
        )
    now_ms = assembly.clock_ms()
    with closing(ShardUpkeep(target)) as upkeep:
        upkeep.ensure_slices(from_ms=now_ms, to_ms=now_ms, slices_max=TARGET_SLICES_MAX)
    make_live(target)


def _refuse_unfinished(target: MysqlAddress) -> None:
    if not is_target(target):
        raise Misconfigured(f"{target} was not written by a replay, or was adopted already: look at the settings")
    with closing(SnapshotTarget(target)) as loading:
        if loading.state() in {Loaded.LOADING, Loaded.EMPTY}:
            raise Misconfigured(f"{target} is not rebuilt yet: run `balance replay shard` to its end")


def _refuse_workers(settings: Settings, shard: str) -> None:
    group = shard_group(shard)
    lanes = range(settings.lanes_of(shard))
    look = look_at_group(addresses.kafka_address(settings), group, shard_topic(shard), lanes)
    if look.members:
        raise Misconfigured(
            f"group {group} has {look.members} members: stop every worker, expirer, remover and auditor of {shard}; "
            f"who ended is a member for {settings.worker.session_timeout_ms / 1_000:.0f} s more"
        )


def _ends(topics: TopicAdmin, row: ShardRow) -> dict[int, int]:
    return {lane: topics.end(shard_topic(row.shard), lane) for lane in range(row.lanes)}


def _first_needed(
    books: ComparedBooks, positions: Mapping[int, Progress], published: Mapping[int, GroupPosition]
) -> dict[int, int]:
    """Return the first record that each lane will read: of the last border up to P, or where it stands (L4)."""
    first = {}
    for lane, progress in positions.items():
        offset = progress.published_offset
        if lane in published:
            offset = max(offset, published[lane].at.next_offset)
        border = books.last_border(lane, offset)
        first[lane] = min(progress.at.next_offset, 0 if border is None else border.at.next_offset)
    return first


def _refuse_forgotten(topics: TopicAdmin, row: ShardRow, needed: Mapping[int, int]) -> None:
    """Refuse a database from which no lane can go on, since its topic has forgotten what comes next (L2)."""
    begins = {lane: topics.bounds(shard_topic(row.shard), lane)[0] for lane in needed}
    lost = [
        f"lane {lane} needs offset {first}, and the topic begins at {begins[lane]}"
        for lane, first in needed.items()
        if first < begins[lane]
    ]
    if lost:
        raise Misconfigured(
            f"{'; '.join(lost)}: its retention has passed. Replay into an empty database, with a later snapshot"
        )


def _fit_positions(
    target: MysqlAddress, row: ShardRow, topic_id: bytes, ends: Mapping[int, int]
) -> dict[int, Progress]:
    """Return where the lanes of a database stand, which is of the shard, whole, and of its topic."""
    with closing(open_reader(target)) as reader:
        found, positions = reader.check(row.shard), reader.positions()
    if found != row:
        raise Misconfigured(f"{target} holds {found}, the directory says {row}")
    missing = [lane for lane, end in ends.items() if end and lane not in positions]
    strange = [lane for lane, progress in positions.items() if progress.topic_id != topic_id]
    if missing or strange:
        raise Misconfigured(f"{target}: lanes {missing} are missing, lanes {strange} are of another topic")
    return positions
