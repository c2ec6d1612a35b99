"""A shard decided again from logs alone into another database, put together from the settings (rules V1, V2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from processors.faults import Fault, Misconfigured
from processors.ledger.rules import Rules
from processors.ops import addresses, assembly, counts
from processors.ops.lane_processes import LaneWork, Tell, work_side_by_side
from processors.recovery.comparing import Comparison, ReplayDifference, compare_live, compare_published
from processors.recovery.replay import ReplayParts, ReplayProgress, Stretch, replay_lane
from processors.recovery.snapshot import Counting, Snapshot, load, snapshots_in
from processors.settings import Settings
from processors.stores.addresses import MysqlAddress
from processors.stores.databases import TargetLock, claim_target, note_published
from processors.stores.lane_store import MysqlLaneStore
from processors.stores.migrations import ShardRow, migrate, read_migrations
from processors.stores.partitions import TARGET_SLICES_MAX
from processors.stores.rows import Progress
from processors.stores.shard_reader import open_reader
from processors.stores.shard_upkeep import ShardUpkeep
from processors.stores.snapshot_rows import Loaded, SnapshotTarget
from processors.stores.whole_shard import whole_reader, whole_snapshot
from processors.streams.directory import DirectoryContents, read_directory, refuse_other_topic
from processors.streams.group_look import committed_positions
from processors.streams.reader import read_range
from processors.streams.topics import TopicAdmin, shard_group, shard_topic
from processors.wire.positions import GroupPosition, decode_metadata
from processors.wire.records import Record
from processors.wire.results import decision_of

# A replay is faster than the live lanes: each round has a fraction of the one before it to decide. The last one is read
# as of one moment, which must not last long (A7).
FOLLOWED_MAX = 2
OnProgress = Callable[[ReplayProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay came to: where each lane stands, what was compared, and the first difference; None where equal."""

    offsets: dict[int, int]
    compared: tuple[str, ...]
    not_compared: tuple[str, ...]
    difference: ReplayDifference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """Up to where a replay goes: an offset of some lanes, or a time of the brokers, ms since the epoch.

    A lane of which neither says anything goes up to where the shard's own lane stood when the replay began; where its
    database is lost, to where its log ended.
    """

    offsets: Mapping[int, int]
    time_ms: int | None = None

    @property
    def is_earlier(self) -> bool:
        """Say whether an earlier state than the present one is asked for."""
        return bool(self.offsets) or self.time_ms is not None


TO_THE_END = Until(offsets={})


def _unheard(_table: str, _rows: int) -> None:
    """Nobody wants to know."""


class ShardTopicLog:
    """The shard's topic, for a replay."""

    def __init__(self, settings: Settings, shard: str) -> None:
        """Connect lazily: the first question does."""
        self._address = addresses.kafka_address(settings)
        self._topics = TopicAdmin(self._address)
        self._topic = shard_topic(shard)

    def topic_id(self) -> bytes:
        """Return the topic's id as it is now."""
        return self._topics.topic_id(self._topic)

    def bounds(self, lane: int) -> tuple[int, int]:
        """Return a lane's first offset that is still there, and the one after its last."""
        return self._topics.bounds(self._topic, lane)

    def offset_at(self, lane: int, time_ms: int) -> int:
        """Return the offset of a lane's first record from a time of the brokers on."""
        return self._topics.offset_at(self._topic, lane, time_ms)

    def read(self, lane: int, from_offset: int, to_offset: int) -> Iterator[list[Record]]:
        """Yield the records of a stretch in order."""
        return read_range(self._address, self._topic, lane, from_offset, to_offset)


def replay_shard(
    settings: Settings,
    shard: str,
    target: MysqlAddress,
    *,
    on_progress: OnProgress,
    until: Until = TO_THE_END,
    processes_max: int | None = None,
    snapshots: Path | None = None,
    on_loaded: Counting = _unheard,
) -> ReplayReport:
    """Decide a shard's topic again into another database, from logs alone, and compare with whatever is there.

    The shard's own database is asked only for the comparison, and for where it stands; it may be lost.

    Args:
        settings: Of the whole service; counts and first rules are those of the directory.
        shard: Its id.
        target: An empty database, or one that an earlier run began.
        on_progress: Told after each batch of a lane.
        until: Up to where.
        processes_max: Lanes side by side; by default one a core.
        snapshots: A folder of snapshots: the newest one that fits is loaded first, and the topic read from there on.
        on_loaded: Told which of the snapshot's tables has how many rows.

    Raises:
        Misconfigured: The topic no longer reaches back to where the target stands; or the target is the live database,
            or one that neither was empty nor was begun by a replay of this shard, or stands further than ``until``, or
            into which another replay writes.
        LaneStopped: A record cannot be decided, here as little as by the shard's own worker; the other lanes are.
    """
    contents = read_directory(addresses.kafka_address(settings))
    row = row_of_directory(settings, shard, contents)
    settings = counts.of_contents(settings, contents)
    live_address, live = addresses.mysql_address(settings, shard), live_positions(settings, shard)
    claim_target(target, None if isinstance(live, Fault) else live_address)
    with closing(TargetLock(target)):
        topic = ShardTopicLog(settings, shard)
        published = published_positions(settings, shard, range(row.lanes), topic.topic_id())
        decided = None if isinstance(live, Fault) else live
        ends = _ends(topic, row.lanes, until, None if decided is None else furthest(decided, published))
        beginning = _Beginning(row=row, rules=contents.first_rules.get(shard), topic=topic, ends=ends)
        from_start = beginning.make(target, snapshots, on_loaded)
        run = _Run(settings, shard, target, published, processes_max or os.cpu_count() or 1, on_progress, from_start)
        run.decide(ends, decided or {})
        if isinstance(live, Fault):
            return run.report(_compared(run, absent=live))
        return run.report(_follow_and_compare(run, live_address, row, follow=not until.is_earlier))


def row_of_directory(settings: Settings, shard: str, contents: DirectoryContents) -> ShardRow:
    """Return what a shard's database says of itself, as the directory knows it.

    Raises:
        Misconfigured: The directory does not have the shard, or its topic was made again.
    """
    topics = TopicAdmin(addresses.kafka_address(settings))
    if shard not in contents.shards:
        raise Misconfigured(f"there is no shard {shard}; there are {', '.join(sorted(contents.shards))}")
    refuse_other_topic(contents, shard, topics.topic_id(shard_topic(shard)))
    in_force = counts.of_contents(settings, contents)
    return ShardRow(
        shard=shard,
        lanes=in_force.lanes_of(shard),
        results_partitions=in_force.topics.results_partitions,
        home=shard == contents.directory.home_shard,
    )


def live_positions(settings: Settings, shard: str) -> dict[int, Progress] | Fault:
    """Return where the lanes of a shard's own database stand, or why that cannot be told: it may be lost."""
    live = open_reader(addresses.mysql_address(settings, shard))
    try:
        live.check(shard)
        return live.positions()
    except Fault as fault:
        return fault
    finally:
        live.close()


def published_positions(
    settings: Settings, shard: str, lanes: Iterable[int], topic_id: bytes
) -> dict[int, GroupPosition]:
    """Return what the workers' group committed of each lane, as far as it is ours and of this topic (L4)."""
    address = addresses.kafka_address(settings)
    found = committed_positions(address, shard_group(shard), shard_topic(shard), list(lanes))
    decoded = {lane: decode_metadata(offset, metadata) for lane, (offset, metadata) in found.items()}
    return {
        lane: position
        for lane, position in decoded.items()
        if position is not None and position.topic_id == topic_id and position.lane == lane
    }


def furthest(decided: Mapping[int, Progress], published: Mapping[int, GroupPosition]) -> dict[int, int]:
    """Return how far each lane was decided, by its own database and by what was published: that may be an older one."""
    reached = {lane: progress.at.next_offset for lane, progress in decided.items()}
    return reached | {lane: max(each.at.next_offset, reached.get(lane, 0)) for lane, each in published.items()}


def _ends(topic: ShardTopicLog, lanes: int, until: Until, decided: Mapping[int, int] | None) -> dict[int, int]:
    """Return up to where each lane is decided, fixed here, whatever is written meanwhile.

    That is where the shard's own lane stands, so that both can be compared; where there is none, the topic's end.
    """
    ends = {}
    for lane in range(lanes):
        first, end = topic.bounds(lane)
        if lane in until.offsets:
            end = min(until.offsets[lane], end)
        elif until.time_ms is not None:
            end = topic.offset_at(lane, until.time_ms)
        elif decided is not None:
            end = max(first, min(decided.get(lane, 0), end))
        if end < first:
            raise Misconfigured(f"lane {lane}: the topic begins at offset {first}, and the replay was to end at {end}")
        ends[lane] = end
    return ends


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beginning:
    """What a replay begins with: the shard, its first rules where the directory has them, and its topic."""

    row: ShardRow
    rules: Rules | None
    topic: ShardTopicLog
    ends: Mapping[int, int]

    def make(self, target: MysqlAddress, snapshots: Path | None, on_loaded: Counting) -> bool:
        """Make the target's tables, and load a snapshot into them where there is one to begin with.

        Returns:
            Whether its lanes begin with their first records.
        """
        with closing(SnapshotTarget(target)) as loading:
            state = loading.state()
            if snapshots is not None and state in {Loaded.EMPTY, Loaded.LOADING}:
                snapshot = fitting_snapshot(snapshots, self.row, self.topic.topic_id(), self.ends)
                loading.mark()
                _migrate(target, self.row, Rules(version=1))  # the snapshot's rules take the place of these
                load(snapshot, loading, on_progress=on_loaded)
                state = Loaded.LOADED
            elif state is Loaded.LOADING:
                raise Misconfigured(f"a run that loaded a snapshot into {target} was cut off: give the snapshots again")
            elif state is not Loaded.LOADED:
                _migrate(target, self.row, self._first_rules())
        _make_slices(target, self.row, self.topic)
        return state is not Loaded.LOADED

    def _first_rules(self) -> Rules:
        if self.rules is None:
            raise Misconfigured(
                f"the directory does not say with which rules shard {self.row.shard} began: `balance migrate` writes "
                "it, while its database is there; or begin with a snapshot (--snapshots)"
            )
        return self.rules


def fitting_snapshot(folder: Path, row: ShardRow, topic_id: bytes, ends: Mapping[int, int]) -> Snapshot:
    """Return the newest snapshot of a shard from which a replay can go on to where it ends.

    Raises:
        Misconfigured: There is none; the text says why the others are none.
    """
    why_not: list[str] = []
    schema = max(migration.number for migration in read_migrations())
    for each in snapshots_in(folder, row.shard):
        manifest = each.manifest
        if each.bad:
            why_not.append(each.bad)
        elif manifest is None:
            why_not.append(f"{each.folder.name} was cut off")
        elif manifest.schema != schema:
            why_not.append(
                f"{each.folder.name} has schema {manifest.schema}, this release has {schema} (load it with the release "
                "that took it, then run `balance migrate`)"
            )
        elif (manifest.row, manifest.topic_id) != (row, topic_id):
            why_not.append(f"{each.folder.name} is of another topic or shard")
        elif any(at.next_offset > ends.get(lane, 0) for lane, at in manifest.lanes.items()):
            why_not.append(f"{each.folder.name} is later than what is asked for")
        else:
            return each
    raise Misconfigured(f"{folder} has no snapshot of shard {row.shard} to begin with: {'; '.join(why_not) or 'none'}")


def _migrate(target: MysqlAddress, row: ShardRow, rules: Rules) -> None:
    migrate(target, row, {0: rules}, now_ms=assembly.clock_ms(), slices_max=TARGET_SLICES_MAX)


def _make_slices(target: MysqlAddress, row: ShardRow, topic: ShardTopicLog) -> None:
    """Make the journal's partitions for every id that the topic may hold."""
    first_ms = now_ms = assembly.clock_ms()
    for lane in range(row.lanes):
        first, end = topic.bounds(lane)
        for records in topic.read(lane, first, min(first + 1, end)):
            first_ms = min(first_ms, records[0].timestamp_ms)
    upkeep = ShardUpkeep(target)
    try:
        upkeep.ensure_slices(from_ms=first_ms, to_ms=now_ms, slices_max=TARGET_SLICES_MAX)
    finally:
        upkeep.close()


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a replay: into what, and with how many processes."""

    settings: Settings
    shard: str
    target: MysqlAddress
    published: Mapping[int, GroupPosition]
    processes_max: int
    on_progress: OnProgress
    from_start: bool

    def decide(self, ends: Mapping[int, int], decided: Mapping[int, Progress]) -> None:
        """Decide each lane up to an offset, where it does not stand there already.

        Args:
            ends: By lane.
            decided: How far the shard's own database had decided, as far as that is known.

        Raises:
            Misconfigured: A lane stands further.
        """
        reached = self.reached()
        further = {lane: reached[lane] for lane, end in ends.items() if reached.get(lane, 0) > end}
        if further:
            raise Misconfigured(f"{self.target} stands further already, by lane: {further}: give an empty database")
        works = []
        for lane, end in ends.items():
            if lane in reached and reached[lane] == end:
                continue
            published = self.published[lane].at.next_offset if lane in self.published else 0
            below = max(published, decided[lane].at.next_offset if lane in decided else 0)
            stretch = Stretch(
                lane=lane, target=end, decided_below=below, seals_show_published=lane not in self.published
            )
            arguments = (self.settings, self.shard, self.target, stretch)
            works.append(LaneWork(lane=lane, work=_replay_one, arguments=arguments))
        work_side_by_side(works, processes_max=self.processes_max, tell=self.on_progress)

    def follow(self, positions: Mapping[int, Progress]) -> None:
        """Decide the lanes that stand further in the shard's own database up to there."""
        reached = self.reached()
        ahead = {lane: each for lane, each in positions.items() if each.at.next_offset > reached.get(lane, 0)}
        self.decide({lane: each.at.next_offset for lane, each in ahead.items()}, positions)

    def report(self, found: Comparison) -> ReplayReport:
        """Return what the run came to."""
        return ReplayReport(
            offsets=self.reached(),
            compared=found.compared,
            not_compared=found.not_compared,
            difference=found.difference,
        )

    def reached(self) -> dict[int, int]:
        """Return where each lane of the target stands."""
        reader = open_reader(self.target)
        try:
            return {lane: progress.at.next_offset for lane, progress in reader.positions().items()}
        finally:
            reader.close()


def _replay_one(settings: Settings, shard: str, target: MysqlAddress, stretch: Stretch, tell: Tell) -> None:
    """Decide one lane, in a process of its own."""
    topic = ShardTopicLog(settings, shard)
    topic_id = topic.topic_id()
    parts = ReplayParts(
        topic=topic,
        make_gate=lambda lane: assembly.gate(settings, shard, lane),
        make_store=lambda lane: MysqlLaneStore(target, lane, decision_of=decision_of, clock_ms=assembly.clock_ms),
        make_context=lambda lane: assembly.lane_context(settings, shard, lane, topic_id),
        clock_ms=assembly.clock_ms,
        book_accounts_max=settings.worker.book_accounts_max,
    )
    replay_lane(parts, stretch, on_progress=tell)


def _compared(run: _Run, *, absent: Fault | None) -> Comparison:
    """Compare with what was published; where it is that, note it, so that the lanes need no group offset (L4)."""
    target, published = run.target, run.published
    with closing(whole_reader(target)) as replayed:
        found = compare_published(replayed, published, from_start=run.from_start)
        if found.difference is None:
            reached = {lane: position for lane, position in published.items() if lane in replayed.positions()}
            borders = {lane: replayed.last_border(lane, each.at.next_offset) for lane, each in reached.items()}
            note_published(target, {lane: border.at for lane, border in borders.items() if border is not None})
    if absent is None:
        return found
    not_compared = (*found.not_compared, f"the live database is not there: {absent}")
    return Comparison(compared=found.compared, not_compared=not_compared, difference=found.difference)


def _follow_and_compare(run: _Run, live_address: MysqlAddress, row: ShardRow, *, follow: bool) -> Comparison:
    """Follow the live shard to one moment, if it stands further, and compare there."""
    for _ in range(FOLLOWED_MAX if follow else 0):
        with closing(whole_reader(live_address)) as moving:
            run.follow(moving.positions())
    with closing(whole_snapshot(live_address)) as live:
        if follow:
            run.follow(live.positions())
        published = _compared(run, absent=None)
        if published.difference is not None:
            return published
        with closing(whole_reader(run.target)) as replayed:
            found = compare_live(live, replayed, lanes=row.lanes, home=row.home, from_start=run.from_start)
    return Comparison(
        compared=published.compared + found.compared,
        not_compared=published.not_compared + found.not_compared,
        difference=found.difference,
    )
