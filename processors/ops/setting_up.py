"""Makes what the service needs before its first command: keys, topics, directory, schemas. Safe to run twice."""

from __future__ import annotations

from collections.abc import Callable

from processors.faults import Misconfigured
from processors.ledger.rules import RESULT_VERSION, Rules
from processors.ops import addresses, assembly, counts, keys
from processors.ops.keys import make_keys
from processors.ops.ruling import logged_registry_ids
from processors.settings import Settings
from processors.stores.archive_schema import migrate_archive
from processors.stores.cassandra import CassandraSession
from processors.stores.databases import create_database, known_shard
from processors.stores.migrations import migrate
from processors.streams.directory import find_directory, write_directory_head
from processors.streams.topics import TopicAdmin
from processors.wire.signature import trusted_keys

Progress = Callable[[str], None]


def initialize(settings: Settings, say: Progress) -> None:
    """Make keys, topics, directory and schemas, as far as they are missing.

    Args:
        settings: Partition counts and rules are taken from them once, and are checked ever after.
        say: Told what was made.

    Raises:
        Misconfigured: Something is there, and is not as the settings say; nothing of it is changed. Or there is an
            installation, and its keys file is not here.
        Fault: A server does not answer; run it again.
    """
    _refuse_more_shards(settings)
    _refuse_new_keys(settings, _installation(settings))
    if make_keys(settings.keys_file):
        say(f"made a signing key: {settings.keys_file}")
    address = addresses.kafka_address(settings)
    specs = assembly.topic_specs(settings)
    for name in TopicAdmin(address).create(specs, replication_factor=settings.kafka.replication_factor):
        say(f"made topic {address.topic_prefix}{name}")
    for shard in settings.shards:
        _refuse_other_counts(settings, shard)
    write_directory_head(
        address,
        home_shard=settings.home_shard,
        shards=list(settings.shards),
        partitions=counts.by_topic(settings),
    )
    migrate_schemas(settings, say)


def _installation(settings: Settings) -> str | None:
    """Ask every server, before anything is drawn or written; return what there is of an installation already."""
    found = None
    for shard in settings.shards:
        address = addresses.mysql_address(settings, shard)
        if known_shard(address) is not None:
            found = f"{address} holds shard {shard}"
    CassandraSession(addresses.cassandra_address(settings), keyspace=None).close()
    directory = find_directory(addresses.kafka_address(settings))
    return found if directory is None else f"there is directory {directory.head.directory_id.hex()}"


def _refuse_new_keys(settings: Settings, installation: str | None) -> None:
    """Refuse to draw a new secret where lanes know others: they would take what it signs for forged (W1)."""
    if installation is not None and not settings.keys_file.exists():
        raise Misconfigured(
            f"{settings.keys_file} is missing, and this installation is not new: {installation}. Bring the file back "
            "from a machine that has it (shard workers, recallers, operators) or from the backup, and run this again; "
            "nothing was made"
        )


def migrate_schemas(settings: Settings, say: Progress) -> None:
    """Bring every shard's database, and the archive, to this release's schema.

    Raises:
        Misconfigured: A database is of a later release, or of another shard.
        Fault: A server does not answer; run it again.
    """
    for shard in settings.shards:
        address = addresses.mysql_address(settings, shard)
        if create_database(address):
            say(f"made database {address}")
        row = known_shard(address) or assembly.shard_row(settings, shard)  # its own counts count (W3)
        for done in migrate(address, row, {0: first_rules(settings)}, now_ms=assembly.clock_ms()):
            say(f"{address}: {done}")
    archive = addresses.cassandra_address(settings)
    for name in migrate_archive(archive, replication_factor=settings.cassandra.replication_factor):
        say(f"keyspace {archive.keyspace}: applied {name}")


def _refuse_more_shards(settings: Settings) -> None:
    others = [f"[shards.{shard}]" for shard in settings.shards if shard != settings.home_shard]
    if others:
        raise Misconfigured(
            f"the settings name shards besides home_shard {settings.home_shard}: in this release one shard takes part; "
            f"remove {', '.join(others)} from config/{settings.profile}.toml, and BALANCE_SHARDS__... of them from the "
            "environment"
        )


def _refuse_other_counts(settings: Settings, shard: str) -> None:
    """Refuse settings that are not what a shard was made with, before the directory is told so for good."""
    address, wanted = addresses.mysql_address(settings, shard), assembly.shard_row(settings, shard)
    found = known_shard(address)
    if found not in (None, wanted):
        raise Misconfigured(f"{address} holds {found}, the settings say {wanted}: correct the settings")


def first_rules(settings: Settings) -> Rules:
    """Return the rules of a new shard: the keys file's keys count, and the settings' registry ids (I6).

    Raises:
        Misconfigured: The keys file cannot be read, or a registry id is no command's.
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
