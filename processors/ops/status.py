"""How the service is doing: lags of lanes, router and sink, what MySQL holds, what moves, and what went wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from processors.faults import Fault, next_step
from processors.ops import addresses, counts, local_service
from processors.ops.backlog import RouterStatus, read_backlog
from processors.ops.side_by_side import Asked
from processors.ops.supervisor import ChildState
from processors.ops.under_way import BegunMs, MoveStatus, moves_under_way
from processors.routing.directory import Directory
from processors.settings import Settings
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_schema import open_archive
from processors.stores.cassandra import CassandraSession
from processors.stores.lane_proofs import LaneProof
from processors.stores.moves_reader import MovesReader
from processors.stores.rows import PlacementRow
from processors.stores.shard_reader import Counts, LanePosition, open_reader
from processors.stores.shard_upkeep import Finding, ShardUpkeep
from processors.stores.verify_reader import VerifyReader
from processors.streams.directory import DirectoryContents, read_directory, read_placements
from processors.streams.topics import COMMANDS_TOPIC, LOOK_DEADLINE_S, RESULTS_TOPIC, TopicAdmin, shard_topic
from processors.troubles import Trouble

# A server that is well answers within a second, on a busy machine within some; a person waits no longer for one that is
# not, and one that is down refuses at once.
ANSWER_S = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """A server: why it does not answer, empty where it does."""

    server: str
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """One lane; ``undecided`` records wait in Kafka, None where that does not answer."""

    shard: str
    lane: int
    next_offset: int
    undecided: int | None
    lane_time_ms: int
    stop_code: str
    stop_detail: str
    stopped_at_ms: int
    next_step: str = ""  # of a stopped lane: what to do, the command as it is typed


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """A results partition: how many offsets the sink has still to copy; None where a server is silent."""

    partition: int
    waiting: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BetweenStatus:
    """What a shard's lanes have on ``@moved`` or ``@transit`` in a currency, in minor units, and not zero.

    Over all shards each comes to zero where nothing is on its way.
    """

    shard: str
    account: str
    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """One shard's database.

    ``proven_until_ms``: the journal rows that were decided before are proven; None where some lane's never were.
    """

    shard: str
    counts: Counts
    findings: list[Finding]
    proven_until_ms: int | None = None
    between: list[BetweenStatus] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicStatus:
    """A topic that has more partitions than the ``known`` ones that the service uses: somebody raised the count."""

    topic: str
    partitions: int
    known: int

    @property
    def loses_commands(self) -> bool:
        """Say whether what is written to the others is refused: commands alone are written by somebody else."""
        return self.topic == COMMANDS_TOPIC


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """All of it, as far as ``servers`` answer; of a shard whose MySQL does not, lanes and counts are left out.

    ``processes`` run under a supervisor here; ``ports`` are where each that runs answers ``/metrics`` and probes, and
    ``troubles`` what they meet now, both by their names. ``raised`` are the topics that have more partitions than the
    service uses. ``unknown_shards`` are in the directory and not in the settings here: nothing is known of their lanes.
    ``stages_ms`` says of each worker that runs here how long a batch takes on the mean from stage to stage, in ms.
    ``moves`` are those under way to shards that answer; None where Kafka does not.
    """

    servers: list[ServerStatus]
    processes: list[ChildState]
    ports: dict[str, int]
    troubles: dict[str, list[Trouble]]
    router: RouterStatus
    lanes: list[LaneStatus]
    shards: list[ShardStatus]
    moves: list[MoveStatus] | None
    sink: list[SinkStatus]
    raised: list[TopicStatus]
    unknown_shards: list[str]
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def between(self) -> dict[tuple[str, str], int]:
        """Return what is between the shards, by account and currency, in minor units; nothing where one is silent."""
        total = Counter[tuple[str, str]]()
        if any(server.fault for server in self.servers):
            return {}
        for each in (each for shard in self.shards for each in shard.between):
            total[each.account, each.currency] += each.amount_minor
        return {key: amount_minor for key, amount_minor in total.items() if amount_minor}

    @property
    def good(self) -> bool:
        """Say whether nobody must look: no process here fails, lanes run, servers answer, nothing was found.

        A command astray is to be looked at, too. What waits alone is not, and neither are processes that are not seen:
        they may run elsewhere, and alarms watch them there.
        """
        stopped = any(lane.stop_code for lane in self.lanes) or any(each.failing for each in self.processes)
        loud = any(each.loud for found in self.troubles.values() for each in found)
        astray = any(topic.loses_commands for topic in self.raised)
        silent = any(server.fault for server in self.servers)
        found = any(each.findings for each in self.shards)
        return not (stopped or loud or astray or silent or found or self.unknown_shards)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Brokers:
    """What Kafka says: the offset after the last of each lane, by shard, and of each results partition."""

    settings: Settings  # with the counts that are in force
    ends: dict[str, list[int]]
    router: RouterStatus
    results_id: bytes
    results_ends: list[int]
    raised: list[TopicStatus]
    unknown: list[str]
    directory: Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class _Database:
    """What a shard's MySQL says."""

    positions: dict[int, LanePosition]
    placements: dict[str, PlacementRow]
    status: ShardStatus


def read_status(settings: Settings, *, answer_s: float = ANSWER_S) -> ServiceStatus:
    """Ask every part how it is, all at the same time; one that does not answer is told, and the others are there.

    Args:
        settings: Of the whole service.
        answer_s: Seconds that a server may take.
    """
    ends_s = time.monotonic() + answer_s
    kafka = Asked(partial(_ask_brokers, settings))
    databases = {shard: Asked(partial(_ask_database, settings, shard)) for shard in settings.shards}
    archive = Asked(partial(_open_archive, settings))
    brokers, session = kafka.answer(ends_s), archive.answer(ends_s)
    found = {shard: asked.answer(ends_s) for shard, asked in databases.items()}
    moves = _moves(settings, brokers, found, answer_s)
    sink, cassandra = _sink(settings, brokers, session, answer_s)
    said = {"Kafka": brokers, **{f"MySQL of {shard}": each for shard, each in found.items()}, "Cassandra": cassandra}
    return ServiceStatus(
        servers=[
            ServerStatus(server=server, fault=str(each) if isinstance(each, Fault) else "")
            for server, each in said.items()
        ],
        processes=local_service.states(settings),
        ports=local_service.ports(settings),
        troubles=local_service.troubles(settings),
        stages_ms=local_service.stages_ms(settings),
        router=RouterStatus() if isinstance(brokers, Fault) else brokers.router,
        lanes=_lanes(settings, brokers, found),
        shards=[each.status for each in found.values() if not isinstance(each, Fault)],
        moves=moves,
        sink=sink,
        raised=[] if isinstance(brokers, Fault) else brokers.raised,
        unknown_shards=[] if isinstance(brokers, Fault) else brokers.unknown,
    )


def _ask_brokers(settings: Settings) -> _Brokers:
    kafka = addresses.kafka_address(settings)
    topics = TopicAdmin(kafka)
    # Finds soon that brokers are away, and why: the questions below wait longer.
    topics.partition_counts([RESULTS_TOPIC], deadline_s=LOOK_DEADLINE_S)
    contents = read_directory(kafka)
    settings = counts.of_contents(settings, contents)
    partitions = range(settings.topics.results_partitions)
    return _Brokers(
        settings=settings,
        ends={
            shard: [topics.end(shard_topic(shard), lane) for lane in range(settings.lanes_of(shard))]
            for shard in settings.shards
            if shard in contents.shards
        },
        unknown=sorted(contents.shards.keys() - settings.shards.keys()),
        router=read_backlog(settings, kafka, contents.positions),
        results_id=topics.topic_id(RESULTS_TOPIC),
        results_ends=[topics.end(RESULTS_TOPIC, partition) for partition in partitions],
        raised=_raised(settings, topics, contents),
        directory=contents.directory,
    )


def _open_archive(settings: Settings) -> CassandraSession:
    return open_archive(addresses.cassandra_address(settings), requests_max=1)


def _ask_database(settings: Settings, shard: str) -> _Database:
    address = addresses.mysql_address(settings, shard)
    reader, upkeep, moves = open_reader(address), ShardUpkeep(address), MovesReader(address)
    proofs = VerifyReader(address)
    try:
        status = ShardStatus(
            shard=shard,
            counts=reader.counts(),
            findings=upkeep.findings(),
            proven_until_ms=_proven_until_ms(proofs.proofs(), reader.positions()),
            between=[
                BetweenStatus(shard=shard, account=name.lower(), currency=currency, amount_minor=total)
                for (name, currency), total in moves.between_shards().items()
            ],
        )
        return _Database(positions=reader.lane_positions(), placements=moves.placements(), status=status)
    finally:
        reader.close()
        upkeep.close()
        moves.close()
        proofs.close()


def _proven_until_ms(proofs: Mapping[int, LaneProof], lanes: Collection[int]) -> int | None:
    times_ms = [proofs[lane].proven_at_ms if lane in proofs else 0 for lane in lanes]
    return min(times_ms) if times_ms and all(times_ms) else None


def _moves(
    settings: Settings, brokers: _Brokers | Fault, found: Mapping[str, _Database | Fault], answer_s: float
) -> list[MoveStatus] | None:
    """Return the moves under way, as far as servers answer."""
    if isinstance(brokers, Fault):
        return None

    def begun() -> BegunMs:
        placements = Asked(lambda: read_placements(addresses.kafka_address(settings))).answer(
            time.monotonic() + answer_s
        )
        if isinstance(placements, Fault):
            return {}
        return {(placed.unit, placed.generation): written_ms for placed, written_ms in placements}

    rows = {shard: each.placements for shard, each in found.items() if not isinstance(each, Fault)}
    return moves_under_way(brokers.directory, rows, begun)


def _raised(settings: Settings, topics: TopicAdmin, contents: DirectoryContents) -> list[TopicStatus]:
    absent = {shard_topic(shard) for shard in settings.shards if shard not in contents.shards}
    known = {topic: count for topic, count in counts.by_topic(settings).items() if topic not in absent}
    return [
        TopicStatus(topic=topic, partitions=partitions, known=known[topic])
        for topic, partitions in topics.partition_counts(known).items()
        if partitions > known[topic]
    ]


def _lanes(settings: Settings, brokers: _Brokers | Fault, found: Mapping[str, _Database | Fault]) -> list[LaneStatus]:
    counted = settings if isinstance(brokers, Fault) else brokers.settings
    ends = {} if isinstance(brokers, Fault) else brokers.ends
    return [
        lane_status(shard, lane, said.positions.get(lane), ends[shard][lane] if shard in ends else None)
        for shard, said in found.items()
        if not isinstance(said, Fault)
        for lane in range(counted.lanes_of(shard))
    ]


def lane_status(shard: str, lane: int, position: LanePosition | None, end: int | None) -> LaneStatus:
    """Return how a lane stands.

    Args:
        shard: Its shard.
        lane: Its number.
        position: What the database says of it; None where nobody has owned it yet.
        end: The offset after the last record; None where Kafka does not say.
    """
    if position is None:  # never owned
        return LaneStatus(
            shard=shard,
            lane=lane,
            next_offset=0,
            undecided=end,
            lane_time_ms=0,
            stop_code="",
            stop_detail="",
            stopped_at_ms=0,
        )
    progress = position.progress
    return LaneStatus(
        shard=shard,
        lane=lane,
        next_offset=progress.at.next_offset,
        undecided=None if end is None else max(0, end - progress.at.next_offset),
        lane_time_ms=progress.at.lane_time_ms,
        stop_code=position.stop_code or "",
        stop_detail=position.stop_detail,
        stopped_at_ms=position.stopped_at_ms,
        next_step=""
        if position.stop_code is None
        else next_step(position.stop_code, shard=shard, lane=lane, offset=progress.at.next_offset),
    )


def _sink(
    settings: Settings, brokers: _Brokers | Fault, session: CassandraSession | Fault, answer_s: float
) -> tuple[list[SinkStatus], Fault | None]:
    """Return how far the sink is, and why Cassandra does not say so; the session is closed."""
    if isinstance(brokers, Fault) or isinstance(session, Fault):
        if not isinstance(session, Fault):
            session.close()
        unknown = [SinkStatus(partition=each, waiting=None) for each in range(settings.topics.results_partitions)]
        return unknown, session if isinstance(session, Fault) else None
    asked = Asked(partial(_positions, session, brokers))
    positions = asked.answer(time.monotonic() + answer_s)
    silent = isinstance(positions, Fault)
    if not silent:
        session.close()
    return [
        SinkStatus(partition=partition, waiting=None if isinstance(positions, Fault) else end - positions[partition])
        for partition, end in enumerate(brokers.results_ends)
    ], positions if isinstance(positions, Fault) else None


def _positions(session: CassandraSession, brokers: _Brokers) -> list[int]:
    reader = ArchiveReader(session)
    return [reader.position(brokers.results_id, partition) or 0 for partition in range(len(brokers.results_ends))]
