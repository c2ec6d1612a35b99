"""Makes what the service needs before its first command: keys, topics, directory, schemas. Safe to run twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from processors.faults import Misconfigured
from processors.ledger.trust import read_keys
from processors.ops import addresses, assembly, counts
from processors.ops.keys import make_keys
from processors.ops.ruling import tell_directory_keys, tell_first_rules
from processors.ops.sharding import add_shard, first_rules, in_force, refuse_unfit
from processors.settings import Settings
from processors.stores.archive_schema import migrate_archive
from processors.stores.cassandra import CassandraSession
from processors.stores.databases import create_database, known_shard, known_topics
from processors.stores.migrations import migrate
from processors.streams.directory import DirectoryContents, find_directory, write_directory_head
from processors.streams.topics import TopicAdmin, shard_topic

Progress = Callable[[str], None]
Count = Callable[[str, int], None]
"""Told what is brought over from the release before, and how many rows of it."""


def _uncounted(_what: str, _rows: int) -> None:
    """Show no count."""


def initialize(settings: Settings, say: Progress, count: Count = _uncounted) -> None:
    """Make keys, topics, directory and schemas, as far as they are missing.

    Args:
        settings: Partition counts and rules are taken from them once, and are checked ever after.
        say: Told what was made.
        count: As ``migrate_schemas`` takes it.

    Raises:
        Misconfigured: Something is there, and is not as the settings say; nothing of it is changed. Or there is an
            installation, and its keys file is not here.
        Fault: A server does not answer; run it again.
    """
    home = settings.home_shard
    directory = find_directory(addresses.kafka_address(settings))
    if directory is None:
        _refuse_lost_directory(settings)
    further = [shard for shard in settings.shards if shard != home]
    for shard in further:
        refuse_unfit(settings if directory is None else in_force(settings, shard, directory), shard, directory)
    _refuse_new_keys(settings, _installation(settings, directory))
    if make_keys(settings.keys_file):
        say(f"made a signing key: {settings.keys_file}")
    address = addresses.kafka_address(settings)
    specs = [spec for spec in assembly.topic_specs(settings) if spec.name not in map(shard_topic, further)]
    for name in TopicAdmin(address).create(specs, replication_factor=settings.kafka.replication_factor):
        say(f"made topic {address.topic_prefix}{name}")
    _refuse_other_counts(settings, home)
    partitions = counts.by_topic(settings)
    write_directory_head(
        address,
        home_shard=home,
        shards=[home],
        partitions={spec.name: partitions[spec.name] for spec in specs if spec.name in partitions},
        keys=read_keys(first_rules(settings).keys or "") or {} if directory is None else {},
    )
    _migrate(settings, [home, *(shard for shard in further if _is_made(settings, shard))], say, count)
    for shard in further:
        add_shard(settings, shard, say)
    _tell_first_rules(settings, settings.shards, say)
    for key_id in tell_directory_keys(settings, settings.shards):
        say(f"the directory has key {key_id}")


def _installation(settings: Settings, directory: DirectoryContents | None) -> str | None:
    """Ask every server, before anything is drawn or written; return what there is of an installation already."""
    found = None
    for shard in settings.shards:
        address = addresses.mysql_address(settings, shard)
        if (row := known_shard(address)) is not None:
            found = f"{address} holds shard {row.shard}"
    CassandraSession(addresses.cassandra_address(settings), keyspace=None).close()
    return found if directory is None else f"there is directory {directory.head.directory_id.hex()}"


def _refuse_new_keys(settings: Settings, installation: str | None) -> None:
    """Refuse to draw a new secret where lanes know others: they would take what it signs for forged (W1)."""
    if installation is not None and not settings.keys_file.exists():
        raise Misconfigured(
            f"{settings.keys_file} is missing, and this installation is not new: {installation}. Bring the file back "
            "from a machine that has it (shard workers, recallers, operators) or from the backup, and run this again; "
            "nothing was made"
        )


def _refuse_lost_directory(settings: Settings) -> None:
    """Refuse to make a new directory where lanes have begun: all partners would be on the home shard again (R8)."""
    for shard in settings.shards:
        address = addresses.mysql_address(settings, shard)
        if known_shard(address) is not None and known_topics(address):
            raise Misconfigured(
                f"there is no directory, and {address} holds shard {shard}, whose lanes have decided: the directory "
                "was lost. Have it made again from the shards (`balance directory rebuild`), or restore its topic "
                "from a copy; where this is to be a new installation, give it empty databases. Nothing was made"
            )


def migrate_schemas(settings: Settings, say: Progress, count: Count = _uncounted) -> None:
    """Bring every shard's database, and the archive, to this release's schema.

    A shard that is in the settings and was not added yet is left out: it is not of this installation.

    Args:
        settings: Their shards and archive.
        say: Told what was done.
        count: Told what is brought over from the release before, and how many rows so far.

    Raises:
        Misconfigured: A database is of a later release, or of another shard.
        Fault: A server does not answer; run it again.
    """
    made = [shard for shard in settings.shards if shard == settings.home_shard or _is_made(settings, shard)]
    for shard in settings.shards:
        if shard not in made:
            say(f"shard {shard} is not made yet: `balance shard add {shard}`, or `balance init`, makes it")
    _migrate(settings, made, say, count)
    if find_directory(addresses.kafka_address(settings)) is not None:
        _tell_first_rules(settings, made, say)


def _tell_first_rules(settings: Settings, shards: Iterable[str], say: Progress) -> None:
    for shard in tell_first_rules(settings, shards):
        say(f"the directory has the rules with which shard {shard} began")


def _is_made(settings: Settings, shard: str) -> bool:
    return known_shard(addresses.mysql_address(settings, shard)) is not None


def _migrate(settings: Settings, shards: Sequence[str], say: Progress, count: Count) -> None:
    directory = find_directory(addresses.kafka_address(settings))
    began_with = {} if directory is None else directory.first_rules  # of a lost database, which its log begins with
    for shard in shards:
        address = addresses.mysql_address(settings, shard)
        if create_database(address):
            say(f"made database {address}")
        row = known_shard(address) or assembly.shard_row(settings, shard)  # its own counts count (W3)
        rules = began_with.get(shard) or first_rules(settings)
        on_rows = partial(count, f"rows of shard {shard}'s journal brought over")
        for done in migrate(address, row, {0: rules}, now_ms=assembly.clock_ms(), on_rows=on_rows):
            say(f"{address}: {done}")
    archive = addresses.cassandra_address(settings)
    for name in migrate_archive(archive, replication_factor=settings.cassandra.replication_factor):
        say(f"keyspace {archive.keyspace}: applied {name}")


def _refuse_other_counts(settings: Settings, shard: str) -> None:
    """Refuse settings that are not what a shard was made with, before the directory is told so for good."""
    address, wanted = addresses.mysql_address(settings, shard), assembly.shard_row(settings, shard)
    found = known_shard(address)
    if found not in (None, wanted):
        raise Misconfigured(f"{address} holds {found}, the settings say {wanted}: correct the settings")
