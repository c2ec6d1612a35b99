"""The secured native stack as its administrators see it: for tests that clean up, or take passwords and rights away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from confluent_kafka.admin import AdminClient

from devtools import stack
from devtools.stack import secured
from processors.ops import addresses
from processors.settings import SECURE_PROFILE, Settings, load_settings
from processors.stores.cassandra import CassandraSession
from processors.stores.mysql import Session
from tests import borrowing

DEADLINE_S = 30.0


@contextmanager
def borrowed() -> Iterator[None]:
    """Have the secured stack for a while; see ``tests.borrowing``."""
    settings = load_settings(SECURE_PROFILE)
    with borrowing.borrowed(settings, stack.needed(settings)):
        yield


def kafka_admin(settings: Settings) -> AdminClient:
    """Return Kafka's administrator."""
    return AdminClient(secured.kafka_admin_address(settings).options())


@contextmanager
def cassandra_admin(settings: Settings) -> Iterator[CassandraSession]:
    """Give a session of Cassandra's administrator."""
    session = CassandraSession(secured.cassandra_admin_address(settings), keyspace=None)
    try:
        yield session
    finally:
        session.close()


def forget(settings: Settings) -> None:
    """Remove a place's topics, database and keyspace."""
    admin, prefix = kafka_admin(settings), settings.kafka.topic_prefix
    topics = [name for name in admin.list_topics(timeout=DEADLINE_S).topics if name.startswith(prefix)]
    if topics:
        for done in admin.delete_topics(topics).values():
            done.result(timeout=DEADLINE_S)
    shard = settings.home_shard
    mysql = Session(replace(addresses.mysql_address(settings, shard), database="information_schema"), lane=False)
    mysql.execute(f"DROP DATABASE IF EXISTS {settings.shards[shard].database}", "dropping a test's database")
    mysql.close()
    with cassandra_admin(settings) as cassandra:
        cassandra.execute(f"DROP KEYSPACE IF EXISTS {settings.cassandra.keyspace}")
