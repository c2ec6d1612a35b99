"""Which shards there are, by directory and settings, and how each stands: its database, its lanes, its rules."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from processors.faults import Fault, Misconfigured
from processors.ledger.rules import newest_of
from processors.ops import addresses, counts
from processors.ops.side_by_side import Asked
from processors.ops.status import ANSWER_S, LaneStatus, lane_status
from processors.settings import Settings
from processors.stores.migrations import ShardRow
from processors.stores.shard_reader import LanePosition, open_reader
from processors.streams.directory import DirectoryContents, read_directory
from processors.streams.topics import TopicAdmin, shard_topic


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardShown:
    """A shard. ``state`` is empty where it takes part, else what is amiss; what is not known is None or empty then.

    ``database`` is where it is, ``topic_id`` the incarnation in hexadecimal digits. ``releases`` are those of the rules
    in force in its lanes; several while a raise is under way.
    """

    shard: str
    state: str
    home: bool | None
    database: str
    topic: str
    topic_id: str
    lanes: int
    releases: list[int]
    progress: list[LaneStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class _DatabaseSays:
    row: ShardRow
    positions: dict[int, LanePosition]
    releases: list[int]


def read_shards(settings: Settings, *, answer_s: float = ANSWER_S) -> list[ShardShown]:
    """Return every shard that the directory or the settings name, the home shard first.

    Args:
        settings: Of the whole service.
        answer_s: Seconds that a database may take.

    Raises:
        Misconfigured: There is no directory: `balance init` was not run.
        Fault: Kafka cannot be reached.
    """
    address = addresses.kafka_address(settings)
    contents = read_directory(address)
    settings = counts.of_contents(settings, contents)
    ends_s = time.monotonic() + answer_s
    asked = {
        shard: Asked(partial(_ask_database, settings, shard)) for shard in settings.shards if shard in contents.shards
    }
    topics, home = TopicAdmin(address), contents.directory.home_shard
    names = sorted({*settings.shards, *contents.shards}, key=lambda shard: (shard != home, shard))
    return [
        _shown(settings, contents, topics, shard, asked[shard].answer(ends_s) if shard in asked else None)
        for shard in names
    ]


def read_shard(settings: Settings, shard: str) -> ShardShown:
    """Return one shard.

    Raises:
        Misconfigured: Nobody knows it.
        Fault: As of ``read_shards``.
    """
    every = {each.shard: each for each in read_shards(settings)}
    if shard not in every:
        raise Misconfigured(f"there is no shard {shard}; there are {', '.join(every)}")
    return every[shard]


def every_shard(settings: Settings) -> list[str]:
    """Return the shards of the settings, for what is done to all that there are.

    Raises:
        Misconfigured: As ``refuse_lacking_shards``.
        Fault: The directory cannot be read.
    """
    refuse_lacking_shards(settings, read_directory(addresses.kafka_address(settings)))
    return list(settings.shards)


def lacking_shards(settings: Settings, contents: DirectoryContents) -> list[str]:
    """Return the shards of the directory that the settings do not have, sorted."""
    return sorted(contents.shards.keys() - settings.shards.keys())


def refuse_lacking_shards(settings: Settings, contents: DirectoryContents) -> None:
    """Refuse settings that lack a shard of the directory, for whoever says what no shard has, or what all have.

    Raises:
        Misconfigured: Says which shards, and what to do.
    """
    lacking = lacking_shards(settings, contents)
    if lacking:
        raise Misconfigured(
            f"the directory has {', '.join(lacking)}, and the settings here do not: what is there is not seen "
            f"from here; add a table [shards.{lacking[0]}], or ask on a machine that has it"
        )


def _ask_database(settings: Settings, shard: str) -> _DatabaseSays:
    reader = open_reader(addresses.mysql_address(settings, shard))
    try:
        return _DatabaseSays(
            row=reader.check(shard),
            positions=reader.lane_positions(),
            releases=sorted({newest_of(of_lane.values()).release for of_lane in reader.rules().values()}),
        )
    finally:
        reader.close()


def _shown(
    settings: Settings, contents: DirectoryContents, topics: TopicAdmin, shard: str, said: _DatabaseSays | Fault | None
) -> ShardShown:
    topic_id = contents.shards[shard].topic_id.hex() if shard in contents.shards else ""
    lanes = contents.lanes_of(shard) if shard in contents.shards else settings.lanes_of(shard)
    database = said if isinstance(said, _DatabaseSays) else None
    return ShardShown(
        shard=shard,
        state=_state(settings, contents, shard, said),
        home=shard == contents.directory.home_shard,
        database=str(addresses.mysql_address(settings, shard)) if shard in settings.shards else "",
        topic=shard_topic(shard),
        topic_id=topic_id,
        lanes=lanes or settings.topics.lanes,
        releases=[] if database is None else database.releases,
        progress=[]
        if database is None
        else [
            lane_status(shard, lane, database.positions.get(lane), topics.end(shard_topic(shard), lane))
            for lane in range(database.row.lanes)
        ],
    )


def _state(settings: Settings, contents: DirectoryContents, shard: str, said: _DatabaseSays | Fault | None) -> str:
    if shard not in contents.shards:
        return f"not made yet: `balance shard add {shard}`"
    if shard not in settings.shards:
        return "not in the settings here"
    return str(said) if isinstance(said, Fault) else ""
