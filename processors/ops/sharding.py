"""Adds a shard to an installation: database, topic, lanes and rules, and then its name in the directory.

Whatever speaks against it is found before anything is written. What was made by a run that was cut short is found, and
gone on from: the directory names the shard last, so that nobody meets half of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from processors.faults import Misconfigured
from processors.ledger.rules import RESULT_VERSION, RULES_RELEASE, Rules
from processors.ops import addresses, assembly, counts, keys
from processors.ops.ruling import logged_registry_ids, rules_by_lane, tell_first_rules
from processors.settings import Settings
from processors.stores.databases import create_database, known_shard, known_topics
from processors.stores.migrations import ShardRow, migrate
from processors.streams.directory import DirectoryContents, read_directory, refuse_other_topic, write_shard
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.signature import trusted_keys

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What there is of a shard: its database's row, and the id of its topic; None where there is none."""

    row: ShardRow | None
    topic_id: bytes | None


def add_shard(settings: Settings, shard: str, say: Progress) -> None:
    """Make a shard beside the home shard, as far as it is missing, and write it into the directory.

    Args:
        settings: Know its address, and how many lanes it gets.
        shard: Its id.
        say: Told what was made.

    Raises:
        Misconfigured: There is no installation to add it to, or something of that name is there, and is not as it must
            be; nothing was written.
        Fault: A server does not answer; run it again.
    """
    address = addresses.kafka_address(settings)
    contents = read_directory(address)
    if shard == contents.directory.home_shard:
        raise Misconfigured(f"{shard} is the home shard, which `balance init` makes")
    settings = in_force(settings, shard, contents)
    found = refuse_unfit(settings, shard, contents)
    specs = [spec for spec in assembly.topic_specs(settings) if spec.name == shard_topic(shard)]
    for name in TopicAdmin(address).create(specs, replication_factor=settings.kafka.replication_factor):
        say(f"made topic {address.topic_prefix}{name}")
    place, row = addresses.mysql_address(settings, shard), assembly.shard_row(settings, shard)
    if create_database(place):
        say(f"made database {place}")
    rules = contents.first_rules.get(shard)  # it was there, and its database is lost: its log begins with these
    if rules is None:
        rules = _rules_like(settings, contents.directory.home_shard) if found.row is None else first_rules(settings)
    for done in migrate(place, row, {0: rules}, now_ms=assembly.clock_ms()):
        say(f"{place}: {done}")
    tell_first_rules(settings, [shard])
    if write_shard(address, shard=shard, lanes=row.lanes):
        say(f"the directory names shard {shard}")


def in_force(settings: Settings, shard: str, contents: DirectoryContents) -> Settings:
    """Return the settings with the counts of the directory.

    Raises:
        Misconfigured: It says another count of the shard's lanes than its own table in the settings.
    """
    wished = settings.shards[shard].lanes
    in_directory = counts.of_contents(settings, contents)
    if wished not in (None, in_directory.lanes_of(shard)):
        raise Misconfigured(
            f"shard {shard} has {in_directory.lanes_of(shard)} lanes, as the directory says, and shards.{shard}.lanes "
            f"is {wished}: a count never changes, since a key's lane is its order guarantee; correct the settings"
        )
    return in_directory


def refuse_unfit(settings: Settings, shard: str, contents: DirectoryContents | None) -> _Found:
    """Ask every server, before anything is written, what there is of a shard, and refuse it if it is another one's.

    Args:
        settings: With the counts in force.
        shard: Its id.
        contents: The directory; None where there is none yet.

    Raises:
        Misconfigured: Says what is there.
        Fault: A server does not answer.
    """
    topic_id = _fit_topic(settings, shard, contents)
    place, wanted = addresses.mysql_address(settings, shard), assembly.shard_row(settings, shard)
    row = known_shard(place)
    if row not in (None, wanted):
        assert row is not None
        raise Misconfigured(f"{place} holds {_told(row)}; this would be {_told(wanted)}: nothing was written")
    strange = known_topics(place) - {topic_id} if row is not None else set()
    if strange:
        raise Misconfigured(
            f"{place} holds shard {shard} of another topic, whose id was {min(strange).hex()}: it is another "
            "installation's, or its topic was deleted; give an empty database. Nothing was written"
        )
    return _Found(row=row, topic_id=topic_id)


def _told(row: ShardRow) -> str:
    kind = "home shard" if row.home else "shard"
    return f"{kind} {row.shard} with {row.lanes} lanes and {row.results_partitions} results partitions"


def _fit_topic(settings: Settings, shard: str, contents: DirectoryContents | None) -> bytes | None:
    """Return the id of a shard's topic, None where there is none yet."""
    topics, topic = TopicAdmin(addresses.kafka_address(settings)), shard_topic(shard)
    topic_id = topics.topic_id(topic) if topics.exists(topic) else None
    if contents is not None and shard in contents.shards:
        refuse_other_topic(contents, shard, topic_id)
        return topic_id
    if topic_id is None:
        return None
    ((_, partitions),) = topics.partition_counts([topic]).items()
    if partitions != settings.lanes_of(shard):
        raise Misconfigured(
            f"there is a topic {topic} with {partitions} partitions, and shard {shard} would have "
            f"{settings.lanes_of(shard)} lanes: delete the topic if nothing was ever written to it, or choose another "
            "id; nothing was written"
        )
    if any(topics.end(topic, lane) for lane in range(partitions)):
        raise Misconfigured(
            f"there is a topic {topic} with records in it, which the directory does not know: it is another "
            "installation's; choose another id, or another kafka.topic_prefix. Nothing was written"
        )
    return topic_id


def first_rules(settings: Settings) -> Rules:
    """Return the rules of an installation's first shard: the keys file's keys count, and the settings' registry ids.

    Raises:
        Misconfigured: The keys file cannot be read, or a registry id is no command's.

    Source: I6.
    """
    rules = settings.rules
    return Rules(
        version=1,
        window_ms=rules.window_ms,
        skew_ms=rules.skew_ms,
        future_limit_ms=rules.future_limit_ms,
        refund_period_ms=rules.refund_period_ms,
        longest_hold_ms=rules.longest_hold_ms,
        result_version=RESULT_VERSION,
        keys=trusted_keys(keys.keyring(settings)),
        registry_ids=logged_registry_ids(settings),
    )


def _rules_like(settings: Settings, home_shard: str | None) -> Rules:
    """Return the first rules of a shard that is added: this release's, and otherwise what the home shard's log says.

    A key that has ended there has ended here, too, and a window that was changed there is not the settings' here.

    Raises:
        Misconfigured: The home shard's lanes do not agree.
    """
    assert home_shard is not None, "a directory names its home shard"
    found = {_as_first(rules) for rules in rules_by_lane(settings, home_shard).values()}
    if len(found) != 1:
        raise Misconfigured(
            f"the lanes of home shard {home_shard} have different rules (`balance rules show`, `balance key list`): "
            "run the last command that changed them again, then this; no shard was added"
        )
    (rules,) = found
    if rules.keys is not None:
        return rules
    return replace(rules, keys=trusted_keys(keys.keyring(settings)), registry_ids=logged_registry_ids(settings))


def _as_first(rules: Rules) -> Rules:
    """Return rules as a shard begins with them: it has forgotten nothing yet, so no floor is needed."""
    return replace(
        rules,
        version=1,
        release=RULES_RELEASE,
        result_version=RESULT_VERSION,
        window_floor_ms=0,
        refund_floor_ms=0,
        recall_floor_ms=0,
    )
