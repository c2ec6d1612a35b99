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
    return counts | {shard_topic(shard): settings.topics.lanes for shard in settings.shards}


def of_shard(settings: Settings, row: ShardRow) -> Settings:
    """Return the settings with the counts that a shard was made with."""
    return _with(settings, {"lanes": row.lanes, "results_partitions": row.results_partitions})


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


def _of_topics(settings: Settings, known: Mapping[str, int]) -> Settings:
    counts = {name: known[topic] for topic, name in _SETTING_OF.items() if topic in known}
    lanes = known.get(shard_topic(settings.home_shard))
    return _with(settings, counts if lanes is None else {**counts, "lanes": lanes})


def _with(settings: Settings, counts: Mapping[str, int]) -> Settings:
    same = all(getattr(settings.topics, name) == count for name, count in counts.items())
    return settings if same else settings.changed(topics=dict(counts))
