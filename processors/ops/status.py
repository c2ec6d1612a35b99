"""How the service is doing: each lane's lag, the sink's lag, what MySQL holds, what is open, what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

from processors.faults import Fault, Unavailable, next_step
from processors.ops import assembly, counts, processes
from processors.ops.supervisor import ChildState
from processors.settings import Settings
from processors.stores.archive_reader import ArchiveReader
from processors.stores.archive_schema import open_archive
from processors.stores.shard_reader import Counts, LanePosition, open_reader
from processors.stores.shard_upkeep import Finding, ShardUpkeep
from processors.streams.topics import COMMANDS_TOPIC, RESULTS_TOPIC, Topics, shard_topic
from processors.troubles import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """One lane; ``undecided`` records wait in Kafka."""

    shard: str
    lane: int
    next_offset: int
    undecided: int
    lane_time_ms: int
    stop_code: str
    stop_detail: str
    stopped_at_ms: int
    next_step: str = ""  # of a stopped lane: what to do, the command as it is typed


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """A results partition: how many offsets the sink has still to copy; None where Cassandra does not answer."""

    partition: int
    waiting: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """One shard's database."""

    shard: str
    counts: Counts
    findings: list[Finding]


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
    """All of it. ``processes`` run under a supervisor here; ``archive_fault`` is empty where Cassandra answers.

    ``troubles`` are what these processes meet now, by their names. ``raised`` are the topics with more partitions
    than the service uses.
    """

    processes: list[ChildState]
    troubles: dict[str, list[Trouble]]
    lanes: list[LaneStatus]
    shards: list[ShardStatus]
    sink: list[SinkStatus]
    archive_fault: str
    raised: list[TopicStatus]

    @property
    def good(self) -> bool:
        """Say whether nobody must look: processes and lanes run, the archive answers, no finding, no command astray."""
        stopped = any(lane.stop_code for lane in self.lanes) or any(each.failing for each in self.processes)
        loud = any(each.loud for found in self.troubles.values() for each in found)
        astray = any(topic.loses_commands for topic in self.raised)
        return not (stopped or loud or astray or self.archive_fault) and not any(each.findings for each in self.shards)


def read_status(settings: Settings) -> ServiceStatus:
    """Ask every part how it is.

    Raises:
        Fault: Kafka or a shard's MySQL does not answer; Cassandra's silence is part of the answer.
    """
    kafka = assembly.kafka_address(settings)
    settings, topics = counts.of_directory(settings, kafka), Topics(kafka)
    lanes: list[LaneStatus] = []
    shards: list[ShardStatus] = []
    for shard in settings.shards:
        address = assembly.mysql_address(settings, shard)
        reader, upkeep = open_reader(address), ShardUpkeep(address)
        try:
            positions = reader.lane_positions()
            shards.append(ShardStatus(shard=shard, counts=reader.counts(), findings=upkeep.findings()))
        finally:
            reader.close()
            upkeep.close()
        lanes += [
            _lane(shard, lane, positions.get(lane), topics.bounds(shard_topic(shard), lane)[1])
            for lane in range(settings.topics.lanes)
        ]
    sink, fault = _sink(settings, topics)
    return ServiceStatus(
        processes=processes.states(settings),
        troubles=processes.troubles(settings),
        lanes=lanes,
        shards=shards,
        sink=sink,
        archive_fault=fault,
        raised=_raised(settings, topics),
    )


def _raised(settings: Settings, topics: Topics) -> list[TopicStatus]:
    known = counts.by_topic(settings)
    return [
        TopicStatus(topic=topic, partitions=partitions, known=known[topic])
        for topic, partitions in topics.partition_counts(known).items()
        if partitions > known[topic]
    ]


def _lane(shard: str, lane: int, position: LanePosition | None, end: int) -> LaneStatus:
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
        next_offset=progress.next_offset,
        undecided=max(0, end - progress.next_offset),
        lane_time_ms=progress.last_time_ms,
        stop_code=position.stop_code or "",
        stop_detail=position.stop_detail,
        stopped_at_ms=position.stopped_at_ms,
        next_step=""
        if position.stop_code is None
        else next_step(position.stop_code, shard=shard, lane=lane, offset=progress.next_offset),
    )


def _sink(settings: Settings, topics: Topics) -> tuple[list[SinkStatus], str]:
    partitions = range(settings.topics.results_partitions)
    try:
        session = open_archive(assembly.cassandra_address(settings), requests_max=1)
    except Unavailable as fault:
        return [SinkStatus(partition=partition, waiting=None) for partition in partitions], str(fault)
    try:
        reader, topic_id = ArchiveReader(session), topics.topic_id(RESULTS_TOPIC)
        return [
            SinkStatus(
                partition=partition,
                waiting=topics.bounds(RESULTS_TOPIC, partition)[1] - (reader.position(topic_id, partition) or 0),
            )
            for partition in partitions
        ], ""
    except Fault as fault:
        return [SinkStatus(partition=partition, waiting=None) for partition in partitions], str(fault)
    finally:
        session.close()
