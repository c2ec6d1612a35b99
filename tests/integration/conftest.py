"""Topics and an archive of a test's own: where they are, and what a test does to them by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from processors.stores.addresses import CassandraAddress, MysqlAddress
from processors.stores.cassandra import CassandraSession
from processors.streams.connection import KafkaAddress
from tests.archived import make_archive, session_of
from tests.integration import mysql_shard
from tests.integration.removal import Shard, make_shard, with_stories
from tests.integration.shard_and_archive import Stores, fresh_stores
from tests.kafka_log import KafkaLog
from tests.servers import Servers


@pytest.fixture
def address(servers: Servers, topic_prefix: Callable[[], str]) -> KafkaAddress:
    """Return the brokers, with a prefix that no other test has; tests of another server give this name to its own."""
    return KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())


@pytest.fixture
def log(address: KafkaAddress) -> KafkaLog:
    """Return the topics of that prefix."""
    return KafkaLog(address)


@pytest.fixture(scope="module")
def archive(servers: Servers, fresh_keyspace: Callable[[], str]) -> CassandraAddress:
    """Return an archive that the tests of a file share."""
    return make_archive(servers, fresh_keyspace)


@pytest.fixture(scope="module")
def session(archive: CassandraAddress) -> Iterator[CassandraSession]:
    """Return a session on it."""
    with session_of(archive) as session:
        yield session


@pytest.fixture(scope="module")
def mysql(servers: Servers, fresh_database: Callable[[], str]) -> MysqlAddress:
    """Return a shard's database that the tests of a file share."""
    return mysql_shard.make_shard(servers, fresh_database)


@pytest.fixture
def stores(mysql: MysqlAddress, archive: CassandraAddress) -> Iterator[Stores]:
    """Give that database and that archive without a row of an earlier test."""
    with fresh_stores(mysql, archive) as stores:
        yield stores


@pytest.fixture
def empty_shard(servers: Servers, fresh_database: Callable[[], str], session: CassandraSession) -> Shard:
    """Return a shard of that archive, with lanes that have written nothing."""
    return make_shard(servers, fresh_database, session)


@pytest.fixture
def shard(empty_shard: Shard) -> Shard:
    """Return it with a story on each lane, which are archived."""
    return with_stories(empty_shard)
