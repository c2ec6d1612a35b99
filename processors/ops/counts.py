"""How many partitions the service uses: what its directory or a shard's row says, whatever the settings say (W3)."""

from __future__ import annotations

from collections.abc import Mapping

from processors.settings import Settings
from processors.stores.migrations import ShardRow
from processors.streams.connection import KafkaAddress
from processors.streams.directory import DirectoryContents, find_directory, read_directory
from processors.streams.topics import (
    ARCHIVED_TOPIC,
    COMMANDS_TOPIC,
    DEAD_LETTERS_TOPIC,
    RESULTS_TOPIC,
    shard_topic,
)
from processors.telemetry import get_logger

log = get_logger(__name__)

_SETTING_OF = {
    COMMANDS_TOPIC: "commands_partitions",
    RESULTS_TOPIC: "results_partitions",
    DEAD_LETTERS_TOPIC: "dead_letters_partitions",
    ARCHIVED_TOPIC: "archived_partitions",
}


def by_topic(settings: Settings) -> dict[str, int]:
    """Return the settings' count of each topic that the directory speaks of, by name without prefix."""
    counts = {topic: getattr(settings.topics, name) for topic, name in _SETTING_OF.items()}
    return counts | {shard_topic(shard): settings.lanes_of(shard) for shard in settings.shards}


def of_shard(settings: Settings, row: ShardRow) -> Settings:
    """Return the settings with the counts that a shard was made with."""
    return _with(settings, {"results_partitions": row.results_partitions}, {row.shard: row.lanes})


def of_directory(settings: Settings, address: KafkaAddress) -> Settings:
    """Return the settings with the counts that the directory names; it may name none yet.

    Raises:
        Misconfigured: There is no directory.
        Fault: Kafka cannot be reached.
    """
    return of_contents(settings, read_directory(address))


def of_contents(settings: Settings, contents: DirectoryContents) -> Settings:
    """Return the settings with the counts that a directory names, which was read already."""
    return _of_topics(settings, contents.partitions)


def before_init(settings: Settings, address: KafkaAddress) -> Settings:
    """Return the settings with the counts of the directory, or as they are where there is none yet.

    Raises:
        Fault: Kafka cannot be reached.
    """
    contents = find_directory(address)
    return settings if contents is None else of_contents(settings, contents)


def tell_ignored(settings: Settings, in_force: Settings) -> None:
    """Log which counts of the settings do not count."""
    wished, used = settings.topics.model_dump(), in_force.topics.model_dump()
    for name in (name for name in wished if wished[name] != used[name]):
        log.warning("setting_ignored", setting=f"topics.{name}", value=wished[name], in_force=used[name])
    for shard, place in settings.shards.items():
        if settings.lanes_of(shard) != in_force.lanes_of(shard):
            name = "topics.lanes" if place.lanes is None else f"shards.{shard}.lanes"
            log.warning(
                "setting_ignored",
                setting=name,
                shard=shard,
                value=settings.lanes_of(shard),
                in_force=in_force.lanes_of(shard),
            )


def _of_topics(settings: Settings, known: Mapping[str, int]) -> Settings:
    counts = {name: known[topic] for topic, name in _SETTING_OF.items() if topic in known}
    return _with(
        settings,
        counts,
        {shard: known[shard_topic(shard)] for shard in settings.shards if shard_topic(shard) in known},
    )


def _with(settings: Settings, counts: Mapping[str, int], lanes: Mapping[str, int]) -> Settings:
    """Return the settings with some topics' counts, and some shards' lanes."""
    other = {shard: {"lanes": count} for shard, count in lanes.items() if settings.lanes_of(shard) != count}
    same = all(getattr(settings.topics, name) == count for name, count in counts.items())
    return settings if same and not other else settings.changed(topics=dict(counts), shards=other)
